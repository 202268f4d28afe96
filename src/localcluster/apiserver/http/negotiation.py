"""Formats: what a body is written in, what the client wants to read, and how answers are sent."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from localcluster.apiserver.errors import (
    ApiError,
    BadRequestError,
    NotAcceptableError,
    RequestTimeoutError,
    TooLargeError,
    UnsupportedMediaTypeError,
)
from localcluster.apiserver.http import protobuf

JSON = "application/json"
YAML = "application/yaml"
BODY_SECONDS = 60.0
LARGEST_BODY = 3 * 1024 * 1024
_MOST_DISCARDED = 16 * 1024 * 1024
_MOST_YAML_VALUES = 1_000_000
PATCH_TYPES = {
    "application/json-patch+json": "json",
    "application/merge-patch+json": "merge",
    "application/strategic-merge-patch+json": "strategic",
    "application/apply-patch+yaml": "apply",
}
_YAML_TYPES = (YAML, "text/yaml", "application/x-yaml", "application/apply-patch+yaml")
_VIEWS = ("", "Table", "PartialObjectMetadata", "PartialObjectMetadataList", "APIGroupDiscoveryList")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the client reads: a media type, and the view of the object that it prefers ("" for the object itself)."""

    media_type: str = JSON
    view: str = ""
    version: str = ""


def wanted(request: Request, *, views: tuple[str, ...] = _VIEWS) -> Wanted:
    """The first of the `Accept` header's types that we can write. NotAcceptableError if there is none."""
    header = ",".join(request.headers.getlist("accept")) or "*/*"
    for entry in header.split(","):
        media_type, *parameters = (part.strip() for part in entry.split(";"))
        options = dict(part.partition("=")[::2] for part in parameters)
        view = options.get("as", "")
        if view not in views:
            continue
        if media_type in ("*/*", "application/*", JSON):
            return Wanted(JSON, view, options.get("v", ""))
        if media_type in (YAML, "text/yaml") and not view:
            return Wanted(YAML)
    raise NotAcceptableError(
        f"only the following media types are accepted: {JSON}, {YAML}; the request accepts only {header}"
    )


async def body_of(request: Request) -> bytes:
    """The raw body. TooLargeError over 3 MiB, RequestTimeoutError if it takes more than a minute to come."""
    chunks, size = [], 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                size += len(chunk)
                # What is too much is still read, up to a point: most clients only look for an answer after sending.
                if size <= LARGEST_BODY:
                    chunks.append(chunk)
                elif size > _MOST_DISCARDED:
                    break
    except TimeoutError as error:
        raise RequestTimeoutError(f"the body of the request did not come within {BODY_SECONDS:.0f} s") from error
    except ClientDisconnect as error:
        raise BadRequestError("the client went away before its body was complete") from error
    if size > LARGEST_BODY:
        raise TooLargeError(f"Request entity too large: limit is {LARGEST_BODY}")
    return b"".join(chunks)


def media_type_of(request: Request) -> str:
    """The body's type without parameters, JSON if none is declared."""
    declared = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return declared if declared and declared != "*/*" else JSON


async def document_of(request: Request) -> Any:
    """The decoded body, None if it is empty. BadRequestError if it can't be read, 415 for other formats."""
    media_type = media_type_of(request)
    if media_type not in (JSON, protobuf.MEDIA_TYPE, *_YAML_TYPES, *PATCH_TYPES):
        raise UnsupportedMediaTypeError(
            f"the body of the request was in an unknown format ({media_type}) - accepted media types include: "
            f"{JSON}, {YAML}"
        )
    raw = await body_of(request)
    if not raw.strip():
        return None
    try:
        if media_type == protobuf.MEDIA_TYPE:
            return protobuf.decode(raw)
        return decode_yaml(raw) if media_type in _YAML_TYPES else msgspec.json.decode(raw)
    except RecursionError as error:
        raise BadRequestError("the body of the request is nested too deeply") from error
    except (msgspec.DecodeError, ValueError) as error:
        raise BadRequestError(f"the body of the request cannot be read as {media_type}: {error}") from error


def decode_yaml(raw: bytes) -> Any:
    """One YAML document with JSON's types only: dates stay text. ValueError if it can't be read."""
    import yaml

    class Loader(yaml.CSafeLoader):
        """YAML without timestamps."""

    Loader.yaml_implicit_resolvers = {
        letter: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for letter, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
    }
    try:
        document = yaml.load(raw, Loader)  # noqa: S506 - a subclass of the safe loader
        if _expanded(document, {}) > _MOST_YAML_VALUES:
            raise ValueError("its aliases make it too large")
        return msgspec.to_builtins(document)
    except (yaml.YAMLError, msgspec.ValidationError, TypeError) as error:
        raise ValueError(str(error)) from error


def _expanded(value: Any, known: dict[int, int]) -> int:
    """How many values a document has once every alias stands for a copy: a few lines can mean billions."""
    if not isinstance(value, dict | list):
        return 1
    if id(value) not in known:
        # Whoever is inside itself counts as endless.
        known[id(value)] = _MOST_YAML_VALUES + 1
        inner = value.values() if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_expanded(item, known) for item in inner)
    return known[id(value)]


def encode(document: Any, media_type: str = JSON) -> bytes:
    """The document as JSON, or as YAML."""
    if media_type == YAML:
        import yaml

        text: bytes = yaml.dump(document, Dumper=yaml.CSafeDumper, sort_keys=False, encoding="utf-8")
        return text
    return msgspec.json.encode(document)


# In all, and of each one where that is not enough (apiserver/pkg/endpoints/filters/warning.go).
_WARNINGS_LENGTH = 4096
_WARNING_LENGTH = 256
# Python's HTTP client refuses answers with more than a hundred headers.
_MOST_WARNINGS = 64
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def answer(document: Any, *, code: int = 200, media_type: str = JSON, warnings: list[str] | None = None) -> Response:
    """A response; each warning becomes a Warning header (RFC 7234, section 5.5), which kubectl prints."""
    response = Response(encode(document, media_type), status_code=code, media_type=media_type)
    add_warnings(response, warnings or [])
    return response


def add_warnings(response: Response, warnings: list[str]) -> None:
    """Put warnings into the headers, each once; many or long ones are cut short, as in Kubernetes."""
    room = _WARNINGS_LENGTH
    long = sum(map(len, warnings)) > room
    for warning in list(dict.fromkeys(warnings))[:_MOST_WARNINGS]:
        shown = warning[:_WARNING_LENGTH] if long else warning
        room -= len(shown)
        if room < 0:
            return
        text = _CONTROL.sub(" ", shown).replace("\\", "\\\\").replace('"', '\\"')
        # Header values are Latin-1 on the wire; Go and Python both read UTF-8 there.
        response.raw_headers.append((b"warning", f'299 - "{text}"'.encode(errors="replace")))


def failure(error: ApiError) -> Response:
    """The Status of a refusal as a response."""
    response = answer(error.status(), code=error.code)
    if error.retry_after_seconds is not None:
        response.headers["Retry-After"] = str(error.retry_after_seconds)
    if error.code == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response
