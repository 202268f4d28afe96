"""Kinds of the group security.istio.io: who must prove what, and who may do what."""

from enum import StrEnum
from typing import Annotated

import msgspec

from mutua.api.meta import Duration, IstioObject, LabelSelector, NonEmptyText, Strict, TargetReference


class MutualTlsMode(StrEnum):
    """What a port accepts. UNSET inherits from the level above."""

    UNSET = "UNSET"
    DISABLE = "DISABLE"
    PERMISSIVE = "PERMISSIVE"
    STRICT = "STRICT"


class MutualTls(Strict, frozen=True):
    """`mtls` and each value of `portLevelMtls`."""

    mode: MutualTlsMode = MutualTlsMode.UNSET


class PeerAuthenticationSpec(Strict, frozen=True):
    """What workloads accept. Keys of `port_level_mtls` are workload ports, as text."""

    selector: LabelSelector | None = None
    mtls: MutualTls | None = None
    port_level_mtls: Annotated[dict[str, MutualTls], msgspec.Meta(min_length=1)] | None = None


class PeerAuthentication(IstioObject, frozen=True):
    """security.istio.io PeerAuthentication."""

    spec: PeerAuthenticationSpec = PeerAuthenticationSpec()


class Action(StrEnum):
    """What a matching rule does."""

    ALLOW = "ALLOW"
    DENY = "DENY"
    AUDIT = "AUDIT"
    CUSTOM = "CUSTOM"


ServiceAccounts = Annotated[tuple[Annotated[str, msgspec.Meta(max_length=320)], ...], msgspec.Meta(max_length=16)]


class Source(Strict, frozen=True):
    """Who asks; all given fields must match."""

    principals: tuple[str, ...] = ()
    not_principals: tuple[str, ...] = ()
    request_principals: tuple[str, ...] = ()
    not_request_principals: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    not_namespaces: tuple[str, ...] = ()
    service_accounts: ServiceAccounts = ()
    not_service_accounts: ServiceAccounts = ()
    trust_domains: tuple[str, ...] = ()
    not_trust_domains: tuple[str, ...] = ()
    ip_blocks: tuple[str, ...] = ()
    not_ip_blocks: tuple[str, ...] = ()
    remote_ip_blocks: tuple[str, ...] = ()
    not_remote_ip_blocks: tuple[str, ...] = ()


class From(Strict, frozen=True):
    """One entry of `from`."""

    source: Source | None = None


class Operation(Strict, frozen=True):
    """What is asked; all given fields must match."""

    hosts: tuple[str, ...] = ()
    not_hosts: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    not_ports: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    not_methods: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    not_paths: tuple[str, ...] = ()


class To(Strict, frozen=True):
    """One entry of `to`."""

    operation: Operation | None = None


class Condition(Strict, frozen=True):
    """One entry of `when`."""

    key: str
    values: tuple[str, ...] = ()
    not_values: tuple[str, ...] = ()


class Rule(Strict, frozen=True):
    """One rule: any of `from`, any of `to`, all of `when`. None: not given, which is anything."""

    from_: Annotated[tuple[From, ...], msgspec.Meta(max_length=512)] | None = msgspec.field(default=None, name="from")
    to: tuple[To, ...] | None = None
    when: tuple[Condition, ...] | None = None


class ExtensionProvider(Strict, frozen=True):
    """Who decides for CUSTOM; a name in the mesh config."""

    name: str = ""


class AuthorizationPolicySpec(Strict, frozen=True):
    """Who may do what with the selected workloads."""

    selector: LabelSelector | None = None
    target_ref: TargetReference | None = None
    target_refs: Annotated[tuple[TargetReference, ...], msgspec.Meta(max_length=16)] = ()
    rules: Annotated[tuple[Rule, ...], msgspec.Meta(max_length=512)] = ()
    action: Action = Action.ALLOW
    provider: ExtensionProvider | None = None


class AuthorizationPolicy(IstioObject, frozen=True):
    """security.istio.io AuthorizationPolicy."""

    spec: AuthorizationPolicySpec = AuthorizationPolicySpec()


class JwtHeader(Strict, frozen=True):
    """A header that holds the token behind a prefix."""

    name: NonEmptyText
    prefix: str = ""


class ClaimToHeader(Strict, frozen=True):
    """A claim that is copied into a header."""

    header: Annotated[str, msgspec.Meta(min_length=1, pattern=r"^[-_A-Za-z0-9]+$")]
    claim: NonEmptyText


class JwtRule(Strict, frozen=True):
    """Which tokens of one issuer are valid, and where they are found."""

    issuer: str = ""
    audiences: tuple[NonEmptyText, ...] = ()
    jwks_uri: Annotated[str, msgspec.Meta(max_length=2048)] = ""
    jwks_uri_deprecated: Annotated[str, msgspec.Meta(max_length=2048)] = msgspec.field(default="", name="jwks_uri")
    jwks: str = ""
    from_headers: tuple[JwtHeader, ...] = ()
    from_params: tuple[NonEmptyText, ...] = ()
    from_cookies: tuple[NonEmptyText, ...] = ()
    output_payload_to_header: str = ""
    output_claim_to_headers: tuple[ClaimToHeader, ...] = ()
    forward_original_token: bool = False
    timeout: Duration | None = None
    space_delimited_claims: Annotated[tuple[NonEmptyText, ...], msgspec.Meta(max_length=64)] = ()

    @property
    def key_set_location(self) -> str:
        """Where the keys are, by either spelling of the field."""
        return self.jwks_uri or self.jwks_uri_deprecated


class RequestAuthenticationSpec(Strict, frozen=True):
    """Which end-user tokens the selected workloads accept."""

    selector: LabelSelector | None = None
    target_ref: TargetReference | None = None
    target_refs: Annotated[tuple[TargetReference, ...], msgspec.Meta(max_length=16)] = ()
    jwt_rules: Annotated[tuple[JwtRule, ...], msgspec.Meta(max_length=4096)] = ()


class RequestAuthentication(IstioObject, frozen=True):
    """security.istio.io RequestAuthentication."""

    spec: RequestAuthenticationSpec = RequestAuthenticationSpec()
