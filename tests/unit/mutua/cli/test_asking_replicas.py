"""Every replica of the control plane is asked, and one that is about to start keeps nobody's answer back."""

import asyncio
from typing import cast

import pytest

from mutua.programs.cli import control_plane
from mutua.programs.cli.main import Options
from mutua.system.kube import KubeClient
from mutua.system.kube_errors import KubeError


class Access:
    """Of replicas that answer, or with None do not."""

    headers: tuple[()] = ()

    def __init__(self, answers: dict[str, bytes | None]) -> None:
        self._answers = answers
        self._pod = ""

    def of(self, _kube: object, pod: str) -> "Access":
        """The one pod's."""
        asked = Access(self._answers)
        asked._pod = pod
        return asked

    async def get(self, _page: str, _headers: object) -> bytes:
        """Its answer."""
        answer = self._answers[self._pod]
        if answer is None:
            raise KubeError(f"cannot reach {self._pod}")
        return answer


def asked(monkeypatch: pytest.MonkeyPatch, ready: dict[str, bool], answers: dict[str, bytes | None]) -> list[str]:
    """The names that were told."""

    async def replicas(*_: object) -> dict[str, bool]:
        return ready

    async def access(*_: object) -> Access:
        return Access(answers)

    monkeypatch.setattr(control_plane, "_replicas", replicas)
    monkeypatch.setattr(control_plane, "_access", access)
    return asyncio.run(control_plane._ask(cast("KubeClient", None), Options(), "/page", str))


def test_all_that_answer_are_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {"one": b'["a"]', "two": b'["b"]', "starting": None}
    assert asked(monkeypatch, {"one": True, "two": False, "starting": False}, answers) == ["a", "b"]


@pytest.mark.parametrize("ready", [{"one": True, "two": True}, {"one": False, "two": False}])
def test_whoever_should_answer_and_does_not_is_an_error(
    monkeypatch: pytest.MonkeyPatch, ready: dict[str, bool]
) -> None:
    with pytest.raises(KubeError, match="cannot reach two"):
        asked(monkeypatch, ready, {"one": b'["a"]', "two": None})
