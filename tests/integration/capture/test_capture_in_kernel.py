"""The rules in a real kernel: a pod and a peer, each in a network namespace of its own, with real connections."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.linux

NO_NAMESPACES = 77
SCRIPT = Path(__file__).parent / "pod_and_peer.py"


def observe(*arguments: str, user: str = "root") -> dict[str, Any]:
    """What happened to each connection of `pod_and_peer.py` under these flags of mutua-init."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), user, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode == NO_NAMESPACES:
        pytest.skip("this kernel does not give us a network namespace")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def by_mark() -> dict[str, Any]:
    """Envoy is told by its mark."""
    return observe("--exempt-mark", "1337", "-d", "15020,15021,15090", "-o", "15012,15013", "-x", "10.7.0.0/16")


def test_an_application_reaches_envoy_with_the_address_it_wanted(by_mark: dict[str, Any]) -> None:
    """SO_ORIGINAL_DST on the outbound port gives back address and port."""
    assert by_mark["application to a service"] == {"by": 15001, "wanted": ["10.96.0.20", 80]}
    assert by_mark["application to the peer"] == {"by": 15001, "wanted": ["10.9.0.2", 9000]}


def test_a_peer_reaches_envoy_with_the_port_it_wanted(by_mark: dict[str, Any]) -> None:
    """On the inbound port, but for the ports that are excluded."""
    assert by_mark["peer to the application"] == {"by": 15006, "wanted": ["10.9.0.1", 8080]}
    assert by_mark["peer to the probe port"] == {"by": 15021, "wanted": None}


def test_what_stays_within_the_pod_is_left_alone(by_mark: dict[str, Any]) -> None:
    """By localhost and by the pod's own address."""
    assert by_mark["application to localhost"] == {"by": 8080, "wanted": None}
    assert by_mark["application to its own address"] == {"by": 8080, "wanted": None}


def test_envoy_passes(by_mark: dict[str, Any]) -> None:
    """To the peer, and to its application from the address of pass-through; to its own pod it meets the server side."""
    assert by_mark["envoy to the peer"] == {"by": 9000, "wanted": None}
    assert by_mark["envoy to its application"] == {"by": 8080, "wanted": None}
    assert by_mark["envoy to its own address"] == {"by": 15006, "wanted": ["10.9.0.1", 8080]}


def test_exclusions_pass(by_mark: dict[str, Any]) -> None:
    """The control plane's ports; and UDP is nobody's business."""
    assert by_mark["application to the control plane"] == {"by": 15012, "wanted": None}
    assert by_mark["application over UDP"] == "answered"


def test_running_again_changes_nothing(by_mark: dict[str, Any]) -> None:
    """A restarted init container finds its own table and replaces it."""
    assert by_mark["exit codes"] == [0, 0]
    assert by_mark["rules"][0] == by_mark["rules"][1] > 0


@pytest.mark.skipif(os.geteuid() != 0, reason="needs two user ids, which only root has")
def test_envoy_told_by_its_user() -> None:
    """As on Kubernetes."""
    seen = observe("-u", "1337", "-g", "1337")

    assert seen["application to the peer"] == {"by": 15001, "wanted": ["10.9.0.2", 9000]}
    assert seen["envoy user to the peer"] == {"by": 9000, "wanted": None}
    assert seen["envoy user to its own address"] == {"by": 15006, "wanted": ["10.9.0.1", 8080]}


def test_without_the_right_to_it_the_error_says_so() -> None:
    """One line, and a hint with the capability's name."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--powerless"], capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode == NO_NAMESPACES:
        pytest.skip("this kernel does not give us a network namespace")

    assert done.returncode == 1
    assert done.stderr.startswith("error: the kernel does not let us write capture rules")
    assert "NET_ADMIN" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_dry_run_prints_and_needs_nothing() -> None:
    """Both families, on standard output."""
    done = subprocess.run(
        [sys.executable, "-m", "mutua.programs.init", "--dry-run"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert "table ip mutua {" in done.stdout
    assert "table ip6 mutua {" in done.stdout


def test_wrong_flags_are_named() -> None:
    """Before anything is written."""
    done = subprocess.run(
        [sys.executable, "-m", "mutua.programs.init", "-d", "http"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 1
    assert done.stderr.startswith("error: -d: 'http' is not a port\nhint: ")
