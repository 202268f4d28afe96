"""The pages of `mutua proxy-config` that are parts of an Envoy's config dump."""

import datetime
from typing import Annotated, Any

import typer

from mutua.programs.cli import common, envoy_source
from mutua.programs.cli.completion import Pod
from mutua.programs.cli.proxy_view import Address, AdminPort, File, Output, Port, Verbose, View, page, show
from mutua.reports import envoy_dump
from mutua.system.kube_pod_http import ENVOY_ADMIN_PORT


def secret(
    context: typer.Context, pod: Pod = "", output: Output = "short", file: File = "", port: AdminPort = ENVOY_ADMIN_PORT
) -> None:
    """The certificates that the Envoy holds, without keys; `-o wide` adds when they are replaced."""
    from mutua.reports import secrets as report

    wide = output == "wide"

    def table(section: Any) -> str:
        rotations = None
        if wide and not file:
            from mutua.programs.cli import identity_pages

            rotations = common.with_kube(context, identity_pages.next_rotations)
        return report.table(section, datetime.datetime.now(datetime.UTC), rotations=rotations)

    view = View(envoy_dump.secrets, table, "envoy.admin.v3.SecretsConfigDump")
    show(context, "secret", view, pod, "short" if wide else output, file, port)


@page("cluster")
def cluster(
    fqdn: Annotated[str, typer.Option("--fqdn", help="Only hosts with this in their name.")] = "",
    port: Port = 0,
    direction: Annotated[str, typer.Option("--direction", help="Only inbound or outbound.")] = "",
    subset: Annotated[str, typer.Option("--subset", help="Only subsets with this in their name.")] = "",
) -> View:
    """The clusters: whom the Envoy can dial, and how."""
    from mutua.reports import clusters as report

    chosen = report.ClusterFilter(fqdn, port, direction, subset)
    return View(
        lambda dump: [item for item in envoy_dump.clusters(dump) if chosen.accepts(item)],
        report.table,
        "envoy.config.cluster.v3.Cluster",
    )


@page("listener")
def listener(
    address: Address = "",
    port: Port = 0,
    kind: Annotated[str, typer.Option("--type", help="Only HTTP, TCP, HTTP+TCP or UNKNOWN.")] = "",
    verbose: Verbose = True,
) -> View:
    """The listeners: what the Envoy accepts, and where it goes."""
    from mutua.reports import listeners as report

    chosen = report.ListenerFilter(address, port, kind)
    return View(
        lambda dump: [item for item in envoy_dump.listeners(dump) if chosen.accepts(item)],
        lambda found: report.table(found, verbose=verbose),
        "envoy.config.listener.v3.Listener",
    )


@page("route")
def route(
    name: Annotated[str, typer.Option("--name", help="Only the route configuration of this name.")] = "",
    verbose: Verbose = True,
) -> View:
    """The routes: which host and path leads to which cluster."""
    from mutua.reports import routes as report

    return View(
        lambda dump: [item for item in envoy_dump.routes(dump) if not name or item.get("name") == name],
        lambda found: report.table(found, verbose=verbose),
        "envoy.config.route.v3.RouteConfiguration",
    )


@page("bootstrap", output="json")
def bootstrap() -> View:
    """What the Envoy was started with."""
    from mutua.reports import bootstrap as report

    return View(envoy_dump.bootstrap, report.table, "envoy.admin.v3.BootstrapConfigDump")


@page("ecds")
def ecds() -> View:
    """The filters that the Envoy was sent apart from its listeners."""
    from mutua.reports.table import render

    def table(found: Any) -> str:
        rows = [(str(item.get("name", "")), envoy_dump.extension_type(item)) for item in found]
        return render(("ECDS NAME", "TYPE"), rows, padding=5)

    return View(envoy_dump.extensions, table, "envoy.config.core.v3.TypedExtensionConfig")


@page("all", envoy_source.DUMP + "?include_eds")
def everything(
    verbose: Verbose = True,
    with_headers: Annotated[bool, typer.Option("--with-headers", help="A headline before each table.")] = False,
) -> View:
    """All of the above, one table after the other; as JSON or YAML Envoy's whole config dump."""
    from mutua.reports import bootstrap, clusters, endpoints, listeners, routes, secrets

    def table(dump: Any) -> str:
        now = datetime.datetime.now(datetime.UTC)
        tables = (
            ("BOOTSTRAP", bootstrap.table(envoy_dump.bootstrap(dump))),
            ("CLUSTER", clusters.table(envoy_dump.clusters(dump), "cluster/")),
            ("LISTENER", listeners.table(envoy_dump.listeners(dump), verbose=verbose, prefix="listener/")),
            ("ROUTE", routes.table(envoy_dump.routes(dump), verbose=verbose, prefix="route/")),
            ("SECRET", secrets.table(envoy_dump.secrets(dump), now, "secret/")),
            ("ENDPOINTS", endpoints.assignments_table(endpoints.of_dump(dump), "endpoint/")),
        )
        headline = "------ {} INFO ------\n\n" if with_headers else "{:.0}"
        return "\n".join(headline.format(name) + part for name, part in tables)

    return View(lambda dump: dump, table, "envoy.admin.v3.ConfigDump")
