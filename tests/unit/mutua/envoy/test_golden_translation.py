"""Golden files of translation: manifests in, the facts of one Envoy's configuration out."""

from pathlib import Path

import pytest
import yaml

from fakes import golden

FOLDER = Path(__file__).resolve().parents[3] / "golden" / "translation"
INPUTS = sorted(FOLDER.glob("*.in.yaml"))
REWRITE = "pytest tests/unit/mutua/envoy/test_golden_translation.py --rewrite-golden"


def output(source: Path) -> Path:
    """Where the facts about an input are kept."""
    return source.with_name(source.name.replace(".in.yaml", ".out.yaml"))


@pytest.mark.parametrize("source", INPUTS, ids=lambda source: source.name.removesuffix(".in.yaml"))
def test_envoy_is_told_what_is_written_down(source: Path, request: pytest.FixtureRequest) -> None:
    found = yaml.safe_dump(golden.facts(source.read_text()), sort_keys=False, width=120)
    if request.config.getoption("--rewrite-golden"):
        output(source).write_text(found)

    expected = output(source).read_text() if output(source).exists() else ""

    assert found == expected, f"{output(source).name} differs; if that is meant: {REWRITE}"


def test_every_file_belongs_to_a_pair() -> None:
    expected = {path for source in INPUTS for path in (source, output(source))}

    assert set(FOLDER.iterdir()) == expected, f"an output without input is deleted by hand; without output: {REWRITE}"
    assert len(INPUTS) > 20
