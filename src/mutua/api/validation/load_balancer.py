"""Rules about the load balancer of a DestinationRule."""

import math
from collections.abc import Iterator
from typing import Final

from mutua.api.findings import Violation, error, warning
from mutua.api.networking import ConsistentHash, Failover, LoadBalancer, LocalityLoadBalancer, ZoneAwareLoadBalancer
from mutua.api.validation import common

_REGION: Final = "topology.kubernetes.io/region"
_ZONE: Final = "topology.kubernetes.io/zone"
_NO_OUTLIER_DETECTION: Final = "outlier detection policy must be provided for failover"
_LARGEST_MAGLEV_TABLE: Final = 5000011  # Envoy's limit


def violations(balancer: LoadBalancer, field: str, *, detects_outliers: bool) -> Iterator[Violation]:
    """Everything that the load balancer tells, knowing whether endpoints that fail are noticed."""
    if balancer.consistent_hash is not None:
        yield from _consistent_hash(balancer.consistent_hash, f"{field}.consistentHash")
        if balancer.simple is not None:
            yield error(field, "only one of simple and consistentHash can be set")
    locality, zone_aware = balancer.locality_lb_setting, balancer.zone_aware_lb_setting
    if locality is not None and zone_aware is not None:
        yield error(field, "only one of localityLbSetting and zoneAwareLbSetting can be set")
    if locality is not None:
        yield from _locality(locality, f"{field}.localityLbSetting", detects_outliers)
    if zone_aware is not None:
        yield from _zone_aware(zone_aware, f"{field}.zoneAwareLbSetting", detects_outliers)
    yield from common.duration(balancer.warmup_duration_secs, f"{field}.warmupDurationSecs")
    warmup = balancer.warmup
    if warmup is not None:
        yield from common.duration(warmup.duration, f"{field}.warmup.duration")
        if warmup.minimum_percent is not None and not 0 <= warmup.minimum_percent <= 100:
            yield error(f"{field}.warmup.minimumPercent", "minimumPercent value should be less than or equal to 100")
        if warmup.aggression is not None and warmup.aggression < 1:
            yield error(f"{field}.warmup.aggression", "aggression should be greater than or equal to 1")


def _consistent_hash(settings: ConsistentHash, field: str) -> Iterator[Violation]:
    keys = (
        settings.http_header_name,
        settings.http_cookie,
        settings.use_source_ip or None,
        settings.http_query_parameter_name,
    )
    if sum(key is not None for key in keys) > 1:
        yield error(field, "only one of httpHeaderName, httpCookie, useSourceIp and httpQueryParameterName can be set")
    if settings.ring_hash is not None and settings.maglev is not None:
        yield error(field, "only one of ringHash and maglev can be set")
    if settings.minimum_ring_size:
        message = "consistent hash MinimumRingSize is deprecated, use ConsistentHashLB's RingHash configuration instead"
        yield warning(f"{field}.minimumRingSize", message)
    if settings.maglev is not None and settings.maglev.table_size:
        size = settings.maglev.table_size
        if not _is_prime(size):
            yield error(f"{field}.maglev.tableSize", "tableSize must be a prime number for maglev")
        elif size >= _LARGEST_MAGLEV_TABLE:
            yield error(f"{field}.maglev.tableSize", f"tableSize must be less than {_LARGEST_MAGLEV_TABLE} for maglev")
    cookie = settings.http_cookie
    if cookie is not None:
        if not cookie.name:
            yield error(f"{field}.httpCookie.name", "name required for HttpCookie")
        names = [attribute.name for attribute in cookie.attributes]
        for index, name in enumerate(names):
            if not name:
                yield error(f"{field}.httpCookie.attributes[{index}].name", "cookie attribute name must not be empty")
            elif names.index(name) != index:
                yield error(f"{field}.httpCookie.attributes[{index}].name", f"duplicate cookie attribute name: {name}")


def _locality(settings: LocalityLoadBalancer, field: str, detects_outliers: bool) -> Iterator[Violation]:
    if settings.distribute and (settings.failover or settings.failover_priority):
        yield error(field, "can not simultaneously specify 'distribute' and 'failover' or 'failover_priority'")
    for index, share in enumerate(settings.distribute):
        path = f"{field}.distribute[{index}].to"
        if any(not 1 <= weight <= 100 for weight in share.to.values()):
            yield error(path, "locality weight must be in range [1, 100]")
        elif (total := sum(share.to.values())) != 100:
            yield error(path, f"total locality weight {total} != 100")
    for index, failover in enumerate(settings.failover):
        yield from _failover(failover, f"{field}.failover[{index}]", "locality lb", "only specify region")
    if settings.failover and _REGION in settings.failover_priority:
        message = f"can not simultaneously set 'failover' and topology label '{_REGION}' in 'failover_priority'"
        yield error(f"{field}.failoverPriority", message)
    if (settings.failover or settings.failover_priority) and not detects_outliers:
        yield warning(field, _NO_OUTLIER_DETECTION)


def _zone_aware(settings: ZoneAwareLoadBalancer, field: str, detects_outliers: bool) -> Iterator[Violation]:
    only_region = "only specifies region; zone and subzone failover are handled automatically"
    for index, failover in enumerate(settings.failover):
        yield from _failover(failover, f"{field}.failover[{index}]", "zone aware lb", only_region)
    for label in settings.failover_priority:
        if label.partition("=")[0] in (_REGION, _ZONE):
            yield error(
                f"{field}.failoverPriority",
                f"'failover_priority' for zone aware lb must not use topology label '{label}'; "
                "region- and zone-level routing are handled automatically",
            )
    if (settings.failover or settings.failover_priority) and not detects_outliers:
        yield warning(field, _NO_OUTLIER_DETECTION)


def _failover(failover: Failover, field: str, what: str, only_region: str) -> Iterator[Violation]:
    if failover.from_ == failover.to:
        yield error(field, f"{what} failover settings must specify different regions")
    for name, region in (("from", failover.from_), ("to", failover.to)):
        if "*" in region:
            yield error(f"{field}.{name}", f"{what} failover region should not contain '*' wildcard")
        if "/" in region:
            yield error(f"{field}.{name}", f"{what} failover {only_region}")


def _is_prime(number: int) -> bool:
    return number > 1 and all(number % divisor for divisor in range(2, math.isqrt(number) + 1))
