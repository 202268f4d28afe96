"""Node ids: what a proxy may call itself."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mutua.errors import InvalidInputError
from mutua.xds.node import Node


def test_a_node_id_is_taken_apart_and_put_together() -> None:
    text = "sidecar~10.1.2.3~web-0.shop~shop.svc.cluster.local"

    node = Node.parse(text)

    assert (node.address, node.pod, node.namespace, str(node)) == ("10.1.2.3", "web-0", "shop", text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sidecar",
        "router~10.1.2.3~web-0.shop~shop.svc.cluster.local",
        "sidecar~10.1.2.3~web-0~shop.svc.cluster.local",
        "sidecar~10.1.2.3~.shop~shop.svc.cluster.local",
        "sidecar~nowhere~web-0.shop~shop.svc.cluster.local",
        "sidecar~10.1.2.3~web-0.shop~other.svc.cluster.local",
        "sidecar~10.1.2.3~web-0.shop~shop.svc.cluster.local~more",
        "sidecar~10.1.2.3~web-0.shop~shop.svc." + "x" * 2000,
    ],
)
def test_what_is_no_node_id_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError):
        Node.parse(text)


@given(st.text())
def test_any_text_is_parsed_or_refused(text: str) -> None:
    with contextlib.suppress(InvalidInputError):
        assert str(Node.parse(text)) == text
