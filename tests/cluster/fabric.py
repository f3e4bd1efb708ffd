"""A private network: a bridge in a namespace, and hosts in namespaces that are connected to it.

br_netfilter passes bridged IPv4 and IPv6 through the forward hooks of the `ip` and `ip6` families in the bridge's
namespace, with connection tracking.
"""

import ctypes
import os
import threading
from typing import Callable, Dict, List, Sequence, TypeVar

from . import names
from .shell import Failed, run

T = TypeVar("T")
_CLONE_NEWNET = 0x40000000
BITS, BITS6 = 24, 64  # of the subnets


def namespaces_work() -> bool:
    """Whether this process may create network namespaces, and mount (nodes need both)."""
    return run("unshare", "--mount", "--net", "--pid", "--fork", "sh", "-c", "echo yes", check=False) == "yes\n"


class Fabric:
    """The bridge and its hosts. Links are named eth0, eth1, … inside a host."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.switch = f"{prefix}-switch"
        self.links: Dict[str, List[str]] = {}
        """By host: the names of its links on the bridge."""

    def up(self) -> None:
        """Creates the bridge."""
        run("ip", "netns", "add", self.switch)
        self._ip(self.switch, "link set lo up", "link add br0 type bridge forward_delay 0 mcast_snooping 0")
        self._ip(self.switch, "link set br0 up")
        self.inside(self.switch, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1")
        for family in ("ip", "ip6"):
            self.inside(self.switch, "sysctl", "-qw", f"net.bridge.bridge-nf-call-{family}tables=1")

    def down(self) -> None:
        """Deletes all namespaces of the bed."""
        names.remove(self.prefix)

    def namespace(self, host: str) -> str:
        """The name of a host's namespace."""
        return f"{self.prefix}-{host}"

    def add(self, host: str, *addresses: str, ipv6: Sequence[str] = (), local: Sequence[str] = ()) -> None:
        """Creates a host with a link for each address. `local` addresses are on its lo.

        Args:
            ipv6: an IPv6 address for each link; without them, IPv6 is disabled on the host.
        """
        space = self.namespace(host)
        run("ip", "netns", "add", space)
        self.inside(space, "sysctl", "-qw", f"net.ipv6.conf.all.disable_ipv6={0 if ipv6 else 1}")
        self._ip(space, "link set lo up", *(f"address add {a}/32 dev lo" for a in local))
        self.links[host] = [f"{host}.{number}" for number in range(len(addresses))]
        for number, address in enumerate(addresses):
            here, there = self.links[host][number], f"eth{number}"
            self._ip(self.switch, f"link add {here} type veth peer name {there} netns {space}")
            self._ip(self.switch, f"link set {here} master br0 up")
            # nodad: duplicate address detection takes a second.
            second = [f"address add {ipv6[number]}/{BITS6} dev {there} nodad"] if ipv6 else []
            self._ip(space, f"address add {address}/{BITS} dev {there}", *second, f"link set {there} up")

    def set_link(self, host: str, number: int, up: bool) -> None:
        """Sets a link up or down."""
        self._ip(self.switch, f"link set {self.links[host][number]} {'up' if up else 'down'}")

    def split(self, some: Sequence[str], others: Sequence[str]) -> None:
        """Drops all packets between two sets of addresses."""
        one, two = (f"{{ {', '.join(side)} }}" for side in (some, others))
        rules = f"ip saddr {one} ip daddr {two} drop\nip saddr {two} ip daddr {one} drop"
        chain = f"chain c {{ type filter hook forward priority 0;\n{rules}\n}}"
        self.nft(f"add table bridge split\ndelete table bridge split\ntable bridge split {{ {chain}\n}}")

    def join(self) -> None:
        """Ends the split."""
        self.nft("add table bridge split\ndelete table bridge split")

    def nft(self, text: str) -> None:
        """Applies nftables commands on the bridge, in one transaction."""
        self.inside(self.switch, "nft", "-f", "-", stdin=text)

    def inside(self, namespace: str, *command: str, stdin: str = "", check: bool = True) -> str:
        """Runs a command in a network namespace."""
        return run("nsenter", f"--net={names.NETNS / namespace}", *command, stdin=stdin, check=check)

    def socket_in(self, host: str, make: Callable[[], T]) -> T:
        """Calls `make` in the network of a host. A socket stays in the network in which it was created."""
        results: List[T] = []

        def enter() -> None:
            space = os.open(names.NETNS / self.namespace(host), os.O_RDONLY)
            try:
                if ctypes.CDLL(None, use_errno=True).setns(space, _CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")
            finally:
                os.close(space)
            results.append(make())

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        if not results:
            raise Failed(f"no socket in the network of {host}")
        return results[0]

    def _ip(self, namespace: str, *lines: str) -> None:
        run("ip", "-n", namespace, "-batch", "-", stdin="\n".join(lines) + "\n")
