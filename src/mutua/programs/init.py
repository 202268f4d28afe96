"""`mutua-init`: writes the capture rules of a pod's network, then ends."""

import argparse
import importlib.util
import sys
from collections.abc import Sequence

from mutua import capture
from mutua.capture import CaptureSettings, Family, Owner, OwnerKind
from mutua.errors import InvalidInputError, MutuaError


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the rules, or print them; the exit code."""
    options = _parser().parse_args(arguments)
    try:
        settings = _settings(options)
        if options.dry_run:
            for family in Family:
                print(capture.as_text(capture.rules(settings, family), family))
            return 0
        _load_only_netlink_messages()
        from mutua.system import netfilter

        families = (Family.IPV4, Family.IPV6) if netfilter.has_ipv6() else (Family.IPV4,)
        rules = {family: capture.rules(settings, family) for family in families}
        netfilter.apply(rules)
    except MutuaError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for family, written in rules.items():
        print(f"capture: {len(written)} rules of family {family} in table {capture.TABLE}", file=sys.stderr)
    return 0


def _load_only_netlink_messages() -> None:
    """Register the package pyroute2 without running its `__init__`, which loads all of its tools.

    Every pod waits for this program, and of pyroute2 it needs the definitions of netlink's messages alone: this halves
    its start. Only for a process that does nothing else.
    """
    spec = importlib.util.find_spec("pyroute2")
    if spec is not None:
        sys.modules.setdefault(spec.name, importlib.util.module_from_spec(spec))


def _settings(options: argparse.Namespace) -> CaptureSettings:
    capture.require_redirect(options.mode)
    owners = [Owner(OwnerKind.MARK, mark) for mark in _numbers("--exempt-mark", options.exempt_mark)]
    owners += [Owner(OwnerKind.UID, uid) for uid in _numbers("-u", options.proxy_uid)]
    owners += [Owner(OwnerKind.GID, gid) for gid in _numbers("-g", options.proxy_gid)]
    return CaptureSettings(
        proxy_port=_port("-p", options.envoy_port),
        inbound_port=_port("-z", options.inbound_capture_port),
        exempt=tuple(owners) or (Owner(OwnerKind.UID, capture.PROXY_UID),),
        include_inbound_ports=capture.parse_ports("-b", options.inbound_ports),
        exclude_inbound_ports=capture.parse_port_list("-d", options.exclude_inbound_ports),
        include_outbound_ports=capture.parse_port_list("-q", options.outbound_ports),
        exclude_outbound_ports=capture.parse_port_list("-o", options.exclude_outbound_ports),
        include_outbound=capture.parse_networks("-i", options.outbound_networks),
        exclude_outbound=capture.parse_network_list("-x", options.exclude_outbound_networks),
    )


def _port(flag: str, text: str) -> int:
    ports = capture.parse_port_list(flag, text)
    if len(ports) != 1:
        raise InvalidInputError(f"{flag}: {text!r} is not one port")
    return ports[0]


def _numbers(flag: str, text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    for part in parts:
        if not part.isascii() or not part.isdecimal() or not 0 < int(part) < 2**32:
            raise InvalidInputError(f"{flag}: {part!r} is not a number from 1 to 4294967295")
    return [int(part) for part in parts]


def _parser() -> argparse.ArgumentParser:
    """Letters and names as istio-iptables has them."""
    parser = argparse.ArgumentParser(prog="mutua-init", description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("-p", "--envoy-port", default="15001", help="where outbound connections go")
    add("-z", "--inbound-capture-port", default="15006", help="where inbound connections go")
    add("-u", "--proxy-uid", default="", help="users whose packets are Envoy's (1337)")
    add("-g", "--proxy-gid", default="", help="groups whose packets are Envoy's")
    add("--exempt-mark", default="", metavar="N", help="SO_MARK of Envoy's sockets, where it has no user of its own")
    add("-m", "--istio-inbound-interception-mode", dest="mode", default="REDIRECT", help="REDIRECT")
    add("-i", "--istio-service-cidr", dest="outbound_networks", default="*", help="captured outbound networks, or *")
    add(
        "-x", "--istio-service-exclude-cidr", dest="exclude_outbound_networks", default="", help="networks not captured"
    )
    add("-b", "--istio-inbound-ports", dest="inbound_ports", default="*", help="captured inbound ports, or *")
    add(
        "-d", "--istio-local-exclude-ports", dest="exclude_inbound_ports", default="", help="inbound ports not captured"
    )
    add(
        "-o",
        "--istio-local-outbound-ports-exclude",
        dest="exclude_outbound_ports",
        default="",
        help="outbound ports not captured",
    )
    add(
        "-q", "--istio-outbound-ports", dest="outbound_ports", default="", help="outbound ports captured in any network"
    )
    add("-n", "--dry-run", action="store_true", help="print the rules and change nothing")
    return parser


if __name__ == "__main__":
    sys.exit(main())
