"""The limits of what is issued: settings, which most of the mesh's programs read without signing anything."""

from datetime import timedelta

import msgspec


class Limits(msgspec.Struct, frozen=True):
    """Settings of the authority. Source: Istio's DEFAULT_WORKLOAD_CERT_TTL and MAX_WORKLOAD_CERT_TTL."""

    default_ttl: timedelta = timedelta(hours=24)
    max_ttl: timedelta = timedelta(days=90)
    refuses_foreign_names: bool = True  # False: names in a request are ignored, as Istio does
