"""Which object a resource of a proxy was made from, as far as its name tells."""

from mutua.mesh.proxy_view import OutboundView


def destination_rule(outbound: OutboundView, resource: str) -> str:
    """The DestinationRule that shaped a cluster (`outbound|PORT|SUBSET|HOST`) or a Service's routes (`HOST:PORT`).

    "" if none did.
    """
    if resource.startswith("outbound|"):
        port, _, host = resource.removeprefix("outbound|").split("|", 2)
    else:
        host, _, port = resource.rpartition(":")
    service = outbound.find(host)
    rules = (item.destination_rule for item in service.ports if str(item.number) == port) if service else ()
    return next((f"DestinationRule {rule.namespace}/{rule.name}" for rule in rules if rule), "")
