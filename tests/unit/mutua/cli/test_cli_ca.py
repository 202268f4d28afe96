"""`mutua ca init|inspect|verify`: files that the control plane takes, keys that nobody else reads."""

import stat
from pathlib import Path

import pytest

from mutua.ca import plugged_in
from mutua.programs.cli.main import run
from mutua.system import clock


@pytest.mark.parametrize("intermediates", [0, 1, 2])
@pytest.mark.parametrize("algorithm", ["P256", "RSA-2048"])
def test_what_was_made_is_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], intermediates: int, algorithm: str
) -> None:
    """Whole, in the guide's four names, and loadable as a cacerts secret is loaded."""
    folder = tmp_path / "ca"
    words = ["ca", "init", str(folder), "--intermediates", str(intermediates), "--algorithm", algorithm]
    assert run(words) == 0
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(plugged_in.PLUGGED_IN_FILES) <= set(files)
    read = plugged_in.read(files, "test")
    assert read is not None
    assert len(read.load(clock.now()).chain) == intermediates
    for path in folder.glob("*key.pem"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (folder / "root-key.pem").exists() == (intermediates > 0)
    assert run(["ca", "verify", str(folder)]) == 0
    assert run(["ca", "inspect", str(folder)]) == 0
    shown = capsys.readouterr()
    assert "Root CA" in shown.out
    assert max(len(line) for line in shown.out.splitlines() if str(tmp_path) not in line) <= 80
    assert "PRIVATE KEY" not in shown.out + shown.err
    assert f"--from-file={folder / 'cert-chain.pem'}" in shown.err


def test_a_file_in_a_folder_s_place_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the folder to name instead."""
    assert run(["ca", "init", str(tmp_path)]) == 0
    for command in ("inspect", "verify"):
        assert run(["ca", command, str(tmp_path / "root-cert.pem")]) == 1
        assert f"name the folder that holds it: {tmp_path}" in capsys.readouterr().err


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A second `init` in the same folder would destroy a mesh's key."""
    assert run(["ca", "init", str(tmp_path)]) == 0
    before = (tmp_path / "ca-key.pem").read_bytes()
    assert run(["ca", "init", str(tmp_path)]) == 1
    assert (tmp_path / "ca-key.pem").read_bytes() == before
    assert "never overwritten" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        ("missing", "cert-chain.pem missing"),
        ("mismatched", "the cert does not match the key"),
        ("foreign root", "no chain to a root"),
        ("garbage", "cannot be read"),
        ("none", "no authority's files"),
    ],
)
def test_what_does_not_fit_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], spoil: str, says: str
) -> None:
    """Each with the reason, and exit code 1."""
    ours, other = tmp_path / "ours", tmp_path / "other"
    assert run(["ca", "init", str(ours)]) == 0
    assert run(["ca", "init", str(other)]) == 0
    match spoil:
        case "missing":
            (ours / "cert-chain.pem").unlink()
        case "mismatched":
            (ours / "ca-key.pem").write_bytes((other / "ca-key.pem").read_bytes())
        case "foreign root":
            (ours / "root-cert.pem").write_bytes((other / "root-cert.pem").read_bytes())
        case "garbage":
            (ours / "ca-cert.pem").write_text("-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n")
        case _:
            ours = tmp_path
    assert run(["ca", "verify", str(ours)]) == 1
    assert says in capsys.readouterr().err


def test_a_new_intermediate_below_the_same_root(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Another issuer, the same trust: of this a rotation of the issuer is made. The root's key stays where it is."""
    first, second = tmp_path / "first", tmp_path / "second"
    assert run(["ca", "init", str(first)]) == 0
    assert run(["ca", "init", str(second), "--root", str(first)]) == 0
    assert run(["ca", "verify", str(second)]) == 0
    made = [plugged_in.read({path.name: path.read_bytes() for path in each.iterdir()}, "") for each in (first, second)]
    loaded = [files.load(clock.now()) for files in made if files]
    assert loaded[0].roots == loaded[1].roots
    assert loaded[0].issuer_id != loaded[1].issuer_id
    assert not (second / "root-key.pem").exists()

    (first / "root-key.pem").write_bytes((second / "ca-key.pem").read_bytes())
    assert run(["ca", "init", str(tmp_path / "third"), "--root", str(first)]) == 1
    assert "is not the key of root-cert.pem" in capsys.readouterr().err
    assert run(["ca", "init", str(tmp_path / "third"), "--root", str(tmp_path)]) == 1
    assert "no root can be read" in capsys.readouterr().err
