"""The resolver on the wire, asked by a real client."""

import dns.asyncquery
import dns.message
import pytest

from localcluster.node.dns import ClusterNames
from localcluster.node.dns_server import DnsServer


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_it_answers_over_both_transports(transport: str) -> None:
    names = ClusterNames()
    names.update("shop", "web", {"web.shop.svc.cluster.local.": {"A": ["10.96.0.7"]}})
    server = DnsServer(names, "127.0.0.1", 0)
    await server.start()
    query = dns.message.make_query("web.shop.svc.cluster.local", "A")
    ask = dns.asyncquery.udp if transport == "udp" else dns.asyncquery.tcp
    response = await ask(query, "127.0.0.1", port=server.port, timeout=5)
    await server.close()
    assert response.answer[0][0].address == "10.96.0.7"
