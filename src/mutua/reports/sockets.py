"""Who waits on a port, read from the kernel's table of TCP sockets (/proc/net/tcp and tcp6)."""

from mutua.reports.diagnosis_facts import Listening

_LISTEN = "0A"
_LOOPBACK_6 = "00000000000000000000000001000000"


def listening(table: str, port: int) -> Listening:
    """Whether a socket waits on the port, and on which address. Source: Linux, proc_net_tcp."""
    found = Listening.NO
    for line in table.splitlines():
        fields = line.split()
        if len(fields) < 4 or fields[3] != _LISTEN:
            continue
        address, _, number = fields[1].partition(":")
        if int(number, 16) != port:
            continue
        # The first byte of an IPv4 address is the last one written: the kernel prints it as a little-endian word.
        if (address[-2:] == "7F" and len(address) == 8) or address == _LOOPBACK_6:
            found = Listening.LOOPBACK
        else:
            return Listening.YES
    return found
