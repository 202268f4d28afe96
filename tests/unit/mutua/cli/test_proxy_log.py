"""What is asked of an Envoy's loggers, and what is refused before anybody is asked."""

import pytest

from mutua.errors import InvalidInputError
from mutua.programs.cli import proxy_log
from mutua.programs.cli.main import run


@pytest.mark.parametrize(
    ("level", "pages"),
    [
        ("", []),
        ("debug", ["/logging?level=debug"]),
        ("rbac:debug", ["/logging?paths=rbac%3Adebug"]),
        ("info,rbac:debug,jwt:trace", ["/logging?level=info", "/logging?paths=rbac%3Adebug%2Cjwt%3Atrace"]),
    ],
)
def test_levels_become_pages_of_the_admin_interface(level: str, pages: list[str]) -> None:
    assert proxy_log._changes(level) == pages


@pytest.mark.parametrize("level", ["loud", "rbac:loud", "debug,info", "a b:debug", ":debug", "rbac=debug"])
def test_what_is_no_level_is_refused(level: str) -> None:
    with pytest.raises(InvalidInputError):
        proxy_log._changes(level)


@pytest.mark.parametrize("words", [["pc", "log"], ["pc", "log", "web", "-l", "app=web"]])
def test_one_way_to_name_pods_is_needed(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(words) == 1
    assert capsys.readouterr().err.startswith("Error: ")
