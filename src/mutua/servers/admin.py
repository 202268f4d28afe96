"""What an operator and the node ask the control plane: is it ready, which version, how is it doing."""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route


class Sample(NamedTuple):
    """One value of one metric. `kind` is "counter" or "gauge"; samples of one name must be adjacent."""

    name: str
    value: float
    labels: Mapping[str, str] = {}
    kind: str = "gauge"
    help: str = ""


def application(
    not_ready: Callable[[], str], version: str, samples: Callable[[], Iterable[Sample]] = lambda: ()
) -> Starlette:
    """The web application of ports 8080 and 15014. `not_ready` says what is still missing, "" if nothing is."""

    async def ready(_request: Request) -> Response:
        reason = not_ready()
        return PlainTextResponse(reason or "ready", 503 if reason else 200)

    async def show_version(_request: Request) -> Response:
        return JSONResponse({"version": version})

    async def metrics(_request: Request) -> Response:
        return PlainTextResponse(exposition(samples()), media_type="text/plain; version=0.0.4; charset=utf-8")

    return Starlette(
        routes=[Route("/ready", ready), Route("/version", show_version), Route("/metrics", metrics)],
    )


def exposition(samples: Iterable[Sample]) -> str:
    """Prometheus' text format, version 0.0.4."""
    lines: list[str] = []
    last = ""
    for sample in samples:
        if sample.name != last:
            last = sample.name
            if sample.help:
                lines.append(f"# HELP {sample.name} {sample.help}")
            lines.append(f"# TYPE {sample.name} {sample.kind}")
        labels = ",".join(f'{key}="{_escaped(value)}"' for key, value in sample.labels.items())
        # Fifteen digits: a Unix time must not lose its seconds.
        lines.append(f"{sample.name}{f'{{{labels}}}' if labels else ''} {sample.value:.15g}")
    return "".join(line + "\n" for line in lines)


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
