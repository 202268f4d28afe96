"""The error tree: what callers may catch, and how an error speaks to people.

```
MutuaError                 anything this package raises on purpose
├── InvalidInputError      what was given cannot be read, or breaks a rule
├── NotFoundError          the named thing does not exist
├── ConflictError          it exists, or changed under us; reading again may help
├── RefusedError           who asks is not allowed to
├── UnavailableError       a program or server that we need does not answer; trying again may help
├── UnsupportedError       this machine or cluster cannot do it
└── InternalError          a mistake of ours; never the user's fault
```
"""


class MutuaError(Exception):
    """What happened (`message`: which object, which field, why), and what to do next (`hint`, may be empty)."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message


class InvalidInputError(MutuaError):
    """What was given cannot be read, or breaks a rule."""


class NotFoundError(MutuaError):
    """The named thing does not exist."""


class ConflictError(MutuaError):
    """It exists already, or changed while we worked on it."""


class RefusedError(MutuaError):
    """Who asks is not allowed to."""


class UnavailableError(MutuaError):
    """A program or server that we need does not answer."""


class UnsupportedError(MutuaError):
    """This machine or this cluster cannot do it."""


class InternalError(MutuaError):
    """A mistake of ours."""
