"""`mutua experimental` (`x`): looking at one workload from the outside."""

from mutua.programs.cli import lazy
from mutua.programs.cli.lazy import Command

app = lazy.group(
    "Commands that istioctl keeps under `x`.",
    (
        Command("authz", "mutua.programs.cli.authz", "app", "Authorization policies."),
        Command("proxy-status", "mutua.programs.cli.proxy_status", "proxy_status", "What each proxy has.", ("ps",)),
        Command("describe", "mutua.programs.cli.describe", "app", "What a pod or a Service is to the mesh.", ("des",)),
        Command("check-inject", "mutua.programs.cli.check_inject", "check_inject", "Whether a pod gets a sidecar."),
        Command("precheck", "mutua.programs.cli.precheck", "precheck", "Whether it is safe to install or upgrade."),
    ),
)
