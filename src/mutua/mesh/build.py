"""The only maker of snapshots: objects and mesh config in, a MeshSnapshot out, sharing whatever did not change."""

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Final, Generic, TypeVar

from mutua.api import access_log_format, kinds, networking, security, service_entry
from mutua.api.kinds import AnyObject, Key, Kind
from mutua.api.meshconfig import CIPHER_SUITES, ECDH_CURVES, MeshConfig, Normalization, OutboundMode, TlsProtocol
from mutua.api.meta import duration_seconds
from mutua.errors import InvalidInputError
from mutua.mesh import (
    authorization,
    authorization_providers,
    endpoints,
    hosts,
    peer_authentication,
    registry,
    request_authentication,
)
from mutua.mesh.authorization import SelectedPolicy
from mutua.mesh.destination_rule import DestinationRules
from mutua.mesh.endpoints import Reachable, Seen
from mutua.mesh.inbound import NamespaceInbound
from mutua.mesh.objects import ObjectSet
from mutua.mesh.outbound import Claimed, Directory, Loads, Outbound
from mutua.mesh.peer_authentication import EffectiveMode, PeerPolicies
from mutua.mesh.proxy_view import LoadAssignment, MeshView, Trust
from mutua.mesh.registry import Registry, Touched, changed_keys
from mutua.mesh.request_authentication import KeySets
from mutua.mesh.service_entry import Outside, Surroundings
from mutua.mesh.service_entry import outside as outside_of
from mutua.mesh.snapshot import ANY_OTHER_NAMESPACE, DEFAULT_CLUSTER_DOMAIN, MeshSnapshot, Parts, Settings
from mutua.mesh.visibility import EVERYWHERE
from mutua.mesh.workloads import Workload
from mutua.spiffe import TrustDomain

T = TypeVar("T", bound=AnyObject)
K = TypeVar("K")
V = TypeVar("V")

_NO_OBJECTS: Final = ObjectSet()


def snapshot(
    objects: ObjectSet,
    mesh_config: MeshConfig,
    previous: MeshSnapshot | None = None,
    *,
    cluster_domain: str = DEFAULT_CLUSTER_DOMAIN,
    upstream_mark: int = 0,
    key_sets: KeySets = MappingProxyType({}),
) -> MeshSnapshot:
    """What the objects mean together. `previous` only saves work: the answer is the same without it.

    Raises nothing for whatever users wrote.
    """
    settings = Settings(mesh_config, cluster_domain, upstream_mark, tuple(sorted(key_sets.items())))
    if previous is not None and previous.settings != settings:
        previous = None
    if previous is not None and previous.objects is objects:
        return previous
    return MeshSnapshot(objects, _parts(objects, settings, previous), previous)


def mesh_view(settings: Settings) -> MeshView:
    """The mesh config as proxies see it, with our defaults where it says nothing."""
    config, default = settings.mesh_config, MeshView()
    tls = config.mesh_mtls
    normalization = config.path_normalization.normalization
    return MeshView(
        root_namespace=config.root_namespace,
        access_log_file=config.access_log_file,
        access_log_encoding=config.access_log_encoding.value,
        access_log_format=_access_log_format(config),
        min_tls_version=(
            default.min_tls_version
            if tls.min_protocol_version is TlsProtocol.TLS_AUTO
            else tls.min_protocol_version.value
        ),
        ecdh_curves=_known(tls.ecdh_curves, ECDH_CURVES) or default.ecdh_curves,
        cipher_suites=_known(tls.cipher_suites, CIPHER_SUITES),
        outside_ecdh_curves=_known(config.tls_defaults.ecdh_curves, ECDH_CURVES) or default.outside_ecdh_curves,
        outside_cipher_suites=_known(config.tls_defaults.cipher_suites, CIPHER_SUITES),
        outbound_allow_any=config.outbound_traffic_policy.mode is OutboundMode.ALLOW_ANY,
        path_normalization=(Normalization.BASE if normalization is Normalization.DEFAULT else normalization).value,
        protocol_detection_timeout_ms=round(duration_seconds(config.protocol_detection_timeout) * 1000),
        telemetry=config.wants_metrics,
        upstream_mark=settings.upstream_mark,
        authorization_providers=authorization_providers.of_mesh(config.extension_providers),
    )


def _access_log_format(config: MeshConfig) -> str:
    wrong = any(access_log_format.mistakes(config.access_log_format, config.access_log_encoding))
    return "" if wrong else config.access_log_format


def _known(names: Iterable[str], known: frozenset[str]) -> tuple[str, ...]:
    return tuple(name for name in names if name in known)


def trust_of(config: MeshConfig) -> Trust:
    """The mesh's trust domain, then its aliases; what cannot be one is left out, or the default in the own's place."""
    own, *aliases = (_trust_domain(name) for name in (config.trust_domain, *config.trust_domain_aliases))
    domains = tuple(dict.fromkeys((own or DEFAULT_CLUSTER_DOMAIN, *(alias for alias in aliases if alias))))
    named = {_trust_domain(name) for entry in config.ca_certificates for name in entry.trust_domains}
    return Trust(domains, tuple(sorted(named - {"", *domains})))


def _trust_domain(name: str) -> str:
    try:
        return TrustDomain.parse(name).name
    except InvalidInputError:
        return ""


def _parts(objects: ObjectSet, settings: Settings, previous: MeshSnapshot | None) -> Parts:
    old_objects = previous.objects if previous else _NO_OBJECTS
    old = previous.parts if previous else None
    config = settings.mesh_config
    trust = old.trust if old else trust_of(config)

    entries, touched = registry.update(
        old.registry if old else registry.EMPTY,
        old_objects,
        objects,
        settings.cluster_domain,
        config.default_service_export_to,
    )
    inbound, modes_touched = _inbound(objects, old_objects, old, trust, settings, entries, touched)
    rules = _rules(objects, old_objects, settings, old)
    seen = Seen(_mode_of(inbound), rules.subset_keys)
    if old is not None and old.rules.subset_keys != seen.label_keys:
        # Every endpoint may now be known by other labels.
        everywhere = frozenset(name for name, _ in (*entries.services, *objects.of_kind(kinds.SERVICE_ENTRY)))
        touched = Touched(frozenset(entries.services).union(touched.services), everywhere, touched.workload_namespaces)
    reachable, loads = _reachable(entries, touched, modes_touched, seen, trust, old)
    entries_changed = changed_keys(old_objects.of_kind(kinds.SERVICE_ENTRY), objects.of_kind(kinds.SERVICE_ENTRY))
    own = {namespace for namespace, _ in objects.of_kind(kinds.SERVICE_ENTRY)}
    concerned = own & (touched.service_namespaces | touched.workload_namespaces | modes_touched)
    around = _surroundings(entries, settings, trust, seen)
    outside, loads = _outside(objects, concerned.union(key[0] for key in entries_changed), around, loads, old)
    outbound = _outbound(reachable, outside, rules, settings, old)
    mesh = old.mesh if old else mesh_view(settings)
    return Parts(settings, mesh, trust, entries, inbound, reachable, outside, loads, rules, outbound)


def _inbound(
    objects: ObjectSet,
    old_objects: ObjectSet,
    old: Parts | None,
    trust: Trust,
    settings: Settings,
    entries: Registry,
    touched: Touched,
) -> tuple[Mapping[str, NamespaceInbound], frozenset[str]]:
    """What each namespace's workloads accept; and the namespaces whose endpoints may now, or no longer, take TLS."""
    root_namespace, key_sets = settings.mesh_config.root_namespace, dict(settings.key_sets)
    before: Mapping[str, NamespaceInbound] = old.inbound if old else {}
    peers = _ByNamespace(kinds.PEER_AUTHENTICATION, security.PeerAuthentication, objects, old_objects, root_namespace)
    policies = _ByNamespace(
        kinds.AUTHORIZATION_POLICY, security.AuthorizationPolicy, objects, old_objects, root_namespace
    )
    tokens = _ByNamespace(
        kinds.REQUEST_AUTHENTICATION, security.RequestAuthentication, objects, old_objects, root_namespace
    )
    names = entries.namespaces | {ANY_OTHER_NAMESPACE, *peers.namespaces, *policies.namespaces, *tokens.namespaces}
    root_policies: tuple[SelectedPolicy, ...] | None = None

    current: dict[str, NamespaceInbound] = {}
    modes_touched: set[str] = set()
    for name in names:
        known = before.get(name)
        peers_touched, policies_touched = peers.is_touched(name), policies.is_touched(name)
        tokens_touched = tokens.is_touched(name)
        if known and not (peers_touched or policies_touched or tokens_touched or name in touched.service_namespaces):
            current[name] = known
            continue
        peer_policies = known.peer_policies if known else PeerPolicies()
        if known is None or peers_touched:
            peer_policies = peer_authentication.policies_for(name, root_namespace, peers.here_and_in_root(name))
            if known and (known.peer_policies.can_disable or peer_policies.can_disable):
                modes_touched.add(name)
        own_policies = known.own_policies if known else ()
        from_root = known.root_policies if known else ()
        if known is None or policies_touched:
            if root_policies is None:
                root_policies = authorization.policies_in(root_namespace, policies.here(root_namespace))
            from_root = () if name == root_namespace else root_policies
            own_policies = authorization.policies_in(name, policies.here(name))
        token_rules = known.token_rules if known else ()
        if known is None or tokens_touched:
            token_rules = request_authentication.rules_of(tokens.here_and_in_root(name), key_sets)
        table = entries.service_tables.get(name)
        made = NamespaceInbound(name, trust, table, peer_policies, from_root, own_policies, token_rules)
        current[name] = made.or_same(known)
    same = current.keys() == before.keys() and all(current[name] is before[name] for name in current)
    return (before if same else current), frozenset(modes_touched)


class _ByNamespace(Generic[T]):
    """Objects of one kind by namespace, and which namespaces a change concerns: its own, or all if it is the root."""

    def __init__(self, kind: Kind, struct: type[T], new: ObjectSet, old: ObjectSet, root_namespace: str) -> None:
        self._objects: dict[str, list[T]] = {}
        self._root_namespace = root_namespace
        current = new.typed(kind, struct)
        for (namespace, _), item in current.items():
            self._objects.setdefault(namespace, []).append(item)
        self._touched = {namespace for namespace, _ in changed_keys(old.of_kind(kind), current)}

    @property
    def namespaces(self) -> set[str]:
        return set(self._objects)

    def is_touched(self, namespace: str) -> bool:
        return bool(self._touched) and (namespace in self._touched or self._root_namespace in self._touched)

    def here(self, namespace: str) -> list[T]:
        return self._objects.get(namespace, [])

    def here_and_in_root(self, namespace: str) -> list[T]:
        return self.here(namespace) + (self.here(self._root_namespace) if namespace != self._root_namespace else [])


def _reachable(
    entries: Registry,
    touched: Touched,
    modes_touched: frozenset[str],
    seen: Seen,
    trust: Trust,
    old: Parts | None,
) -> tuple[Mapping[Key, Reachable], Loads]:
    """Where the touched Services lead, beside where all the others led."""
    reachable: dict[Key, Reachable | None] = {}
    loads: dict[Key, tuple[LoadAssignment, ...] | None] = {}
    before_reachable: Mapping[Key, Reachable] = old.reachable if old else {}
    before_loads: Loads = old.loads if old else {}

    for key in _services_to_visit(entries, touched, modes_touched):
        service, known = entries.services.get(key), before_reachable.get(key)
        if service is None:
            if known is not None:
                reachable[key], loads[key[0], known.service.host] = None, None
            continue
        slices = entries.slices.get(key, ())
        selected = entries.selected(service)
        load = endpoints.assignments(service, slices, selected, entries.find, seen)
        if before_loads.get((service.namespace, service.host)) != load:
            loads[service.namespace, service.host] = load
        behind = [*endpoints.workloads_behind(slices, entries.find), *(machine.workload for machine in selected)]
        identities = endpoints.identities((item for item in behind if item.service_account), trust.domains)
        now = Reachable(service, identities, endpoints.headless_addresses(service, load))
        if known != now:
            reachable[key] = now
    return _with(before_reachable, reachable), _with(before_loads, loads)


def _mode_of(inbound: Mapping[str, NamespaceInbound]) -> Callable[[Workload], EffectiveMode]:
    def mode_of(workload: Workload) -> EffectiveMode:
        found = inbound.get(workload.namespace)
        return (inbound[ANY_OTHER_NAMESPACE] if found is None else found).mode(workload.labels)

    return mode_of


def _outside(
    objects: ObjectSet, touched: Iterable[str], around: Callable[[str], Surroundings], loads: Loads, old: Parts | None
) -> tuple[Mapping[str, tuple[Outside, ...]], Loads]:
    """The hosts of ServiceEntries by namespace, and where all connections go, those to them included.

    `touched`: the namespaces in which anything changed that entries may depend on.
    """
    by_namespace: dict[str, list[service_entry.ServiceEntry]] = {}
    for (namespace, _), entry in objects.typed(kinds.SERVICE_ENTRY, service_entry.ServiceEntry).items():
        by_namespace.setdefault(namespace, []).append(entry)
    before: Mapping[str, tuple[Outside, ...]] = old.outside if old else {}
    updates: dict[str, tuple[Outside, ...] | None] = {}
    new_loads: dict[Key, tuple[LoadAssignment, ...] | None] = {}
    for name in touched:
        known, surroundings = before.get(name, ()), around(name)
        found = outside_of(by_namespace.get(name, ()), surroundings) if name in by_namespace else ()
        if found == known:
            continue
        updates[name] = found or None
        gone = (each.reachable.service.host for each in known)
        new_loads |= {(name, host): None for host in gone if not surroundings.taken(host)}
        new_loads |= {(name, each.reachable.service.host): each.load for each in found}
    return _with(before, updates), _with(loads, new_loads)


def _surroundings(entries: Registry, settings: Settings, trust: Trust, seen: Seen) -> Callable[[str], Surroundings]:
    """What the ServiceEntries of each namespace may depend on."""

    def of(namespace: str) -> Surroundings:
        suffix = hosts.service_host("", namespace, settings.cluster_domain)
        return Surroundings(
            namespace=namespace,
            machines=entries.machines.get(namespace, ()),
            pods=lambda: (pod for key, pod in entries.workloads.items() if key[0] == namespace),
            taken=lambda host: host.endswith(suffix) and (namespace, host.removesuffix(suffix)) in entries.services,
            seen=seen,
            trust_domains=trust.domains,
            default_export_to=tuple(settings.mesh_config.default_service_export_to),
        )

    return of


def _services_to_visit(entries: Registry, touched: Touched, modes_touched: frozenset[str]) -> Iterable[Key]:
    if not modes_touched:
        return touched.services
    # A Service without selector may lead to pods of any namespace.
    of_modes = (key for key, service in entries.services.items() if key[0] in modes_touched or not service.selector)
    return touched.services.union(of_modes)


def _with(before: Mapping[K, V], updates: Mapping[K, V | None]) -> Mapping[K, V]:
    """The mapping with updates (None deletes); itself if there are none."""
    if not updates:
        return before
    copy = dict(before)
    for key, value in updates.items():
        if value is None:
            copy.pop(key, None)
        else:
            copy[key] = value
    return copy


def _rules(objects: ObjectSet, old_objects: ObjectSet, settings: Settings, old: Parts | None) -> DestinationRules:
    current = objects.typed(kinds.DESTINATION_RULE, networking.DestinationRule)
    if old is not None and not changed_keys(old_objects.of_kind(kinds.DESTINATION_RULE), current):
        return old.rules
    config = settings.mesh_config
    default_export_to = config.default_destination_rule_export_to
    return DestinationRules(current.values(), config.root_namespace, settings.cluster_domain, default_export_to)


def _outbound(
    reachable: Mapping[Key, Reachable],
    outside: Mapping[str, tuple[Outside, ...]],
    rules: DestinationRules,
    settings: Settings,
    old: Parts | None,
) -> Outbound:
    same_services = old is not None and old.reachable is reachable and old.outside is outside
    if old is not None and same_services and old.rules is rules:
        return old.outbound
    directory = old.outbound.directory if old is not None and same_services else _directory(reachable, outside)
    return Outbound(
        directory,
        rules,
        cluster_domain=settings.cluster_domain,
        auto_mtls=settings.mesh_config.enable_auto_mtls,
        previous=old.outbound if old else None,
    )


def _directory(reachable: Mapping[Key, Reachable], outside: Mapping[str, tuple[Outside, ...]]) -> Directory:
    external = [each.reachable for here in outside.values() for each in here]
    entries = tuple(
        sorted((*reachable.values(), *external), key=lambda entry: (entry.service.host, entry.service.rank))
    )
    audiences = {entry.service.visible_to for entry in entries}
    # A namespace with entries sees its own before anybody else's.
    mentioned = frozenset[str]().union(*audiences, outside.keys()) - {EVERYWHERE}
    return Directory(entries, mentioned, _claimed(reachable.values()) if external else Claimed())


def _claimed(reachable: Iterable[Reachable]) -> Claimed:
    """The addresses of all Services, and of the pods of headless ones."""
    found: set[str] = set()
    for entry in reachable:
        found.update(entry.service.addresses)
        found.update(address for address, _ in entry.headless_addresses)
    return Claimed(frozenset(found))
