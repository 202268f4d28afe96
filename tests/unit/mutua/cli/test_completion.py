"""Completion: scripts for three shells, and answers to what they ask."""

import subprocess
import sys

import pytest

from mutua.programs.cli.main import COMPLETION_VARIABLE, run

ASK = "from mutua.programs.cli.main import main; main([])"


def answered(words: str) -> list[str]:
    """What bash is told to offer for the last word of a line; in a process of its own, as a shell would ask."""
    environment = {COMPLETION_VARIABLE: "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    done = subprocess.run([sys.executable, "-c", ASK], env=environment, capture_output=True, text=True, check=False)
    return done.stdout.split()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_a_script_that_calls_back(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", shell]) == 0
    assert f"{COMPLETION_VARIABLE}=complete_{shell}" in capsys.readouterr().out


def test_another_shell_gets_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", "tcsh"]) == 1
    assert capsys.readouterr().err.startswith('Error: there is no completion for "tcsh"\nhint: ')


def test_commands_are_completed() -> None:
    assert answered("mutua diag") == ["diagnose"]
    assert "listener" in answered("mutua proxy-config li")


def test_without_a_cluster_no_pod_is_offered_and_nothing_is_said() -> None:
    assert answered("mutua pc secret -c /none we") == []
