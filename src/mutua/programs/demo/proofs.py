"""The proofs, in order. Each leaves the stage as it found it, so that they do not lean on each other."""

import re
from collections.abc import Awaitable, Callable

from mutua.programs.demo.stage import NAMESPACE, Answer, Stage
from mutua.programs.wire import Wire

FRONTEND_IDENTITY = f"spiffe://cluster.local/ns/{NAMESPACE}/sa/frontend"
SECOND = 1.0

Proof = Callable[[Stage, Wire], Awaitable[None]]


def _ok(answer: Answer) -> bool:
    return answer.status == 200


def _refused(answer: Answer) -> bool:
    return answer.refused


def _forbidden(answer: Answer) -> bool:
    return answer.status == 403


def _unavailable(answer: Answer) -> bool:
    return answer.status == 503


async def _expect(
    stage: Stage,
    claim: str,
    client: str,
    wanted: Callable[[Answer], bool],
    *,
    within: float = SECOND,
    path: str = "/api/x",
    method: str = "GET",
    server: str = "backend",
) -> None:
    """Claims that `client` gets the wanted answer within so many seconds of now."""
    answer, seconds = await stage.until(wanted, lambda: stage.request(client, path, method=method, server=server))
    fact = f"{client}: {method} http://{server}{path} → {answer}, {seconds * 1000:.0f} ms after the change"
    stage.narrator.claim(claim, fact, wanted(answer) and seconds <= within, f"{answer}, {seconds * 1000:.0f} ms")


async def _expect_on_wire(stage: Stage, claim: str, *, mutual_tls: bool) -> None:
    """Claims what the server's sidecar saw of a request from frontend."""

    async def look() -> Answer:
        line = await stage.seen_by_server("frontend")
        seen = FRONTEND_IDENTITY in line
        return Answer(200 if seen == mutual_tls else 0, 0, line, "")

    answer, _ = await stage.until(_ok, look)
    fact = _handshake(answer.error) if mutual_tls else "the server's sidecar saw no TLS and no peer identity"
    if not _ok(answer):
        fact = f"the server's sidecar logged: {answer.error}"
    brief = _handshake(answer.error, ("tls", "group")) if mutual_tls else "no TLS, no identity"
    stage.narrator.claim(claim, fact, _ok(answer), brief)


def _handshake(line: str, names: tuple[str, ...] = ("peer", "tls", "cipher", "group", "serial")) -> str:
    """The facts of the handshake in a line of the server's access log."""
    fields = dict(re.findall(r"(\w+)=(\S+)", line))
    return ", ".join(f"{name} {fields[name]}" for name in names if fields.get(name, "-") != "-")


async def mutual_tls(stage: Stage, wire: Wire) -> None:
    """frontend → backend is answered, over mutual TLS, by peers who proved their identities."""
    stage.narrator.proof("Requests between sidecars travel over mutual TLS")
    await _expect(stage, "frontend → backend is answered", "frontend", _ok)
    line = await stage.seen_by_server("frontend")
    fields = dict(re.findall(r"(\w+)=(\S+)", line))
    complete = (
        fields.get("peer") == FRONTEND_IDENTITY
        and fields.get("tls", "").startswith("TLSv1.")
        and all(fields.get(name, "-") != "-" for name in ("cipher", "serial"))
    )
    stage.narrator.claim(
        "the server's Envoy saw frontend's identity in a verified certificate",
        _handshake(line) if complete else f"the server's sidecar logged: {line}",
        complete,
    )


async def ciphertext(stage: Stage, wire: Wire) -> None:
    """What crosses the bridge between two pods is TLS, and nothing of the request can be read from it."""
    stage.narrator.proof("The bytes on the wire are TLS records")
    sent = "a-secret-that-must-not-be-readable"
    async with wire.capture() as capture:
        answer = await stage.request("frontend", f"/api/x?{sent}")
        plain = await stage.request("legacy-client", f"/api/x?{sent}")
    encrypted = capture.between(await stage.addresses("frontend"), await stage.addresses("backend"))
    stage.narrator.claim(
        "frontend → backend: every segment belongs to TLS records, and the request is not in them",
        f"{answer}; {encrypted.segments} segments, {encrypted.octets} bytes, first bytes {encrypted.start.hex(' ')}, "
        f"request {'FOUND' if encrypted.holds(sent) else 'not found'}",
        _ok(answer) and encrypted.is_tls and not encrypted.holds(sent),
        f"{encrypted.segments} segments, {encrypted.octets} bytes of TLS",
    )
    readable = capture.between(await stage.addresses("legacy-client"), await stage.addresses("backend"))
    stage.narrator.claim(
        "the same capture does find the request of a client without a sidecar (so it would have found the other)",
        f"{plain}; {readable.segments} segments, request {'found' if readable.holds(sent) else 'NOT found'}",
        _ok(plain) and readable.holds(sent),
        "found, as it should be",
    )


async def strict(stage: Stage, wire: Wire) -> None:
    """STRICT shuts out who has no certificate, within a second."""
    stage.narrator.proof("STRICT refuses plaintext, PERMISSIVE takes both")
    await _expect(stage, "PERMISSIVE: a client without a sidecar is answered", "legacy-client", _ok)
    await stage.apply("strict")
    await _expect(stage, "STRICT: the same client is refused, within a second", "legacy-client", _refused)
    await _expect(stage, "STRICT: frontend is answered as before", "frontend", _ok)
    await stage.delete("strict")
    await _expect(stage, "STRICT removed: the client without a sidecar is answered again", "legacy-client", _ok)


async def levels(stage: Stage, wire: Wire) -> None:
    """Workload and port settings override the namespace's; DISABLE means plaintext."""
    stage.narrator.proof("PeerAuthentication at namespace, workload and port level")
    await stage.apply("strict")
    await _expect(stage, "namespace STRICT: legacy-client → backend is refused", "legacy-client", _refused)
    await stage.apply("workload-permissive")
    await _expect(stage, "workload backend PERMISSIVE: legacy-client → backend is answered", "legacy-client", _ok)
    await _expect(
        stage, "… while frontend still follows the namespace", "legacy-client", _refused, path="/", server="frontend"
    )
    await stage.delete("workload-permissive")
    await _expect(stage, "the workload's policy removed: legacy-client → backend is refused", "legacy-client", _refused)
    await stage.apply("port-permissive")
    await _expect(
        stage, "workload STRICT, portLevelMtls 80 PERMISSIVE: legacy-client is answered", "legacy-client", _ok
    )
    await stage.apply("port-disable")
    await _expect_on_wire(stage, "portLevelMtls 80 DISABLE: frontend → backend goes in plaintext", mutual_tls=False)
    await stage.delete("port-disable")
    await _expect_on_wire(stage, "portLevelMtls removed: frontend → backend is mutual TLS", mutual_tls=True)
    await stage.apply("namespace-disable")
    await _expect_on_wire(stage, "namespace DISABLE: frontend → backend goes in plaintext", mutual_tls=False)
    await _expect(stage, "namespace DISABLE: legacy-client is answered", "legacy-client", _ok)
    await stage.delete("strict")
    await _expect_on_wire(stage, "no policy: mutual TLS again, unasked", mutual_tls=True)


async def destination_rules(stage: Stage, wire: Wire) -> None:
    """DestinationRule decides how the client dials."""
    stage.narrator.proof("DestinationRule: how a client dials")
    await stage.apply("destination-mutual")
    await _expect_on_wire(stage, "ISTIO_MUTUAL: frontend → backend is mutual TLS", mutual_tls=True)
    await stage.apply("destination-disable")
    await _expect_on_wire(stage, "DISABLE to a PERMISSIVE server: plaintext", mutual_tls=False)
    await stage.apply("strict")
    await _expect(stage, "DISABLE to a STRICT server: refused (503)", "frontend", _unavailable)
    await stage.apply("destination-mutual")
    await _expect(stage, "ISTIO_MUTUAL to a STRICT server: answered", "frontend", _ok)
    await stage.delete("destination-mutual", "strict")


async def authorization(stage: Stage, wire: Wire) -> None:
    """AuthorizationPolicy decides by the proven identity."""
    stage.narrator.proof("AuthorizationPolicy: who may do what")
    stage.narrator.note("The guide's pods run as `default`; these run as the accounts that its policy names.")
    await stage.apply("backend-access")
    await _expect(stage, "backend-access: DELETE is refused", "frontend", _forbidden, method="DELETE")
    await _expect(stage, "backend-access: GET /other is refused", "frontend", _forbidden, path="/other")
    await _expect(stage, "backend-access: GET /api/x is let through", "frontend", _ok)
    await _expect(stage, "backend-access: a client without identity is refused", "legacy-client", _forbidden)
    await stage.delete("backend-access")
    await stage.apply("deny-all")
    await _expect(stage, "deny-all: GET /api/x is refused", "frontend", _forbidden)
    await _expect(
        stage,
        "deny-all: legacy-client → frontend is refused too",
        "legacy-client",
        _forbidden,
        server="frontend",
        path="/",
    )
    await stage.delete("deny-all")
    await _expect(stage, "policies removed: answered again", "frontend", _ok)


ALL: tuple[Proof, ...] = (mutual_tls, ciphertext, strict, levels, destination_rules, authorization)
