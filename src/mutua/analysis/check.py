"""A check: which codes it may give, which kinds it reads, and the function."""

from collections.abc import Callable, Iterable

import msgspec

from mutua.analysis.inputs import Inputs
from mutua.analysis.message import Message
from mutua.api.kinds import Kind


class Check(msgspec.Struct, frozen=True):
    """One check. `name` is for `--analyzer`; Istio's name where Istio has the same check.

    `when_applied`: the kinds whose author should hear of it at once when applying an object.
    """

    name: str
    description: str
    codes: tuple[str, ...]
    inputs: tuple[Kind, ...]
    function: Callable[[Inputs], Iterable[Message]]
    when_applied: tuple[Kind, ...] = ()
