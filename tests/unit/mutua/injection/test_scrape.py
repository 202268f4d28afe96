"""An application's own metrics: what its annotations mean, and what the sidecar is told of them."""

import pytest

from mutua.injection import patch, scrape
from mutua.injection.scrape import Scrape
from mutua.injection.settings import InjectorSettings

ANNOTATED = {"prometheus.io/scrape": "true", "prometheus.io/port": "9100", "prometheus.io/path": "metrics"}


def injected(annotations: dict[str, str], **mesh: bool) -> tuple[dict[str, str], dict[str, str], tuple[str, ...]]:
    """The pod's annotations, the sidecar's environment and the warnings."""
    pod = {"metadata": {"name": "web", "annotations": annotations}, "spec": {"containers": [{"name": "web"}]}}
    after = patch.injected(pod, "shop", InjectorSettings(**mesh))
    proxy = next(each for each in after["spec"]["containers"] if each["name"] == "istio-proxy")
    environment = {each["name"]: each.get("value", "") for each in proxy["env"]}
    return after["metadata"]["annotations"], environment, patch.inject(pod, "shop", InjectorSettings(**mesh)).warnings


def test_a_scraper_finds_one_page_and_the_agent_knows_where_the_application_s_is() -> None:
    annotations, environment, warnings = injected(ANNOTATED)
    assert annotations["prometheus.io/port"] == "15020"
    assert annotations["prometheus.io/path"] == "/stats/prometheus"
    assert scrape.decode(environment[scrape.VARIABLE]) == Scrape(9100, "/metrics")
    assert warnings == ()


def test_an_application_without_metrics_of_its_own_has_the_sidecar_s() -> None:
    annotations, environment, _ = injected({})
    assert annotations["prometheus.io/scrape"] == "true"
    assert scrape.VARIABLE not in environment


@pytest.mark.parametrize(
    ("own", "mesh_wide"), [({}, False), ({"prometheus.istio.io/merge-metrics": "false"}, True)], ids=["mesh", "pod"]
)
def test_nothing_is_merged_where_that_is_turned_off(own: dict[str, str], mesh_wide: bool) -> None:
    annotations, environment, _ = injected(ANNOTATED | own, merge_metrics=mesh_wide)
    assert annotations["prometheus.io/port"] == "9100"
    assert scrape.VARIABLE not in environment


def test_a_pod_that_was_injected_before_does_not_scrape_its_own_sidecar() -> None:
    _, environment, _ = injected(ANNOTATED | {"prometheus.io/port": "15020"})
    assert scrape.VARIABLE not in environment


@pytest.mark.parametrize(("key", "value"), [("port", "http"), ("port", "0"), ("port", "70000"), ("scheme", "ftp")])
def test_a_page_that_cannot_be_read_is_a_warning_and_costs_the_pod_nothing(key: str, value: str) -> None:
    _, environment, warnings = injected(ANNOTATED | {f"prometheus.io/{key}": value})
    assert scrape.VARIABLE not in environment
    assert any(f"prometheus.io/{key} is '{value}'" in text for text in warnings), warnings
