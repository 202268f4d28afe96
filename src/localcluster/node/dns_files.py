"""The name resolution files of a container: /etc/resolv.conf, /etc/hosts and /etc/hostname."""

from collections.abc import Mapping
from typing import Any

from localcluster.node.dns import CLUSTER_DOMAIN

DNS_ADDRESS = "10.96.0.10"
# The kernel's limit of a host name, and Kubernetes' of a DNS label.
_LONGEST_HOSTNAME = 63


def hostname(pod: Mapping[str, Any]) -> str:
    """What the pod calls itself: `spec.hostname`, else its name, cut to what a host name may be."""
    name = str(pod["spec"].get("hostname") or pod["metadata"]["name"])
    return name[:_LONGEST_HOSTNAME].rstrip("-.")


def domain_name(pod: Mapping[str, Any]) -> str | None:
    """The pod's name in DNS, if it has a subdomain."""
    subdomain = pod["spec"].get("subdomain")
    if not subdomain:
        return None
    return f"{hostname(pod)}.{subdomain}.{pod['metadata']['namespace']}.svc.{CLUSTER_DOMAIN}"


def resolv_conf(pod: Mapping[str, Any], node_resolv_conf: str) -> str:
    """The resolver's settings by `dnsPolicy` and `dnsConfig` (`GetPodDNS` of the kubelet)."""
    spec, namespace = pod["spec"], pod["metadata"]["namespace"]
    policy = spec.get("dnsPolicy") or "ClusterFirst"
    servers: list[str] = []
    searches: list[str] = []
    options: dict[str, str | None] = {}
    if policy == "Default" or (policy == "ClusterFirst" and spec.get("hostNetwork")):
        servers, searches, options = _parse(node_resolv_conf)
    elif policy != "None":
        servers = [DNS_ADDRESS]
        searches = [f"{namespace}.svc.{CLUSTER_DOMAIN}", f"svc.{CLUSTER_DOMAIN}", CLUSTER_DOMAIN]
        options = {"ndots": "5"}
    config = spec.get("dnsConfig") or {}
    servers += [server for server in config.get("nameservers") or () if server not in servers]
    searches += [search for search in config.get("searches") or () if search not in searches]
    for option in config.get("options") or ():
        options[option["name"]] = option.get("value")
    lines = [f"search {' '.join(searches)}"] if searches else []
    lines += [f"nameserver {server}" for server in servers]
    if options:
        shown = [name if value is None else f"{name}:{value}" for name, value in options.items()]
        lines.append(f"options {' '.join(shown)}")
    return "".join(f"{line}\n" for line in lines)


def _parse(text: str) -> tuple[list[str], list[str], dict[str, str | None]]:
    servers: list[str] = []
    searches: list[str] = []
    options: dict[str, str | None] = {}
    for line in text.splitlines():
        word, *values = line.split() or [""]
        if word == "nameserver":
            servers += values[:1]
        elif word == "search":
            searches = values
        elif word == "options":
            for option in values:
                name, colon, value = option.partition(":")
                options[name] = value if colon else None
    return servers, searches, options


def hosts_file(pod: Mapping[str, Any], pod_ip: str) -> str:
    """The pod's names and `hostAliases`, in the kubelet's form."""
    lines = [
        "# Kubernetes-managed hosts file.",
        "127.0.0.1\tlocalhost",
        "::1\tlocalhost ip6-localhost ip6-loopback",
        "fe00::\tip6-localnet",
        "fe00::\tip6-mcastprefix",
        "fe00::1\tip6-allnodes",
        "fe00::2\tip6-allrouters",
    ]
    full_name = domain_name(pod)
    lines.append("\t".join([pod_ip, full_name, hostname(pod)] if full_name else [pod_ip, hostname(pod)]))
    aliases = pod["spec"].get("hostAliases") or ()
    if aliases:
        lines += ["", "# Entries added by HostAliases."]
        lines += ["\t".join([alias["ip"], *(alias.get("hostnames") or ())]) for alias in aliases]
    return "".join(f"{line}\n" for line in lines)


def container_files(pod: Mapping[str, Any], pod_ip: str, node_resolv_conf: str) -> dict[str, str]:
    """Path -> text of the files that every container of the pod gets."""
    name = hostname(pod)
    if pod["spec"].get("setHostnameAsFQDN") and (full_name := domain_name(pod)):
        name = full_name
    return {
        "/etc/hosts": hosts_file(pod, pod_ip),
        "/etc/resolv.conf": resolv_conf(pod, node_resolv_conf),
        "/etc/hostname": f"{name}\n",
    }
