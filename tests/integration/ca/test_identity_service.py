"""What agents say about themselves: believed as far as their certificate goes, and no further."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf import empty_pb2, struct_pb2

from fakes.mesh_control_plane import NAME, ControlPlane
from mutua.errors import UnavailableError
from mutua.servers.identity import METHOD
from mutua.spiffe import SpiffeId
from mutua.system.ca_client import CaClient, CaClientSettings, IdentityStatement, WorkloadCertificate

MOMENT = datetime(2026, 1, 2, tzinfo=UTC)


async def certified(control_plane: ControlPlane, folder: Path, account: str = "web") -> tuple[CaClient, Any]:
    """A client of shop/`account` and its certificate."""
    control_plane.review.allow(account, "shop", account)
    control_plane.write_pod_files(folder, account)
    client = CaClient(
        CaClientSettings(
            identity=SpiffeId("cluster.local", "shop", account),
            token_address=f"127.0.0.1:{control_plane.token_port}",
            renewal_address=f"127.0.0.1:{control_plane.renewal_port}",
            server_name=NAME,
            token_path=folder / "var/run/secrets/tokens/istio-token",
            root_path=folder / "var/run/secrets/istio/root-cert.pem",
            ttl=timedelta(hours=1),
        )
    )
    return client, await client.certificate()


def statement(pod: str = "web-0", **changes: Any) -> IdentityStatement:
    return IdentityStatement(**({"pod": pod, "roots": "digest", "next_rotation": MOMENT} | changes))


async def test_a_report_is_what_tls_proved_and_what_the_agent_added(
    control_plane: ControlPlane, tmp_path: Path
) -> None:
    """Serial, issuer and dates come from the certificate, not from the message."""
    client, current = await certified(control_plane, tmp_path)
    await client.report(current, statement(error="nobody answered", failures=3))
    (report,) = control_plane.reports
    assert control_plane.authority is not None
    assert report.serial == f"{current.serial:x}"
    assert report.issuer == control_plane.authority.issuer_id == current.issuer
    assert report.not_after == current.expires
    assert (report.identity, report.namespace, report.pod) == ("spiffe://cluster.local/ns/shop/sa/web", "shop", "web-0")
    assert (report.next_rotation, report.roots, report.error, report.failures) == (
        MOMENT,
        "digest",
        "nobody answered",
        3,
    )


@pytest.mark.parametrize("pod", ["api-0", "nowhere-0", "", "x" * 5000, "web-0.other"])
async def test_nobody_speaks_for_another_pod(control_plane: ControlPlane, tmp_path: Path, pod: str) -> None:
    """A pod of another account, or none: refused, so that nobody can say that another one holds the new root."""
    control_plane.accounts[("shop", "api-0")] = "api"
    control_plane.accounts[("other", "web-0")] = "web"
    client, current = await certified(control_plane, tmp_path)
    with pytest.raises(UnavailableError, match="PERMISSION_DENIED"):
        await client.report(current, statement(pod))
    assert control_plane.reports == []


async def test_the_account_counts_not_only_the_namespace(control_plane: ControlPlane, tmp_path: Path) -> None:
    """shop/api may not speak for a pod of shop/web."""
    client, current = await certified(control_plane, tmp_path, "api")
    with pytest.raises(UnavailableError, match="runs as web"):
        await client.report(current, statement())


@pytest.mark.parametrize(
    "fields",
    [{}, {"pod": 5.0}, {"pod": "web-0", "next_rotation": "soon"}, {"pod": "web-0", "next_rotation": 1e300}],
    ids=str,
)
async def test_rubbish_is_refused(control_plane: ControlPlane, tmp_path: Path, fields: dict[str, Any]) -> None:
    """And the service goes on."""
    client, current = await certified(control_plane, tmp_path)
    message = struct_pb2.Struct()
    message.update(fields)
    code = await said(control_plane, current, message)
    assert code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.PERMISSION_DENIED)
    await client.report(current, statement())
    assert len(control_plane.reports) == 1


async def test_without_a_certificate_nobody(control_plane: ControlPlane, tmp_path: Path) -> None:
    """The port for tokens has the service too, and it believes nobody there."""
    await certified(control_plane, tmp_path)
    message = struct_pb2.Struct()
    message.update({"pod": "web-0"})
    assert await said(control_plane, None, message) is grpc.StatusCode.PERMISSION_DENIED


async def said(control_plane: ControlPlane, current: WorkloadCertificate | None, message: Any) -> grpc.StatusCode:
    """The answer's code."""
    key = (None, None) if current is None else (current.key.reveal(), current.chain)
    port = control_plane.token_port if current is None else control_plane.renewal_port
    credentials = grpc.ssl_channel_credentials(control_plane.roots, *key)
    options = (("grpc.ssl_target_name_override", NAME),)
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options=options) as channel:
        method = channel.unary_unary(METHOD, struct_pb2.Struct.SerializeToString, empty_pb2.Empty.FromString)
        try:
            await method(message, timeout=5)
        except grpc.aio.AioRpcError as error:
            return error.code()
    return grpc.StatusCode.OK
