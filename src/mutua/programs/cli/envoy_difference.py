"""A live Envoy against what the control plane sent it, and all of its words where they came cut short."""

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec

from mutua.programs.cli import common, control_plane, envoy_source
from mutua.programs.cli.common import PodName
from mutua.programs.cli.main import Options
from mutua.reports import envoy_words
from mutua.reports import proxy_difference as report
from mutua.reports.proxy_difference import Held
from mutua.reports.proxy_status import ProxyState, Rejected
from mutua.system.kube import KubeClient
from mutua.system.kube_errors import KubeError
from mutua.xds.sync_state import Sent

_LOG_LINES = 5000
_LOGS_AT_MOST = 5
"""What one Envoy refuses, the others mostly refuse for the same reason."""


async def compared(kube: KubeClient, chosen: Options, pod: PodName) -> str:
    """A line per type of resource, and a unified diff of what differs. Raises KubeError."""
    dump, sent = await asyncio.gather(
        envoy_source.live(kube, pod, envoy_source.DUMP), control_plane.sent(kube, chosen, pod)
    )
    text = ""
    for kind in report.KINDS:
        holds = report.held(dump, kind)
        names = report.differing([item for item in sent if item.type == kind], holds)
        text += report.verdict(kind, names, dump) + "\n"
        if names:
            bodies = [item for item in await control_plane.sent(kube, chosen, pod, bodies=True) if item.type == kind]
            text += report.difference(kind, names, bodies, holds, _readable)
    return text


def _readable(resource: Sent | Held) -> dict[str, Any]:
    """Both sides in one form. Raises UnsupportedError."""
    from mutua.programs.cli import envoy_json

    if isinstance(resource, Held):
        return envoy_json.canonical(resource.content, str(resource.content["@type"]).rpartition("/")[2])
    if not resource.body:
        return {"name": resource.name, "version": f"{resource.version}, and a newer one is on its way"}
    return envoy_json.unpacked(resource.body)


async def with_whole_words(kube: KubeClient, states: list[ProxyState]) -> list[ProxyState]:
    """What the Envoys refused, with the reasons from their own logs where the control plane was told a part only."""
    known: dict[str, str] = {}
    asked = 0
    for state in states:
        unknown = [item for item in _cut_short(state) if item.resource not in known]
        if unknown and asked < _LOGS_AT_MOST:
            asked += 1
            log = await _log(kube, state)
            known |= {item.resource: envoy_words.logged_reason(log, item.resource) or item.reason for item in unknown}
    return [_completed(state, known) for state in states] if known else states


def _cut_short(state: ProxyState) -> list[Rejected]:
    return [item for kind in state.types for item in kind.rejected if item.reason.endswith(envoy_words.CUT_SHORT)]


def _completed(state: ProxyState, reasons: Mapping[str, str]) -> ProxyState:
    cut = _cut_short(state)
    replace = msgspec.structs.replace
    types = tuple(
        replace(
            kind,
            rejected=tuple(
                replace(item, reason=reasons.get(item.resource, item.reason)) if item in cut else item
                for item in kind.rejected
            ),
        )
        for kind in state.types
    )
    return replace(state, types=types)


async def _log(kube: KubeClient, state: ProxyState) -> str:
    try:
        return await kube.pod_log(state.namespace, state.pod, common.PROXY_CONTAINER, _LOG_LINES)
    except KubeError:
        return ""
