"""Rules of the kinds that run pods from a template. Source: k8s.io/kubernetes/pkg/apis/{apps,batch}/validation."""

from typing import Any

from localcluster import schedules
from localcluster.apiserver import errors
from localcluster.apiserver.errors import FieldError
from localcluster.apiserver.kinds import KindInfo
from localcluster.apiserver.schemas import metadata, pods
from localcluster.apiserver.selectors import structured

_STRATEGIES = {"Deployment": ("Recreate", "RollingUpdate")}
_CONCURRENCY = ("Allow", "Forbid", "Replace")


def validate(kind: KindInfo, value: dict[str, Any], old: dict[str, Any] | None) -> list[FieldError]:
    """The violations in a Deployment, ReplicaSet, StatefulSet or DaemonSet."""
    spec: dict[str, Any] = value.get("spec") or {}
    found = _counts(spec)
    found += _selector_and_template(kind, spec)
    if kind.kind == "Deployment":
        found += _deployment_strategy(spec.get("strategy") or {})
    old_selector = ((old or {}).get("spec") or {}).get("selector")
    if old is not None and spec.get("selector") and spec["selector"] != old_selector:
        found.append(errors.invalid("spec.selector", spec["selector"], "field is immutable"))
    return found


def validate_job(value: dict[str, Any], old: dict[str, Any] | None) -> list[FieldError]:
    """The violations in a Job."""
    found = _job_spec(value.get("spec") or {}, "spec")
    if old is not None:
        new_spec, old_spec = value.get("spec") or {}, old.get("spec") or {}
        found += [
            errors.invalid(f"spec.{name}", new_spec.get(name), "field is immutable")
            for name in ("selector", "template", "completions", "completionMode")
            if new_spec.get(name) != old_spec.get(name)
        ]
    return found


def validate_cron_job(value: dict[str, Any]) -> list[FieldError]:
    """The violations in a CronJob."""
    spec: dict[str, Any] = value.get("spec") or {}
    schedule = spec.get("schedule") or ""
    found: list[FieldError] = []
    if not schedule:
        found.append(errors.required("spec.schedule"))
    else:
        try:
            schedules.parse(schedule)
        except schedules.ScheduleError as error:
            found.append(errors.invalid("spec.schedule", schedule, str(error)))
    policy = spec.get("concurrencyPolicy")
    if policy is not None and policy not in _CONCURRENCY:
        found.append(errors.not_supported("spec.concurrencyPolicy", policy, _CONCURRENCY))
    return found + _job_spec((spec.get("jobTemplate") or {}).get("spec") or {}, "spec.jobTemplate.spec")


def _job_spec(spec: dict[str, Any], path: str) -> list[FieldError]:
    found = [
        errors.invalid(f"{path}.{name}", spec[name], "must be greater than or equal to 0")
        for name in ("parallelism", "completions", "backoffLimit", "activeDeadlineSeconds")
        if (spec.get(name) or 0) < 0
    ]
    template: dict[str, Any] = spec.get("template") or {}
    if not (template.get("spec") or {}).get("restartPolicy"):
        detail = 'valid values: "OnFailure", "Never"'
        found.append(errors.required(f"{path}.template.spec.restartPolicy", detail))
    return found + pods.validate_template(template, f"{path}.template", ("OnFailure", "Never"))


def _counts(spec: dict[str, Any]) -> list[FieldError]:
    return [
        errors.invalid(f"spec.{name}", spec[name], "must be greater than or equal to 0")
        for name in ("replicas", "minReadySeconds", "revisionHistoryLimit")
        if (spec.get(name) or 0) < 0
    ]


def _selector_and_template(kind: KindInfo, spec: dict[str, Any]) -> list[FieldError]:
    selector, template = spec.get("selector"), spec.get("template") or {}
    found: list[FieldError] = []
    if selector is None:
        found.append(errors.required("spec.selector"))
    elif not selector.get("matchLabels") and not selector.get("matchExpressions"):
        name = "deployment" if kind.kind == "Deployment" else kind.kind.lower()
        found.append(errors.invalid("spec.selector", selector, f"empty selector is invalid for {name}"))
    else:
        problems = metadata.selector(selector, "spec.selector")
        labels = (template.get("metadata") or {}).get("labels") or {}
        if not problems and not structured(selector)(labels):
            detail = "`selector` does not match template `labels`"
            problems.append(errors.invalid("spec.template.metadata.labels", labels, detail))
        found += problems
    return found + pods.validate_template(_with_claims(spec, template), "spec.template")


def _with_claims(spec: dict[str, Any], template: dict[str, Any]) -> dict[str, Any]:
    """A StatefulSet's template with the volumes that its claims will be in each pod."""
    claims = [(claim.get("metadata") or {}).get("name") for claim in spec.get("volumeClaimTemplates") or ()]
    if not claims:
        return template
    run = template.get("spec") or {}
    volumes = [volume for volume in run.get("volumes") or () if volume.get("name") not in claims]
    volumes += [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in claims]
    return {**template, "spec": {**run, "volumes": volumes}}


def _deployment_strategy(strategy: dict[str, Any]) -> list[FieldError]:
    kind, rolling = strategy.get("type"), strategy.get("rollingUpdate")
    if kind is not None and kind not in _STRATEGIES["Deployment"]:
        return [errors.not_supported("spec.strategy.type", kind, _STRATEGIES["Deployment"])]
    if kind == "Recreate":
        detail = "may not be specified when strategy `type` is 'Recreate'"
        return [errors.forbidden("spec.strategy.rollingUpdate", detail)] if rolling else []
    found: list[FieldError] = []
    amounts: dict[str, float] = {}
    for name in ("maxSurge", "maxUnavailable"):
        value = (rolling or {}).get(name)
        path = f"spec.strategy.rollingUpdate.{name}"
        if value is None:
            continue
        if isinstance(value, str):
            if not value.endswith("%") or not value[:-1].isdigit():
                found.append(errors.invalid(path, value, "a valid percent string must be a numeric string followed by "
                                            "an ending '%' (e.g. '1%',  or '93%', regex used for validation is "
                                            "'[0-9]+%')"))  # fmt: skip
                continue
            amounts[name] = int(value[:-1])
            if name == "maxUnavailable" and amounts[name] > 100:
                found.append(errors.invalid(path, value, "must not be greater than 100%"))
        elif value < 0:
            found.append(errors.invalid(path, value, "must be greater than or equal to 0"))
        else:
            amounts[name] = value
    if amounts.get("maxSurge") == 0 and amounts.get("maxUnavailable") == 0:
        value = (rolling or {})["maxUnavailable"]
        detail = "may not be 0 when `maxSurge` is 0"
        found.append(errors.invalid("spec.strategy.rollingUpdate.maxUnavailable", value, detail))
    return found
