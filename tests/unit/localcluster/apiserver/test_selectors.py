"""Label and field selectors as clients write them."""

import pytest

from localcluster.apiserver import kinds, selectors
from localcluster.apiserver.errors import BadRequestError

LABELS = {"app": "web", "tier": "front", "rank": "7"}


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("", True),
        ("app=web", True),
        ("app==web,tier=front", True),
        ("app!=web", False),
        ("missing!=web", True),
        ("app in (api, web)", True),
        ("app notin (api,web)", False),
        ("missing notin (x)", True),
        ("app", True),
        ("!app", False),
        ("!missing", True),
        ("rank>6", True),
        ("rank<7", False),
        ("app=", False),
        ("app in (api),tier", False),
    ],
)
def test_label_selectors(text: str, matches: bool) -> None:
    selected = selectors.labels(text)

    assert (selected is None or selected({"metadata": {"labels": LABELS}})) is matches


@pytest.mark.parametrize("text", ["=a", "a in", "a in (b", "a b", "a=-", "a=b,,", "a in b", "!", "a=$(x)"])
def test_a_label_selector_that_cannot_be_read_is_a_bad_request(text: str) -> None:
    with pytest.raises(BadRequestError):
        selectors.labels(text)


def test_structured_selectors_match_all_their_terms() -> None:
    terms = [{"key": "app", "operator": "In", "values": ["web"]}, {"key": "x", "operator": "DoesNotExist"}]

    assert selectors.structured({"matchLabels": {"tier": "front"}, "matchExpressions": terms})(LABELS)
    assert not selectors.structured({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]})(
        LABELS
    )
    assert selectors.structured({})(LABELS)
    assert not selectors.structured(None)(LABELS)


def test_field_selectors_by_kind() -> None:
    pod = {"metadata": {"name": "a", "namespace": "n"}, "spec": {"nodeName": "local"}, "status": {"phase": "Running"}}
    selected = selectors.fields(kinds.POD, "spec.nodeName=local,status.phase!=Failed,metadata.namespace==n")

    assert selected is not None
    assert selected(pod)
    assert not selected({**pod, "status": {"phase": "Failed"}})


def test_events_are_found_by_the_object_they_are_about_under_both_names() -> None:
    event = {"metadata": {"name": "e"}, "involvedObject": {"name": "web", "kind": "Pod"}, "type": "Warning"}
    for kind, text in ((kinds.EVENT, "involvedObject.name=web"), (kinds.EVENTS_EVENT, "regarding.kind=Pod")):
        selected = selectors.fields(kind, text)
        assert selected is not None
        assert selected(event)


def test_an_unknown_field_is_a_bad_request() -> None:
    with pytest.raises(BadRequestError, match=r"field label not supported: spec\.image"):
        selectors.fields(kinds.POD, "spec.image=x")
