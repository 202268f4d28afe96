"""Every code of our own has a page, every page a code, and the pages in docs are the ones that the tool prints."""

import os
from pathlib import Path

import pytest
from analysis_worlds import told

from mutua.analysis import codes, pages, registry
from mutua.reports import analysis as report

FOLDER = Path(__file__).parents[4] / "docs" / "findings"


def test_pages_and_codes_are_the_same() -> None:
    assert set(pages.PAGES) == set(codes.OWN)
    assert {path.stem for path in FOLDER.glob("MUT*.md")} == set(codes.OWN) or os.environ.get("MUTUA_WRITE_PAGES")


@pytest.mark.parametrize("code", codes.OWN)
def test_the_documentation_is_what_the_tool_prints(code: str) -> None:
    """`MUTUA_WRITE_PAGES=1 pytest tests/unit/mutua/analysis/test_pages.py` writes the pages anew."""
    path = FOLDER / f"{code}.md"
    if os.environ.get("MUTUA_WRITE_PAGES"):
        FOLDER.mkdir(exist_ok=True)
        path.write_text(pages.render(code))
    assert path.read_text() == report.explanation(code)


def test_the_list_of_pages() -> None:
    path = FOLDER / "README.md"
    if os.environ.get("MUTUA_WRITE_PAGES"):
        path.write_text(pages.index())
    assert path.read_text() == pages.index()


def test_every_code_is_given_by_a_check() -> None:
    given = {code for check in registry.CHECKS for code in check.codes}
    assert given == set(codes.ALL)


def test_names_of_checks_are_unique() -> None:
    names = [check.name for check in registry.CHECKS]
    assert len(names) == len(set(names))


def applications(*names: str, namespace: str = "secure-apps") -> str:
    """Deployments with a Service each."""
    return "".join(
        f"""
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{template: {{metadata: {{labels: {{app: {name}}}}}}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{selector: {{app: {name}}}, ports: [{{name: tcp-main, port: 443}}]}}
"""
        for name in names
    )


# What the examples leave out: the namespaces, and the applications that they speak of.
NAMESPACES = "".join(
    f"---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {{istio-injection: {word}}}}}\n"
    for name, word in {"secure-apps": "enabled", "policy": "enabled", "guests": "disabled", "plain": "disabled"}.items()
)
STRICT = """
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: all, namespace: istio-system}
spec: {mtls: {mode: STRICT}}
"""
MUST_BE_STRICT = frozenset({"MUT0014", "MUT0015", "MUT0018"})
WITHOUT_CONTENT = frozenset({"MUT0016"})  # a certificate would fill the page


@pytest.mark.parametrize("code", sorted(set(codes.OWN) - WITHOUT_CONTENT))
def test_the_example_is_one(code: str) -> None:
    """In a mesh with such applications the example gives the message that its page is about."""
    scene = NAMESPACES + applications("backend", "frontend", "db") + applications("old", namespace="plain")
    scene += applications("policy", namespace="policy") + (STRICT if code in MUST_BE_STRICT else "")
    assert told(scene + "\n---\n" + pages.PAGES[code].example, code)
