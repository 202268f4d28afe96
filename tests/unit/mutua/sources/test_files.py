"""Objects from files."""

from pathlib import Path

import pytest

from mutua.errors import InvalidInputError
from mutua.sources import files

POLICY = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: %s, namespace: web}
spec: {mtls: {mode: %s}}
"""


def test_documents_lists_and_folders(tmp_path: Path) -> None:
    """Several documents a file, lists of objects, folders by name; other files are not looked at."""
    (tmp_path / "a.yaml").write_text(POLICY % ("one", "STRICT") + "---\n---\n" + POLICY % ("two", "DISABLE"))
    items = (POLICY % ("three", "STRICT")).strip().replace("\n", "\n  ")
    (tmp_path / "b.yml").write_text(f"kind: List\napiVersion: v1\nitems:\n- {items}\n")
    (tmp_path / "notes.txt").write_text("{")

    found = list(files.objects([tmp_path]))

    assert [item.value.metadata.name for item in found if item.value] == ["one", "two", "three"]


def test_broken_objects_are_findings(tmp_path: Path) -> None:
    """The rest of the file is read."""
    (tmp_path / "a.yaml").write_text(
        POLICY % ("one", "SOMETIMES") + "---\nkind: Odd\n---\n" + POLICY % ("two", "STRICT")
    )

    first, odd, second = files.objects([tmp_path / "a.yaml"])

    assert first.findings[0].field == "spec.mtls.mode"
    assert (first.value, odd.kind) == (None, None)
    assert second.value is not None


@pytest.mark.parametrize("content", ["a: [", "\x00", "a: b: c"])
def test_what_is_no_yaml_is_named(tmp_path: Path, content: str) -> None:
    """With file and place."""
    (tmp_path / "a.yaml").write_text(content)

    with pytest.raises(InvalidInputError, match=r"a\.yaml is not YAML"):
        list(files.objects([tmp_path]))


def test_a_missing_file(tmp_path: Path) -> None:
    """The system's own reason."""
    with pytest.raises(InvalidInputError, match="No such file"):
        list(files.objects([tmp_path / "none.yaml"]))
