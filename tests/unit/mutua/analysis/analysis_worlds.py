"""Worlds for the checks' tests, written as YAML."""

from datetime import datetime
from typing import Any

import yaml

from mutua.analysis import run
from mutua.analysis.inputs import World
from mutua.analysis.message import Message
from mutua.api import decode
from mutua.mesh.objects import ObjectSet


def world(text: str, *, complete: bool = True, now: datetime | None = None, **mesh_config: Any) -> World:
    """The objects of YAML documents; what cannot be read is among the unreadable."""
    decoded = [decode.any_from_mapping(document) for document in yaml.safe_load_all(text) if document]
    config, findings = decode.mesh_config(mesh_config)
    assert not findings, findings
    return World(
        ObjectSet.of(item.value for item in decoded if item.value is not None),
        config,
        is_complete=complete,
        unreadable=tuple(finding for item in decoded for finding in item.findings),
        now=now,
    )


def found(text: str, code: str, **settings: Any) -> list[Message]:
    """The messages of one code."""
    return [message for message in run.analyze(world(text, **settings)) if message.code == code]


def told(text: str, code: str, **settings: Any) -> list[str]:
    """The same as `Kind ns/name: sentence`."""
    return [f"{message.subject}: {message.sentence}" for message in found(text, code, **settings)]
