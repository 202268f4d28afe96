"""Match conditions of webhooks: CEL over the request that says whether a webhook is to be asked.

Source: Kubernetes' "Matching requests: matchConditions" (apiserver/pkg/admission/plugin/webhook/matchconditions).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from localcluster.apiserver import cel, errors
from localcluster.apiserver.errors import FieldError

Conditions = Iterable[Mapping[str, Any]]

VARIABLES = ("object", "oldObject", "request")


def violations(conditions: Conditions, path: str) -> list[FieldError]:
    """What is wrong with the conditions at `path`: names that repeat, expressions that are none of a truth value."""
    found: list[FieldError] = []
    seen: set[str] = set()
    for at, condition in enumerate(conditions):
        here, name, expression = f"{path}[{at}]", str(condition.get("name") or ""), condition.get("expression")
        if not name:
            found.append(errors.required(f"{here}.name"))
        elif name in seen:
            found.append(errors.duplicate(f"{here}.name", name))
        seen.add(name)
        if not expression:
            found.append(errors.required(f"{here}.expression"))
            continue
        try:
            result = cel.program(str(expression), VARIABLES).result_type
        except cel.CelError as error:
            found.append(errors.invalid(f"{here}.expression", expression, str(error)))
            continue
        if result not in ("BOOL", "DYN"):
            found.append(errors.invalid(f"{here}.expression", expression, "must evaluate to bool"))
    return found


def hold(conditions: Conditions, request: Mapping[str, Any]) -> bool:
    """Whether all conditions hold for an AdmissionRequest.

    One that is false settles it, whatever becomes of the others; else CelError if one fails.
    """
    variables = {"object": request.get("object"), "oldObject": request.get("oldObject"), "request": request}
    failure: cel.CelError | None = None
    for condition in conditions:
        try:
            if cel.program(str(condition["expression"]), VARIABLES).evaluate(variables) is not True:
                return False
        except cel.CelError as error:
            failure = cel.CelError(f"match condition {condition.get('name')!r}: {error}")
    if failure is not None:
        raise failure
    return True
