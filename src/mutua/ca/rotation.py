"""When a certificate is replaced, as a function of now."""

from datetime import datetime, timedelta

GRACE_RATIO = 0.2
"""The part of a certificate's life that is left when it is replaced: at 80 % of its validity."""

GRACE_RATIO_JITTER = 0.01


def delay(
    created: datetime, expires: datetime, now: datetime, grace_ratio: float = GRACE_RATIO, jitter: float = 0.0
) -> timedelta:
    """How long to wait from `now`; never negative.

    `created` is when the certificate was received (it is back-dated, so notBefore would rotate early); `jitter` is a
    number that the caller drew, added to the ratio so that a fleet started at once does not renew at once.
    Source: Istio's SECRET_GRACE_PERIOD_RATIO and SECRET_GRACE_PERIOD_RATIO_JITTER; its default ratio is 0.5.
    """
    ratio = min(1.0, max(0.0, grace_ratio + jitter))
    return max(timedelta(0), expires - (expires - created) * ratio - now)


def root_is_due(not_before: datetime, not_after: datetime, now: datetime, grace_percent: int = 20) -> bool:
    """Whether a self-signed root must be replaced: less than `grace_percent` of its life is left.

    Source: Istio's CITADEL_SELF_SIGNED_ROOT_CERT_GRACE_PERIOD_PERCENTILE.
    """
    return not_after - now < (not_after - not_before) * grace_percent / 100
