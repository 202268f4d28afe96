"""A small curl for hosts that lack it: the options that people use in pods, and curl's exit codes."""

from __future__ import annotations

import argparse
import base64
import contextlib
import errno
import socket
import ssl
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path
from typing import IO, BinaryIO, NoReturn
from urllib.parse import urlsplit

import httpx2

# curl(1), EXIT CODES.
UNSUPPORTED_PROTOCOL, USAGE, BAD_URL, CANNOT_RESOLVE, CANNOT_CONNECT = 1, 2, 3, 6, 7
HTTP_ERROR, CANNOT_WRITE, TIMED_OUT, TLS_FAILED, TOO_MANY_REDIRECTS = 22, 23, 28, 35, 47
EMPTY_REPLY, CANNOT_RECEIVE, NOT_TRUSTED = 52, 56, 60
_MOST_REDIRECTS = 50
_VERSION = "8.0.0-localcluster"


class CurlError(Exception):
    """A transfer failed, with curl's exit code for it."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass
class Transfer:
    """What `-w` can tell about a transfer."""

    url: str
    code: int = 0
    size: int = 0
    seconds: float = 0.0
    content_type: str = ""
    remote: tuple[str, int] = ("", 0)
    redirects: int = 0
    exit_code: int = 0
    error: str = ""

    def variables(self) -> dict[str, str]:
        """The values behind `%{name}`."""
        return {
            "http_code": f"{self.code:03d}",
            "response_code": f"{self.code:03d}",
            "size_download": str(self.size),
            "time_total": f"{self.seconds:.6f}",
            "content_type": self.content_type,
            "remote_ip": self.remote[0],
            "remote_port": str(self.remote[1]),
            "num_redirects": str(self.redirects),
            "url": self.url,
            "url_effective": self.url,
            "exitcode": str(self.exit_code),
            "errormsg": self.error,
            "scheme": urlsplit(self.url).scheme,
        }


class _Arguments(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        print(f"curl: {message}\ncurl: try 'curl --help' for more information", file=sys.stderr)
        raise SystemExit(USAGE)


def parser() -> argparse.ArgumentParser:
    """curl's options, as far as they exist here."""
    options = _Arguments(prog="curl", allow_abbrev=False, usage="curl [options...] <url>")
    options.add_argument("urls", nargs="*")
    options.add_argument("--url", dest="more_urls", action="append", default=[])
    options.add_argument("-s", "--silent", action="store_true")
    options.add_argument("-S", "--show-error", action="store_true")
    options.add_argument("-v", "--verbose", action="store_true")
    options.add_argument("-i", "--include", "--show-headers", action="store_true")
    options.add_argument("-I", "--head", action="store_true")
    options.add_argument("-f", "--fail", action="store_true")
    options.add_argument("--fail-with-body", action="store_true")
    options.add_argument("-k", "--insecure", action="store_true")
    options.add_argument("-L", "--location", action="store_true")
    options.add_argument("-G", "--get", action="store_true")
    options.add_argument("-N", "--no-buffer", action="store_true")
    options.add_argument("-4", "--ipv4", action="store_true")
    options.add_argument("-o", "--output")
    options.add_argument("-w", "--write-out")
    options.add_argument("-X", "--request")
    options.add_argument("-H", "--header", action="append", default=[])
    options.add_argument("-d", "--data", "--data-ascii", "--data-raw", "--data-binary", action="append", default=[])
    options.add_argument("--json", action="append", default=[])
    options.add_argument("-A", "--user-agent", default=f"curl/{_VERSION}")
    options.add_argument("-u", "--user")
    options.add_argument("-m", "--max-time", type=float)
    options.add_argument("--connect-timeout", type=float)
    options.add_argument("--resolve", action="append", default=[])
    options.add_argument("--cacert")
    options.add_argument("--cert", "-E")
    options.add_argument("--key")
    options.add_argument("--retry", type=int, default=0)
    options.add_argument("--http1.1", dest="http1", action="store_true")
    options.add_argument("-V", "--version", action="store_true")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Run; the exit code."""
    options = parser().parse_args(arguments)
    if options.version:
        print(f"curl {_VERSION} (Python, httpx2 {httpx2.__version__})")
        return 0
    urls = [*options.urls, *options.more_urls]
    if not urls:
        print("curl: (2) no URL specified", file=sys.stderr)
        return USAGE
    code = 0
    for url in urls:
        for _ in range(options.retry + 1):
            code = transfer(options, url if "://" in url else f"http://{url}")
            if code not in {CANNOT_CONNECT, TIMED_OUT}:
                break
    return code


def transfer(options: argparse.Namespace, url: str) -> int:
    """One URL: its answer to standard output, errors to standard error; curl's exit code."""
    result = Transfer(url)
    started = time.monotonic()
    try:
        _fetch(options, result)
    except CurlError as error:
        result.exit_code, result.error = error.code, str(error)
        if not options.silent or options.show_error:
            print(f"curl: ({error.code}) {error}", file=sys.stderr)
    result.seconds = time.monotonic() - started
    if options.write_out:
        _write(sys.stdout.buffer, expand(options.write_out, result.variables()).encode())
    return result.exit_code


def expand(template: str, variables: dict[str, str]) -> str:
    """`-w`: `%{name}` is a variable, `%%` a per cent sign, `\\n`, `\\t` and `\\r` are what they are in C."""
    text = template.replace("\\n", "\n").replace("\\t", "\t").replace("\\r", "\r")
    for name, value in variables.items():
        text = text.replace(f"%{{{name}}}", value)
    return text.replace("%%", "%")


@dataclass(frozen=True)
class _Call:
    """One request as it was asked for; redirections make others of it."""

    method: str
    url: str
    headers: Mapping[str, tuple[str, str]]  # lower-case name to the name as it is sent, and the value
    body: bytes | None


def _fetch(options: argparse.Namespace, result: Transfer) -> None:
    deadline = None if options.max_time is None else time.monotonic() + options.max_time
    limit = httpx2.Timeout(options.max_time, connect=options.connect_timeout or options.max_time)
    try:
        call: _Call | None = _call(options, result.url)
        with httpx2.Client(verify=_trust(options), timeout=limit, trust_env=False) as client:
            while call is not None:
                if result.redirects > _MOST_REDIRECTS:
                    raise CurlError(TOO_MANY_REDIRECTS, f"Maximum ({_MOST_REDIRECTS}) redirects followed")
                call = _exchange(client, options, result, call, deadline)
                result.redirects += call is not None
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError, UnicodeError) as error:
        raise explain(error, result.url) from error
    if (options.fail or options.fail_with_body) and result.code >= HTTPStatus.BAD_REQUEST:
        raise CurlError(HTTP_ERROR, f"The requested URL returned error: {result.code}")


def _call(options: argparse.Namespace, url: str) -> _Call:
    body: bytes | None = None
    headers = {"host": ("Host", ""), "user-agent": ("User-Agent", options.user_agent), "accept": ("Accept", "*/*")}
    if options.data or options.json:
        body = b"&".join(_data(text) for text in options.data) or b"".join(_data(text) for text in options.json)
        kind = "application/json" if options.json else "application/x-www-form-urlencoded"
        headers["content-type"] = ("Content-Type", kind)
    if options.get and body is not None:
        url, body = f"{url}{'&' if '?' in url else '?'}{body.decode()}", None
        del headers["content-type"]
    for line in options.header:
        name, colon, value = line.partition(":")
        if colon and not value.strip() and name.lower() != "host":
            headers.pop(name.lower(), None)
        else:
            name = name.rstrip(";")
            headers[name.lower()] = (name, value.strip())
    if options.user:
        encoded = base64.b64encode(options.user.encode()).decode()
        headers["authorization"] = ("Authorization", f"Basic {encoded}")
    method = options.request or ("HEAD" if options.head else "GET" if body is None else "POST")
    return _Call(method, url, headers, body)


def _data(text: str) -> bytes:
    if not text.startswith("@"):
        return text.encode()
    return sys.stdin.buffer.read() if text == "@-" else Path(text[1:]).read_bytes()


def _trust(options: argparse.Namespace) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=options.cacert)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # curl has no such wish
    if options.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if options.cert:
        context.load_cert_chain(options.cert, options.key)
    return context


def _exchange(
    client: httpx2.Client, options: argparse.Namespace, result: Transfer, call: _Call, deadline: float | None
) -> _Call | None:
    """One request and its answer; the next request if the answer is a redirection that is to be followed."""
    url = httpx2.URL(call.url)
    if url.scheme not in {"http", "https"}:
        raise CurlError(UNSUPPORTED_PROTOCOL, f'Protocol "{url.scheme}" not supported')
    host = call.headers["host"][1] or url.netloc.decode()
    headers = [(name, value or host) for name, value in call.headers.values() if value or name == "Host"]
    request = client.build_request(
        call.method, pin(url, options.resolve), content=call.body, extensions={"sni_hostname": url.host}
    )
    if call.body is not None:
        headers.append(("Content-Length", str(len(call.body))))
    request.headers = httpx2.Headers(headers)
    if options.verbose:
        _show(">", f"{call.method} {request.url.raw_path.decode()} HTTP/1.1", request.headers)
    response = client.send(request, stream=True)
    try:
        result.url, result.code = call.url, response.status_code
        result.content_type = response.headers.get("content-type", "")
        stream = response.extensions.get("network_stream")
        result.remote = (stream.get_extra_info("server_addr") if stream is not None else None) or ("", 0)
        status = f"{response.http_version} {response.status_code} {response.reason_phrase}"
        if options.verbose:
            _show("<", status, response.headers)
        follow = options.location and response.has_redirect_location
        _receive(options, result, response, status, deadline, keep=not follow)
    finally:
        response.close()
    if not follow:
        return None
    target = str(url.join(response.headers["location"]))
    if response.status_code in {301, 302, 303} and call.method == "POST" and not options.request:
        return _Call("GET", target, call.headers, None)
    return replace(call, url=target)


def _receive(
    options: argparse.Namespace,
    result: Transfer,
    response: httpx2.Response,
    status: str,
    deadline: float | None,
    *,
    keep: bool,
) -> None:
    failed = options.fail and response.status_code >= HTTPStatus.BAD_REQUEST
    with contextlib.ExitStack() as stack:
        output: IO[bytes] = sys.stdout.buffer
        if options.output and keep:
            output = stack.enter_context(_open(options.output))
        if options.include or options.head:
            lines = [status, *_lines(response.headers)]
            _write(output, "\r\n".join(lines).encode() + b"\r\n\r\n")
        for chunk in response.iter_raw():
            if keep and not failed:
                result.size += len(chunk)
                _write(output, chunk)
            if deadline is not None and time.monotonic() > deadline:
                raise CurlError(TIMED_OUT, f"Operation timed out with {result.size} bytes received")


def pin(url: httpx2.URL, resolve: Iterable[str]) -> httpx2.URL:
    """`--resolve HOST:PORT:ADDRESS`: the URL with the address that was given for its host."""
    port = url.port or (443 if url.scheme == "https" else 80)
    for entry in resolve:
        host, _, rest = entry.lstrip("+").partition(":")
        given_port, _, addresses = rest.partition(":")
        if host in {url.host, "*"} and given_port == str(port):
            return url.copy_with(host=addresses.split(",")[0].strip("[]"))
    return url


def explain(error: Exception, url: str) -> CurlError:
    """The error that curl would report."""
    host = urlsplit(url).hostname or url
    port = urlsplit(url).port or (443 if url.startswith("https:") else 80)
    causes = list(_causes(error))
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        return CurlError(CANNOT_RESOLVE, f"Could not resolve host: {host}")
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
        return CurlError(NOT_TRUSTED, f"SSL certificate problem: {error}")
    if any(isinstance(cause, ssl.SSLError) for cause in causes):
        return CurlError(TLS_FAILED, f"TLS connect error: {error}")
    if isinstance(error, httpx2.TimeoutException):
        return CurlError(TIMED_OUT, "Operation timed out")
    if isinstance(error, httpx2.ConnectError):
        # A connection that was made and then broken before the answer to "hello": only TLS has one.
        if any(isinstance(cause, OSError) and cause.errno in {errno.ECONNRESET, errno.EPIPE} for cause in causes):
            return CurlError(TLS_FAILED, "Recv failure: Connection reset by peer")
        return CurlError(CANNOT_CONNECT, f"Failed to connect to {host} port {port}: Could not connect to server")
    if isinstance(error, httpx2.RemoteProtocolError) and "without sending" in str(error):
        return CurlError(EMPTY_REPLY, "Empty reply from server")
    if isinstance(error, httpx2.UnsupportedProtocol):
        return CurlError(UNSUPPORTED_PROTOCOL, str(error))
    if isinstance(error, (httpx2.InvalidURL, UnicodeError)):
        return CurlError(BAD_URL, f"URL rejected: {error}")
    return CurlError(CANNOT_RECEIVE, f"Recv failure: {error or 'Connection reset by peer'}")


def _causes(error: BaseException | None) -> Iterable[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _show(mark: str, first: str, headers: httpx2.Headers) -> None:
    print("\n".join(f"{mark} {line}" for line in (first, *_lines(headers), "")), file=sys.stderr)


def _lines(headers: httpx2.Headers) -> list[str]:
    return [f"{name.decode('latin-1')}: {value.decode('latin-1')}" for name, value in headers.raw]


def _open(path: str) -> BinaryIO:
    try:
        return Path(path).open("wb")
    except OSError as error:
        raise CurlError(CANNOT_WRITE, f"Failed to open the file {path}: {error.strerror}") from error


def _write(output: IO[bytes], content: bytes) -> None:
    try:
        output.write(content)
        output.flush()
    except OSError as error:
        raise CurlError(CANNOT_WRITE, f"Failure writing output: {error.strerror}") from error


if __name__ == "__main__":
    raise SystemExit(main())
