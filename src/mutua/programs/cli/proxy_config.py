"""`mutua proxy-config`: what a pod's live Envoy is configured to, as tables or as Envoy's own objects."""

import datetime
import sys
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer

from mutua.programs.cli import common, envoy_source, identity_pages, proxy_log
from mutua.programs.cli.common import OutputFormat
from mutua.programs.cli.completion import pods as complete_pods
from mutua.reports import bootstrap as bootstrap_report
from mutua.reports import clusters as clusters_report
from mutua.reports import endpoints as endpoints_report
from mutua.reports import envoy_dump
from mutua.reports import listeners as listeners_report
from mutua.reports import routes as routes_report
from mutua.reports import secrets as secrets_report
from mutua.reports.table import render
from mutua.system.kube_pod_http import ENVOY_ADMIN_PORT

app = typer.Typer(
    add_completion=False, rich_markup_mode=None, no_args_is_help=True, help="What a pod's Envoy is configured to."
)

Pod = Annotated[
    str, typer.Argument(metavar="[TYPE/]NAME[.NAMESPACE]", show_default=False, autocompletion=complete_pods)
]
Output = Annotated[str, typer.Option("--output", "-o", help="short, json or yaml.")]
File = Annotated[str, typer.Option("--file", "-f", help="Read a saved config dump instead of a pod.")]
AdminPort = Annotated[int, typer.Option("--proxy-admin-port", help="Port of Envoy's admin interface.")]
Port = Annotated[int, typer.Option("--port", help="Only this port.")]
Address = Annotated[str, typer.Option("--address", help="Only this address.")]
Verbose = Annotated[bool, typer.Option("--verbose/--no-verbose", help="One line per chain or route, not per object.")]
Fqdn = Annotated[str, typer.Option("--fqdn", help="Only hosts with this in their name.")]
Direction = Annotated[str, typer.Option("--direction", help="Only inbound or outbound.")]
Subset = Annotated[str, typer.Option("--subset", help="Only subsets with this in their name.")]

_CLUSTER_TYPE = "envoy.config.cluster.v3.Cluster"
_LISTENER_TYPE = "envoy.config.listener.v3.Listener"
_ROUTE_TYPE = "envoy.config.route.v3.RouteConfiguration"
_ASSIGNMENT_TYPE = "envoy.config.endpoint.v3.ClusterLoadAssignment"
_EXTENSION_TYPE = "envoy.config.core.v3.TypedExtensionConfig"
_STATUS_TYPE = "envoy.admin.v3.ClusterStatus"

Show = Callable[[Mapping[str, Any], OutputFormat], None]


def secret(
    context: typer.Context, pod: Pod = "", output: Output = "short", file: File = "", port: AdminPort = ENVOY_ADMIN_PORT
) -> None:
    """The certificates that the Envoy holds, without keys; `-o wide` adds when they are replaced."""
    wide = output == "wide"

    def show(dump: Mapping[str, Any], wanted: OutputFormat) -> None:
        section = envoy_dump.secrets(dump)
        if wanted is OutputFormat.SHORT:
            now = datetime.datetime.now(datetime.UTC)
            rotations = common.with_kube(context, identity_pages.next_rotations) if wide and not file else None
            sys.stdout.write(secrets_report.table(section, now, rotations=rotations))
        else:
            common.print_object(envoy_source.canonical(section, "envoy.admin.v3.SecretsConfigDump"), wanted)

    _report(context, "secret", pod, "short" if wide else output, file, port, envoy_source.DUMP, show)


def cluster(
    context: typer.Context,
    pod: Pod = "",
    output: Output = "short",
    file: File = "",
    admin_port: AdminPort = ENVOY_ADMIN_PORT,
    fqdn: Fqdn = "",
    port: Port = 0,
    direction: Direction = "",
    subset: Subset = "",
) -> None:
    """The clusters: whom the Envoy can dial, and how."""
    chosen = clusters_report.ClusterFilter(fqdn, port, direction, subset)

    def show(dump: Mapping[str, Any], wanted: OutputFormat) -> None:
        found = [item for item in envoy_dump.clusters(dump) if chosen.accepts(item)]
        if wanted is OutputFormat.SHORT:
            sys.stdout.write(clusters_report.table(found))
        else:
            common.print_object([envoy_source.canonical(item, _CLUSTER_TYPE) for item in found], wanted)

    _report(context, "cluster", pod, output, file, admin_port, envoy_source.DUMP, show)


def listener(
    context: typer.Context,
    pod: Pod = "",
    output: Output = "short",
    file: File = "",
    admin_port: AdminPort = ENVOY_ADMIN_PORT,
    address: Address = "",
    port: Port = 0,
    kind: Annotated[str, typer.Option("--type", help="Only HTTP, TCP, HTTP+TCP or UNKNOWN.")] = "",
    verbose: Verbose = True,
) -> None:
    """The listeners: what the Envoy accepts, and where it goes."""
    chosen = listeners_report.ListenerFilter(address, port, kind)

    def show(dump: Mapping[str, Any], wanted: OutputFormat) -> None:
        found = [item for item in envoy_dump.listeners(dump) if chosen.accepts(item)]
        if wanted is OutputFormat.SHORT:
            sys.stdout.write(listeners_report.table(found, verbose=verbose))
        else:
            common.print_object([envoy_source.canonical(item, _LISTENER_TYPE) for item in found], wanted)

    _report(context, "listener", pod, output, file, admin_port, envoy_source.DUMP, show)


def route(
    context: typer.Context,
    pod: Pod = "",
    output: Output = "short",
    file: File = "",
    admin_port: AdminPort = ENVOY_ADMIN_PORT,
    name: Annotated[str, typer.Option("--name", help="Only the route configuration of this name.")] = "",
    verbose: Verbose = True,
) -> None:
    """The routes: which host and path leads to which cluster."""

    def show(dump: Mapping[str, Any], wanted: OutputFormat) -> None:
        found = [item for item in envoy_dump.routes(dump) if not name or item.get("name") == name]
        if wanted is OutputFormat.SHORT:
            sys.stdout.write(routes_report.table(found, verbose=verbose))
        else:
            common.print_object([envoy_source.canonical(item, _ROUTE_TYPE) for item in found], wanted)

    _report(context, "route", pod, output, file, admin_port, envoy_source.DUMP, show)


def endpoint(
    context: typer.Context,
    pod: Pod = "",
    output: Output = "short",
    file: File = "",
    admin_port: AdminPort = ENVOY_ADMIN_PORT,
    address: Address = "",
    port: Port = 0,
    cluster: Annotated[str, typer.Option("--cluster", help="Only the cluster of this name.")] = "",
    status: Annotated[str, typer.Option("--status", help="Only this health, as in healthy.")] = "",
) -> None:
    """The endpoints, as the Envoy itself sees them now."""
    chosen = endpoints_report.EndpointFilter(address, port, cluster, status)

    def show(statuses: Mapping[str, Any], wanted: OutputFormat) -> None:
        found = endpoints_report.selected(statuses, chosen)
        if wanted is OutputFormat.SHORT:
            sys.stdout.write(endpoints_report.table(found))
        else:
            common.print_object([envoy_source.canonical(item, _STATUS_TYPE) for item in found], wanted)

    _report(context, "endpoint", pod, output, file, admin_port, envoy_source.CLUSTERS, show)


def bootstrap(
    context: typer.Context, pod: Pod = "", output: Output = "json", file: File = "", port: AdminPort = ENVOY_ADMIN_PORT
) -> None:
    """What the Envoy was started with."""

    def show(dump: Mapping[str, Any], wanted: OutputFormat) -> None:
        section = envoy_dump.bootstrap(dump)
        if wanted is OutputFormat.SHORT:
            sys.stdout.write(bootstrap_report.table(section))
        else:
            common.print_object(envoy_source.canonical(section, "envoy.admin.v3.BootstrapConfigDump"), wanted)

    _report(context, "bootstrap", pod, output, file, port, envoy_source.DUMP, show)


def everything(
    context: typer.Context,
    pod: Pod = "",
    output: Output = "short",
    file: File = "",
    port: AdminPort = ENVOY_ADMIN_PORT,
    verbose: Verbose = True,
    with_headers: Annotated[bool, typer.Option("--with-headers", help="A headline before each table.")] = False,
) -> None:
    """All of the above, one table after the other; as JSON or YAML Envoy's whole config dump."""

    def show(dump: Mapping[str, Any], wanted: OutputFormat) -> None:
        if wanted is not OutputFormat.SHORT:
            common.print_object(envoy_source.canonical(dump, "envoy.admin.v3.ConfigDump"), wanted)
            return
        now = datetime.datetime.now(datetime.UTC)
        statuses = endpoints_report.of_dump(dump)
        tables = (
            ("BOOTSTRAP", bootstrap_report.table(envoy_dump.bootstrap(dump))),
            ("CLUSTER", clusters_report.table(envoy_dump.clusters(dump), "cluster/")),
            ("LISTENER", listeners_report.table(envoy_dump.listeners(dump), verbose=verbose, prefix="listener/")),
            ("ROUTE", routes_report.table(envoy_dump.routes(dump), verbose=verbose, prefix="route/")),
            ("SECRET", secrets_report.table(envoy_dump.secrets(dump), now, "secret/")),
            ("ENDPOINTS", endpoints_report.assignments_table(statuses, "endpoint/")),
        )
        headline = "------ {} INFO ------\n\n" if with_headers else "{:.0}"
        sys.stdout.write("\n".join(headline.format(name) + table for name, table in tables))

    _report(context, "all", pod, output, file, port, envoy_source.DUMP + "?include_eds", show)


def eds(
    context: typer.Context,
    pod: Pod = "",
    output: Output = "short",
    file: File = "",
    admin_port: AdminPort = ENVOY_ADMIN_PORT,
    address: Address = "",
    port: Port = 0,
    cluster: Annotated[str, typer.Option("--cluster", help="Only the cluster of this name.")] = "",
    status: Annotated[str, typer.Option("--status", help="Only this health, as in healthy.")] = "",
) -> None:
    """The endpoints, as the control plane sent them."""
    chosen = endpoints_report.EndpointFilter(address, port, cluster, status)

    def show(dump: Mapping[str, Any], wanted: OutputFormat) -> None:
        found = endpoints_report.selected_assignments(endpoints_report.of_dump(dump), chosen)
        if wanted is OutputFormat.SHORT:
            sys.stdout.write(endpoints_report.assignments_table(found))
        else:
            common.print_object([envoy_source.canonical(item, _ASSIGNMENT_TYPE) for item in found], wanted)

    _report(context, "eds", pod, output, file, admin_port, envoy_source.DUMP + "?include_eds", show)


def ecds(
    context: typer.Context, pod: Pod = "", output: Output = "short", file: File = "", port: AdminPort = ENVOY_ADMIN_PORT
) -> None:
    """The filters that the Envoy was sent apart from its listeners."""

    def show(dump: Mapping[str, Any], wanted: OutputFormat) -> None:
        found = envoy_dump.extensions(dump)
        if wanted is OutputFormat.SHORT:
            rows = [(str(item.get("name", "")), envoy_dump.extension_type(item)) for item in found]
            sys.stdout.write(render(("ECDS NAME", "TYPE"), rows, padding=5))
        else:
            common.print_object([envoy_source.canonical(item, _EXTENSION_TYPE) for item in found], wanted)

    _report(context, "ecds", pod, output, file, port, envoy_source.DUMP, show)


_COMMANDS: tuple[tuple[Callable[..., None], tuple[str, ...]], ...] = (
    (secret, ("secret", "secrets", "s")),
    (cluster, ("cluster", "clusters", "c")),
    (listener, ("listener", "listeners", "l")),
    (endpoint, ("endpoint", "endpoints", "ep")),
    (route, ("route", "routes", "r")),
    (bootstrap, ("bootstrap", "b")),
    (everything, ("all", "a")),
    (ecds, ("ecds", "ec")),
    (proxy_log.log, ("log", "o")),
    (proxy_log.rootca_compare, ("rootca-compare", "rc")),
)
app.command("eds", hidden=True)(eds)
for _function, (_name, *_aliases) in _COMMANDS:
    app.command(_name)(_function)
    for _alias in _aliases:
        app.command(_alias, hidden=True)(_function)


def _report(
    context: typer.Context, command: str, pod: str, output: str, file: str, admin_port: int, page: str, show: Show
) -> None:
    """Reads the page from the pod, or the file, and shows it. Raises MutuaError."""
    wanted = common.output_format(output)
    show(envoy_source.read(context, f"proxy-config {command}", pod, file, page, admin_port), wanted)
