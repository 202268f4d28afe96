"""Identities are parsed whole or refused."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mutua.errors import InvalidInputError
from mutua.spiffe import SpiffeId, TrustDomain, in_trust_domains

SEGMENT = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-", min_size=1, max_size=40)
DOMAIN = st.text("abcdefghijklmnopqrstuvwxyz0123456789._-", min_size=1, max_size=40)


@pytest.mark.vectors("certs", kind="spiffe-parse")
def test_parse_agrees_with_istio(vector: dict[str, Any]) -> None:
    expected = vector["expect"]
    if expected.get("error"):
        with pytest.raises(InvalidInputError):
            SpiffeId.parse(vector["input"])
    else:
        parsed = SpiffeId.parse(vector["input"])
        assert parsed == SpiffeId(expected["trustDomain"], expected["namespace"], expected["serviceAccount"])


@pytest.mark.vectors("certs", kind="spiffe-gen")
def test_making_an_identity_agrees_with_istio(vector: dict[str, Any]) -> None:
    def make() -> str:
        domain = TrustDomain.parse(vector["trustDomain"])
        return str(SpiffeId.of(domain, vector["namespace"], vector["serviceAccount"]))

    if "error_contains" in vector["expect"]:
        with pytest.raises(InvalidInputError, match=vector["expect"]["error_contains"]):
            make()
    else:
        assert make() == vector["expect"]["uri"]


@pytest.mark.vectors("certs", kind="expand-trust-domains")
def test_twins_in_trust_domains_agree_with_istio(vector: dict[str, Any]) -> None:
    assert sorted(in_trust_domains(vector["identities"], vector["trustDomains"])) == sorted(vector["expect"]["set"])


@given(DOMAIN, SEGMENT, SEGMENT)
def test_what_is_made_is_parsed_back(domain: str, namespace: str, account: str) -> None:
    identity = SpiffeId.of(TrustDomain.parse(domain), namespace, account)
    assert SpiffeId.parse(str(identity)) == identity
    assert identity.is_complete


@given(st.text(max_size=80))
def test_nothing_but_an_identity_is_parsed(text: str) -> None:
    try:
        parsed = SpiffeId.parse(text)
    except InvalidInputError:
        return
    assert str(parsed) == text


@pytest.mark.parametrize(
    "text",
    [
        "spiffe://cluster.local/ns/a/sa/b\n",
        " spiffe://cluster.local/ns/a/sa/b",
        "spiffe://cluster.local/ns/a/sa/b?x=1",
        "spiffe://cluster.local/ns/a/sa/b/c",
        "spiffe://CLUSTER.local/ns/a/sa/b",
        "spiffe://user@cluster.local/ns/a/sa/b",
        "spiffe://cluster.local:1/ns/a/sa/b",
        "spiffe://cluster.local/ns/a%2f/sa/b",
        "SPIFFE://cluster.local/ns/a/sa/b",
        "spiffe://" + "a" * 300 + "/ns/a/sa/b",
    ],
)
def test_almost_identities_are_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match="SPIFFE id"):
        SpiffeId.parse(text)
