"""What `mutua check` prints: each step of a call with who decided, as text or as plain data."""

import textwrap
from collections.abc import Sequence
from typing import Any, Final

from mutua.mesh.proxy_view import ObjectRef
from mutua.verdict.call import Outcome, Taken

_STEP_WIDTH: Final = 14
_ANSWER_WIDTH: Final = 8
_WIDTH: Final = 120
_INDENT: Final = "  " + " " * (_STEP_WIDTH + _ANSWER_WIDTH)


def text(question: str, outcomes: Sequence[Outcome]) -> str:
    """One block per endpoint; endpoints that are alike share one."""
    blocks: dict[tuple[Taken, ...], list[Outcome]] = {}
    for outcome in outcomes:
        blocks.setdefault(outcome.steps, []).append(outcome)
    return "\n".join(_block(question, alike) for alike in blocks.values())


def document(client: str, destination: str, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The same as plain data. `decidedBy` is the object, `rule` a policy's rule as the access log names it."""
    return {
        "client": client,
        "destination": destination,
        "allowed": all(outcome.allowed for outcome in outcomes),
        "endpoints": [
            {
                "server": outcome.server,
                "port": outcome.port,
                "allowed": outcome.allowed,
                "protection": outcome.protection.value,
                "steps": [_step_document(step) for step in outcome.steps],
            }
            for outcome in outcomes
        ],
    }


def _block(question: str, alike: Sequence[Outcome]) -> str:
    outcome = alike[0]
    servers = ", ".join(f"{each.server}:{each.port}" for each in alike)
    lines = [f"{question}  ->  {servers}"]
    for step in outcome.steps:
        head = f"  {step.step.value:<{_STEP_WIDTH}}{'ok' if step.passed else 'refused':<{_ANSWER_WIDTH}}"
        lines += textwrap.wrap(step.reason, _WIDTH, initial_indent=head, subsequent_indent=_INDENT)
        for detail in step.details:
            lines += textwrap.wrap(detail, _WIDTH, initial_indent=f"{_INDENT}- ", subsequent_indent=f"{_INDENT}  ")
    lines.append(_conclusion(outcome))
    return "\n".join(lines) + "\n"


def _conclusion(outcome: Outcome) -> str:
    decisive = outcome.decisive
    by = f" by {_named(decisive.decided_by)}" if decisive.decided_by else ""
    rule = f" ({decisive.rule})" if decisive.rule else ""
    if outcome.allowed:
        return f"allowed{by}{rule}, over {outcome.protection.value}"
    return f"refused at {decisive.step.value}{by}{rule}"


def _step_document(step: Taken) -> dict[str, Any]:
    made: dict[str, Any] = {"step": step.step.value, "passed": step.passed, "reason": step.reason}
    if step.decided_by is not None:
        by = step.decided_by
        made["decidedBy"] = {"kind": by.kind, "namespace": by.namespace, "name": by.name}
    if step.rule:
        made["rule"] = step.rule
    if step.details:
        made["details"] = list(step.details)
    return made


def _named(by: ObjectRef) -> str:
    return f"{by.kind} {by.namespace}/{by.name}"
