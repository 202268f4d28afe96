"""The alerts of the documentation, tried by Prometheus' own checker: each fires when it should, and only then."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

import promtool

ALERTS = Path(__file__).parents[3] / "docs" / "alerts.yaml"
POD = 'namespace="shop",pod="web-1",identity="spiffe://cluster.local/ns/shop/sa/web"'
DAY, HOUR = 86400, 3600


def at(replica: str) -> str:
    """The labels of the pod's series as a replica of the control plane tells it."""
    return f'{{{POD},instance="{replica}"}}'


def certificate(replica: str, expiry: int, failures: int = 0) -> dict[str, str]:
    """What a replica tells of the pod's certificate of a day; `expiry` in seconds after the beginning."""
    return {
        f"mutua_workload_certificate_expiry_timestamp_seconds{at(replica)}": f"{expiry}x400",
        f"mutua_workload_certificate_lifetime_seconds{at(replica)}": f"{DAY}x400",
        f"mutua_workload_certificate_renewal_failures{at(replica)}": f"{failures}x400",
    }


SERIES: dict[str, tuple[dict[str, str], set[str]]] = {
    "all is well": (
        certificate("one", DAY)
        | {
            "mutua_ca_plugged_in_usable": "1x400",
            "mutua_ca_issuer_expiry_timestamp_seconds": f"{31 * DAY}x400",
            "mutua_ca_root_expiry_timestamp_seconds": f"{91 * DAY}x400",
            "mutua_ca_rotation_waiting": "0x400",
        },
        set(),
    ),
    "a certificate near its end": (certificate("one", 3 * HOUR), {"WorkloadCertificateExpiresSoon"}),
    "renewal fails": (certificate("one", DAY, failures=11), {"WorkloadCertificateRenewalFails"}),
    "a replica has an old report of a pod that tells another one since": (
        certificate("one", 3 * HOUR, failures=11) | certificate("two", DAY),
        set(),
    ),
    "renewal fails, and a replica has a report from before": (
        certificate("one", DAY) | certificate("two", DAY, failures=11),
        {"WorkloadCertificateRenewalFails"},
    ),
    "both have old reports": (
        certificate("one", HOUR, failures=11) | certificate("two", 3 * HOUR, failures=11),
        {"WorkloadCertificateExpiresSoon", "WorkloadCertificateRenewalFails"},
    ),
    "cacerts is broken": ({"mutua_ca_plugged_in_usable": "0x400"}, {"PluggedInAuthorityUnusable"}),
    "the issuer ends": ({"mutua_ca_issuer_expiry_timestamp_seconds": f"{29 * DAY}x400"}, {"AuthorityExpiresSoon"}),
    "the root ends": ({"mutua_ca_root_expiry_timestamp_seconds": f"{89 * DAY}x400"}, {"RootExpiresSoon"}),
    "a rotation waits": ({"mutua_ca_rotation_waiting": "2x400"}, {"AuthorityRotationStuck"}),
}
"""What is so → every series and its values, one a minute; which alerts fire after two hours."""


def test_prometheus_takes_the_rules() -> None:
    words = [promtool.find(), "check", "rules", ALERTS]
    done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=60)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("case", SERIES)
def test_an_alert_fires_when_it_should_and_only_then(case: str, tmp_path: Path) -> None:
    values, expected = SERIES[case]
    rules: list[dict[str, Any]] = [
        rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]
    ]
    watched = {rule["alert"] for rule in rules}
    assert expected <= watched
    # The alerts' own series, so that a test needs not repeat their words.
    samples = [f'{{alertname="{name}"}}' for name in sorted(expected)]
    firing = {
        "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
        "eval_time": "2h",
        "exp_samples": [{"labels": labels, "value": 1} for labels in samples],
    }
    series = [{"series": name, "values": each} for name, each in values.items()]
    document = {
        "rule_files": [str(ALERTS)],
        "evaluation_interval": "1m",
        "tests": [{"interval": "1m", "input_series": series, "promql_expr_test": [firing]}],
    }
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(document))
    words = [promtool.find(), "test", "rules", tmp_path / "test.yaml"]
    done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=60)

    assert done.returncode == 0, done.stdout + done.stderr
