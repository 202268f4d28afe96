"""Writes capture rules into the kernel: one table of our own, replaced in one transaction, then read back."""

import errno
import os
import socket
import struct
import sys
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from pyroute2.netlink import (
    NLM_F_ACK,
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
)
from pyroute2.netlink.nfnetlink import NFNL_SUBSYS_NFTABLES, nfgen_msg
from pyroute2.netlink.nfnetlink.nftsocket import (
    NFT_MSG_DELTABLE,
    NFT_MSG_GETRULE,
    NFT_MSG_NEWCHAIN,
    NFT_MSG_NEWRULE,
    NFT_MSG_NEWTABLE,
    Meta,
    nft_chain_msg,
    nft_rule_msg,
    nft_table_msg,
)

from mutua.capture import TABLE, Family, From, Hook, Match, OwnerKind, Rule, SentBy, To, ToLoopback, ToPort
from mutua.errors import InternalError, MutuaError, RefusedError, UnsupportedError

_FAMILY = {Family.IPV4: 2, Family.IPV6: 10}  # NFPROTO_IPV4, NFPROTO_IPV6
_HOOK = {Hook.PREROUTING: 0, Hook.OUTPUT: 3}  # linux/netfilter.h
_PRIORITY_DNAT = -100
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_ACCEPT = 1
_EQUAL, _NOT_EQUAL = 0, 1
_REGISTER, _VERDICT_REGISTER = 1, 0
_NETWORK_HEADER, _TRANSPORT_HEADER = 1, 2
_ADDRESS_OFFSET = {Family.IPV4: (12, 16), Family.IPV6: (8, 24)}  # of source and destination
_DESTINATION_PORT_OFFSET = 2
_INTERFACE_NAME_BYTES = 16
_HEADER_BYTES = 16  # struct nlmsghdr
_RECEIVE_BYTES = 1 << 18
_NETLINK_NETFILTER = 12
_PATIENCE_SECONDS = 5.0
_BYTE_ORDER = sys.byteorder

_Expression = dict[str, Any]


def apply(rules: Mapping[Family, Sequence[Rule]]) -> None:
    """Make our tables hold exactly these rules; nobody else's are touched.

    All or nothing: the kernel commits the batch whole, so there is no moment with half of the rules, also when they
    are replaced. Raises RefusedError without the right to change the network, UnsupportedError where the kernel lacks
    nftables or its address translation, InternalError when what it holds afterwards is not what was written.
    """
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as netlink:
            netlink.settimeout(_PATIENCE_SECONDS)
            netlink.bind((0, 0))
            _commit(netlink, list(_batch(rules)))
            for family, wanted in rules.items():
                _verify(_held(netlink, family), family, wanted)
    except OSError as error:
        raise _explained(error) from error


def has_ipv6(interfaces: Path = Path("/proc/net/if_inet6")) -> bool:
    """Whether this network namespace has an IPv6 address beyond loopback and link-local."""
    try:
        lines = interfaces.read_text().splitlines()
    except OSError:
        return False
    loopback_scope, link_scope = "10", "20"
    return any(line.split()[3] not in (loopback_scope, link_scope) for line in lines)


def _explained(error: OSError) -> MutuaError:
    text = error.strerror or str(error)
    match error.errno:
        case errno.EPERM | errno.EACCES:
            return RefusedError(
                f"the kernel does not let us write capture rules: {text}",
                "this container needs the capability NET_ADMIN; its securityContext or the namespace's pod security "
                "level takes it away",
            )
        case errno.EPROTONOSUPPORT | errno.EOPNOTSUPP | errno.ENOENT | errno.EAFNOSUPPORT:
            return UnsupportedError(
                f"this kernel cannot redirect connections by nftables: {text}",
                "on the node: modprobe -a nf_tables nft_chain_nat nft_redir (options CONFIG_NF_TABLES, CONFIG_NFT_NAT)",
            )
        case _:
            return InternalError(f"the kernel refused our capture rules: {text}")


def _commit(netlink: socket.socket, messages: Sequence[Any]) -> None:
    """Send one transaction and wait for its end. Raises OSError with the kernel's code.

    Only the last rule is to be acknowledged, which happens when all is committed. An error may name any message of
    the batch, even the one that opens it, so whichever comes first counts.
    """
    messages[-2]["header"]["flags"] |= NLM_F_ACK
    content = b""
    for number, message in enumerate(messages, 1):
        message["header"]["sequence_number"] = number
        message.encode()
        content += message.data
    netlink.sendto(content, (0, 0))
    while True:
        for kind, body in _messages(netlink.recv(_RECEIVE_BYTES)):
            if kind == NLMSG_ERROR:
                (code,) = struct.unpack_from("=i", body, _HEADER_BYTES)
                if code:
                    raise OSError(-code, os.strerror(-code))
                return


def _held(netlink: socket.socket, family: Family) -> list[Any]:
    """The rules that the kernel holds in our table, in order."""
    request = nfgen_msg()
    request["nfgen_family"] = _FAMILY[family]
    request["header"]["type"] = (NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_GETRULE
    request["header"]["flags"] = NLM_F_REQUEST | NLM_F_DUMP
    request.encode()
    netlink.sendto(request.data, (0, 0))
    found: list[Any] = []
    while True:
        for kind, body in _messages(netlink.recv(_RECEIVE_BYTES)):
            if kind == NLMSG_DONE:
                return [rule for rule in found if rule.get_attr("NFTA_RULE_TABLE") == TABLE]
            rule = nft_rule_msg(body)
            rule.decode()
            found.append(rule)


def _messages(content: bytes) -> Iterator[tuple[int, bytes]]:
    """The type and the bytes, header included, of each netlink message."""
    offset = 0
    while offset + _HEADER_BYTES <= len(content):
        length, kind = struct.unpack_from("=IH", content, offset)
        yield kind, content[offset : offset + length]
        offset += (length + 3) & ~3


def _batch(rules: Mapping[Family, Sequence[Rule]]) -> Iterator[Any]:
    yield _boundary(_BATCH_BEGIN)
    for family, wanted in rules.items():
        # Add, delete, add: the deletion cannot fail, and what an earlier run left is gone within the transaction.
        for kind in (NFT_MSG_NEWTABLE, NFT_MSG_DELTABLE, NFT_MSG_NEWTABLE):
            yield _message(nft_table_msg, kind, family, [("NFTA_TABLE_NAME", TABLE)])
        for hook in Hook:
            yield _message(
                nft_chain_msg,
                NFT_MSG_NEWCHAIN,
                family,
                [
                    ("NFTA_CHAIN_TABLE", TABLE),
                    ("NFTA_CHAIN_NAME", hook.value),
                    ("NFTA_CHAIN_TYPE", "nat"),
                    (
                        "NFTA_CHAIN_HOOK",
                        {"attrs": [("NFTA_HOOK_HOOKNUM", _HOOK[hook]), ("NFTA_HOOK_PRIORITY", _PRIORITY_DNAT)]},
                    ),
                    ("NFTA_CHAIN_POLICY", _ACCEPT),
                ],
            )
        for rule in wanted:
            yield _message(
                nft_rule_msg,
                NFT_MSG_NEWRULE,
                family,
                [
                    ("NFTA_RULE_TABLE", TABLE),
                    ("NFTA_RULE_CHAIN", rule.hook.value),
                    ("NFTA_RULE_EXPRESSIONS", _expressions(rule, family)),
                    ("NFTA_RULE_USERDATA", rule.why),
                ],
            )
    yield _boundary(_BATCH_END)


def _boundary(kind: int) -> Any:
    message = nfgen_msg()
    message["res_id"] = NFNL_SUBSYS_NFTABLES
    message["header"]["type"] = kind
    message["header"]["flags"] = NLM_F_REQUEST
    return message


def _message(kind_of_message: Any, kind: int, family: Family, attributes: list[tuple[str, Any]]) -> Any:
    message = kind_of_message()
    message["attrs"] = attributes
    message["nfgen_family"] = _FAMILY[family]
    message["header"]["type"] = (NFNL_SUBSYS_NFTABLES << 8) | kind
    message["header"]["flags"] = NLM_F_REQUEST | (0 if kind == NFT_MSG_DELTABLE else NLM_F_CREATE | NLM_F_APPEND)
    return message


def _expressions(rule: Rule, family: Family) -> list[_Expression]:
    found = [*_load_meta(Meta.NFT_META_L4PROTO), _compare(bytes((socket.IPPROTO_TCP,)))]
    for match in rule.matches:
        found += _match(match, family)
    found.append(_expression("counter", {}))
    if rule.redirect_to:
        port = rule.redirect_to.to_bytes(2, "big")
        found.append(_expression("immediate", {"DREG": _REGISTER, "DATA": _value(port)}))
        found.append(_expression("redir", {"REG_PROTO_MIN": _REGISTER}))
    else:
        verdict = {"attrs": [("NFTA_DATA_VERDICT", {"attrs": [("NFTA_VERDICT_CODE", _ACCEPT)]})]}
        found.append(_expression("immediate", {"DREG": _VERDICT_REGISTER, "DATA": verdict}))
    return found


def _match(match: Match, family: Family) -> list[_Expression]:
    match match:
        case ToLoopback():
            return [*_load_meta(Meta.NFT_META_OIFNAME), _compare(b"lo".ljust(_INTERFACE_NAME_BYTES, b"\0"))]
        case From(network):
            return _compare_network(network, _ADDRESS_OFFSET[family][0], negated=False)
        case To(network, negated):
            return _compare_network(network, _ADDRESS_OFFSET[family][1], negated=negated)
        case ToPort(number):
            return [_payload(_TRANSPORT_HEADER, _DESTINATION_PORT_OFFSET, 2), _compare(number.to_bytes(2, "big"))]
        case SentBy(owner):
            keys = {
                OwnerKind.UID: Meta.NFT_META_SKUID,
                OwnerKind.GID: Meta.NFT_META_SKGID,
                OwnerKind.MARK: Meta.NFT_META_MARK,
            }
            # Metadata of the kernel's own lies in the machine's byte order.
            return [*_load_meta(keys[owner.kind]), _compare(owner.value.to_bytes(4, _BYTE_ORDER))]


def _compare_network(text: str, offset: int, *, negated: bool) -> list[_Expression]:
    network = ip_network(text)
    length = network.max_prefixlen // 8
    return [
        _payload(_NETWORK_HEADER, offset, length),
        _expression(
            "bitwise",
            {
                "SREG": _REGISTER,
                "DREG": _REGISTER,
                "LEN": length,
                "MASK": _value(network.netmask.packed),
                "XOR": _value(bytes(length)),
            },
        ),
        _compare(network.network_address.packed, _NOT_EQUAL if negated else _EQUAL),
    ]


def _load_meta(key: int) -> list[_Expression]:
    return [_expression("meta", {"KEY": key, "DREG": _REGISTER})]


def _payload(base: int, offset: int, length: int) -> _Expression:
    return _expression("payload", {"DREG": _REGISTER, "BASE": base, "OFFSET": offset, "LEN": length})


def _compare(value: bytes, operation: int = _EQUAL) -> _Expression:
    return _expression("cmp", {"SREG": _REGISTER, "OP": operation, "DATA": _value(value)})


def _value(value: bytes) -> dict[str, Any]:
    return {"attrs": [("NFTA_DATA_VALUE", value)]}


def _expression(name: str, attributes: Mapping[str, Any]) -> _Expression:
    data = [(f"NFTA_{name.upper()}_{key}", value) for key, value in attributes.items()]
    return {"attrs": [("NFTA_EXPR_NAME", name), ("NFTA_EXPR_DATA", {"attrs": data})]}


def _verify(held: Sequence[Any], family: Family, wanted: Sequence[Rule]) -> None:
    """Compare what the kernel holds with what was written: chains, order, and the kinds of each rule's expressions."""
    found = [
        (
            rule.get_attr("NFTA_RULE_CHAIN"),
            [expression.get_attr("NFTA_EXPR_NAME") for expression in rule.get_attr("NFTA_RULE_EXPRESSIONS")],
        )
        for rule in held
    ]
    expected = [
        (rule.hook.value, [expression["attrs"][0][1] for expression in _expressions(rule, family)])
        for hook in Hook
        for rule in wanted
        if rule.hook is hook
    ]
    if found != expected:
        raise InternalError(
            f"the kernel holds {len(found)} capture rules of family {family}, but not the {len(expected)} written",
            "another program may change nftables in this pod; look at: nft list ruleset",
        )
