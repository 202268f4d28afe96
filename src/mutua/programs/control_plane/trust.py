"""Everything about identity in one control plane: the authority, what is signed under it, and what is told about it."""

import asyncio
from collections.abc import Callable, Iterable, Mapping

import grpc.aio
import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mutua.api.meshconfig import MeshConfig
from mutua.ca.caller import TokenReviewStatus, token_review_status
from mutua.ca.rollover import Holding, Pod, Stage
from mutua.mesh import build, trust_bundles
from mutua.mesh.trust_bundles import TrustBundles
from mutua.programs.control_plane import external
from mutua.programs.control_plane.announcements import (
    CRL_CONFIG_MAP,
    ROOT_CONFIG_MAP,
    ConfigMapAnnouncer,
    WebhookAnnouncer,
    crl_data,
    root_data,
)
from mutua.programs.control_plane.authority import AuthorityKeeper, Besides, InForce
from mutua.programs.control_plane.ca_store import CaStore
from mutua.programs.control_plane.dns_certificates import DnsCertificates
from mutua.programs.control_plane.identities import IdentityBook
from mutua.programs.control_plane.serving import ServingCertificate
from mutua.programs.control_plane.settings import Settings
from mutua.servers.admin import Sample
from mutua.servers.ca import CertificateService
from mutua.servers.identity import IdentityService, Report
from mutua.sources.spiffe_bundles import SpiffeBundles
from mutua.spiffe import TrustDomain
from mutua.system import clock
from mutua.system.kube import KubeClient
from mutua.system.logs import Log

_LOG = Log("ca")

Accounts = Callable[[], Mapping[Pod, str] | None]
"""The service account of each pod with a sidecar, None while the cluster has not been read."""


class Trust:
    """Made by `started`, which waits until an authority is in force; `run` then keeps it all true."""

    def __init__(
        self,
        kube: KubeClient,
        settings: Settings,
        trust_domain: TrustDomain,
        accounts: Accounts,
        mesh: Callable[[], MeshConfig],
        addresses_of: Callable[[str, str], tuple[str, ...]],
    ) -> None:
        """`addresses_of(namespace, pod)`: the pod's addresses, () while they are not known."""
        self._kube = kube
        self._settings = settings
        self._trust_domain = trust_domain
        self._accounts = accounts
        self._addresses_of = addresses_of
        self.keeper = AuthorityKeeper(
            CaStore(kube, settings.namespace), str(trust_domain), self._proxies, self._announced, self._besides
        )
        self._mesh = mesh
        self._fetched = SpiffeBundles(self.configured)
        self._bundles = TrustBundles()
        self._external = external.authority(kube, settings, lambda: self._bundles)
        self.book = IdentityBook(self._proxies)
        self._named = DnsCertificates(kube, mesh, lambda: self.keeper.authority)
        self._roots: ConfigMapAnnouncer | None = None
        self._revoked: ConfigMapAnnouncer | None = None
        self._webhooks: WebhookAnnouncer | None = None
        self.configured()

    def configured(self) -> None:
        """The mesh's settings, or what they point to, have changed."""
        if self._roots is not None and self.keeper.in_force is not None:
            self._roots.announce(self._said(self.keeper.in_force))  # trust-domain aliases may have changed
        bundles = trust_bundles.of_mesh(self._mesh(), self._fetched.current)
        if bundles == self._bundles:
            return
        for problem in bundles.problems:
            if problem not in self._bundles.problems:
                _LOG.error("meshConfig.caCertificates cannot be followed", problem=problem)
        self._bundles = bundles
        self._fetched.want(bundles.locations)
        self.keeper.look()

    def _besides(self) -> Besides:
        bundles = self._bundles
        return Besides(bundles.own.encode(), bundles.foreign, signs_workloads=self._external is None)

    def _said(self, now: InForce) -> dict[str, str]:
        domains, foreign = build.trust_of(self._mesh()).domains, dict(now.foreign)
        return root_data(now.authority.root_bundle, now.announcement, now.revoked, domains, foreign)

    @property
    def not_ready(self) -> str:
        """Why nothing can be signed, "" if it can."""
        return "" if self.keeper.in_force else self.keeper.problem or "the authority has not been read yet"

    async def start(self, mutating: str, validating: str) -> ServingCertificate:
        """What our servers present, as soon as there is an authority. Then `run`."""
        in_force = await self.keeper.start()
        authority = in_force.authority
        serving = ServingCertificate(authority, self._settings.dns_names, clock.now())
        root = authority.root_bundle
        said = self._said(in_force)
        roots = ConfigMapAnnouncer(self._kube, ROOT_CONFIG_MAP, said)
        revoked = ConfigMapAnnouncer(self._kube, CRL_CONFIG_MAP, crl_data(in_force.revoked))
        webhooks = WebhookAnnouncer(self._kube, mutating, validating, root)

        def changed(new: InForce) -> None:
            # First what others trust, then what we present: each is true before anybody can need it.
            roots.announce(self._said(new))
            revoked.announce(crl_data(new.revoked))
            webhooks.announce(new.authority.root_bundle)
            serving.follow(new.authority)
            self._named.look()

        self._roots, self._revoked, self._webhooks, self._serving = roots, revoked, webhooks, serving
        self.keeper.on_change(changed)
        return serving

    async def run(self) -> None:
        """Until cancelled; after `start`."""
        if self._roots is None or self._revoked is None or self._webhooks is None:
            raise AssertionError("run before start")
        async with asyncio.TaskGroup() as group:
            group.create_task(self.keeper.run())
            group.create_task(self._roots.run())
            group.create_task(self._revoked.run())
            group.create_task(self._webhooks.run())
            group.create_task(self._serving.keep_fresh())
            group.create_task(self._named.run())
            group.create_task(self._fetched.run())

    def namespaces(self, names: frozenset[str]) -> None:
        """These namespaces exist now."""
        for announcer in (self._roots, self._revoked):
            if announcer is not None:
                announcer.namespaces(names)

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register the services of certificates and reports; before the server starts."""
        certificates = CertificateService(
            lambda: self.keeper.authority,
            self.review_token,
            self._trust_domain,
            limits=self._settings.limits,
            external=self._external.issue if self._external else None,
            addresses_of=self._addresses_of if self._settings.tokens_from_own_pod else None,
            cluster_id=self._settings.cluster_id,
        )
        certificates.add_to(server)
        IdentityService(self._trust_domain, self._account_of, self._take).add_to(server)

    def pages(self) -> Starlette:
        """For the pod's loopback: what `mutua certs` and `mutua ca status` read.

        Only who may forward a port into this pod gets there.
        """

        async def certificates(_request: Request) -> Response:
            return Response(self.book.page(), media_type="application/json")

        async def rotation(_request: Request) -> Response:
            said = {"waiting": self.keeper.lagging, "problem": self.keeper.problem}
            return Response(msgspec.json.encode(said), media_type="application/json")

        return Starlette(routes=[Route("/certificates", certificates), Route("/rotation", rotation)])

    def samples(self) -> Iterable[Sample]:
        """Metrics of the authority, its rollover and every workload's certificate."""
        keeper = self.keeper
        yield Sample(
            "mutua_ca_plugged_in_usable",
            0 if keeper.problem else 1,
            help="0 while secret cacerts is broken or gone; the log says why.",
        )
        if (in_force := keeper.in_force) is not None:
            certificate = in_force.authority.certificate
            yield Sample(
                "mutua_ca_issuer_expiry_timestamp_seconds",
                certificate.not_valid_after_utc.timestamp(),
                help="When the certificate that signs ends.",
            )
            yield Sample(
                "mutua_ca_root_expiry_timestamp_seconds",
                min(root.not_valid_after_utc for root in in_force.authority.roots).timestamp(),
                help="When the first of the trusted roots ends.",
            )
            for stage in Stage:
                yield Sample(
                    "mutua_ca_rotation_stage",
                    float(stage is in_force.state.stage),
                    {"stage": stage.value},
                    help="1 for the stage of the rotation that is under way.",
                )
            yield Sample("mutua_ca_rotation_waiting", len(keeper.lagging), help="Proxies that a rotation waits for.")
        yield from self.book.samples()

    def _announced(self) -> bool:
        parts = (self._roots, self._revoked, self._webhooks)
        return all(part is not None and part.done for part in parts)

    def _proxies(self) -> frozenset[Pod] | None:
        accounts = self._accounts()
        return None if accounts is None else frozenset(accounts)

    def _account_of(self, namespace: str, pod: str) -> str | None:
        return (self._accounts() or {}).get((namespace, pod))

    def _take(self, report: Report) -> None:
        self.book.take(report)
        self.keeper.told((report.namespace, report.pod), Holding(roots=report.roots, issuer=report.issuer))

    async def review_token(self, token: str, audiences: tuple[str, ...]) -> TokenReviewStatus:
        """What the API server says about a token."""
        return token_review_status(await self._kube.token_review(token, audiences))
