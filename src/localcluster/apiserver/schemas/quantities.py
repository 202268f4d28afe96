"""Amounts as Kubernetes writes them: `100m`, `1.5`, `64Mi`, `2e3`."""

from decimal import Decimal, InvalidOperation

_FACTORS = {
    **{suffix: Decimal(1024) ** power for power, suffix in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), start=1)},
    **{suffix: Decimal(1000) ** power for power, suffix in enumerate(("k", "M", "G", "T", "P", "E"), start=1)},
    "m": Decimal("0.001"),
    "u": Decimal("0.000001"),
    "n": Decimal("0.000000001"),
}


def parse(text: str) -> Decimal:
    """The amount as a number. Raises ValueError if it is not a quantity."""
    number, factor = text, Decimal(1)
    for suffix in (text[-2:], text[-1:]):
        if suffix in _FACTORS and len(text) > len(suffix):
            number, factor = text[: -len(suffix)], _FACTORS[suffix]
            break
    try:
        amount = Decimal(number)
    except InvalidOperation as error:
        raise ValueError(f"{text!r} is not a quantity") from error
    if not amount.is_finite():
        raise ValueError(f"{text!r} is not a quantity")
    return amount * factor
