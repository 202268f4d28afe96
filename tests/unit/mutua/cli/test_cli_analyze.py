"""`mutua analyze` on manifests: what goes to which stream, and the exit codes."""

import io
import json
from pathlib import Path

import pytest
import yaml

from mutua.programs.cli.main import run

CLEAN = """
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{name: http, port: 80}]}
"""
SHADOWED = """
# two for one namespace
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: one, namespace: shop}
spec: {mtls: {mode: STRICT}}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: two, namespace: shop}
spec: {mtls: {mode: PERMISSIVE}}
"""
WRONG = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: wrong, namespace: shop}
spec: {mtls: {mode: SOMETIMES}}
"""
ALONE = ("analyze", "--use-kube=false")


def written(folder: Path, text: str, name: str = "all.yaml") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def test_nothing_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, CLEAN)
    assert run([*ALONE, path]) == 0
    told = capsys.readouterr()
    assert (told.out, told.err) == ("\n", f"✔ No validation issues found when analyzing {path}.\n")


def test_several_files_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = written(tmp_path, CLEAN, "a.yaml"), written(tmp_path, CLEAN, "b.yaml")
    assert run([*ALONE, first, second]) == 0
    assert capsys.readouterr().err == f"✔ No validation issues found when analyzing:\n  - {first}\n  - {second}\n"


def test_a_warning_does_not_fail_unless_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, SHADOWED)
    assert run([*ALONE, path]) == 0
    told = capsys.readouterr()
    assert told.out.startswith(
        f"Warning [MUT0001] (PeerAuthentication shop/two {path}:8) is ignored: shop/one (STRICT)"
    )
    assert run([*ALONE, "--failure-threshold", "Warning", path]) == 79
    told = capsys.readouterr()
    assert told.err.startswith(f"Error: Analyzers found issues when analyzing {path}.\nSee ")


def test_levels_colors_and_suppression(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, SHADOWED)
    assert run([*ALONE, "--output-threshold", "Error", path]) == 0
    assert capsys.readouterr().out == "\n"
    assert run([*ALONE, "-S", "MUT0001=PeerAuthentication two.shop", "-S", "IST9=x", path]) == 0
    told = capsys.readouterr()
    assert told.out == "\n" and "message code 'IST9' is an unknown message code" in told.err
    assert run([*ALONE, "--color", path]) == 0
    assert capsys.readouterr().out.startswith("\x1b[33mWarning\x1b[0m [MUT0001]")
    assert run([*ALONE, "--failure-threshold", "Loud", path]) == 64
    assert run([*ALONE, "-o", "table", path]) == 64


def test_json_and_yaml_never_fail(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, WRONG)
    assert run([*ALONE, "-o", "json", path]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [list(item) for item in found] == [["code", "documentationUrl", "level", "message", "origin", "reference"]]
    assert (found[0]["code"], found[0]["reference"]) == ("IST0106", f"{path}:2")
    assert run([*ALONE, "-o", "yaml", path]) == 0
    assert yaml.safe_load(capsys.readouterr().out) == found
    assert run([*ALONE, "-o", "json", written(tmp_path, CLEAN)]) == 0
    assert capsys.readouterr().out == "[]\n"
    assert run([*ALONE, path.replace("all", "none")]) == 1


def test_files_that_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path, CLEAN + "---\na: [\n")
    notes = written(tmp_path, "hello", "notes.txt")
    assert run([*ALONE, str(tmp_path), notes]) == 65
    told = capsys.readouterr()
    assert "Error(s) adding files: " in told.err and "all.yaml is not YAML: line " in told.err
    assert f"Skipping file {notes}, recognized file extensions are: [.json .yaml .yml]" in told.err
    assert "Error: Some files couldn't be parsed." in told.err
    assert run([*ALONE, "--ignore-unknown", str(tmp_path)]) == 0


def test_standard_input(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(WRONG.replace(", namespace: shop", "")))
    assert run([*ALONE, "-n", "here", "-"]) == 79
    assert "(PeerAuthentication here/wrong -:2) Schema validation error: spec.mtls.mode" in capsys.readouterr().out


def test_lists_and_explanations(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["analyze", "-L"]) == 0
    assert "* destinationrule.CaCertificateAnalyzer:\n    DestinationRules with TLS" in capsys.readouterr().out
    for code in ("MUT0001", "ist0101", "IST0102"):
        assert run(["analyze", "--explain", code]) == 0
        told = capsys.readouterr().out
        assert told.startswith(f"# {code.upper()}: ")
        assert "{0}" not in told and "{}" not in told
    assert run(["analyze", "--explain", "MUT9999"]) == 1
    assert "no message has the code MUT9999" in capsys.readouterr().err


def test_only_some_checks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, SHADOWED)
    assert run([*ALONE, "-v", "--analyzer", "schema.ValidationAnalyzer", path]) == 0
    told = capsys.readouterr()
    assert told.out == "\n"
    assert "Executed analyzers:\n\t schema.ValidationAnalyzer\n" in told.err


def test_manifests_without_a_namespace_and_one_that_holds_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With --all-namespaces nothing says where such objects are; they are judged all the same."""
    pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: web, labels: {app: web}}\nspec: {containers: [{name: web}]}\n"
    policy = WRONG.replace("SOMETIMES", "STRICT").replace("wrong, namespace: shop", "all")
    path = written(tmp_path, f"{pod}---{policy}---\n" + CLEAN.replace("{app: web}", "&a {app: *a}"))
    assert run([*ALONE, "--all-namespaces", path]) == 65
    assert "holds itself by an alias" in capsys.readouterr().err


def test_a_kind_of_istios_that_nothing_reads_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {name: a}\n---\napiVersion: v1\nkind: Event\n"
    installation = "---\napiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\n"
    assert run((*ALONE, written(tmp_path, text + installation))) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("Warning: ")]
    assert len(said) == 1
    assert "nothing reads the kind Telemetry of telemetry.istio.io here: the mesh config decides" in said[0]
