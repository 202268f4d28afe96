"""Remembering what follows from an object, by the object's identity; bounded."""

from collections import OrderedDict
from collections.abc import Callable
from functools import wraps
from typing import TypeVar

Object = TypeVar("Object")
T = TypeVar("T")


def kept(limit: int) -> Callable[[Callable[[Object], T]], Callable[[Object], T]]:
    """A decorator for pure functions of one frozen object that cannot be hashed, as users' objects cannot.

    What did not change is the same object in the next snapshot: among a thousand, only the changed one costs anything.
    """

    def decorate(function: Callable[[Object], T]) -> Callable[[Object], T]:
        # The object is kept beside the answer, so that its id can never be reused while it is a key.
        answers: OrderedDict[int, tuple[Object, T]] = OrderedDict()

        @wraps(function)
        def wrapper(item: Object) -> T:
            known = answers.get(id(item))
            if known is not None:
                answers.move_to_end(id(item))
                return known[1]
            answer = function(item)
            answers[id(item)] = (item, answer)
            if len(answers) > limit:
                answers.popitem(last=False)
            return answer

        return wrapper

    return decorate
