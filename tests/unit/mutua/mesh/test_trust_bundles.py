"""`meshConfig.caCertificates`: which roots vouch for whom, and what is refused."""

from typing import Any

import pytest

from fakes.certificates import issued_authority, root_authority, signing_request
from mutua.api import decode
from mutua.mesh import build, trust_bundles
from mutua.mesh.trust_bundles import TrustBundles
from mutua.system import keys

ONE, TWO = (root_authority().root_bundle for _ in range(2))
URL = "https://bundles.partner.org/bundle"


def bundles(*entries: dict[str, Any], fetched: dict[str, str] | None = None, **mesh: Any) -> TrustBundles:
    config, findings = decode.mesh_config({"caCertificates": list(entries)} | mesh)
    assert not findings
    return trust_bundles.of_mesh(config, fetched or {})


def test_an_entry_without_trust_domains_vouches_for_the_mesh_s_own() -> None:
    found = bundles({"pem": ONE}, {"pem": ONE + TWO})
    assert found.own == "".join(sorted((ONE, TWO)))
    assert (found.foreign, found.problems) == ((), ())


def test_a_partner_s_root_vouches_for_the_partner_alone() -> None:
    """It must never be among those by which our own domain's names are believed."""
    found = bundles({"pem": ONE, "trustDomains": ["partner.org"]}, {"pem": TWO})
    assert found.own == TWO
    assert found.foreign == (("partner.org", ONE),)
    config, _ = decode.mesh_config({"caCertificates": [{"pem": ONE, "trustDomains": ["partner.org"]}]})
    assert build.trust_of(config).domains == ("cluster.local",)
    assert build.trust_of(config).foreign == ("partner.org",)


def test_an_alias_is_the_mesh_s_own() -> None:
    found = bundles({"pem": ONE, "trustDomains": ["old.td", "partner.org"]}, trustDomainAliases=["old.td"])
    assert found.own == ONE
    assert found.foreign == (("partner.org", ONE),)


def test_signers_have_roots_of_their_own_and_those_of_everybody() -> None:
    found = bundles({"pem": ONE, "certSigners": ["issuers.example.com/a"]}, {"pem": TWO})
    assert found.roots_of_signer("issuers.example.com/a") == "".join(sorted((ONE, TWO)))
    assert found.roots_of_signer("issuers.example.com/b") == TWO
    only = bundles({"pem": ONE, "certSigners": ["issuers.example.com/a"], "trustDomains": ["partner.org"]})
    assert only.roots_of_signer("issuers.example.com/a") == ""


def test_roots_come_from_an_end_point_once_it_has_answered() -> None:
    entry = {"spiffeBundleUrl": URL, "trustDomains": ["partner.org"]}
    waiting = bundles(entry)
    assert waiting.locations == {URL}
    assert (waiting.foreign, waiting.problems) == ((), ())
    assert bundles(entry, fetched={URL: ONE}).foreign == (("partner.org", ONE),)


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({}, "exactly one of pem and spiffeBundleUrl"),
        ({"pem": ONE, "spiffeBundleUrl": URL}, "exactly one of pem and spiffeBundleUrl"),
        ({"pem": "nonsense"}, "caCertificates[0]"),
        ({"pem": signing_request(keys.generate())}, "caCertificates[0]"),
        ({"pem": ONE, "trustDomains": ["Not A Domain"]}, "caCertificates[0].trustDomains"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_followed_is_left_out_whole_and_told(entry: dict[str, Any], reason: str) -> None:
    found = bundles(entry, {"pem": TWO})
    assert found.own in (TWO, "")
    assert any(reason in problem for problem in found.problems)
    assert ONE not in found.own


def test_what_would_not_fit_into_a_config_map_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust_bundles, "MAX_BYTES", len(ONE))
    found = bundles({"pem": ONE}, {"pem": TWO}, {"pem": ONE, "trustDomains": ["partner.org"]})
    assert (found.own, found.foreign) == (ONE, ())
    assert "bytes in all" in found.problems[0]


def test_one_leaf_among_the_roots_spoils_the_entry() -> None:
    """A workload's certificate as a root would let that workload vouch for everybody."""
    authority = issued_authority(1)
    from datetime import timedelta

    from fakes.certificates import NOW
    from mutua.ca import issue

    leaf = issue.server_certificate(("a.b",), keys.generate().public_key(), authority, NOW, 7, timedelta(hours=1))
    found = bundles({"pem": ONE + leaf.chain[0]})
    assert found.own == ""
    assert "not a CA certificate" in found.problems[0]
