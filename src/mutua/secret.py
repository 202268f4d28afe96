"""Bytes that must not be shown: keys, tokens, certificates' private halves."""

import hmac
from typing import Any, Final, NoReturn

REDACTED: Final = "[redacted]"


class Secret:
    """Bytes that print, format and encode as `[redacted]`. Only `reveal()` gives them out."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = bytes(value)

    def reveal(self) -> bytes:
        """The bytes themselves, for the one place that needs them."""
        return self._value

    def __repr__(self) -> str:
        return REDACTED

    __str__ = __repr__

    def __format__(self, specification: str) -> str:
        return REDACTED

    def __len__(self) -> int:
        return len(self._value)

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        # Constant time: the comparison of a token must not tell how much of it was right.
        return hmac.compare_digest(self._value, other._value) if isinstance(other, Secret) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not pickled: the copy would not be redacted")


def encode_redacted(value: Any) -> str:
    """For `json.dumps(default=...)` and `msgspec.json.encode(enc_hook=...)`: a Secret becomes `[redacted]`."""
    if isinstance(value, Secret):
        return REDACTED
    raise TypeError(f"objects of type {type(value).__name__} have no JSON form")
