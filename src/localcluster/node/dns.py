"""What the cluster's resolver knows and answers: Kubernetes' DNS specification 1.1."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

TTL_SECONDS = 5
CLUSTER_DOMAIN = "cluster.local"
_ZONE = dns.name.from_text(CLUSTER_DOMAIN)
_REVERSE_ZONE = dns.name.from_text("in-addr.arpa")
_SOA = f"ns.dns.{CLUSTER_DOMAIN}. hostmaster.{CLUSTER_DOMAIN}. 1 7200 1800 86400 {TTL_SECONDS}"
# A resolver that asks over UDP without EDNS reads 512 bytes (RFC 1035, 4.2.1).
_PLAIN_UDP_BYTES = 512
_LARGEST_UDP_BYTES = 1232
_LONGEST_CNAME_CHAIN = 8

# Lower-case absolute name -> record type ("A", "SRV", ...) -> values in zone file notation.
Records = dict[str, dict[str, list[str]]]


def service_records(service: Mapping[str, Any], slices: Iterable[Mapping[str, Any]]) -> Records:
    """The records of one service and its endpoint slices.

    A service with an address answers with it; a headless one with its ready endpoints, each also under its own
    name (its hostname, else its address with dashes); an ExternalName with a CNAME.
    """
    metadata, spec = service["metadata"], service.get("spec") or {}
    name = f"{metadata['name']}.{metadata['namespace']}.svc.{CLUSTER_DOMAIN}."
    if spec.get("type") == "ExternalName":
        return {name: {"CNAME": [_absolute(spec.get("externalName") or "")]}} if spec.get("externalName") else {}
    records: Records = {name: {}}
    address = spec.get("clusterIP") or ""
    if address and address != "None":
        records[name]["A"] = [address]
        for port in spec.get("ports") or ():
            _add_service_record(records, name, port.get("name"), port.get("protocol"), port["port"], name)
        _add(records, _reverse(address), "PTR", name)
        return records
    for endpoint, ports in _published(service, slices):
        for pod_ip in endpoint.get("addresses") or ():
            host = endpoint.get("hostname") or pod_ip.replace(".", "-")
            target = f"{host}.{name}".lower()
            _add(records, name, "A", pod_ip)
            _add(records, target, "A", pod_ip)
            if endpoint.get("hostname"):
                _add(records, _reverse(pod_ip), "PTR", target)
            for port in ports:
                _add_service_record(records, name, port.get("name"), port.get("protocol"), port.get("port"), target)
    return records


def _published(
    service: Mapping[str, Any], slices: Iterable[Mapping[str, Any]]
) -> Iterable[tuple[Mapping[str, Any], list[Mapping[str, Any]]]]:
    everyone = bool(service["spec"].get("publishNotReadyAddresses"))
    for endpoint_slice in slices:
        if endpoint_slice.get("addressType", "IPv4") != "IPv4":
            continue
        for endpoint in endpoint_slice.get("endpoints") or ():
            # An absent condition means ready (discovery.k8s.io/v1, EndpointConditions).
            if everyone or (endpoint.get("conditions") or {}).get("ready", True) is not False:
                yield endpoint, endpoint_slice.get("ports") or []


def _add(records: Records, name: str, kind: str, value: str) -> None:
    values = records.setdefault(name, {}).setdefault(kind, [])
    if value not in values:
        values.append(value)


def _add_service_record(
    records: Records, name: str, port_name: str | None, protocol: str | None, port: int | None, target: str
) -> None:
    if port_name and port:
        _add(records, f"_{port_name}._{(protocol or 'TCP').lower()}.{name}", "SRV", f"0 100 {port} {target}")


def _absolute(name: str) -> str:
    return name.lower() if name.endswith(".") else f"{name.lower()}."


def _reverse(address: str) -> str:
    return ".".join(reversed(address.split("."))) + ".in-addr.arpa."


@dataclass(slots=True)
class ClusterNames:
    """All names of the cluster, updated one service at a time and read by `answer`."""

    _by_service: dict[tuple[str, str], Records] = field(default_factory=dict)
    _owners: dict[str, dict[tuple[str, str], dict[str, list[str]]]] = field(default_factory=dict)
    # How many names lie at or below each name: a name without records but with descendants exists (RFC 8020).
    _descendants: dict[str, int] = field(default_factory=dict)

    def update(self, namespace: str, name: str, records: Records | None) -> None:
        """Replace what the service `namespace`/`name` contributes; None removes it."""
        key = (namespace, name)
        for record_name in self._by_service.pop(key, {}):
            del self._owners[record_name][key]
            if not self._owners[record_name]:
                del self._owners[record_name]
            self._count(record_name, -1)
        if records is not None:
            self._by_service[key] = records
            for record_name, values in records.items():
                self._owners.setdefault(record_name, {})[key] = values
                self._count(record_name, 1)

    def _count(self, name: str, step: int) -> None:
        while name:
            count = self._descendants.get(name, 0) + step
            if count:
                self._descendants[name] = count
            else:
                del self._descendants[name]
            name = name.partition(".")[2]

    def values(self, name: str) -> dict[str, list[str]] | None:
        """Record type -> values of the absolute, lower-case `name`; {} if only names below exist; None if none does."""
        owners = self._owners.get(name)
        if owners is None:
            return {} if name in self._descendants else _fixed(name)
        merged: dict[str, list[str]] = {}
        for records in owners.values():
            for kind, values in records.items():
                merged.setdefault(kind, []).extend(value for value in values if value not in merged.get(kind, ()))
        return merged


def _fixed(name: str) -> dict[str, list[str]] | None:
    """Names that follow from the specification alone: the version record, and pods by address."""
    labels = name.split(".")
    if name == f"dns-version.{CLUSTER_DOMAIN}.":
        return {"TXT": ['"1.1.0"']}
    if name in (f"{CLUSTER_DOMAIN}.", f"svc.{CLUSTER_DOMAIN}.", f"pod.{CLUSTER_DOMAIN}."):
        return {}
    if len(labels) == 6 and name.endswith(f".pod.{CLUSTER_DOMAIN}."):
        numbers = labels[0].split("-")
        if len(numbers) == 4 and all(number.isdigit() and int(number) < 256 for number in numbers):
            return {"A": [".".join(numbers)]}
    return None


def answer(query: dns.message.Message, names: ClusterNames) -> dns.message.Message:
    """The response to one query.

    Names below `cluster.local` are answered with authority (NXDOMAIN carries the zone's SOA, so the resolver's walk
    along the search path is quick). All others do not exist: this network has no way out, and saying so at
    once beats a client that waits for a time-out.
    """
    response = dns.message.make_response(query, recursion_available=True)
    if query.opcode() != dns.opcode.QUERY:
        response.set_rcode(dns.rcode.NOTIMP)
        return response
    if len(query.question) != 1:
        response.set_rcode(dns.rcode.FORMERR)
        return response
    question = query.question[0]
    if question.rdclass != dns.rdataclass.IN:
        response.set_rcode(dns.rcode.REFUSED)
        return response
    _resolve(response, question.name, question.rdtype, names)
    return response


def _resolve(
    response: dns.message.Message, asked: dns.name.Name, kind: dns.rdatatype.RdataType, names: ClusterNames
) -> None:
    current = asked
    for _ in range(_LONGEST_CNAME_CHAIN):
        ours = current.is_subdomain(_ZONE)
        found = names.values(current.to_text().lower()) if ours or current.is_subdomain(_REVERSE_ZONE) else None
        if ours:
            response.flags |= dns.flags.AA
        if found is None:
            response.set_rcode(dns.rcode.NXDOMAIN)
            break
        if kind != dns.rdatatype.CNAME and "CNAME" in found:
            _append(response, current, "CNAME", found["CNAME"])
            current = dns.name.from_text(found["CNAME"][0])
            continue
        wanted = [dns.rdatatype.to_text(kind)] if kind != dns.rdatatype.ANY else sorted(found)
        for record_type in wanted:
            if record_type in found:
                _append(response, current, record_type, found[record_type])
        if current == _ZONE and kind in (dns.rdatatype.SOA, dns.rdatatype.ANY):
            _append(response, current, "SOA", [_SOA])
        break
    if not response.answer and asked.is_subdomain(_ZONE):
        response.authority.append(dns.rrset.from_text(_ZONE, TTL_SECONDS, "IN", "SOA", _SOA))
    for rrset in response.answer:
        if rrset.rdtype == dns.rdatatype.SRV:
            _append_targets(response, rrset, names)


def _append(response: dns.message.Message, name: dns.name.Name, kind: str, values: list[str]) -> None:
    response.answer.append(dns.rrset.from_text_list(name, TTL_SECONDS, "IN", kind, values))


def _append_targets(response: dns.message.Message, services: dns.rrset.RRset, names: ClusterNames) -> None:
    """Addresses of SRV targets go along (RFC 2782), which spares the client a second question."""
    for target in sorted({record.target for record in services}):
        found = names.values(target.to_text().lower()) or {}
        if "A" in found:
            response.additional.append(dns.rrset.from_text_list(target, TTL_SECONDS, "IN", "A", found["A"]))


def answer_wire(request: bytes, names: ClusterNames, *, over_udp: bool) -> bytes | None:
    """The response to a message as it came off the wire, or None for what is no query.

    A UDP answer that does not fit what the client reads is truncated, with the TC bit set.
    """
    try:
        query = dns.message.from_wire(request, ignore_trailing=True)
    except dns.exception.DNSException:
        return _format_error(request)
    if query.flags & dns.flags.QR:
        return None  # answering answers would let two resolvers talk to each other for ever
    limit = 65535
    if over_udp:
        limit = min(max(query.payload, _PLAIN_UDP_BYTES), _LARGEST_UDP_BYTES) if query.edns >= 0 else _PLAIN_UDP_BYTES
    response = answer(query, names)
    if query.edns >= 0:
        response.use_edns(0, payload=_LARGEST_UDP_BYTES)
    return response.to_wire(max_size=limit, prefer_truncation=True)


def _format_error(request: bytes) -> bytes | None:
    if len(request) < 12 or request[2] & 0x80:
        return None
    response = dns.message.Message(id=int.from_bytes(request[:2], "big"))
    response.flags |= dns.flags.QR
    response.set_rcode(dns.rcode.FORMERR)
    return response.to_wire()
