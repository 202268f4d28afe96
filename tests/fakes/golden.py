"""What one Envoy is told, as the facts that people reason about: the form of the golden files of translation."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import yaml
from google.protobuf import any_pb2, json_format

from mutua.api import decode
from mutua.envoy import translate
from mutua.envoy.resource_set import CLUSTER, ENDPOINT, LISTENER, ROUTE, ResourceSet
from mutua.mesh import build
from mutua.mesh.objects import ObjectSet
from mutua.mesh.view import Proxy, for_proxy

_MUTUAL = "envoy.filters.network.http_connection_manager"
_RBAC = "envoy.filters.network.rbac"


def facts(text: str) -> dict[str, Any]:
    """The facts that the first of the YAML documents asks for, about the objects that the others are.

    It says the proxy (`pod: namespace/name`), the settings of the mesh (`mesh`), and what to `show`: `port NUMBER` of
    the pod itself, or `host NAME:PORT` that it dials.
    """
    question, *documents = yaml.safe_load_all(text)
    mesh, findings = decode.mesh_config(question.get("mesh", {}))
    assert not findings, findings
    decoded = [decode.any_from_mapping(document) for document in documents]
    assert not [each.findings for each in decoded if each.findings]
    objects = ObjectSet.of(each.value for each in decoded if each.value is not None)
    namespace, name = question["pod"].split("/")
    told = translate.resources(for_proxy(build.snapshot(objects, mesh), Proxy(namespace, name)))
    shown: dict[str, Any] = {}
    for wanted in question["show"]:
        what, rest = wanted.split(" ")
        shown[wanted] = _port(told, int(rest)) if what == "port" else _host(told, *rest.rsplit(":", 1))
    return shown


def _resource(told: ResourceSet, type_url: str, name: str) -> dict[str, Any] | None:
    found = told.of(type_url).resources.get(name)
    if found is None:
        return None
    packed = any_pb2.Any.FromString(found.body)
    plain: dict[str, Any] = json.loads(json_format.MessageToJson(packed, preserving_proto_field_name=True))
    return plain


def _port(told: ResourceSet, number: int) -> dict[str, Any]:
    """What becomes of connections to a port: chain by chain, and which policies and tokens are looked at."""
    listener = _resource(told, LISTENER, "virtualInbound")
    assert listener is not None
    chains = [each for each in listener["filter_chains"] if _match(each).get("destination_port") == number]
    chains = chains or [each for each in listener["filter_chains"] if "destination_port" not in _match(each)]
    found: dict[str, Any] = {"chains": [_chain(each) for each in chains]}
    routes: dict[str, Any] = {}
    for chain in chains:
        last = chain["filters"][-1]["typed_config"]
        if "rds" in last and (route := _resource(told, ROUTE, last["rds"]["route_config_name"])):
            routes |= _policies(route.get("typed_per_filter_config", {}))
            tokens = [each for each in last["http_filters"] if "jwt_authn" in each["name"]]
            if tokens:
                found["tokens"] = _tokens(tokens[0]["typed_config"])
    if routes:
        found["requests"] = routes
    of_bytes = [
        {"action": rules.get("action", "ALLOW"), "policies": _sorted(rules)}
        for chain in chains[:1]
        for each in chain["filters"]
        if each["name"] == _RBAC and (rules := each["typed_config"].get("rules")) is not None
    ]
    if of_bytes:
        found["bytes"] = of_bytes
    return found


def _match(chain: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = chain.get("filter_chain_match", {})
    return found


def _chain(chain: Mapping[str, Any]) -> dict[str, Any]:
    match, last = _match(chain), chain["filters"][-1]["typed_config"]
    found = {"arrives as": match.get("transport_protocol", "anything")}
    if match.get("application_protocols"):
        found["offering"] = ", ".join(match["application_protocols"])
    found["terminates"] = "mutual TLS" if "transport_socket" in chain else "nothing"
    requests = chain["filters"][-1]["name"] == _MUTUAL
    found["carries"] = "requests" if requests else "bytes"
    found["to"] = last["rds"]["route_config_name"] if requests else last["cluster"]
    return found


def _policies(told: Mapping[str, Any]) -> dict[str, Any]:
    """By filter: rules as Envoy has them, those that are only logged apart."""
    found: dict[str, Any] = {}
    for name, config in sorted(told.items()):
        rbac = config.get("rbac", config)
        for kind in ("rules", "shadow_rules"):
            if kind in rbac:
                entry = {"action": rbac[kind].get("action", "ALLOW"), "policies": _sorted(rbac[kind])}
                found[name if kind == "rules" else f"{name}, only noted"] = entry
    return found


def _sorted(rules: Mapping[str, Any]) -> dict[str, Any]:
    """Policies by name: protobuf's own order of maps is any."""
    return dict(sorted(rules.get("policies", {}).items()))


def _tokens(config: Mapping[str, Any]) -> dict[str, Any]:
    dropped = {"local_jwks", "normalize_payload_in_metadata"}
    return {
        name: {key: value for key, value in provider.items() if key not in dropped}
        for name, provider in config["providers"].items()
    }


def _host(told: ResourceSet, host: str, port: str) -> dict[str, Any]:
    """How a host is dialled."""
    name = f"outbound|{port}||{host}"
    cluster = _resource(told, CLUSTER, name)
    if cluster is None:
        return {"cluster": "none"}
    load = _resource(told, ENDPOINT, name) or {}
    found: dict[str, Any] = {
        "type": cluster.get("type", "STATIC"),
        "balancing": cluster.get("lb_policy", "ROUND_ROBIN"),
    }
    if "transport_socket" in cluster:
        found["always"] = _socket(cluster["transport_socket"])
    for each in cluster.get("transport_socket_matches", ()):
        found[f"endpoints of {each['name']}"] = _socket(each["transport_socket"])
    if "transport_socket" not in cluster and "transport_socket_matches" not in cluster:
        found["always"] = "plaintext"
    for key in ("outlier_detection", "max_requests_per_connection"):
        if key in cluster:
            found[key] = cluster[key]
    (limits,) = cluster.get("circuit_breakers", {}).get("thresholds", [{}])
    limited = {key: value for key, value in limits.items() if value not in (4294967295, True)}
    if limited:
        found["limits"] = limited
    found["endpoints"] = list(_endpoints(load))
    return found


def _endpoints(load: Mapping[str, Any]) -> Iterable[str]:
    for locality in load.get("endpoints", ()):
        for each in locality.get("lb_endpoints", ()):
            address = each["endpoint"]["address"]["socket_address"]
            metadata = each.get("metadata", {}).get("filter_metadata", {})
            mode = metadata.get("envoy.transport_socket_match", {}).get("tlsMode", "disabled")
            yield f"{address['address']}:{address['port_value']} tlsMode-{mode}"


def _socket(socket: Mapping[str, Any]) -> Any:
    if "raw_buffer" in socket["name"]:
        return "plaintext"
    config = socket["typed_config"]
    common = config["common_tls_context"]
    validation = common.get("combined_validation_context", {})
    names = validation.get("default_validation_context", {}).get("match_typed_subject_alt_names", ())
    found: dict[str, Any] = {}
    if config.get("sni"):
        found["sni"] = config["sni"]
    if common.get("alpn_protocols"):
        found["offers"] = ", ".join(common["alpn_protocols"])
    if secrets := common.get("tls_certificate_sds_secret_configs"):
        found["shows"] = secrets[0]["name"]
    found["believes"] = validation.get("validation_context_sds_secret_config", {}).get("name", "anybody")
    found["server is"] = [_pattern(each["matcher"]) for each in names] or "anybody of them"
    return found


def _pattern(matcher: Mapping[str, str]) -> str:
    return matcher.get("exact") or f"{matcher.get('prefix', '')}*"
