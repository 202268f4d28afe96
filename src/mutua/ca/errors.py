"""Why a certificate was not issued; each kind has one answer on the wire, chosen by the server."""

from mutua.errors import MutuaError


class IssueError(MutuaError):
    """No certificate: the base of every reason below. The text is for our log, not for the peer."""


class UnknownCallerError(IssueError):
    """The caller did not prove who it is."""


class CsrError(IssueError):
    """The request for a signature is malformed, not its holder's, or has a key that we do not sign."""


class TtlError(IssueError):
    """The lifetime asked for is longer than this mesh allows. Source: Istio refuses, it does not clamp."""


class AuthorityError(IssueError):
    """The signing certificate or key is missing, expired or does not fit together."""


class SignedWrongError(IssueError):
    """What came back from the signer is not what was granted; it never leaves."""
