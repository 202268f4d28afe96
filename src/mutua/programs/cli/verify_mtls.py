"""`mutua verify-mtls`: what is negotiated between workloads, shown by real connections; evidence that can be kept."""

import sys
from datetime import timedelta
from typing import Annotated, Final

import typer

from mutua.errors import InvalidInputError
from mutua.programs.cli import common

NOT_ENCRYPTED_EXIT_CODE: Final = 1


def verify_mtls(
    context: typer.Context,
    client: Annotated[str, typer.Argument(metavar="[CLIENT", help="[TYPE/]NAME[.NAMESPACE]")] = "",
    server: Annotated[str, typer.Argument(metavar="SERVER]", help="[TYPE/]NAME[.NAMESPACE][:PORT]")] = "",
    since: Annotated[
        str, typer.Option("--since", help="Plaintext that was accepted within this time counts, as in 5m.")
    ] = "1m",
    output: Annotated[str, typer.Option("--output", "-o", help="short, wide, json or yaml.")] = "short",
) -> int:
    """Show what is negotiated between two workloads, or all of a namespace. Exit code 1 while an edge is plaintext."""
    from mutua.api.meta import duration_seconds
    from mutua.programs.cli import verify_gather
    from mutua.reports import encryption

    wanted = common.output_format(output, wide=True)
    if client and not server:
        raise InvalidInputError(f"{client} calls whom?", "name both, as in `mutua verify-mtls deploy/web svc/db`")
    try:
        window = timedelta(seconds=duration_seconds(since))
    except ValueError as error:
        raise InvalidInputError(f"--since: {error}") from None

    evidence = common.with_kube(
        context, lambda kube, chosen: verify_gather.evidence(kube, chosen, client, server, window)
    )
    open_edges = [edge for edge in evidence.edges if edge.state.is_open]
    if wanted is common.OutputFormat.SHORT:
        sys.stdout.write(encryption.table(evidence.edges, wide=output == "wide"))
        count = len(evidence.edges)
        good = f"✔ all {count} edges are mutual TLS" if count > 1 else "✔ the edge is mutual TLS"
        refused = sum(edge.state is encryption.State.REFUSED for edge in evidence.edges)
        if refused:
            good = f"✔ {count - refused} of {count} edges are mutual TLS, and {refused} came to no connection"
        common.say(f"✘ {len(open_edges)} of {count} edges are not known to be mutual TLS" if open_edges else good)
    else:
        common.print_object(evidence, wanted, indent=2)
    return NOT_ENCRYPTED_EXIT_CODE if open_edges else 0
