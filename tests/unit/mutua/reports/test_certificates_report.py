"""The table of certificates: 80 columns whatever the names, errors and silent agents below."""

from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fakes.certificates import NOW
from mutua.reports import certificates

LONG_NAMESPACE, LONG_ACCOUNT = "a-namespace-with-a-rather-long-name-for-tables", "a-service-account-with-a-long-name"
CANARY = "recommendation-service-canary-khzpr965tf-frm88"
NAMES = st.from_regex(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", fullmatch=True)


def report(namespace: str, pod: str, account: str, error: str = "") -> dict[str, Any]:
    """As an agent's report is printed."""
    return {
        "namespace": namespace,
        "pod": pod,
        "identity": f"spiffe://cluster.local/ns/{namespace}/sa/{account}",
        "serial": "3203cce19b79e69c1ef0ac3f75799ae48c270628",
        "issuer": "963e0ed79e7735087b1ad3c458737d15d78ffe23-e3b0c44298fc1c14",
        "not_after": (NOW + timedelta(hours=24)).isoformat(),
        "next_rotation": (NOW + timedelta(hours=19)).isoformat(),
        "error": error,
        "failures": 3 if error else 0,
    }


def test_ordinary_names_stand_whole() -> None:
    """With what went wrong, and who is silent, below."""
    reports = [report("shop", "web-7c5d9-abcde", "web"), report("shop", "api-0", "default", "no answer")]

    assert certificates.table(reports, [("shop", "old-0")], NOW) == (
        "NAMESPACE  POD              ACCOUNT   EXPIRES  ROTATION\n"
        "shop       web-7c5d9-abcde  web       in 24h   in 19h\n"
        "shop       api-0            default   in 24h   in 19h\n"
        "shop       old-0            (silent)  -        -\n"
        "\nshop/api-0: no answer (3 times)"
        "\n(silent): its agent has not told what it holds since the control plane started\n"
    )


def test_long_names_lose_their_middle() -> None:
    """And `-o wide` has them whole."""
    reports = [report(LONG_NAMESPACE, CANARY, LONG_ACCOUNT), report("shop", "web-0", "web")]

    (_, long, short) = certificates.table(reports, [], NOW).splitlines()
    assert max(len(long), len(short)) <= 80
    assert long.split()[1].endswith("khzpr965tf-frm88")
    assert short.split()[:3] == ["shop", "web-0", "web"]
    whole = certificates.wide(reports, [], NOW)
    assert all(name in whole for name in (LONG_NAMESPACE, CANARY, LONG_ACCOUNT, reports[0]["serial"]))


@given(st.lists(st.tuples(NAMES, NAMES, NAMES), min_size=1, max_size=5))
def test_no_row_is_wider_than_a_terminal(names: list[tuple[str, str, str]]) -> None:
    """For whatever names Kubernetes allows."""
    lines = certificates.table([report(*each) for each in names], [], NOW).splitlines()
    assert len(lines) == len(names) + 1
    assert max(len(line) for line in lines) <= 80
