"""The endpoints of `mutua proxy-config`: as the Envoy sees them, and as the control plane sent them."""

from typing import Annotated

import typer

from mutua.programs.cli import envoy_source
from mutua.programs.cli.proxy_view import Address, Port, View, page
from mutua.reports import endpoints as report

Cluster = Annotated[str, typer.Option("--cluster", help="Only the cluster of this name.")]
Status = Annotated[str, typer.Option("--status", help="Only this health, as in healthy.")]


@page("endpoint", envoy_source.CLUSTERS)
def endpoint(address: Address = "", port: Port = 0, cluster: Cluster = "", status: Status = "") -> View:
    """The endpoints, as the Envoy itself sees them now."""
    chosen = report.EndpointFilter(address, port, cluster, status)
    return View(lambda statuses: report.selected(statuses, chosen), report.table, "envoy.admin.v3.ClusterStatus")


@page("eds", envoy_source.DUMP + "?include_eds")
def eds(address: Address = "", port: Port = 0, cluster: Cluster = "", status: Status = "") -> View:
    """The endpoints, as the control plane sent them."""
    chosen = report.EndpointFilter(address, port, cluster, status)
    return View(
        lambda dump: report.selected_assignments(report.of_dump(dump), chosen),
        report.assignments_table,
        "envoy.config.endpoint.v3.ClusterLoadAssignment",
    )
