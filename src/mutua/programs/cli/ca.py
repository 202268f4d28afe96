"""`mutua ca`: make, look at and check an authority's files; see and lead the mesh's rotation to another authority."""

import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from mutua.errors import ConflictError, InvalidInputError, NotFoundError, UnavailableError
from mutua.programs.cli import common, identity_pages
from mutua.programs.cli.main import Options
from mutua.system.kube import KubeClient
from mutua.system.kube_errors import KubeNotFoundError

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="The certificate authority: its files, its state, its rotation.",
)

Folder = Annotated[Path, typer.Argument(help="Folder with the files of a cacerts secret.")]
RECORD = "istio-ca-rotation"
ROOT_CONFIG_MAP = "istio-ca-root-cert"
_MAX_FILE = 1024 * 1024


@app.command()
def init(
    folder: Folder = Path(),
    organization: Annotated[str, typer.Option(help="Organization in the certificates.")] = "mutua",
    intermediates: Annotated[int, typer.Option(min=0, max=3, help="Certificates between root and leaves.")] = 1,
    days: Annotated[int, typer.Option(min=1, help="Lifetime of the root.")] = 3650,
    intermediate_days: Annotated[int, typer.Option(min=1, help="Lifetime of intermediates.")] = 730,
    algorithm: Annotated[str, typer.Option(help="P256, P384, RSA-2048, RSA-3072 or RSA-4096.")] = "P256",
    root: Annotated[
        Path | None, typer.Option(help="Folder with root-cert.pem and root-key.pem: new intermediates below that root.")
    ] = None,
) -> None:
    """Make a new authority: root, intermediate and keys, as files for `kubectl create secret generic cacerts`."""
    from cryptography import x509

    from mutua.ca import creation
    from mutua.system import clock, files, keys

    try:
        chosen = keys.KeyAlgorithm(algorithm)
    except ValueError:
        known = ", ".join(each.value for each in keys.KeyAlgorithm)
        raise InvalidInputError(f"--algorithm {algorithm} is not known", f"choose one of {known}") from None
    if root is not None and not intermediates:
        raise InvalidInputError(
            "--root makes intermediates below a root", "leave --intermediates out, or choose 1 to 3"
        )
    lives = [("Root CA", days)] if root is None else []
    lives += [(f"Intermediate CA {number + 1}", intermediate_days) for number in range(intermediates)]
    levels = tuple(
        creation.Level(name, keys.generate(chosen), timedelta(days=life), x509.random_serial_number())
        for name, life in lives
    )
    above = _root(root) if root else None
    made = creation.files(creation.chain(levels, organization, clock.now(), above))
    secret = {"ca-key.pem": keys.to_pem(levels[-1].key).reveal()}
    if intermediates and above is None:
        secret["root-key.pem"] = keys.to_pem(levels[0].key).reveal()
    there = [name for name in (*made, *secret) if (folder / name).exists()]
    if there:
        raise ConflictError(
            f"{folder / there[0]} exists already; an authority's files are never overwritten", "choose an empty folder"
        )
    files.ensure_private_folder(folder)
    for name, content in made.items():
        files.write_atomically(folder / name, content, files.PUBLIC)
    for name, content in secret.items():
        files.write_atomically(folder / name, content)
    for name in (*made, *secret):
        print(folder / name)
    if "root-key.pem" in secret:
        common.say("root-key.pem signs new intermediates only: keep it offline, it never belongs into the cluster")
    flags = " ".join(f"--from-file={folder / name}" for name in ("ca-cert.pem", "ca-key.pem", "root-cert.pem"))
    common.say(f"kubectl create secret generic cacerts -n istio-system {flags} --from-file={folder / 'cert-chain.pem'}")


@app.command()
def inspect(folder: Folder = Path()) -> None:
    """Show the certificates of an authority's files, whether or not they fit together. Keys are never shown."""
    from mutua.ca import bundle
    from mutua.reports import authority as report
    from mutua.system import clock

    found = False
    for name, content in _files(folder).items():
        if name.endswith("key.pem") or name in ("tls.key", "ca-crl.pem"):
            continue
        try:
            certificates = bundle.certificates(content)
        except ValueError as error:
            raise InvalidInputError(f"{folder / name} holds no certificates: {error}") from error
        found = True
        print(f"{name}:")
        sys.stdout.write(report.listed(certificates, clock.now()))
    if not found:
        raise NotFoundError(f"no authority's files in {folder}", "`mutua ca init` makes some")


@app.command()
def verify(folder: Folder = Path()) -> None:
    """Check that an authority's files are whole and fit together, as the control plane does. Exit code 1 if not."""
    from mutua.ca import plugged_in
    from mutua.ca.errors import AuthorityError
    from mutua.reports import authority as report
    from mutua.system import clock

    now = clock.now()
    try:
        read = plugged_in.read(_files(folder), str(folder))
        if read is None:
            raise NotFoundError(f"no authority's files in {folder}", "`mutua ca init` makes some")
        authority = read.verify(now)
    except AuthorityError as error:
        raise InvalidInputError(
            f"these files cannot be used: {error.message}", "`mutua ca inspect` shows what they hold"
        ) from error
    sys.stdout.write(report.certificates(authority, now))
    common.say("✔ the files fit together and may sign")


@app.command()
def status(
    context: typer.Context,
    output: Annotated[str, typer.Option("--output", "-o", help="short, json or yaml.")] = "short",
) -> None:
    """Who signs now, which roots are trusted, and how far a rotation is."""
    import msgspec

    from mutua.ca import bundle
    from mutua.reports import authority as report
    from mutua.system import clock

    wanted = common.output_format(output)

    async def work(kube: KubeClient, chosen: Options) -> tuple[Any, Mapping[str, str], Any]:
        record = await _record(kube, chosen)
        roots = await _config_map(kube, ROOT_CONFIG_MAP, chosen.istio_namespace)
        try:
            page = await identity_pages.rotation(kube, chosen)
        except UnavailableError as error:
            if record.state.successor:
                raise
            # The rest is in the cluster, and true whether or not the control plane runs.
            page = identity_pages.RotationPage([], error.message)
        return record, roots, page

    record, announced, page = common.with_kube(context, work)
    if wanted is not common.OutputFormat.SHORT:
        common.print_object({"state": record.state, "waiting": page.waiting, "problem": page.problem}, wanted)
        return
    roots = announced.get("root-cert.pem", "").encode()
    found = bundle.certificates(roots) if roots else ()
    external = msgspec.json.decode(announced.get("issuer.json") or "{}").get("issuer") == ""
    sys.stdout.write(
        report.status(record.state, found, page.waiting, clock.now(), external=external, problem=page.problem)
    )


@app.command()
def rotate(
    context: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say who would hold it up; change nothing.")] = False,
    pause: Annotated[bool, typer.Option("--pause", help="Hold the rotation where it is.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on.")] = False,
    abort: Annotated[bool, typer.Option("--abort", help="Back to the authority of before.")] = False,
    wait: Annotated[int, typer.Option("--wait", help="Seconds to wait until it is done; 0 = do not wait.")] = 0,
) -> None:
    """Rotate to a new self-signed root without an outage; a custom authority rotates when its secret is replaced."""
    chosen_ways = [name for name, given in (("pause", pause), ("resume", resume), ("abort", abort)) if given]
    if len(chosen_ways) + dry_run > 1:
        raise InvalidInputError("--dry-run, --pause, --resume and --abort exclude each other")
    if dry_run:
        from mutua.reports import authority as report

        told, silent = common.with_kube(context, identity_pages.certificates)
        sys.stdout.write(report.rehearsal(told, silent))
        return
    request = chosen_ways[0] if chosen_ways else "rotate"
    common.with_kube(context, lambda kube, options: _request(kube, options, request, wait))


async def _request(kube: KubeClient, options: Options, request: str, wait: int) -> None:
    import asyncio

    from mutua.ca.rollover import Stage
    from mutua.system.kube_resources import CONFIG_MAPS

    state = (await _record(kube, options)).state
    rolling = state.stage is not Stage.SETTLED
    if request == "rotate" and rolling:
        raise ConflictError(
            f"a rotation is under way already ({state.reason})", "`mutua ca status` shows how far it is"
        )
    if request == "rotate" and state.origin == "cacerts" and await _has_plugged_in(kube, options.istio_namespace):
        raise ConflictError(
            "the authority is plugged in by secret cacerts, and only its owner can make a new one",
            "replace the secret: the mesh then rotates to it by the same steps",
        )
    if request != "rotate" and not rolling:
        raise ConflictError(f"no rotation is under way, so there is nothing to {request}")
    if request == "abort" and state.stage is Stage.RETIRE:
        raise ConflictError("too late to abort: the old root is being dropped", "rotate again once this one is done")
    await kube.patch(CONFIG_MAPS, RECORD, {"data": {"request": request}}, options.istio_namespace)
    common.say(f"{request}: asked; `mutua ca status` shows how far it is")
    for _ in range(wait):
        await asyncio.sleep(1)
        record = await _record(kube, options)
        if not record.request and record.state.stage is Stage.SETTLED:
            common.say(f"✔ done: {record.state.issuer} signs")
            return
    if wait:
        raise UnavailableError(f"not done after {wait} s", "`mutua ca status` shows for whom it waits")


async def _record(kube: KubeClient, options: Options) -> Any:
    from mutua.programs.control_plane.ca_store import read_record

    return read_record({"data": await _config_map(kube, RECORD, options.istio_namespace)})


async def _config_map(kube: KubeClient, name: str, namespace: str) -> Mapping[str, str]:
    from mutua.system.kube_resources import CONFIG_MAPS

    try:
        return (await kube.get(CONFIG_MAPS, name, namespace)).get("data") or {}
    except KubeNotFoundError as error:
        raise NotFoundError(
            f"no config map {name} in namespace {namespace}", "is the mesh installed? `mutua verify-install` says"
        ) from error


async def _has_plugged_in(kube: KubeClient, namespace: str) -> bool:
    from mutua.system.kube_resources import SECRETS

    return bool((await kube.list_raw(SECRETS, namespace, field_selector="metadata.name=cacerts")).objects)


def _root(folder: Path) -> Any:
    """The root and its key from a folder that `init` made."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    from mutua.ca import bundle, creation
    from mutua.system import files

    try:
        certificate = bundle.certificates(files.read_limited(folder / "root-cert.pem", _MAX_FILE))[0]
        key = load_pem_private_key(files.read_limited(folder / "root-key.pem", _MAX_FILE), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InvalidInputError(
            f"no root can be read from {folder}: {error}", "needed are root-cert.pem and root-key.pem"
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) or not bundle.is_authority(certificate):
        raise InvalidInputError(f"{folder / 'root-cert.pem'} is no authority with an ECDSA or RSA key")
    if key.public_key() != certificate.public_key():
        raise InvalidInputError(f"{folder / 'root-key.pem'} is not the key of root-cert.pem")
    return creation.Root(certificate, key)


def _files(folder: Path) -> dict[str, bytes]:
    from mutua.ca.bundle import PLUGGED_IN_FILES, TLS_SECRET_FILES
    from mutua.system import files

    if folder.is_file():
        raise InvalidInputError(f"{folder} is a file", f"name the folder that holds it: {folder.parent}")
    found = {}
    for name in (*PLUGGED_IN_FILES, "ca-crl.pem", *TLS_SECRET_FILES):
        try:
            found[name] = files.read_limited(folder / name, _MAX_FILE)
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise InvalidInputError(f"{folder / name} cannot be read: {error}") from error
    return found
