"""Replies as bytes: resources were serialised once, and are joined, never parsed again."""

from envoy.service.discovery.v3 import discovery_pb2

from mutua.xds.stream import Reply


def delta(reply: Reply) -> bytes:
    """A DeltaDiscoveryResponse. Concatenated protobuf messages are merged by whoever reads them."""
    frame = discovery_pb2.DeltaDiscoveryResponse(
        type_url=reply.type_url,
        nonce=reply.push.nonce,
        system_version_info=reply.version,
        removed_resources=reply.push.removed,
    )
    return b"".join((frame.SerializeToString(), *(each.entry for each in reply.push.changed)))


def state_of_the_world(reply: Reply) -> bytes:
    """A DiscoveryResponse."""
    frame = discovery_pb2.DiscoveryResponse(type_url=reply.type_url, nonce=reply.push.nonce, version_info=reply.version)
    return b"".join((frame.SerializeToString(), *(each.plain_entry for each in reply.push.changed)))
