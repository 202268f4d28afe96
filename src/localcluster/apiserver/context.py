"""Who asks, and how: what travels with a request from its headers to the store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class UserInfo:
    """An authenticated caller, as `authentication.k8s.io/v1 UserInfo`."""

    username: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        """The JSON that reviews and admission requests carry."""
        shown: dict[str, object] = {"username": self.username}
        if self.uid:
            shown["uid"] = self.uid
        if self.groups:
            shown["groups"] = list(self.groups)
        if self.extra:
            shown["extra"] = {key: list(values) for key, values in self.extra.items()}
        return shown


SYSTEM = UserInfo("system:apiserver", groups=("system:masters", "system:authenticated"))


@dataclass(frozen=True, slots=True)
class RequestContext:
    """The options of one write, and the warnings that it gathers for the client.

    `field_validation` is Strict, Warn or Ignore. `field_manager` names the writer in managedFields; `force` lets a
    server-side apply take over fields of other managers. `annotations` are what policies add to the audit log.
    """

    user: UserInfo = SYSTEM
    dry_run: bool = False
    field_validation: str = "Ignore"
    field_manager: str = ""
    force: bool = False
    warnings: list[str] = field(default_factory=list)
    annotations: dict[str, str] = field(default_factory=dict)
