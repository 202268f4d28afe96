"""The external authority that signs for workloads: Kubernetes' API or a plugin, and the roots that its answers need."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from importlib.metadata import entry_points

from mutua.ca import external
from mutua.ca.caller import Caller
from mutua.ca.errors import AuthorityError, CsrError, IssueError
from mutua.ca.external import ExternalSigner
from mutua.ca.issue import Issued
from mutua.errors import InvalidInputError
from mutua.installation.access import KUBERNETES_API
from mutua.mesh.trust_bundles import TrustBundles
from mutua.programs.control_plane.settings import Settings
from mutua.system import clock
from mutua.system.kube import KubeClient
from mutua.system.kube_signer import KubernetesSigner

PLUGINS = "mutua.certificate_signers"
PATIENCE_SECONDS = 8.0
"""Agents wait ten seconds for an answer, and then ask again."""

AT_ONCE = 100
"""Orders under way; agents beyond them are told to come again."""


class ExternalAuthority:
    """Signs for workloads in the place of the mesh's own authority."""

    def __init__(
        self,
        signer: ExternalSigner,
        settings: Settings,
        bundles: Callable[[], TrustBundles],
        now: clock.Clock = clock.now,
    ) -> None:
        self._signer = signer
        self._settings = settings
        self._bundles = bundles
        self._now = now
        self._under_way = 0

    async def issue(self, csr: str, caller: Caller, requested_ttl: timedelta, chosen: str, mesh_roots: str) -> Issued:
        """A certificate for a proven caller. `chosen`: the signer that the pod names, "" = the default one.

        Raises IssueError.
        """
        limits, name = self._settings.limits, self.signer_name(chosen)
        granted = external.order(csr, caller, requested_ttl, limits, name)
        roots = self._bundles().roots_of_signer(name)
        if not roots:
            # Before anybody is asked: an answer that could not be verified is of no use.
            raise AuthorityError(f"no roots are known for signer {name!r}: name it in meshConfig.caCertificates")
        if self._under_way >= AT_ONCE:
            raise AuthorityError("too many certificates are being signed at this moment")
        self._under_way += 1
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                chain = await self._signer.sign(granted.order)
        except TimeoutError as error:
            raise AuthorityError(f"signer {name!r} did not answer within {PATIENCE_SECONDS:g} s") from error
        except IssueError:
            raise
        except Exception as error:
            raise AuthorityError(f"signer {name!r}: {type(error).__name__}: {error}") from error
        finally:
            self._under_way -= 1
        return external.accept(chain, granted, roots, mesh_roots, self._now(), limits)

    def signer_name(self, chosen: str) -> str:
        """The full name of a pod's signer: its `CERT_SIGNER` below CERT_SIGNER_DOMAIN. Source: Istio's k8s_ra.go.

        Raises CsrError when a pod names one and no domain is set: it could otherwise choose any signer of the cluster.
        """
        if not chosen:
            if not self._settings.signer:
                raise AuthorityError("no signer is set: K8S_SIGNER is empty, and the pod names none in CERT_SIGNER")
            return self._settings.signer
        if not self._settings.signer_domain:
            raise CsrError(f"CERT_SIGNER_DOMAIN is not set, so pods cannot choose signer {chosen[:100]!r}")
        return f"{self._settings.signer_domain}/{chosen}"


def authority(kube: KubeClient, settings: Settings, bundles: Callable[[], TrustBundles]) -> ExternalAuthority | None:
    """What EXTERNAL_CA names, None if it is empty. Raises InvalidInputError if there is no such plugin."""
    if not settings.external_ca:
        return None
    if settings.external_ca == KUBERNETES_API:
        return ExternalAuthority(KubernetesSigner(kube), settings, bundles)
    found = entry_points(group=PLUGINS, name=settings.external_ca)
    if not found:
        known = sorted({KUBERNETES_API, *(each.name for each in entry_points(group=PLUGINS))})
        raise InvalidInputError(
            f"EXTERNAL_CA={settings.external_ca!r} is not installed", f"there are {', '.join(known)}"
        )
    factory: external.SignerFactory = next(iter(found)).load()
    return ExternalAuthority(factory(), settings, bundles)
