"""The command line: where options may stand, exit codes, what goes to which stream."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mutua.programs.cli import main
from mutua.programs.cli.main import COMMANDS, run, shared_first

REPORTS = Path(__file__).parent.parent / "reports"


@pytest.mark.parametrize(
    ("words", "moved"),
    [
        (["pc", "secret", "web", "-n", "ns"], ["--namespace", "ns", "pc", "secret", "web"]),
        (["-n", "ns", "version"], ["--namespace", "ns", "version"]),
        (["version", "--kubeconfig=/x", "-i", "mesh"], ["--kubeconfig", "/x", "--istioNamespace", "mesh", "version"]),
        (["version", "--remote=false", "--short=true"], ["version", "--no-remote", "--short"]),
        (["install", "--set", "a=true"], ["install", "--set", "a=true"]),
        (["x", "--", "-n", "ns"], ["x", "--", "-n", "ns"]),
        (["version", "-n"], ["version", "-n"]),
    ],
)
def test_shared_options_may_stand_anywhere(words: list[str], moved: list[str]) -> None:
    """As persistent flags of kubectl and istioctl."""
    assert moved == shared_first(words)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_command_helps(command: main.Command, capsys: pytest.CaptureFixture[str]) -> None:
    """On stdout, with code 0."""
    assert run([command.name, "--help"]) == 0
    assert "Usage: mutua" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["nonsense"], 64, "No such command 'nonsense'"),
        (["version", "--nonsense"], 64, "--nonsense"),
        (["version", "-n"], 64, "-n"),
        (["version", "-o", "xml"], 1, "--output must be 'yaml' or 'json'"),
        (["pc", "secret"], 1, "secret requires pod name or --file parameter"),
        (["pc", "secret", "web", "-o", "xml"], 1, 'output format "xml" not supported'),
        (["pc", "secret", "-f", "/none"], 1, "/none cannot be read"),
        (["install", "--set", "profile=none", "--dry-run"], 1, "profile 'none' does not exist"),
        (["install", "--readiness-timeout", "soon"], 1, "is not a duration"),
        (["install", "--dry-run", "-o", "xml"], 1, 'output format "xml" not supported'),
        (["uninstall", "-y"], 1, "one of the --revision or --purge flags must be set"),
        (["verify-install", "--kubeconfig", "/none"], 1, "the kubeconfig /none does not exist"),
        (["ca", "init", "/proc/none"], 1, "/proc/none: No such file or directory"),
        (["images", "list", "--name", "none"], 1, "there is no cluster none"),
        (["status", "-o", "xml"], 1, 'output format "xml" not supported'),
        (["verify-mtls", "-o", "xml"], 1, 'output format "xml" not supported'),
        (["verify-mtls", "one"], 1, "one calls whom?"),
        (["plaintext", "--since", "soon"], 1, "--since"),
        (["migrate", "run", "--soak", "soon", "-n", "x"], 1, "--soak"),
    ],
)
def test_errors(words: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`Error:` and `hint:` on stderr, nothing on stdout, 64 for whoever calls it wrongly."""
    assert code == run(words)
    streams = capsys.readouterr()
    assert streams.out == ""
    assert streams.err.startswith("Error: ")
    assert said in streams.err


def test_version_without_a_cluster(capsys: pytest.CaptureFixture[str]) -> None:
    """The client's own version is known anyway."""
    assert run(["version", "--kubeconfig", "/none"]) == 0
    streams = capsys.readouterr()
    assert streams.out.startswith("client version: ")
    assert "the kubeconfig /none does not exist" in streams.err


def test_version_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    """With the keys that istioctl has."""
    assert run(["version", "--remote=false", "-o", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert {"version", "revision", "golang_version", "status", "tag"} == document["clientVersion"].keys()


def test_the_workload_certificate_is_the_first_secret(capsys: pytest.CaptureFixture[str]) -> None:
    """Scripts take it from there, in protobuf's JSON."""
    assert run(["proxy-config", "secret", "-f", str(REPORTS / "config_dump.json"), "-o", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    secret = document["dynamicActiveSecrets"][0]["secret"]
    assert secret["name"] == "default"
    assert secret["tlsCertificate"]["certificateChain"]["inlineBytes"]


def test_clusters_show_their_transport_socket(capsys: pytest.CaptureFixture[str]) -> None:
    """An array of clusters, filtered by host; packed types are unpacked."""
    arguments = ["--fqdn", "backend.secure-apps.svc.cluster.local", "-o", "json"]
    assert run(["pc", "cluster", "-f", str(REPORTS / "config_dump.json"), *arguments]) == 0
    text = capsys.readouterr().out
    (cluster,) = json.loads(text)
    assert cluster["transportSocket"]["typedConfig"]["commonTlsContext"]["tlsCertificateSdsSecretConfigs"]
    assert '[\n    {\n        "' in text


@pytest.mark.parametrize("command", ["secret", "cluster", "listener", "route", "bootstrap", "all"])
@pytest.mark.parametrize("output", ["short", "json", "yaml"])
def test_every_report_in_every_form(command: str, output: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A real Envoy's dump can be shown in all of them."""
    assert run(["pc", command, "-f", str(REPORTS / "config_dump.json"), "-o", output]) == 0
    assert capsys.readouterr().out


def test_saved_json_can_be_read_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What `-o json` printed gives the same table as the live dump."""
    run(["pc", "all", "-f", str(REPORTS / "config_dump.json"), "-o", "json"])
    saved = tmp_path / "dump.json"
    saved.write_text(capsys.readouterr().out)
    run(["pc", "cluster", "-f", str(REPORTS / "config_dump.json")])
    live = capsys.readouterr().out

    assert run(["pc", "cluster", "-f", str(saved)]) == 0
    assert live == capsys.readouterr().out


def test_dry_run_prints_manifests(capsys: pytest.CaptureFixture[str]) -> None:
    """As YAML that kubectl takes."""
    assert run(["install", "--dry-run"]) == 0
    assert "kind: MutatingWebhookConfiguration" in capsys.readouterr().out


def test_a_reader_that_has_enough() -> None:
    """`mutua ... | head -1` ends without a complaint."""
    command = (
        f'{sys.executable} -c \'from mutua.programs.cli.main import main; main(["install", "--dry-run"])\' | head -1'
    )
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout == "apiVersion: v1\n"
    assert done.stderr == ""


def test_the_overview_loads_no_command() -> None:
    """A start costs only what it uses."""
    program = (
        "import sys; from mutua.programs.cli.main import run; code = run(['--help']); "
        "heavy = {'httpx2', 'grpc', 'google.protobuf', 'cryptography', 'yaml', 'rich'} & set(sys.modules); "
        "sys.exit(f'loaded {heavy}' if heavy else code)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


def test_a_dry_run_prints_the_same_objects_in_both_forms(capsys: pytest.CaptureFixture[str]) -> None:
    """`install --dry-run -o yaml|json`: documents, or one List."""
    assert run(["install", "--dry-run", "-o", "yaml"]) == 0
    documents = list(yaml.safe_load_all(capsys.readouterr().out))
    assert run(["install", "--dry-run", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["items"] == documents


def test_manifests_are_printed_as_a_person_would_write_them(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing by reference, and the mesh config as the text that it is."""
    assert run(["install", "--dry-run"]) == 0

    shown = capsys.readouterr().out
    assert "&id" not in shown
    assert "\n  mesh: |\n    accessLogFile: ''\n" in shown
    assert len(list(yaml.safe_load_all(shown))) == shown.count("\n---\n") + 1
