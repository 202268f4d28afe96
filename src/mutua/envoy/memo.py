"""Remembering what a pure function answered: by identity first, then by value; bounded."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from functools import wraps
from typing import TypeVar, TypeVarTuple

Arguments = TypeVarTuple("Arguments")
T = TypeVar("T")


def remembered(limit: int) -> Callable[[Callable[[*Arguments], T]], Callable[[*Arguments], T]]:
    """A decorator for pure functions of hashable positional arguments; the least recently used answers are forgotten.

    The key is the whole argument, so an answer can never be out of date. The same objects are recognised without
    hashing them: a namespace's view of 5,000 services costs a pointer comparison per proxy, not a walk.
    """

    def decorate(function: Callable[[*Arguments], T]) -> Callable[[*Arguments], T]:
        # The arguments are kept beside each identity, so that an id can never be reused while it is a key.
        by_identity: OrderedDict[tuple[int, ...], tuple[tuple[object, ...], T]] = OrderedDict()
        by_value: OrderedDict[Hashable, T] = OrderedDict()

        @wraps(function)
        def wrapper(*args: *Arguments) -> T:
            identity = tuple(map(id, args))
            seen = by_identity.get(identity)
            if seen is not None:
                by_identity.move_to_end(identity)
                return seen[1]
            if args in by_value:
                answer = by_value[args]
                by_value.move_to_end(args)
            else:
                answer = function(*args)
                by_value[args] = answer
                if len(by_value) > limit:
                    by_value.popitem(last=False)
            by_identity[identity] = (args, answer)
            if len(by_identity) > limit:
                by_identity.popitem(last=False)
            return answer

        return wrapper

    return decorate
