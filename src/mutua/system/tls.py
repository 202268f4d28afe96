"""Whom our own TLS clients believe."""

import ssl


def believing(roots: str = "") -> ssl.SSLContext:
    """A client that believes the authorities in the PEM text `roots`; this machine's if it is empty."""
    return as_kubernetes(ssl.create_default_context(cadata=roots or None))


def as_kubernetes(context: ssl.SSLContext) -> ssl.SSLContext:
    """That context, judging the form of certificates no stricter than kubectl and Envoy do.

    Python 3.13 and newer also want each authority to carry a key usage and key identifiers (VERIFY_X509_STRICT). The
    authorities of many clusters, and those made with openssl by hand, have none.
    """
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context
