"""Secrets that DestinationRules name: whether sidecars get them, and whether they can be used."""

from collections.abc import Iterator
from typing import Final

from mutua.analysis.check import Check
from mutua.analysis.inputs import Inputs
from mutua.analysis.message import Message, own, subject
from mutua.api import core, kinds
from mutua.api.kinds import Key
from mutua.api.networking import ClientTlsSettings, ClientTlsSettingsMode, DestinationRule, TrafficPolicy
from mutua.errors import InvalidInputError

KIND: Final = kinds.DESTINATION_RULE
AUTHORITIES_SUFFIX: Final = "-cacert"
_OWN_MODES: Final = (ClientTlsSettingsMode.SIMPLE, ClientTlsSettingsMode.MUTUAL)


def settings_of(rule: DestinationRule) -> Iterator[tuple[str, ClientTlsSettings]]:
    """Every TLS setting of a rule, with the path of its field."""
    policies = [("spec.trafficPolicy", rule.spec.traffic_policy)]
    policies += [
        (f"spec.subsets[{index}].trafficPolicy", subset.traffic_policy)
        for index, subset in enumerate(rule.spec.subsets)
    ]
    for field, policy in policies:
        yield from _of_policy(field, policy)


def _of_policy(field: str, policy: TrafficPolicy | None) -> Iterator[tuple[str, ClientTlsSettings]]:
    if policy is None:
        return
    if policy.tls is not None:
        yield f"{field}.tls", policy.tls
    for index, settings in enumerate(policy.port_level_settings):
        if settings.tls is not None:
            yield f"{field}.portLevelSettings[{index}].tls", settings.tls


def of_rule(rule: DestinationRule) -> set[Key]:
    """The secrets, (namespace, name), that a rule may mean."""
    names = {tls.credential_name for _, tls in settings_of(rule) if tls.credential_name and tls.mode in _OWN_MODES}
    return {(rule.metadata.namespace, name + suffix) for name in names for suffix in ("", AUTHORITIES_SUFFIX)}


def given(inputs: Inputs) -> Iterator[Message]:
    """Credentials that no sidecar gets, that do not exist, or that cannot be used."""
    secrets = inputs.all(kinds.SECRET, core.Secret)
    for item in inputs.subjects(KIND, DestinationRule):
        about, namespace = subject(KIND, item), item.metadata.namespace
        for field, tls in settings_of(item):
            name = tls.credential_name
            if not name or tls.mode not in _OWN_MODES:
                continue
            if item.spec.workload_selector is None:
                counts = f"credentialName {name} counts in rules with a workloadSelector only"
                text = f"{counts}: {item.spec.host} is not dialled"
                hint = "say with spec.workloadSelector which workloads are to have the secret, or name files"
                yield own("MUT0019", about, text, hint, field=f"{field}.credentialName")
                continue
            problem = _problem(
                inputs, secrets.get((namespace, name)), secrets.get((namespace, name + AUTHORITIES_SUFFIX)), tls
            )
            if problem:
                text = f"secret {namespace}/{name} {problem}: {item.spec.host} is not dialled"
                hint = "see `Certificates from secrets` in docs/policy.md for what it must hold"
                yield own("MUT0019", about, text, hint, field=f"{field}.credentialName")


def _problem(inputs: Inputs, secret: core.Secret | None, apart: core.Secret | None, tls: ClientTlsSettings) -> str:
    """What keeps the secret from being used, "" = nothing that is known."""
    from mutua.api import credential  # loads what reads certificates, which most analyses do not need

    source = apart or secret
    if source is None or (secret is None and tls.mode is ClientTlsSettingsMode.MUTUAL):
        return "does not exist" if inputs.is_complete and inputs.knows(kinds.SECRET) else ""
    try:
        if tls.mode is ClientTlsSettingsMode.MUTUAL and secret is not None:
            credential.key_pair(secret.data)
        if tls.insecure_skip_verify is not True:
            credential.authorities(source.data)
    except InvalidInputError as error:
        return f"cannot be used: {error.message}"
    return ""


CHECKS: Final = (
    Check(
        "destinationrule.CredentialAnalyzer",
        "Secrets of DestinationRules that sidecars do not get or cannot use",
        ("MUT0019",),
        (KIND, kinds.SECRET),
        given,
        (KIND,),
    ),
)
