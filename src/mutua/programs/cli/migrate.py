"""`mutua migrate`: bring a namespace to another mode of mutual TLS, workload by workload, and back on a refusal."""

import sys
from datetime import timedelta
from typing import Annotated

import typer

from mutua.errors import InvalidInputError
from mutua.mesh.proxy_view import MtlsMode
from mutua.programs.cli import common
from mutua.programs.cli.main import Options
from mutua.system.kube import KubeClient

BLOCKED_EXIT_CODE = 2
ROLLED_BACK_EXIT_CODE = 3
UNWATCHED_EXIT_CODE = 4
INTERRUPTED_EXIT_CODE = 130

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Bring a namespace to STRICT (or back), workload by workload, with a gate and a way back.",
)

Target = Annotated[str, typer.Option("--to", help="STRICT or PERMISSIVE.")]
Output = Annotated[str, typer.Option("--output", "-o", help="short, json or yaml.")]
Window = Annotated[
    str, typer.Option("--since", help="How long plaintext of clients that may be mended since counts, as in 5m.")
]


@app.command()
def plan(context: typer.Context, to: Target = "STRICT", output: Output = "short", since: Window = "1h") -> int:
    """Name every client that would be cut off, with why and the cure. Exit code 2 while there is one."""
    from mutua.migration import plan as plans
    from mutua.migration import words
    from mutua.programs.cli import control_plane
    from mutua.programs.cli.migrate_cluster import Cluster
    from mutua.system import clock

    target, window, wanted = _target(to), _duration("--since", since), common.output_format(output)

    async def work(kube: KubeClient, chosen: Options) -> plans.Plan:
        namespace = chosen.namespace or kube.namespace
        seen = await control_plane.plaintext(kube, chosen)
        return plans.make(await Cluster(kube, chosen, namespace).scene(target, window), seen)

    made = common.with_kube(context, work)
    if wanted is common.OutputFormat.SHORT:
        sys.stdout.write(words.plan_text(made, clock.now()))
        common.say(words.verdict(made))
    else:
        common.print_object(made, wanted)
    return BLOCKED_EXIT_CODE if made.blockers else 0


@app.command()
def status(context: typer.Context, to: Target = "STRICT", output: Output = "short", since: Window = "1h") -> int:
    """Show each workload's mode, who decided it, what blocks, how far a run is. Exit code 4 if nobody watches it."""
    from mutua.migration import plan as plans
    from mutua.migration import words
    from mutua.migration.scene import Scene
    from mutua.programs.cli import control_plane, migrate_lease
    from mutua.programs.cli.migrate_cluster import Cluster, Record
    from mutua.reports.proxy_status import PlaintextSeen
    from mutua.system import clock

    target, window, wanted = _target(to), _duration("--since", since), common.output_format(output)

    async def work(
        kube: KubeClient, chosen: Options
    ) -> tuple[Scene, list[PlaintextSeen], control_plane.Traffic, Record, bool]:
        cluster = Cluster(kube, chosen, chosen.namespace or kube.namespace)
        seen = await control_plane.plaintext(kube, chosen)
        traffic = await control_plane.traffic(kube, chosen, cluster.namespace)
        scene = await cluster.scene(target, window)
        is_led = await migrate_lease.is_held(kube, cluster.namespace)
        # Read after the lease: a run that has ended meanwhile has written so before it let go.
        record = await cluster.record()
        is_left = record.state is not None and not record.state.stage.is_final and not is_led
        return scene, seen, traffic, record, is_left

    scene, seen, traffic, record, is_left = common.with_kube(context, work)
    for silent in traffic.silent:
        common.say(f"Warning: not counted: {silent}")
    made = plans.make(scene, seen)
    rows = words.status_rows(scene, made, traffic.edges)
    if wanted is not common.OutputFormat.SHORT:
        common.print_object({"workloads": rows, "record": record, "unwatched": is_left}, wanted)
        return UNWATCHED_EXIT_CODE if is_left else 0
    sys.stdout.write(words.status_table(rows))
    now = clock.now()
    for state in (*record.history, *([record.state] if record.state else [])):
        common.say(words.outcome(state, now))
    if is_left and record.state:
        for line in words.unwatched(record.state):
            common.say(line)
    return UNWATCHED_EXIT_CODE if is_left else 0


@app.command()
def run(
    context: typer.Context,
    to: Target = "STRICT",
    soak: Annotated[str, typer.Option("--soak", help="How long each workload is watched, as in 10m.")] = "10m",
    rollback_on: Annotated[int, typer.Option("--rollback-on", min=1, help="So many refusals roll back.")] = 1,
    despite_blockers: Annotated[
        bool, typer.Option("--despite-blockers", help="Begin although known clients would be cut off.")
    ] = False,
    since: Window = "1h",
) -> int:
    """Migrate, or go on with a run that was left. Exit code 0: done, 2: blocked, 3: rolled back."""
    from mutua.migration import plan as plans
    from mutua.migration import words
    from mutua.migration.machine import Cause
    from mutua.programs.cli import control_plane, migrate_run
    from mutua.programs.cli.migrate_cluster import Cluster
    from mutua.system import clock

    wishes = migrate_run.Wishes(
        _target(to),
        _duration("--soak", soak).total_seconds(),
        rollback_on,
        despite_blockers,
        _duration("--since", since),
    )

    async def work(kube: KubeClient, chosen: Options) -> int:
        cluster = Cluster(kube, chosen, chosen.namespace or kube.namespace)
        record = await cluster.record()
        if record.state is None or record.state.stage.is_final:
            seen = await control_plane.plaintext(kube, chosen)
            made = plans.make(await cluster.scene(wishes.target, wishes.window), seen)
            if made.is_done or (made.blockers and not wishes.forced):
                sys.stdout.write(words.plan_text(made, clock.now()))
                common.say(words.verdict(made))
                return 0 if made.is_done else BLOCKED_EXIT_CODE
        state = await migrate_run.run(cluster, wishes)
        special = {Cause.BLOCKED: BLOCKED_EXIT_CODE, Cause.INTERRUPTED: INTERRUPTED_EXIT_CODE}
        return special.get(state.cause, ROLLED_BACK_EXIT_CODE) if state.cause else 0

    return common.with_kube(context, work)


def _target(text: str) -> MtlsMode:
    if text.upper() not in (MtlsMode.STRICT, MtlsMode.PERMISSIVE):
        raise InvalidInputError(f"--to {text} is no mode to migrate to", "choose STRICT or PERMISSIVE")
    return MtlsMode(text.upper())


def _duration(option: str, text: str) -> timedelta:
    from mutua.api.meta import duration_seconds

    try:
        return timedelta(seconds=duration_seconds(text))
    except ValueError as error:
        raise InvalidInputError(f"{option}: {error}") from None
