"""A migration in words: the plan, the state of each workload, and each step as it is taken."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta

import msgspec

from mutua.mesh.proxy_view import MtlsMode
from mutua.mesh.snapshot import MeshSnapshot
from mutua.migration import machine
from mutua.migration.groups import Group
from mutua.migration.machine import Migration, Progress, Stage
from mutua.migration.plan import Plan
from mutua.migration.scene import Evidence, Obstacle, Scene
from mutua.reports.table import render
from mutua.reports.traffic import EdgeTraffic, SeenBy

STATUS_HEADER = ("WORKLOAD", "PODS", "MODE", "DECIDED BY", "MTLS", "PLAINTEXT", "BLOCKED BY")
_MINUTE, _HOUR = 60, 3600


def plan_text(plan: Plan, now: datetime) -> str:
    """The whole plan."""
    lines = [f"{plan.namespace}: to {plan.target.value}"]
    if plan.is_done:
        lines.append(f"Nothing to do: everything is {plan.target.value} already.")
    if plan.steps:
        done = [step.name for step in plan.steps if step.progress is Progress.PROVEN]
        todo = [step.name for step in plan.steps if step.progress is not Progress.PROVEN]
        lines += [f"One by one: {', '.join(todo)}"] if todo else []
        lines += [f"Already:    {', '.join(done)}"] if done else []
    if not plan.is_done:
        lines.append(f"At the end: the namespace{', with ' + ', '.join(plan.rest) if plan.rest else ''}")
    groups = (
        ("Would be cut off", plan.blockers),
        (
            "To be thought of",
            [item for item in plan.obstacles if not item.blocks and item.evidence is not Evidence.POSSIBLE],
        ),
    )
    for title, items in groups:
        if items:
            lines += ["", f"{title}:"]
            for item in items:
                lines += _obstacle(item, now)
    possible = [item for item in plan.obstacles if item.evidence is Evidence.POSSIBLE]
    if possible:
        lines += ["", "Could call, and would be cut off; not seen to:"]
        lines += [f"  {item.client}: {item.why}" for item in possible]
    if plan.notes:
        lines += ["", "Stays as it is:", *(f"  {note}" for note in plan.notes)]
    return "\n".join(lines) + "\n"


def verdict(plan: Plan) -> str:
    """The last line of a plan, for the person."""
    if plan.blockers:
        count = len(plan.blockers)
        return f"✘ {count} {'client' if count == 1 else 'clients'} would be cut off: nothing is begun while that is so"
    if plan.is_done:
        return "✔ nothing to do"
    return f"✔ nothing is in the way: mutua migrate run -n {plan.namespace} --to {plan.target.value}"


class WorkloadStatus(msgspec.Struct, frozen=True):
    """One workload: what it accepts, who says so, and who is in the way.

    `mutual_tls` and `plaintext` count what came so, requests where they are read and connections elsewhere, since its
    sidecars started.
    """

    workload: str
    pods: int
    mode: str
    decided_by: str
    mutual_tls: int
    plaintext: int
    blocked_by: tuple[str, ...]


def status_rows(found: Scene, plan: Plan, traffic: Iterable[EdgeTraffic]) -> list[WorkloadStatus]:
    """Every workload with a sidecar, by name."""
    secure: dict[str, int] = {}
    plain: dict[str, int] = {}
    for edge in traffic:
        if edge.destination_namespace == found.namespace and edge.seen_by is SeenBy.SERVER:
            secure[edge.destination_workload] = secure.get(edge.destination_workload, 0) + edge.mutual_tls
            plain[edge.destination_workload] = plain.get(edge.destination_workload, 0) + edge.plaintext
    return [
        WorkloadStatus(
            group.name,
            len(group.pods),
            *_mode(found.now, found.namespace, group),
            sum(secure.get(owner, 0) for owner in _owners(found, group)),
            sum(plain.get(owner, 0) for owner in _owners(found, group)),
            tuple(sorted({item.client for item in plan.blockers if item.server in ("", group.name)})),
        )
        for group in found.groups
    ]


def status_table(rows: Iterable[WorkloadStatus]) -> str:
    """The same as a table."""
    cells = [
        (
            item.workload,
            str(item.pods),
            item.mode,
            item.decided_by,
            str(item.mutual_tls),
            str(item.plaintext),
            ", ".join(item.blocked_by) or "-",
        )
        for item in rows
    ]
    return render(STATUS_HEADER, cells, padding=2)


def outcome(state: Migration, now: datetime) -> str:
    """The last or current run in one or two lines."""
    head = f"{state.began:%Y-%m-%d %H:%M} by {state.by}, to {state.target.value}"
    proven = state.named(Progress.PROVEN)
    kept = f"; kept: {', '.join(proven)}" if proven and state.stage is not Stage.DONE else ""
    undone = state.named(Progress.UNDONE)
    match state.stage:
        case Stage.DONE:
            return f"{head}: done after {elapsed((state.ended or now) - state.began)}"
        case Stage.STOPPED:
            back = f"; rolled back: {', '.join(undone)}" if undone else ""
            return f"{head}: stopped: {state.why}{back}{kept}"
        case _:
            tried = ", ".join(state.named(Progress.TRIED)) or "the namespace"
            return f"{head}: {state.stage.value} of {tried} for {elapsed(now - state.since)}{kept}"


def unwatched(state: Migration) -> Iterator[str]:
    """What is so while nobody leads a migration that has not ended, and the next step."""
    tried = ", ".join(state.named(Progress.TRIED))
    is_strict = state.target is MtlsMode.STRICT
    everything = f"the whole namespace {state.namespace}" if machine.wanted(state).mode is state.target else ""
    command = f"mutua migrate run -n {state.namespace} --to {state.target.value}"
    if state.stage is Stage.BACK:
        undone = ", ".join(state.named(Progress.UNDONE)) or f"the namespace {state.namespace}"
        yield f"✘ UNWATCHED: the run died while it rolled back; {undone} may still be STRICT, and refuse"
        yield f"  to end the roll-back: {command}"
        return
    if is_strict and state.stage is not Stage.REPLACE and (everything or tried):
        yield f"✘ UNWATCHED: {everything or tried} is STRICT, and nobody rolls back what it refuses: the run died"
        yield f"  to go on:   {command}"
        yield "              (rolls back if somebody was refused meanwhile; soaks anew)"
        yield "  to go back: the same, and Ctrl-C once it runs"
        return
    yield "✘ the run died before its end; nothing that is not proven is STRICT" if is_strict else "✘ the run died"
    yield f"  to go on:   {command}"


def transition(before: Migration, after: Migration) -> Iterator[str]:
    """What to say when the state has changed."""
    tried = ", ".join(after.named(Progress.TRIED))
    match after.stage:
        case Stage.SWITCH:
            yield f"{tried}: STRICT is being applied"
        case Stage.SOAK:
            yield f"{tried}: live on all proxies; watched for {span(after.soak_seconds)}"
        case Stage.READY if before.stage is Stage.SOAK:
            yield f"✔ {', '.join(before.named(Progress.TRIED))}: nobody was refused"
        case Stage.NAMESPACE:
            yield f"namespace {after.namespace}: {after.target.value} is being applied"
        case Stage.NAMESPACE_SOAK:
            rest = ", ".join(after.rest)
            yield f"namespace {after.namespace}: live on all proxies; {rest}: watched for {span(after.soak_seconds)}"
        case Stage.REPLACE:
            yield f"namespace {after.namespace}: live on all proxies; the workloads' own policies go"
        case Stage.BACK:
            yield f"✘ {after.why}"
            undone = [name for name in after.named(Progress.UNDONE) if name not in before.named(Progress.UNDONE)]
            if machine.wanted(before).mode is not None:
                undone.append(f"namespace {after.namespace}")
            if undone:
                yield f"rolling back: {', '.join(undone)}"
        case Stage.STOPPED:
            seconds = after.seconds_to_roll_back
            if seconds is not None:
                yield f"rolled back, confirmed by all proxies {seconds:.1f} s after the first refusal"
            kept = after.named(Progress.PROVEN)
            yield f"stopped; {'STRICT stay ' + ', '.join(kept) if kept else 'all is as it was before'}"
        case Stage.DONE:
            yield f"✔ {after.namespace} is {after.target.value}"


def soaking(state: Migration, now: datetime) -> str:
    """A sign of life during a soak."""
    who = ", ".join(state.named(Progress.TRIED)) or ", ".join(state.rest)
    return f"{who}: {elapsed(now - state.since)} of {span(state.soak_seconds)}, nobody was refused"


def elapsed(delta: timedelta) -> str:
    """As people say it."""
    return span(delta.total_seconds())


def span(seconds: float) -> str:
    """`45s`, `3m10s`, `2h5m`."""
    whole = max(0, round(seconds))
    if whole < _MINUTE:
        return f"{whole}s"
    if whole < _HOUR:
        rest = f"{whole % _MINUTE}s" if whole % _MINUTE else ""
        return f"{whole // _MINUTE}m{rest}"
    rest = f"{whole % _HOUR // _MINUTE}m" if whole % _HOUR // _MINUTE else ""
    return f"{whole // _HOUR}h{rest}"


def _obstacle(item: Obstacle, now: datetime) -> Iterator[str]:
    port = f":{item.port}" if item.port else ""
    place = f" -> {item.server}{port}" if item.server else ""
    told = "by configuration"
    if item.connections:
        ago = f", last {elapsed(now - item.last_seen)} ago" if item.last_seen else ""
        how = "seen" if item.evidence is Evidence.SEEN else "by configuration, and seen"
        told = f"{how} {item.connections} {'time' if item.connections == 1 else 'times'}{ago}"
    yield f"  {'✘' if item.blocks else '-'} {item.client}{place}  ({told})"
    yield f"      why:  {item.why}"
    if item.cure:
        yield f"      cure: {item.cure}"
    if item.dry_run:
        yield f"      dry run: {item.dry_run} would have refused it"


def _owners(found: Scene, group: Group) -> set[str]:
    """What metrics call the workload: it is several where one's selector means another's pods too."""
    pods = (found.now.workload(found.namespace, pod) for pod in group.pods)
    return {workload.owner or workload.name for workload in pods if workload is not None}


def _mode(snapshot: MeshSnapshot, namespace: str, group: Group) -> tuple[str, str]:
    workload = snapshot.workload(namespace, group.pods[0])
    if workload is None:
        return "-", "-"
    mode = snapshot.mode_of(workload)
    deciders = {item for item in (mode.decided_by, mode.ports_decided_by) if item}
    ports: Mapping[int, MtlsMode] = dict(mode.ports)
    shown = mode.default.value + "".join(f",{port}:{each.value}" for port, each in ports.items())
    return shown, ",".join(sorted(f"{item.namespace}/{item.name}" for item in deciders)) or "default"
