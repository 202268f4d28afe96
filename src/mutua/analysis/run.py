"""Running checks: all of them over everything there is, or those that concern one object that is being applied."""

import re
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import msgspec

from mutua.analysis import codes, registry
from mutua.analysis.check import Check
from mutua.analysis.inputs import Inputs, Shared, World
from mutua.analysis.message import Message, Subject
from mutua.api import kinds, validation
from mutua.api.findings import Finding, Severity
from mutua.api.kinds import AnyObject
from mutua.errors import InvalidInputError
from mutua.mesh import build
from mutua.mesh.objects import Change
from mutua.mesh.snapshot import MeshSnapshot

RANK: Final = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.INFO: 2}
_NOT_YET: Final = "9999-12-31T23:59:59Z"


class Suppression(NamedTuple):
    """Messages not to show: a code (`*` in it stands for anything), and a resource as `Kind name.namespace`."""

    code: str
    resource: re.Pattern[str]

    @classmethod
    def parse(cls, text: str) -> "Suppression":
        """From `CODE=Kind name.namespace`, with `*` for anything. Raises InvalidInputError."""
        code, equals, resource = text.partition("=")
        if not equals or not code or not resource:
            raise InvalidInputError(
                f"{text} is not a valid suppression value", 'for example --suppress "IST0103=Pod mypod.testing"'
            )
        return cls(code, re.compile(".*".join(re.escape(part) for part in resource.split("*"))))

    @property
    def is_known(self) -> bool:
        """Whether there is such a code."""
        return self.code == "*" or self.code in codes.ALL

    def covers(self, message: Message) -> bool:
        """Whether the message is not to be shown."""
        if message.subject is None or self.code not in ("*", message.code):
            return False
        about = message.subject
        name = f"{about.kind} {about.name}.{about.namespace}" if about.namespace else f"{about.kind} {about.name}"
        return self.resource.fullmatch(name) is not None


def chosen(names: Iterable[str]) -> tuple[Check, ...]:
    """The checks with these names, or of which they are the first part; all if no name is known, as Istio does it."""
    wanted = tuple(names)
    found = (
        check
        for check in registry.CHECKS
        if any(check.name == name or check.name.startswith(f"{name}.") for name in wanted)
    )
    return tuple(found) or registry.CHECKS


def analyze(world: World, checks: Sequence[Check] = registry.CHECKS) -> tuple[Message, ...]:
    """All messages, each once, the gravest first; then by code, object and text."""
    shared = Shared(world)
    found = {
        (message.code, message.subject, message.text): message
        for check in checks
        for message in check.function(Inputs(shared, check.inputs))
    }
    return tuple(sorted(found.values(), key=order))


def order(message: Message) -> tuple[int, str, Subject, str]:
    """Sorts messages as they are shown."""
    return RANK[message.severity], message.code, message.subject or Subject("", "", ""), message.text


def visible(
    messages: Iterable[Message], *, namespace: str = "", suppressions: Sequence[Suppression] = ()
) -> tuple[Message, ...]:
    """Those about one namespace and the whole cluster ("" = all namespaces), without the suppressed ones."""
    return tuple(
        message
        for message in messages
        if (not namespace or message.subject is None or _place(message.subject) in ("", namespace))
        and not any(suppression.covers(message) for suppression in suppressions)
    )


def _place(about: Subject) -> str:
    """The namespace in which somebody looks for the object; a Namespace belongs to itself."""
    return about.name if about.kind == kinds.NAMESPACE.name else about.namespace


def if_applied(world: World, snapshot: MeshSnapshot, item: AnyObject) -> tuple[Finding, ...]:
    """What the author of an object should hear when applying it: about it alone, and about it among the others.

    `snapshot` is that of the world's objects, without the item. Only what the object itself brings about is said.
    """
    alone = validation.validate(item)
    kind = next((kind for kind in kinds.ours() if kind.struct is type(item)), None)
    if kind is None or any(finding.is_error for finding in alone):
        return alone
    if not item.metadata.creation_timestamp:
        # An object that is only about to be made has no age yet; among the others it will be the youngest.
        metadata = msgspec.structs.replace(item.metadata, creation_timestamp=_NOT_YET)
        item = msgspec.structs.replace(item, metadata=metadata)
    key = kind.key(item.metadata)
    objects = world.objects.replace([Change(kind, key, item)])
    current = build.snapshot(
        objects,
        world.mesh_config,
        snapshot,
        cluster_domain=snapshot.settings.cluster_domain,
        upstream_mark=snapshot.settings.upstream_mark,
    )
    shared = Shared(msgspec.structs.replace(world, objects=objects), current)
    about = Subject(kind.name, *key)
    found = {
        message
        for check in registry.CHECKS
        if kind in check.when_applied
        for message in check.function(Inputs(shared, check.inputs, (kind, key)))
        if message.subject == about or about in message.related
    }
    return (*alone, *(message.as_finding() for message in sorted(found, key=order)))
