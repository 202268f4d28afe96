"""Who is on the other end of a stream: the identity that its certificate proves."""

from collections.abc import Iterable, Mapping

from mutua.errors import InvalidInputError, RefusedError
from mutua.spiffe import SCHEME, SpiffeId
from mutua.xds.node import Node


def identity(properties: Mapping[str, Iterable[bytes]]) -> SpiffeId:
    """Who the peer's certificate says it is. Raises RefusedError without one that names exactly one identity."""
    names = [name.decode("utf-8", "replace") for name in properties.get("x509_subject_alternative_name", ())]
    uris = [name for name in names if name.startswith(SCHEME)]
    if len(uris) != 1:
        raise RefusedError(f"a client certificate with exactly one SPIFFE id is needed, this one has {len(uris)}")
    try:
        return SpiffeId.parse(uris[0])
    except InvalidInputError as error:
        raise RefusedError(error.message) from error


def node(node_id: str, proven: SpiffeId) -> Node:
    """The node that a first message names. Raises RefusedError if it is of another namespace than the certificate."""
    claimed = Node.parse(node_id)
    if claimed.namespace != proven.namespace:
        raise RefusedError(f"node {claimed} claims another namespace than its certificate, {proven}")
    return claimed
