"""The conditions of one policy, from what is known of it. Shape: metav1.Condition; `Reconciled` is Istio's name."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from mutua.analysis import codes
from mutua.analysis.message import Message, Subject
from mutua.analysis.words import listed
from mutua.api.findings import Severity
from mutua.mesh.proxy_view import Frozen, ObjectRef
from mutua.reports.policy_status.effect import Effect
from mutua.reports.policy_status.held import Held

RECONCILED: Final = "Reconciled"
EFFECTIVE: Final = "Effective"
CHECKS_PASSED: Final = "ChecksPassed"
CLIENTS_READY: Final = "ClientsReady"
KEYS_READY: Final = "KeysReady"
OURS: Final = frozenset({RECONCILED, EFFECTIVE, CHECKS_PASSED, CLIENTS_READY, KEYS_READY})

WITHOUT_EFFECT: Final = frozenset({"MUT0001", "MUT0002", "MUT0003", "MUT0017", "IST0167", "IST0174"})
"""Codes of the analysis that say that a policy, or a part of it, counts for nothing."""

MESSAGE_LENGTH: Final = 1_000
SENTENCES_AT_MOST: Final = 5
OTHERS_AT_MOST: Final = 16
"""Conditions of other controllers that are kept beside ours."""

_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"


class Facts(Frozen, frozen=True):
    """All that the conditions of one policy are made of.

    `messages` are the analysis' about it; `bare` the pods without a sidecar, if it refuses plaintext somewhere; `keys`
    what is wrong with keys that must be fetched, if there are such.
    """

    ref: ObjectRef
    generation: int
    effect: Effect
    held: Held
    messages: tuple[Message, ...] = ()
    dry_run: bool = False
    instead: ObjectRef | None = None  # what counts instead of a policy that counts for nobody, where that is known
    bare: tuple[str, ...] | None = None
    keys: tuple[str, ...] | None = None


class Condition(Frozen, frozen=True, rename="camel"):
    """One statement. `status` is True, False or Unknown."""

    type: str
    status: str
    reason: str
    message: str
    observed_generation: int


def conditions(facts: Facts) -> tuple[Condition, ...]:
    """What there is to say, in the order in which people read it."""
    found = [_reconciled(facts), _effective(facts), _checks(facts)]
    if facts.bare is not None:
        found.append(_clients(facts, facts.bare))
    if facts.keys is not None:
        found.append(_keys(facts, facts.keys))
    return tuple(found)


def status(facts: Facts, previous: object, now: datetime) -> dict[str, Any]:
    """The status to write, given the one that is there; that may be anything, since we are not the only writers.

    Times of conditions that say what they said are kept, so that equal facts give an equal status; conditions of others
    stay.
    """
    before = _by_type(previous)
    moment = now.astimezone(UTC).strftime(_TIME)
    made: list[dict[str, Any]] = []
    for condition in conditions(facts):
        entry = msgspec.to_builtins(condition)
        known = before.get(condition.type, {})
        since = known.get("lastTransitionTime")
        entry["lastTransitionTime"] = (
            since if known.get("status") == condition.status and _is_past(since, moment) else moment
        )
        made.append(entry)
    others = [entry for name, entry in before.items() if name not in OURS][:OTHERS_AT_MOST]
    return {
        "observedGeneration": facts.generation,
        "proxies": f"{min(facts.held.proxies, facts.effect.pods)}/{facts.effect.pods}",
        "conditions": [*others, *made],
    }


def says_the_same(wanted: Mapping[str, Any], previous: object) -> bool:
    """Whether a status already says what it should."""
    return isinstance(previous, Mapping) and all(previous.get(field) == value for field, value in wanted.items())


def _reconciled(facts: Facts) -> Condition:
    wanted, live = facts.effect.pods, min(facts.held.proxies, facts.effect.pods)
    if not wanted:
        return _condition(facts, RECONCILED, "True", "NoProxies", ("it counts for no pod with a sidecar",))
    proxies = f"live on {live} of {wanted} prox{'y' if wanted == 1 else 'ies'}"
    if live == wanted:
        return _condition(facts, RECONCILED, "True", "AllProxies", (proxies,))
    if facts.held.refusals:
        return _condition(facts, RECONCILED, "False", "Refused", (proxies, *facts.held.refusals))
    return _condition(facts, RECONCILED, "False", "Waiting", (f"{proxies}; the others have not acknowledged it yet",))


def _effective(facts: Facts) -> Condition:
    messages = [message for message in facts.messages if _is_ignored(facts, message)]
    overridden = sum(facts.effect.overridden_by.values())
    texts = [_sentence(facts, message) for message in messages]
    if facts.dry_run:
        return _condition(facts, EFFECTIVE, "False", "DryRun", texts or ("it is a dry run, and is only logged",))
    if not texts and overridden:
        others = listed(f"{ref.kind} {ref.namespace}/{ref.name}" for ref in facts.effect.overridden_by)
        texts = [f"for {_pods(overridden)} {others} counts instead"]
    if not texts and not facts.effect.pods and facts.instead is not None:
        texts = [f"clients follow {facts.instead.kind} {facts.instead.namespace}/{facts.instead.name} instead"]
    if facts.effect.pods:
        counts = f"counts for {_pods(facts.effect.pods)}"
        return _condition(facts, EFFECTIVE, "True", "InPart" if texts else "Counts", (counts, *texts))
    if not texts:
        return _condition(facts, EFFECTIVE, "Unknown", "NoPods", ("no pod with a sidecar is concerned",))
    named = next((codes.ALL[message.code].name for message in messages), "Overridden")
    return _condition(facts, EFFECTIVE, "False", named, texts)


def _checks(facts: Facts) -> Condition:
    # That another one is without effect beside this one is told there.
    messages = [message for message in facts.messages if message.code not in WITHOUT_EFFECT]
    grave = [message for message in messages if message.severity is not Severity.INFO]
    if not grave:
        return _condition(facts, CHECKS_PASSED, "True", "NothingFound", ("no check of `mutua analyze` objects",))
    return _condition(
        facts, CHECKS_PASSED, "False", codes.ALL[grave[0].code].name, [_sentence(facts, each) for each in grave]
    )


def _clients(facts: Facts, bare: Sequence[str]) -> Condition:
    if not bare:
        return _condition(facts, CLIENTS_READY, "True", "AllHaveSidecars", ("every pod of the mesh has a sidecar",))
    have = "has" if len(bare) == 1 else "have"
    near = [name for name in bare if name.startswith(f"{facts.ref.namespace}/")]
    names = listed(near or bare)
    if near and len(near) < len(bare):
        names += f", and {len(bare) - len(near)} of other namespaces"
    text = f"{_pods(len(bare))} {have} no sidecar and cannot call where this policy is STRICT: {names}"
    return _condition(facts, CLIENTS_READY, "False", "WithoutSidecar", (text,))


def _keys(facts: Facts, problems: Sequence[str]) -> Condition:
    if not problems:
        return _condition(facts, KEYS_READY, "True", "AllFetched", ("the keys of every issuer are there",))
    return _condition(facts, KEYS_READY, "False", "Missing", problems)


def _condition(facts: Facts, name: str, value: str, reason: str, sentences: Iterable[str]) -> Condition:
    text = "; ".join(list(sentences)[:SENTENCES_AT_MOST])
    return Condition(name, value, reason, text[:MESSAGE_LENGTH], facts.generation)


def _is_ignored(facts: Facts, message: Message) -> bool:
    return message.code in WITHOUT_EFFECT and message.subject == _about(facts)


def _sentence(facts: Facts, message: Message) -> str:
    about = "" if message.subject == _about(facts) else f"{message.subject}: "
    return f"{about}{message.sentence} [{message.code}]"


def _about(facts: Facts) -> Subject:
    return Subject(facts.ref.kind, facts.ref.namespace, facts.ref.name)


def _pods(count: int) -> str:
    return "1 pod" if count == 1 else f"{count} pods"


def _by_type(previous: object) -> dict[str, dict[str, Any]]:
    entries = previous.get("conditions") if isinstance(previous, Mapping) else None
    return {
        entry["type"]: entry
        for entry in (entries if isinstance(entries, list) else ())
        if isinstance(entry, dict) and isinstance(entry.get("type"), str)
    }


def _is_past(text: object, now: str) -> bool:
    try:
        datetime.strptime(str(text), _TIME)  # texts of this form compare like times
    except ValueError:
        return False
    return str(text) <= now
