"""What follows from an object is found by the object itself, and the oldest is forgotten."""

from mutua.mesh.kept import kept


def test_an_object_is_asked_about_once_and_only_so_many_are_remembered() -> None:
    asked: list[str] = []

    @kept(limit=2)
    def answer(item: list[str]) -> str:
        asked.append(item[0])
        return item[0] * 2

    first, second, third = ["a"], ["b"], ["c"]

    assert [answer(each) for each in (first, second, first, third, first, second)] == [
        "aa",
        "bb",
        "aa",
        "cc",
        "aa",
        "bb",
    ]
    assert asked == ["a", "b", "c", "b"]
    assert answer(["a"]) == "aa" and asked[-1] == "a"  # an equal object is another object
