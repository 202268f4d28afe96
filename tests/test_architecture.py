"""What the import contracts cannot see: docstrings, sizes, purity of calls, frozen models."""

import ast
import importlib
import inspect
from pathlib import Path

import msgspec
import pytest

SOURCE = Path(__file__).parent.parent / "src"
PURE = ("api", "mesh", "envoy", "xds", "ca", "injection", "installation", "verdict", "analysis", "reports", "migration")
LINES_AT_MOST = 450


def modules() -> list[Path]:
    """Every module of ours that a person wrote."""
    return sorted(path for path in SOURCE.rglob("*.py") if "protos" not in path.parts)


def pure_modules() -> list[Path]:
    """The modules of the folders that touch no world, and the pure files beside them."""
    root = SOURCE / "mutua"
    single = [root / name for name in ("errors.py", "secret.py", "spiffe.py", "capture.py")]
    return single + [path for folder in PURE for path in sorted((root / folder).rglob("*.py"))]


def test_every_module_opens_with_what_it_is() -> None:
    """The first line of a module is a docstring."""
    silent = [str(path.relative_to(SOURCE)) for path in modules() if not ast.get_docstring(ast.parse(path.read_text()))]

    assert silent == []


def test_every_module_fits_in_the_head() -> None:
    """No module outgrows a few hundred lines: a longer one lacks a room."""
    long = {
        str(path.relative_to(SOURCE)): lines
        for path in modules()
        if (lines := len(path.read_text().splitlines())) > LINES_AT_MOST
    }

    assert long == {}


def test_pure_folders_neither_open_nor_print() -> None:
    """`open`, `print` and `input` need no import, so the import contracts miss them."""
    offenders = [
        f"{path.relative_to(SOURCE)}:{node.lineno} {node.func.id}"
        for path in pure_modules()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"open", "print", "input"}
    ]

    assert offenders == []


def test_pure_folders_do_not_ask_the_clock() -> None:
    """`now` is an argument; `datetime.now()` hides in an import that is otherwise fine."""
    offenders = [
        f"{path.relative_to(SOURCE)}:{node.lineno} .{node.attr}"
        for path in pure_modules()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and node.attr in {"now", "utcnow", "today"}
        and isinstance(node.ctx, ast.Load)
        and isinstance(node.value, ast.Name)
        and node.value.id in {"datetime", "date"}
    ]

    assert offenders == []


@pytest.mark.parametrize("folder", ["api", "mesh"])
def test_models_are_frozen_by_their_type(folder: str) -> None:
    """A model that can be changed will be: every struct of what users write and what it means is frozen."""
    thawed = []
    for path in sorted((SOURCE / "mutua" / folder).rglob("*.py")):
        name = ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
        for _, found in inspect.getmembers(importlib.import_module(name), inspect.isclass):
            if issubclass(found, msgspec.Struct) and found.__module__ == name and not found.__struct_config__.frozen:
                thawed.append(f"{name}.{found.__name__}")

    assert thawed == []


def test_no_path_of_a_machine_is_written_down() -> None:
    """Sources speak of the repository only: the folder that this checkout lies in is nobody else's business."""
    here = f"{SOURCE.parent.parent}/"
    offenders = [
        str(path.relative_to(SOURCE.parent))
        for folder in ("src", "tests", "docs", "bench")
        for path in (SOURCE.parent / folder).rglob("*")
        if path.suffix in {".py", ".md", ".toml", ".yaml"} and path != Path(__file__) and here in path.read_text()
    ]

    assert offenders == []


def test_test_modules_have_names_of_their_own() -> None:
    """Two modules of one name keep pytest from collecting either folder with the other."""
    names = [path.name for path in (SOURCE.parent / "tests").rglob("test_*.py")]

    assert sorted(name for name in set(names) if names.count(name) > 1) == []


def test_every_bench_is_told_about() -> None:
    """A bench that nobody finds is not run."""
    folder = SOURCE.parent / "bench"
    told = (folder / "README.md").read_text()

    assert [path.name for path in folder.glob("*.py") if f"`{path.name}" not in told] == []
