"""The name resolution files of containers."""

from typing import Any

import pytest

from localcluster.node.dns_files import container_files, hosts_file, resolv_conf

NODE = "search corp.example\nnameserver 192.0.2.1\noptions timeout:1 rotate\n"
CLUSTER = "search shop.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n"


def pod(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "web-0", "namespace": "shop"}, "spec": spec}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, CLUSTER),
        ({"dnsPolicy": "Default"}, NODE),
        ({"hostNetwork": True}, NODE),
        ({"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"}, CLUSTER),
        ({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["192.0.2.9"]}}, "nameserver 192.0.2.9\n"),
        (
            {
                "dnsConfig": {
                    "searches": ["more.example"],
                    "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}],
                }
            },
            CLUSTER.replace("cluster.local\nname", "cluster.local more.example\nname").replace(
                "ndots:5", "ndots:2 edns0"
            ),
        ),
    ],
)
def test_resolv_conf(spec: dict[str, Any], expected: str) -> None:
    assert resolv_conf(pod(**spec), NODE) == expected


def test_hosts_hold_the_pods_names_and_its_aliases() -> None:
    named = pod(hostname="db", subdomain="data", hostAliases=[{"ip": "192.0.2.7", "hostnames": ["a", "b"]}])
    lines = hosts_file(named, "10.244.0.5").splitlines()
    assert "127.0.0.1\tlocalhost" in lines
    assert "10.244.0.5\tdb.data.shop.svc.cluster.local\tdb" in lines
    assert lines[-1] == "192.0.2.7\ta\tb"


def test_the_hostname_is_cut_to_what_a_host_name_may_be() -> None:
    long = {"metadata": {"name": "x" * 62 + "-" + "y" * 20, "namespace": "shop"}, "spec": {}}
    assert container_files(long, "10.244.0.5", NODE)["/etc/hostname"] == "x" * 62 + "\n"
