"""The initial files of a node: corosync.conf, hosts, and a CIB."""

from typing import Dict, Sequence

from .cloud import Machine

CLUSTER = "bed"


def corosync_conf(machines: Sequence[Machine]) -> str:
    """corosync.conf with one ring, over eth0."""
    nodes = "\n".join(
        f"    node {{\n        ring0_addr: {m.addresses[0]}\n        name: {m.name}\n        nodeid: {number}\n    }}"
        for number, m in enumerate(machines, 1)
    )
    two = "    two_node: 1\n    wait_for_all: 0\n" if len(machines) == 2 else ""
    return (
        f"totem {{\n    version: 2\n    cluster_name: {CLUSTER}\n    transport: knet\n    token: 1000\n"
        "    crypto_cipher: none\n    crypto_hash: none\n}\n"
        f"nodelist {{\n{nodes}\n}}\n"
        f"quorum {{\n    provider: corosync_votequorum\n{two}}}\n"
        "logging {\n    timestamp: hires\n    to_syslog: no\n    to_logfile: yes\n"
        "    logfile: /var/log/corosync/corosync.log\n}\n"
    )


def hosts(machines: Sequence[Machine]) -> str:
    """The names of the nodes, for /etc/hosts."""
    return "127.0.0.1 localhost\n" + "".join(f"{m.addresses[0]} {m.name}\n" for m in machines)


def files(machines: Sequence[Machine], cib: str) -> Dict[str, str]:
    """By path on a node: the text of the file."""
    return {
        "etc/corosync/corosync.conf": corosync_conf(machines),
        "etc/hosts": hosts(machines),
        "var/lib/pacemaker/cib/cib.xml": cib,
    }
