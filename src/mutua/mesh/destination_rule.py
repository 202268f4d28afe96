"""How clients dial a host: which DestinationRule counts, same-host rules merged, port settings. Source: Istio."""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from mutua.api.meta import age_order
from mutua.api.networking import (
    ClientTlsSettings,
    ClientTlsSettingsMode,
    DestinationRule,
    PortTrafficPolicy,
    Subset,
    TrafficPolicy,
)
from mutua.mesh import hosts, visibility
from mutua.mesh.hosts import HostTable
from mutua.mesh.proxy_view import ClientTls, ClientTlsMode, ObjectRef, TrafficSettings
from mutua.mesh.selectors import Labels, labels_of
from mutua.mesh.visibility import Visibility

KIND: Final = "DestinationRule"

_MODES: Final = {
    ClientTlsSettingsMode.DISABLE: ClientTlsMode.DISABLE,
    ClientTlsSettingsMode.SIMPLE: ClientTlsMode.SIMPLE,
    ClientTlsSettingsMode.MUTUAL: ClientTlsMode.MUTUAL,
    ClientTlsSettingsMode.ISTIO_MUTUAL: ClientTlsMode.ISTIO_MUTUAL,
}


class MergedRule(msgspec.Struct, frozen=True):
    """One or more DestinationRules of one namespace for one host; `sources` from the oldest, whose policy counts."""

    sources: tuple[ObjectRef, ...]
    host: str
    visible_to: Visibility
    selector: Labels | None  # of the client's workload; None = every client
    traffic_policy: TrafficPolicy | None
    subsets: tuple[Subset, ...]

    @property
    def source(self) -> ObjectRef:
        """The oldest of the merged objects."""
        return self.sources[0]


Rules = tuple[MergedRule, ...]


class DestinationRules:
    """All rules, indexed by who asks. Never changed once made."""

    __slots__ = (
        "_exported",
        "_local",
        "_private_in_root",
        "_root_namespace",
        "mentioned",
        "subset_keys",
        "with_selector",
    )

    def __init__(
        self,
        objects: Iterable[DestinationRule],
        root_namespace: str,
        cluster_domain: str,
        default_export_to: Iterable[str] = (),
    ) -> None:
        """Merge and index. `mentioned` becomes the namespaces whose clients may be answered unlike all others."""
        rules = [
            _rule(item, cluster_domain, default_export_to)
            for item in sorted(objects, key=lambda item: age_order(item.metadata))
        ]
        self._root_namespace = root_namespace
        # The labels by which any subset chooses; no other label of a workload matters to its clients.
        self.subset_keys = frozenset(key for rule in rules for subset in rule.subsets for key in subset.labels)
        self._local = _tables(rule for rule in rules if visibility.can_see(rule.visible_to, rule.source.namespace))
        # A rule for chosen workloads is about clients of its own namespace, whatever exportTo says.
        exported = [rule for rule in rules if rule.selector is None and rule.visible_to != {rule.source.namespace}]
        private_in_root = [
            rule for rule in rules if rule.source.namespace == root_namespace and rule.visible_to == {root_namespace}
        ]
        self._exported = _tables(exported)
        self._private_in_root = _tables(private_in_root).get(root_namespace)
        self.with_selector = tuple(rule for rule in rules if rule.selector is not None)
        self.mentioned = frozenset(
            {root_namespace, *self._local}.union(*(rule.visible_to for rule in rules)) - {visibility.EVERYWHERE}
        )

    def candidates(self, client_namespace: str, host: str, host_namespace: str) -> Rules:
        """The rules for a host as clients of a namespace see them: own namespace, then the host's, then the root.

        The first namespace with a matching rule decides, by its most specific host. More than one rule is returned
        only where some are for chosen client workloads.
        """
        local = self._private_in_root if client_namespace == self._root_namespace else self._local.get(client_namespace)
        if local is not None and (found := local.most_specific(host)):
            return found
        for namespace in (host_namespace, self._root_namespace):
            table = self._exported.get(namespace)
            found = table.most_specific(host) if table is not None else None
            visible = tuple(rule for rule in found or () if visibility.can_see(rule.visible_to, client_namespace))
            if visible:
                return visible
        return ()

    def select(self, client_namespace: str, client_labels: Labels, host: str, host_namespace: str) -> MergedRule | None:
        """The one rule that a client follows: one for its labels in its own namespace, else the one for everybody."""
        everybody: MergedRule | None = None
        for rule in self.candidates(client_namespace, host, host_namespace):
            if rule.selector is None:
                everybody = everybody or rule
            elif rule.source.namespace == client_namespace and rule.selector <= client_labels:
                return rule
        return everybody

    def selected_by(self, client_namespace: str, client_labels: Labels) -> Rules:
        """The rules that single out this client by its labels; clients with the same ones are alike."""
        return tuple(
            rule
            for rule in self.with_selector
            if rule.source.namespace == client_namespace
            and rule.selector is not None
            and rule.selector <= client_labels
        )

    def credentials(self, client_namespace: str, client_labels: Labels) -> frozenset[str]:
        """The secrets of its own namespace that rules give to a client that they single out."""
        found: set[str] = set()
        for rule in self.selected_by(client_namespace, client_labels):
            for policy in (rule.traffic_policy, *(subset.traffic_policy for subset in rule.subsets)):
                ports = policy.port_level_settings if policy is not None else ()
                found.update(each.tls.credential_name for each in ports if each.tls is not None)
                if policy is not None and policy.tls is not None:
                    found.add(policy.tls.credential_name)
        return frozenset(found - {""})


def for_port(policy: TrafficPolicy | None, port: int) -> TrafficPolicy | PortTrafficPolicy | None:
    """The settings of one Service port. Port-level settings stand alone: what they omit is not inherited."""
    if policy is None:
        return None
    for settings in policy.port_level_settings:
        if settings.port is not None and settings.port.number == port:
            return settings
    return policy


def merge(policy: TrafficPolicy | None, subset_policy: TrafficPolicy | None) -> TrafficPolicy | None:
    """The settings of a subset: each field that the subset gives, else the host's. Port-level settings: as a whole."""
    if subset_policy is None or policy is None:
        return subset_policy if policy is None else policy
    given = {
        field: value
        for field in TrafficPolicy.__struct_fields__
        if (value := getattr(subset_policy, field)) not in (None, ())
    }
    if subset_policy.port_level_settings and policy.port_level_settings:
        named = {settings.port for settings in subset_policy.port_level_settings}
        rest = tuple(settings for settings in policy.port_level_settings if settings.port not in named)
        given["port_level_settings"] = (*subset_policy.port_level_settings, *rest)
    return msgspec.structs.replace(policy, **given)


def tls_for(rule: MergedRule | None, port: int, *, auto_mtls: bool, subset: str = "") -> ClientTls:
    """How to dial one Service port, or the same port of a subset, under a rule."""
    settings = _settings(rule, port, subset)
    chosen = rule is not None and rule.selector is not None
    return client_tls(settings.tls if settings is not None else None, auto_mtls=auto_mtls, for_chosen_clients=chosen)


def traffic_for(rule: MergedRule | None, port: int, subset: str = "") -> TrafficSettings:
    """How to use one Service port, or the same port of a subset, under a rule, apart from TLS."""
    settings = _settings(rule, port, subset)
    if settings is None:
        return TrafficSettings()
    balancer = settings.load_balancer
    return TrafficSettings(
        balancing=balancer.simple if balancer else None,
        hashing=balancer.consistent_hash if balancer else None,
        connection_pool=settings.connection_pool,
        outlier_detection=settings.outlier_detection,
        tunnel=isinstance(settings, TrafficPolicy) and settings.tunnel is not None,
    )


def _settings(rule: MergedRule | None, port: int, subset: str = "") -> TrafficPolicy | PortTrafficPolicy | None:
    policy = rule.traffic_policy if rule is not None else None
    for candidate in rule.subsets if rule is not None and subset else ():
        if candidate.name == subset:
            policy = merge(policy, candidate.traffic_policy)
    return for_port(policy, port)


def client_tls(settings: ClientTlsSettings | None, *, auto_mtls: bool, for_chosen_clients: bool = False) -> ClientTls:
    """How to dial, from the settings that count for a port. None given: the mesh decides per endpoint, if it may.

    `for_chosen_clients`: the rule has a workloadSelector. Only then is its `credentialName` given to sidecars: a secret
    is not for everybody who sees a rule. Source: Istio's ClientTLSSettings.credential_name.
    """
    if settings is None:
        return ClientTls(ClientTlsMode.AUTO if auto_mtls else ClientTlsMode.DISABLE)
    return ClientTls(
        mode=_MODES[settings.mode],
        sni=settings.sni,
        subject_alt_names=settings.subject_alt_names,
        client_certificate=settings.client_certificate,
        private_key=settings.private_key,
        ca_certificates=settings.ca_certificates,
        revocation_list=settings.ca_crl,
        credential_name=settings.credential_name,
        credential_refused=bool(settings.credential_name) and not for_chosen_clients,
        insecure_skip_verify=settings.insecure_skip_verify is True,
    )


def _rule(item: DestinationRule, cluster_domain: str, default_export_to: Iterable[str]) -> MergedRule:
    metadata, spec = item.metadata, item.spec
    return MergedRule(
        sources=(ObjectRef(KIND, metadata.namespace, metadata.name),),
        host=hosts.resolve(spec.host, metadata.namespace, cluster_domain),
        visible_to=visibility.read(spec.export_to, metadata.namespace, default_export_to),
        selector=labels_of(spec.workload_selector.match_labels) if spec.workload_selector else None,
        traffic_policy=spec.traffic_policy,
        subsets=spec.subsets,
    )


def _tables(rules: Iterable[MergedRule]) -> Mapping[str, HostTable[Rules]]:
    """Rules by namespace and host, those for the same host merged, from the oldest."""
    grouped: dict[str, dict[str, list[MergedRule]]] = {}
    for rule in rules:
        grouped.setdefault(rule.source.namespace, {}).setdefault(rule.host, []).append(rule)
    return {
        namespace: HostTable((host, _merged(same_host)) for host, same_host in by_host.items())
        for namespace, by_host in grouped.items()
    }


def _merged(rules: list[MergedRule]) -> Rules:
    """Merge rules for one host, oldest first: equal visibility and selector become one.

    What is said to everybody also completes what is said to chosen workloads, never the other way round:
    a rule for few must not change what the others do.
    """
    groups: dict[tuple[Visibility, Labels | None], list[MergedRule]] = {}
    for rule in rules:
        groups.setdefault((rule.visible_to, rule.selector), []).append(rule)
    merged: list[MergedRule] = []
    for (visible_to, selector), group in groups.items():
        completing = groups.get((visible_to, None), []) if selector is not None else []
        merged.append(_combine([*group, *completing]))
    return tuple(merged)


def _combine(rules: list[MergedRule]) -> MergedRule:
    first = rules[0]
    if len(rules) == 1:
        return first
    subsets: dict[str, Subset] = {}
    for rule in rules:
        for subset in rule.subsets:
            subsets.setdefault(subset.name, subset)
    return msgspec.structs.replace(
        first,
        sources=tuple(source for rule in rules for source in rule.sources),
        traffic_policy=next((rule.traffic_policy for rule in rules if rule.traffic_policy is not None), None),
        subsets=tuple(subsets.values()),
    )
