"""Service rules in the kernel: nftables by netlink, each update one transaction."""

import asyncio
import contextlib
import ipaddress
import logging
import socket
import struct
from collections.abc import Iterable, Mapping
from typing import Any

from pyroute2.netlink import NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST
from pyroute2.netlink.nfnetlink import NFNL_SUBSYS_NFTABLES, nfgen_msg
from pyroute2.netlink.nfnetlink.nftsocket import (
    NFT_MSG_DELCHAIN,
    NFT_MSG_DELRULE,
    NFT_MSG_DELSET,
    NFT_MSG_DELTABLE,
    NFT_MSG_NEWCHAIN,
    NFT_MSG_NEWRULE,
    NFT_MSG_NEWSET,
    NFT_MSG_NEWTABLE,
    AsyncNFTSocket,
    nft_chain_msg,
    nft_rule_msg,
    nft_set_msg,
    nft_table_msg,
)
from pyroute2.netlink.rtnl import RTM_NEWROUTE, rtmsg

from localcluster.node.network import BRIDGE, NODE_ADDRESS, RouteSocket
from localcluster.node.services import (
    DISPATCH,
    REFUSE,
    SERVICE_NETWORK,
    Chains,
    Change,
    Clients,
    Goto,
    MarkForMasquerade,
    Refuse,
    Return,
    Rule,
    ServicePort,
    Translate,
    chains,
    changes,
)

_log = logging.getLogger(__name__)
_TABLE = "services"
_FAMILY = socket.AF_INET
_MASQUERADE_MARK = 0x4000
# Changes that come together (a rollout, the first list) are written together.
_SETTLE_SECONDS = 0.002

# linux/netfilter/nf_tables.h and linux/netfilter_ipv4.h
_PREROUTING, _OUTPUT, _POSTROUTING = 0, 3, 4
_NETWORK_HEADER, _TRANSPORT_HEADER = 1, 2
_META_MARK, _META_L4PROTO = 3, 16
_CT_STATE, _CT_STATE_NEW = 0, 8
_CMP_EQ, _CMP_NEQ = 0, 1
_JUMP, _GOTO, _RETURN = -3, -4, -5
# linux/rtnetlink.h
_RT_TABLE_MAIN, _RTPROT_STATIC, _RT_SCOPE_LINK, _RTN_UNICAST = 254, 4, 253, 1
_REGISTER_VERDICT, _REGISTER_1, _REGISTER_2 = 0, 1, 2
_DYNSET_UPDATE = 1
_IPV4_ADDRESS = 7  # nftables' TYPE_IPADDR: only tools that show the set look at it
_PROTOCOLS = {"TCP": socket.IPPROTO_TCP, "UDP": socket.IPPROTO_UDP}

Expressions = list[dict[str, Any]]


class ServiceRules:
    """Keeps the kernel's rules equal to what services and endpoints say, in the caller's network namespace."""

    def __init__(self, own_addresses: Iterable[str]) -> None:
        self._own_addresses = tuple(own_addresses)
        self._ports: dict[tuple[str, str], tuple[ServicePort, ...]] = {}
        self._written: Chains = {}
        self._socket: Any = None
        self._dirty = asyncio.Event()

    async def start(self) -> None:
        """Make the table with its fixed chains. Raises OSError if the kernel refuses (no nftables, no rights)."""
        with contextlib.closing(RouteSocket()) as route:
            route.execute(_service_route())
        self._socket = AsyncNFTSocket(nfgen_family=_FAMILY)
        await self._socket.setup_endpoint()
        first = chains((), self._own_addresses)
        # Adding before deleting makes the deletion succeed whether or not the table was there.
        await self._apply(
            [
                _table(NFT_MSG_NEWTABLE),
                _table(NFT_MSG_DELTABLE),
                _table(NFT_MSG_NEWTABLE),
                *(_message(step) for step in changes({}, first)),
                *_base_chains(),
            ]
        )
        self._written = first

    def update(self, namespace: str, name: str, ports: tuple[ServicePort, ...]) -> None:
        """Say what a service's ports are now; () removes them. Written by `run` a moment later."""
        if ports == self._ports.get((namespace, name), ()):
            return
        if ports:
            self._ports[namespace, name] = ports
        else:
            del self._ports[namespace, name]
        self._dirty.set()

    async def run(self) -> None:
        """Write what changes, until cancelled. What the kernel refuses is logged, and tried again next time."""
        while True:
            await self._dirty.wait()
            await asyncio.sleep(_SETTLE_SECONDS)
            self._dirty.clear()
            try:
                await self.flush()
            except Exception:  # the kernel's answers have many types in pyroute2; no one of them may end the node
                _log.exception("service rules were not written")

    async def flush(self) -> None:
        """Write now."""
        wanted = chains((port for ports in self._ports.values() for port in ports), self._own_addresses)
        steps = changes(self._written, wanted)
        if steps:
            await self._apply([_message(step) for step in steps])
            self._written = wanted

    def close(self) -> None:
        """Close the netlink socket; the rules stay until the network namespace goes."""
        if self._socket is not None:
            self._socket.close()

    async def _apply(self, messages: list[Any]) -> None:
        batch = [_batch_mark(0x10), *messages, _batch_mark(0x11)]
        async for _ in self._socket.nlm_request_batch(batch):
            pass


def _service_route() -> Any:
    """The node's own way to service addresses: a packet needs a route before its destination can be translated."""
    network = ipaddress.IPv4Network(SERVICE_NETWORK)
    message = rtmsg.rtmsg()
    message["header"]["type"] = RTM_NEWROUTE
    message["header"]["flags"] = NLM_F_CREATE | NLM_F_REPLACE
    message["family"] = _FAMILY
    message["dst_len"] = network.prefixlen
    message["table"] = _RT_TABLE_MAIN
    message["proto"] = _RTPROT_STATIC
    message["scope"] = _RT_SCOPE_LINK
    message["type"] = _RTN_UNICAST
    message["attrs"] = [("RTA_DST", str(network.network_address)), ("RTA_OIF", socket.if_nametoindex(BRIDGE))]
    return message


def _batch_mark(kind: int) -> Any:
    message = nfgen_msg()
    message["res_id"] = NFNL_SUBSYS_NFTABLES
    message["header"]["type"] = kind
    message["header"]["flags"] = NLM_F_REQUEST
    return message


def _request(message: Any, kind: int, attributes: list[tuple[str, Any]], *, create: bool) -> Any:
    message["attrs"] = attributes
    message["nfgen_family"] = _FAMILY
    message["header"]["type"] = (NFNL_SUBSYS_NFTABLES << 8) | kind
    message["header"]["flags"] = NLM_F_REQUEST | NLM_F_ACK | (NLM_F_CREATE | NLM_F_APPEND if create else 0)
    return message


def _table(kind: int) -> Any:
    return _request(nft_table_msg(), kind, [("NFTA_TABLE_NAME", _TABLE)], create=kind == NFT_MSG_NEWTABLE)


def _message(step: Change) -> Any:
    if step.clients is not None:
        return _client_set(step.clients, create=step.action == "add clients")
    if step.rule is not None:
        return _rule(step.chain, expressions(step.rule))
    if step.action == "flush chain":
        attributes = [("NFTA_RULE_TABLE", _TABLE), ("NFTA_RULE_CHAIN", step.chain)]
        return _request(nft_rule_msg(), NFT_MSG_DELRULE, attributes, create=False)
    attributes = [("NFTA_CHAIN_TABLE", _TABLE), ("NFTA_CHAIN_NAME", step.chain)]
    create = step.action == "add chain"
    return _request(nft_chain_msg(), NFT_MSG_NEWCHAIN if create else NFT_MSG_DELCHAIN, attributes, create=create)


def _client_set(clients: Clients, *, create: bool) -> Any:
    attributes: list[tuple[str, Any]] = [("NFTA_SET_TABLE", _TABLE), ("NFTA_SET_NAME", clients.name)]
    if create:
        attributes += [
            ("NFTA_SET_FLAGS", ("NFT_SET_TIMEOUT", "NFT_SET_EVAL")),
            ("NFTA_SET_KEY_TYPE", _IPV4_ADDRESS),
            ("NFTA_SET_KEY_LEN", 4),
            # The kernel wants one; rules here name their sets.
            ("NFTA_SET_ID", 1),
            ("NFTA_SET_TIMEOUT", clients.seconds * 1000),
        ]
    return _request(nft_set_msg(), NFT_MSG_NEWSET if create else NFT_MSG_DELSET, attributes, create=create)


def _rule(chain: str, parts: Expressions) -> Any:
    attributes = [("NFTA_RULE_TABLE", _TABLE), ("NFTA_RULE_CHAIN", chain), ("NFTA_RULE_EXPRESSIONS", parts)]
    return _request(nft_rule_msg(), NFT_MSG_NEWRULE, attributes, create=True)


def _base_chains() -> list[Any]:
    """The entry points. Refusal comes before translation, since a translated packet no longer shows its service."""
    to_node = [*_field(_NETWORK_HEADER, 16, 4), _compare(NODE_ADDRESS.packed)]
    to_services = [*_field(_NETWORK_HEADER, 16, 4), *_in_network(SERVICE_NETWORK)]
    new_connection = [
        _expression("ct", {"dreg": _REGISTER_1, "key": _CT_STATE}),
        _and(struct.pack("=I", _CT_STATE_NEW)),
        _compare(bytes(4), _CMP_NEQ),
    ]
    messages: list[Any] = []
    for name, kind, hook, priority, rules in (
        ("refuse-prerouting", "filter", _PREROUTING, -101, [[*to_services, *new_connection, _verdict(_JUMP, REFUSE)]]),
        ("refuse-output", "filter", _OUTPUT, -101, [[*to_services, *new_connection, _verdict(_JUMP, REFUSE)]]),
        (
            "prerouting",
            "nat",
            _PREROUTING,
            -100,
            # The node's own address has the node ports.
            [[*to_services, _verdict(_JUMP, DISPATCH)], [*to_node, _verdict(_JUMP, DISPATCH)]],
        ),
        # The node's own connections leave with whatever address the service network's route gave them.
        ("output", "nat", _OUTPUT, -100, [[*to_services, *_set_mark()], [*to_services, _verdict(_JUMP, DISPATCH)]]),
        ("postrouting", "nat", _POSTROUTING, 100, [[*_marked(), _expression("masq", {})]]),
    ):
        hook_attributes = {"attrs": [("NFTA_HOOK_HOOKNUM", hook), ("NFTA_HOOK_PRIORITY", priority)]}
        attributes = [
            ("NFTA_CHAIN_TABLE", _TABLE),
            ("NFTA_CHAIN_NAME", name),
            ("NFTA_CHAIN_HOOK", hook_attributes),
            ("NFTA_CHAIN_TYPE", kind),
        ]
        messages.append(_request(nft_chain_msg(), NFT_MSG_NEWCHAIN, attributes, create=True))
        messages += [_rule(name, rule) for rule in rules]
    return messages


def expressions(rule: Rule) -> Expressions:
    """The kernel's expressions for one rule."""
    parts: Expressions = []
    destination = rule.frontend.address if rule.frontend else rule.destination
    protocol = rule.frontend.protocol if rule.frontend else rule.protocol
    if destination:
        parts += [*_field(_NETWORK_HEADER, 16, 4), _compare(socket.inet_aton(destination))]
    if rule.source:
        parts += [*_field(_NETWORK_HEADER, 12, 4), _compare(socket.inet_aton(rule.source))]
    if protocol:
        parts += [
            _expression("meta", {"key": _META_L4PROTO, "dreg": _REGISTER_1}),
            _compare(bytes([_PROTOCOLS[protocol]])),
        ]
    if rule.frontend:
        parts += [*_field(_TRANSPORT_HEADER, 2, 2), _compare(struct.pack("!H", rule.frontend.port))]
    if rule.one_in:
        parts += [
            _expression("numgen", {"dreg": _REGISTER_1, "modulus": rule.one_in, "type": 1, "offset": 0}),
            _compare(bytes(4)),
        ]
    if rule.known:
        parts += [
            *_field(_NETWORK_HEADER, 12, 4),
            _expression("lookup", {"set": rule.known.name, "sreg": _REGISTER_1}),
        ]
    if rule.remembered:
        remembered = {
            "set_name": rule.remembered.name,
            "op": _DYNSET_UPDATE,
            "sreg_key": _REGISTER_1,
            "timeout": rule.remembered.seconds * 1000,
        }
        parts += [*_field(_NETWORK_HEADER, 12, 4), _expression("dynset", remembered)]
    return parts + _verdicts(rule)


def _expression(name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """One expression in pyroute2's notation; the kernel names its attributes after the expression, save one."""
    prefix = "NG" if name == "numgen" else name.upper()
    attributes = [(f"NFTA_{prefix}_{key.upper()}", value) for key, value in fields.items()]
    return {"attrs": [("NFTA_EXPR_NAME", name), ("NFTA_EXPR_DATA", {"attrs": attributes})]}


def _verdicts(rule: Rule) -> Expressions:
    match rule.verdict:
        case Goto(chain):
            return [_verdict(_GOTO, chain)]
        case Return():
            return [_verdict(_RETURN)]
        case Refuse(reset):
            return [_expression("reject", {"type": 1 if reset else 0, "icmp_code": 3})]
        case MarkForMasquerade():
            return _set_mark()
        case Translate(backend):
            target = {"type": 1, "family": _FAMILY, "reg_addr_min": _REGISTER_1, "reg_proto_min": _REGISTER_2}
            return [
                _load(_REGISTER_1, socket.inet_aton(backend.address)),
                _load(_REGISTER_2, struct.pack("!H", backend.port)),
                _expression("nat", target),
            ]


def _value(data: bytes) -> Mapping[str, Any]:
    return {"attrs": [("NFTA_DATA_VALUE", data)]}


def _field(base: int, offset: int, length: int) -> Expressions:
    return [_expression("payload", {"dreg": _REGISTER_1, "base": base, "offset": offset, "len": length})]


def _compare(data: bytes, operation: int = _CMP_EQ, *, register: int = _REGISTER_1) -> dict[str, Any]:
    return _expression("cmp", {"sreg": register, "op": operation, "data": _value(data)})


def _and(mask: bytes) -> dict[str, Any]:
    fields = {"sreg": _REGISTER_1, "dreg": _REGISTER_1, "len": len(mask)}
    return _expression("bitwise", {**fields, "mask": _value(mask), "xor": _value(bytes(len(mask)))})


def _in_network(network: str) -> Expressions:
    parsed = ipaddress.IPv4Network(network)
    return [_and(parsed.netmask.packed), _compare(parsed.network_address.packed)]


def _load(register: int, data: bytes) -> dict[str, Any]:
    return _expression("immediate", {"dreg": register, "data": _value(data)})


def _verdict(code: int, chain: str | None = None) -> dict[str, Any]:
    verdict: list[tuple[str, Any]] = [("NFTA_VERDICT_CODE", code)]
    if chain is not None:
        verdict.append(("NFTA_VERDICT_CHAIN", chain))
    data = {"attrs": [("NFTA_DATA_VERDICT", {"attrs": verdict})]}
    return _expression("immediate", {"dreg": _REGISTER_VERDICT, "data": data})


def _set_mark() -> Expressions:
    mark = _load(_REGISTER_1, struct.pack("=I", _MASQUERADE_MARK))
    return [mark, _expression("meta", {"key": _META_MARK, "sreg": _REGISTER_1})]


def _marked() -> Expressions:
    return [
        _expression("meta", {"key": _META_MARK, "dreg": _REGISTER_1}),
        _compare(struct.pack("=I", _MASQUERADE_MARK)),
    ]
