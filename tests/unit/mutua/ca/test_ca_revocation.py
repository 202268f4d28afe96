"""Revocation lists of a plugged-in authority: all or nothing."""

from datetime import timedelta

import pytest

from fakes.certificates import NOW, revoked, revoking_authority, root_authority
from mutua.ca import revocation
from mutua.ca.errors import AuthorityError


def test_a_list_of_each_certificate_that_signs() -> None:
    """As many lists as there are authorities, in one text, in any order."""
    root, other = revoking_authority(), revoking_authority()
    text = revoked(other, 5, now=NOW) + revoked(root, now=NOW)
    assert len(revocation.lists(text)) == 2
    revocation.check(text, (root.certificate, other.certificate), NOW)


def test_one_that_is_missing_is_named() -> None:
    """Envoy would refuse every peer below it."""
    root, other = revoking_authority(), root_authority()
    with pytest.raises(
        AuthorityError, match=rf"missing CRL signed by certificates: \[{other.certificate.serial_number:x}"
    ):
        revocation.check(revoked(root, now=NOW), (root.certificate, other.certificate), NOW)


def test_a_list_that_another_key_signed_does_not_count() -> None:
    """The name alone proves nothing: both roots are called the same."""
    root, namesake = revoking_authority(), revoking_authority()
    assert root.certificate.subject == namesake.certificate.subject
    with pytest.raises(AuthorityError, match="missing CRL"):
        revocation.check(revoked(namesake, now=NOW), (root.certificate,), NOW)


@pytest.mark.parametrize("text", [b"nonsense", b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"])
def test_what_cannot_be_read_is_refused(text: bytes) -> None:
    """Not taken for an empty list."""
    with pytest.raises(AuthorityError, match=r"ca-crl\.pem cannot be read"):
        revocation.check(text, (revoking_authority().certificate,), NOW)


def test_an_authority_that_may_not_sign_lists() -> None:
    """Envoy believes no list of it, and then no peer."""
    root = root_authority()
    with pytest.raises(AuthorityError, match="key usage does not allow to sign a CRL"):
        revocation.check(revoked(root, now=NOW), (root.certificate,), NOW)


def test_a_list_that_has_expired() -> None:
    """The day after, it would stop the mesh."""
    root = revoking_authority()
    with pytest.raises(AuthorityError, match="the CRL has expired"):
        revocation.check(revoked(root, now=NOW), (root.certificate,), NOW + timedelta(days=2))
