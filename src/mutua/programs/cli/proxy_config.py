"""`mutua proxy-config`: what a pod's live Envoy is configured to, as tables or as Envoy's own objects."""

from mutua.programs.cli import lazy
from mutua.programs.cli.lazy import Command

_PAGES = "mutua.programs.cli.proxy_pages"
_ENDPOINTS = "mutua.programs.cli.proxy_endpoints"
_LOG = "mutua.programs.cli.proxy_log"

app = lazy.group(
    "What a pod's Envoy is configured to.",
    (
        Command("all", _PAGES, "everything", "All of the below, one table after the other.", ("a",)),
        Command("bootstrap", _PAGES, "bootstrap", "What the Envoy was started with.", ("b",)),
        Command("cluster", _PAGES, "cluster", "Whom the Envoy can dial, and how.", ("clusters", "c")),
        Command("ecds", _PAGES, "ecds", "Filters that came apart from their listeners.", ("ec",)),
        Command("eds", _ENDPOINTS, "eds", "The endpoints, as the control plane sent them."),
        Command("endpoint", _ENDPOINTS, "endpoint", "The endpoints, as the Envoy sees them.", ("endpoints", "ep")),
        Command("listener", _PAGES, "listener", "What the Envoy accepts, and where it goes.", ("listeners", "l")),
        Command("log", _LOG, "log", "The levels of a live Envoy's loggers.", ("o",)),
        Command("rootca-compare", _LOG, "rootca_compare", "Whether two pods trust a common root.", ("rc",)),
        Command("route", _PAGES, "route", "Which host and path leads to which cluster.", ("routes", "r")),
        Command("secret", _PAGES, "secret", "The certificates that the Envoy holds.", ("secrets", "s")),
    ),
)
