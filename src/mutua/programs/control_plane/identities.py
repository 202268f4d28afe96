"""Which certificate each workload presents, as its agent told it last; kept in memory, told again every few minutes."""

from collections.abc import Callable, Iterable

import msgspec

from mutua.ca.rollover import Pod
from mutua.servers.admin import Sample
from mutua.servers.identity import Report


class IdentityBook:
    """The reports, one for each pod that exists."""

    def __init__(self, proxies: Callable[[], frozenset[Pod] | None]) -> None:
        """`proxies`: the pods with a sidecar, None while unknown."""
        self._proxies = proxies
        self._reports: dict[Pod, Report] = {}

    def take(self, report: Report) -> None:
        """What an agent says now replaces what it said before."""
        self._reports[(report.namespace, report.pod)] = report

    def reports(self) -> tuple[Report, ...]:
        """By namespace and pod; pods that are gone are forgotten."""
        proxies = self._proxies()
        if proxies is not None:
            self._reports = {pod: report for pod, report in self._reports.items() if pod in proxies}
        return tuple(report for _, report in sorted(self._reports.items()))

    def page(self) -> bytes:
        """As JSON: `certificates` is the reports, `silent` the pods (`namespace`, `pod`) that have not told."""
        reports = self.reports()
        told = {(report.namespace, report.pod) for report in reports}
        silent = sorted((self._proxies() or frozenset()) - told)
        return msgspec.json.encode(
            {
                "certificates": reports,
                "silent": [{"namespace": namespace, "pod": name} for namespace, name in silent],
            }
        )

    def samples(self) -> Iterable[Sample]:
        """Metrics with Unix times, one series for each pod."""
        reports = self.reports()
        labels = [{"namespace": report.namespace, "pod": report.pod, "identity": report.identity} for report in reports]
        for report, label in zip(reports, labels, strict=True):
            yield Sample(
                "mutua_workload_certificate_expiry_timestamp_seconds",
                report.not_after.timestamp(),
                label,
                help="When the certificate that a workload presents ends.",
            )
        for report, label in zip(reports, labels, strict=True):
            yield Sample(
                "mutua_workload_certificate_lifetime_seconds",
                (report.not_after - report.not_before).total_seconds(),
                label,
                help="How long that certificate is valid in all.",
            )
        for report, label in zip(reports, labels, strict=True):
            yield Sample(
                "mutua_workload_certificate_renewal_failures",
                report.failures,
                label,
                help="Failed attempts to renew in a row.",
            )
