"""The program `mutua-discovery`: puts the control plane's parts together, and runs them until told to stop."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Mapping
from importlib.metadata import version as installed_version
from typing import Any

import grpc.aio
import uvloop
from starlette.applications import Starlette

from mutua.analysis import run
from mutua.analysis.inputs import World
from mutua.api import core, decode, kinds, security, validation
from mutua.api.findings import Finding
from mutua.ca.rollover import Pod
from mutua.errors import MutuaError, NotFoundError, RefusedError
from mutua.installation import access
from mutua.mesh import build, request_authentication, workloads
from mutua.mesh.departed import Departed
from mutua.mesh.objects import ObjectSet
from mutua.mesh.proxy_view import ProxyView
from mutua.mesh.snapshot import MeshSnapshot
from mutua.mesh.view import Proxy, for_proxy
from mutua.mesh.workloads import Workload
from mutua.programs.control_plane.configuration import ConfigurationFollower
from mutua.programs.control_plane.policy_status import PolicyStatusWriter
from mutua.programs.control_plane.serving import ServingCertificate
from mutua.programs.control_plane.settings import (
    ENROLMENT_PORT,
    IDENTITY_PAGES_PORT,
    MONITORING_PORT,
    READINESS_PORT,
    WEBHOOK_PORT,
    XDS_PORT,
    Settings,
    from_environment,
)
from mutua.programs.control_plane.traffic import MeshTraffic
from mutua.programs.control_plane.trust import Trust
from mutua.reports import resource_origin
from mutua.reports.proxy_status import PlaintextSeen, ProxyState
from mutua.servers import admin, debug, http, webhooks
from mutua.servers.named_secrets import NamedSecretService
from mutua.servers.plaintext import PlaintextCollector
from mutua.servers.xds import SERVER_OPTIONS, XdsServer
from mutua.sources import kubernetes
from mutua.sources.credentials import Credentials
from mutua.sources.key_sets import KeySets
from mutua.sources.merge import Merge
from mutua.spiffe import SpiffeId, TrustDomain
from mutua.system import clock, logs, processes
from mutua.system.kube import KubeClient
from mutua.system.kube_reviews import SecretReaders
from mutua.system.logs import Log
from mutua.verdict import plaintext
from mutua.verdict.plaintext import PlaintextEdge
from mutua.xds.node import Node

DRAIN_SECONDS = 1.0
LOOPBACK = "127.0.0.1"
ANY_ADDRESS = "0.0.0.0"  # noqa: S104 - the pod's own network; who may call is decided by certificate or token

_LOG = Log("controlplane")


class ControlPlane:
    """Holds the one variable of the mesh: the current snapshot."""

    def __init__(self, settings: Settings, kube: KubeClient) -> None:
        self._settings = settings
        self._kube = kube
        self._version = installed_version("mutua")
        self._snapshot: MeshSnapshot | None = None
        self._departed = Departed()
        self._objects: ObjectSet | None = None
        self._accounts: Mapping[Pod, str] | None = None
        self._rebuild = asyncio.Event()
        self._configuration = ConfigurationFollower(kube, settings, self._version, self._rebuild.set)
        self._key_sets = KeySets(self._rebuild.set)
        self._xds = XdsServer(self._view)
        self._secrets = NamedSecretService(
            self._secrets_of, SecretReaders(kube), Credentials(kube, access.credentials_role(settings.namespace))
        )
        self._plaintext = PlaintextCollector(self._plaintext_edge)
        self._traffic = MeshTraffic(
            settings.pod_name,
            lambda: (each.node for each in self._xds.statuses()),
            lambda: self._snapshot,
            lambda address: self._departed.find(address, clock.now()),
            lambda: debug.plaintext_seen(self._plaintext.edges),
        )
        self._policy_status = PolicyStatusWriter(
            kube, settings, self._judged, self._xds.statuses, lambda: self._key_sets.problems
        )

    async def run(self) -> None:
        """Starts every part and keeps them until cancelled. Raises MutuaError if one cannot start."""
        configuration = await self._configuration.load()
        trust_domain = TrustDomain.parse(configuration.mesh.trust_domain)
        trust = Trust(
            self._kube,
            self._settings,
            trust_domain,
            accounts=lambda: self._accounts,
            mesh=lambda: self._configuration.current.mesh,
            addresses_of=self._addresses,
        )

        async def deliver(objects: ObjectSet, unreadable: tuple[Finding, ...]) -> None:
            for finding in unreadable:
                _LOG.warn(
                    "object left out",
                    kind=finding.kind,
                    namespace=finding.namespace,
                    name=finding.name,
                    field=finding.field,
                    problem=finding.message,
                )
            self._objects = objects
            await self._publish()
            self._accounts = workloads.accounts_with_sidecar(objects.of_kind(kinds.POD).values())
            trust.namespaces(frozenset(name for _, name in objects.of_kind(kinds.NAMESPACE)))

        merge = Merge(kinds.snapshot_inputs(), deliver)
        application = webhooks.application(lambda: self._configuration.current.injector, self._judge, Log("webhooks"))
        application.mount("/debug", self._debug_pages(trust))
        status = admin.application(
            lambda: trust.not_ready or self._not_ready(),
            self._version,
            lambda: (*trust.samples(), *self._plaintext.samples()),
        )
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self._traffic.pages.close)
            await stack.enter_async_context(http.serving(status, ANY_ADDRESS, MONITORING_PORT))
            await stack.enter_async_context(http.serving(status, ANY_ADDRESS, READINESS_PORT))
            serving = await trust.start(*self._webhook_names())
            server = self._grpc_server(trust, serving)
            await stack.enter_async_context(http.serving(application, ANY_ADDRESS, WEBHOOK_PORT, serving.webhooks))
            await stack.enter_async_context(http.serving(trust.pages(), LOOPBACK, IDENTITY_PAGES_PORT))
            await server.start()
            stack.push_async_callback(server.stop, DRAIN_SECONDS)
            async with asyncio.TaskGroup() as group:
                followed, observe = kinds.snapshot_inputs(), self._policy_status.observe
                group.create_task(kubernetes.follow(self._kube, followed, merge, _report, observe))
                group.create_task(merge.run())
                group.create_task(self._configuration.follow())
                group.create_task(self._rebuild_when_configured(trust))
                group.create_task(self._key_sets.run())
                group.create_task(trust.run())
                group.create_task(self._plaintext.keep_telling())
                group.create_task(self._policy_status.run())
                _LOG.info("control plane started", version=self._version, trust_domain=trust_domain)

    def _grpc_server(self, trust: Trust, serving: ServingCertificate) -> grpc.aio.Server:
        server = grpc.aio.server(options=SERVER_OPTIONS)
        trust.add_to(server)
        self._xds.add_to(server)
        self._secrets.add_to(server)
        self._plaintext.add_to(server)
        server.add_secure_port(f"{ANY_ADDRESS}:{XDS_PORT}", serving.grpc.client_certificate_required())
        server.add_secure_port(f"{ANY_ADDRESS}:{ENROLMENT_PORT}", serving.grpc.server_only())
        return server

    def _debug_pages(self, trust: Trust) -> Starlette:
        settings = self._settings

        def proxies(namespace: str) -> list[ProxyState]:
            statuses = self._xds.status(namespace)
            return debug.proxy_states(statuses, settings.pod_name, self._version, settings.cluster_id, self._rule_of)

        def seen(namespace: str) -> list[PlaintextSeen]:
            return debug.plaintext_seen(self._plaintext.edges_to(namespace))

        return debug.application(
            trust.review_token, settings.namespace, proxies, seen, self._xds.sent, self._traffic.page
        )

    def _rule_of(self, node: Node, resource: str) -> str:
        """The DestinationRule that shaped a resource of a proxy; "" if none did."""
        if self._snapshot is None:
            return ""
        outbound = for_proxy(self._snapshot, Proxy(node.namespace, node.pod)).outbound
        return resource_origin.destination_rule(outbound, resource)

    async def _publish(self) -> None:
        """Objects or configuration changed: what they mean now, to every proxy for which it means something else."""
        if self._objects is None:
            return
        configuration = self._configuration.current
        tokens = self._objects.typed(kinds.REQUEST_AUTHENTICATION, security.RequestAuthentication)
        self._key_sets.want(request_authentication.key_set_locations(tokens.values()))
        before = self._snapshot
        self._snapshot = build.snapshot(
            self._objects,
            configuration.mesh,
            self._snapshot,
            cluster_domain=configuration.injector.cluster_domain,
            upstream_mark=configuration.upstream_mark,
            key_sets=self._key_sets.current,
        )
        if before is not None:
            self._departed = self._departed.after(before, self._snapshot, clock.now())
        await self._xds.publish()
        self._policy_status.changed()

    async def _rebuild_when_configured(self, trust: Trust) -> None:
        while True:
            await self._rebuild.wait()
            self._rebuild.clear()
            trust.configured()
            await self._publish()

    def _view(self, node: Node, identity: SpiffeId) -> ProxyView:
        """What a proxy is told. Raises as `_of_proxy`."""
        snapshot, workload = self._of_proxy(node, identity)
        return for_proxy(snapshot, Proxy(workload.namespace, workload.name))

    def _secrets_of(self, node: Node, identity: SpiffeId) -> frozenset[str]:
        """The secrets that DestinationRules give to a proxy. Raises as `_of_proxy`."""
        snapshot, workload = self._of_proxy(node, identity)
        return snapshot.parts.rules.credentials(workload.namespace, workload.labels)

    def _plaintext_edge(
        self, node: Node, identity: SpiffeId, client_address: str, port: int, refused: bool
    ) -> PlaintextEdge | None:
        """What a proxy's report of a connection without mutual TLS means; None for a pod that is gone."""
        try:
            snapshot, workload = self._of_proxy(node, identity)
        except NotFoundError:
            return None
        departed = self._departed.find(client_address, clock.now())
        return plaintext.explain(snapshot, client_address, workload, port, refused=refused, departed=departed)

    def _of_proxy(self, node: Node, identity: SpiffeId) -> tuple[MeshSnapshot, Workload]:
        """The pod of a proxy. Its certificate says who it is; its node id says only which of those pods.

        Raises NotFoundError while the pod is not known here, RefusedError if it runs as another account.
        """
        workload = self._snapshot.workload(identity.namespace, node.pod) if self._snapshot else None
        if self._snapshot is None or workload is None:
            raise NotFoundError(f"no pod {identity.namespace}/{node.pod} is known")
        if workload.service_account != identity.service_account:
            raise RefusedError(
                f"pod {identity.namespace}/{node.pod} runs as {workload.service_account}, the certificate is {identity}"
            )
        return self._snapshot, workload

    def _judge(self, document: Mapping[str, Any]) -> tuple[Finding, ...]:
        """Everything that is wrong or doubtful about one object as its user wrote it, alone and among the others."""
        decoded = decode.any_from_mapping(document)
        if decoded.value is None:
            return decoded.findings
        judged = self._judged()
        if judged is None:
            return (*decoded.findings, *validation.validate(decoded.value))
        return (*decoded.findings, *run.if_applied(*judged, decoded.value))

    def _judged(self) -> tuple[World, MeshSnapshot] | None:
        """What the analysis reads, and what it means; None before there is anything."""
        if self._snapshot is None:
            return None
        mesh, injector = self._configuration.current.mesh, self._configuration.current.injector
        objects = self._snapshot.objects
        return World(objects, mesh, injector, self._settings.namespace, is_complete=True), self._snapshot

    def _addresses(self, namespace: str, pod: str) -> tuple[str, ...]:
        found = self._objects.of_kind(kinds.POD).get((namespace, pod)) if self._objects else None
        return workloads.addresses(found) if isinstance(found, core.Pod) else ()

    def _not_ready(self) -> str:
        return "" if self._snapshot is not None else "the cluster's objects have not been read yet"

    def _webhook_names(self) -> tuple[str, str]:
        namespace, suffix = self._settings.namespace, self._settings.service_suffix
        elsewhere = "" if namespace == "istio-system" else f"-{namespace}"
        return f"istio-sidecar-injector{suffix}{elsewhere}", f"istio-validator{suffix}-{namespace}"


def _report(trouble: str) -> None:
    _LOG.warn("the cluster cannot be read", problem=trouble)


async def _run() -> int:
    settings = from_environment()
    logs.configure(settings.log_level)
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with KubeClient.in_cluster() as kube:
        running = asyncio.create_task(ControlPlane(settings, kube).run())
        stopping = asyncio.create_task(stopped.wait())
        await asyncio.wait((running, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not running.done():
            _LOG.info("control plane stops")
            running.cancel()
        try:
            await running
        except asyncio.CancelledError:
            return 0
    return 0


def main() -> None:
    """Runs until SIGTERM. Exits with 1, and one line that says why, if a part cannot go on."""
    processes.leave_no_core()
    try:
        sys.exit(uvloop.run(_run()))
    except* MutuaError as group:
        for error in group.exceptions:
            _LOG.error("control plane ends", error=str(error))
        sys.exit(1)


if __name__ == "__main__":
    main()
