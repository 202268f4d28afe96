"""What went between two pods, out of all packets of the wire."""

from localcluster.capture import Packet
from mutua.programs.wire import Capture

RECORD = b"\x17\x03\x03\x00\x05secre"


def packet(at: float, source: str, port: int, payload: bytes = RECORD, destination: str = "10.0.0.2") -> Packet:
    return Packet(at, source, 40000, destination, port, payload)


def captured(*packets: Packet) -> Capture:
    capture = Capture()
    capture.packets = list(packets)
    return capture


def test_only_the_packets_of_the_two_the_ports_and_the_moment_count() -> None:
    capture = captured(
        packet(1, "10.0.0.1", 80),
        packet(2, "10.0.0.1", 80),
        packet(2, "10.0.0.1", 81, b"readable"),
        packet(2, "10.0.0.9", 80, b"readable"),
        packet(2, "10.0.0.1", 80, b"readable", "10.0.0.3"),
        packet(3, "10.0.0.1", 80, b"readable"),
        packet(2, "10.0.0.1", 80, b""),
    )
    found = capture.between({"10.0.0.1"}, {"10.0.0.2"}, {80}, (1, 2.5))

    assert (found.segments, found.octets, found.is_tls) == (2, 2 * len(RECORD), True)
    everything = capture.between({"10.0.0.1"}, {"10.0.0.2"})
    assert (everything.segments, everything.is_tls, everything.holds("readable")) == (4, False, True)
    assert found.sha256 != everything.sha256


def test_nothing_captured_is_not_tls() -> None:
    assert not captured().between({"10.0.0.1"}, {"10.0.0.2"}).is_tls
