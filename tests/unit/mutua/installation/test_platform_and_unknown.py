"""What a cluster needs is found out, not asked for; what nothing reads is said."""

import pytest

from mutua.errors import InvalidInputError
from mutua.installation import manifests, values


def exempt_by(tree: values.Tree) -> object:
    """How Envoy's own sockets escape capture."""
    return tree["values"]["global"]["proxy"]["exemptBy"]


@pytest.mark.parametrize(
    ("server", "expected"), [("v1.33.0+localcluster", "mark"), ("v1.34.1", "uid"), ("v1.32.4-gke.100", "uid")]
)
def test_the_server_says_how_sockets_are_exempt(server: str, expected: str) -> None:
    """A local cluster may have one uid only; every other cluster has many."""
    assert exempt_by(values.resolve(platform=values.platform_of(server))) == expected


@pytest.mark.parametrize(
    ("server", "is_too_old"),
    [
        ("v1.27.16", True),
        ("v1.20.2", True),
        ("v1.28.0", False),
        ("v1.34.1-gke.1", False),
        ("v2.0.0", False),
        ("", False),
    ],
)
def test_an_old_cluster_is_told_from_a_new_one(server: str, is_too_old: bool) -> None:
    """Where the version says nothing, nothing is held against the cluster."""
    assert bool(values.too_old(server)) is is_too_old


def test_the_user_has_the_last_word() -> None:
    """A setting beats what was found out, and a named platform beats the found one."""
    assert exempt_by(values.resolve(settings=["values.global.proxy.exemptBy=uid"], platform="local")) == "uid"
    assert exempt_by(values.resolve(settings=["values.global.platform=local"])) == "mark"


def test_misspelt_settings_are_named() -> None:
    """Free-form parts take any key; everything else is known or named by its path."""
    own = values.chosen(
        [{"meshConfig": {"certificates": [], "defaultConfig": {"proxyMetadata": {"A": "b"}}}}],
        [
            "nope=1",
            "meshConfig.trustDomian=x",
            "meshConfig.trustDomain=x",
            "values.pilot.env.ANY_THING=1",
            "values.global.proxy.logLevl=debug",
            "profile=demo",
        ],
    )
    assert values.unknown(own) == ("meshConfig.trustDomian", "nope", "values.global.proxy.logLevl")


def test_another_trust_domain_is_another_control_plane() -> None:
    """The control plane's pods are replaced when the trust domain changes, and only then."""

    def template(*settings: str) -> object:
        installation = values.installation(values.resolve(settings=settings), "1")
        items = [item for component in manifests.components(installation) for item in component.objects]
        return next(item for item in items if item["kind"] == "Deployment")["spec"]["template"]

    assert template() == template("meshConfig.accessLogFile=/dev/stdout")
    assert template() != template("meshConfig.trustDomain=example.org")


def test_a_log_format_that_envoy_would_refuse_is_not_installed() -> None:
    setting = 'meshConfig.accessLogFormat="%NOPE%"'
    with pytest.raises(InvalidInputError, match=r"meshConfig.accessLogFormat: %NOPE%: Envoy has no such command"):
        values.wanted(values.chosen((), (setting,)), "1.0")
