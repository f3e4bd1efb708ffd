"""The story of ./tests/demo --cluster: a real cluster loses a node, fences it, and gets it back."""

import os
import re
import signal
import sys
import time
from typing import TYPE_CHECKING, Callable, Dict, List, Optional

import terminal
from stage import Failed, must

if TYPE_CHECKING:
    from cluster.bed import Bed

LOOK = 0.1  # seconds between looks
QUIET = 0.4  # seconds without a byte, after which the last one is reported
LIMIT = 60  # seconds for each step
CALLS = {
    "CreateTags": "writes the backup",
    "DeleteTags": "deletes the backup",
    "ModifyNetworkInterfaceAttribute": "sets groups",
    "StopInstances": "stops the instance",
    "StartInstances": "starts the instance",
}
CLAIM = "   }"  # the end of a tag that on has rewritten
LOGGED = (
    (r"Node (\S+) state is now lost", "pacemaker-fenced reports {0} as lost"),
    (r"Requesting peer fencing \((\w+)\) targeting (\S+)", "'{0}' of {1} is requested"),
    (
        r"Requesting that (\S+) perform '(\w+)' action targeting (\S+)",
        "{0} runs fence_aws_vpc_net for it",
    ),
    (r"Operation '(\w+)' \[\d+\] targeting (\S+) using (\S+) returned 0", "{2}: '{0}' of {1} succeeded"),
    (r"Node (\S+) state is now member", "pacemaker-fenced reports {0} as a member"),
)


class Timeline:
    """Events of the network, of EC2 and of Pacemaker, in order, with the seconds since the first.

    ``arrived`` is what the last byte of the victim at the storage host means.
    """

    def __init__(self, bed: "Bed", victim: str, arrived: str) -> None:
        self.bed = bed
        self.victim = victim
        self.arrived = arrived
        self.witness = bed.others(victim)[0]
        self.seen_calls = len(bed.ec2.calls)
        self.seen_effects = len(bed.plane.effects)
        self.seen_log: Dict[str, int] = {name: len(node.log()) for name, node in bed.nodes.items()}
        self.told: List[str] = []
        self.began = time.monotonic()

    def tell(self, text: str, at: Optional[float] = None, colour: str = "") -> None:
        """A line, once."""
        if text in self.told:
            return
        self.told.append(text)
        seconds = (at or time.monotonic()) - self.began
        terminal.say(f"{seconds:6.1f} s  {terminal.paint(text, colour) if colour else text}")

    def until(self, done: Callable[[], object]) -> None:
        """Print the events until a condition holds."""
        end = time.monotonic() + LIMIT
        while True:
            answer = done()
            self._calls()
            self._network()
            self._logs()
            self._storage()
            if answer:
                return
            must(time.monotonic() < end, f"not within {LIMIT} s")
            time.sleep(LOOK)

    def _calls(self) -> None:
        calls = self.bed.ec2.calls[self.seen_calls :]
        self.seen_calls += len(calls)
        names = {group: name for name, group in {**self.bed.ec2.world.groups, **self.bed.cloud.groups}.items()}
        for call in calls:
            if call.action in CALLS and call.error is None:
                what = CALLS[call.action]
                if "fence_aws_vpc_net:returned" in call.params.values():
                    what = "counts the return"
                elif call.action == "CreateTags" and any(v.endswith(CLAIM) for v in call.params.values()):
                    what = "claims the backup"
                groups = ", ".join(sorted(names.get(g, g) for g in call.listing("SecurityGroupId")))
                where = f": {groups} on {call.params.get('NetworkInterfaceId')}" if groups else ""
                self.tell(f"EC2: {call.action} {what}{where}", call.at, "dim")

    def _network(self) -> None:
        effects = self.bed.plane.effects[self.seen_effects :]
        self.seen_effects += len(effects)
        for effect in effects:
            what = "allows all traffic" if effect.untracked else "applies its new groups"
            self.tell(f"Network: {effect.interface} {what}", effect.at, "dim")

    def _logs(self) -> None:
        for name, node in self.bed.nodes.items():
            if name == self.victim:
                continue
            text = node.log()[self.seen_log[name] :]
            self.seen_log[name] += text.rfind("\n") + 1
            for line in text.splitlines() if "pacemaker-fenced" in text else ():
                for pattern, words in LOGGED:
                    match = re.search(pattern, line) if "pacemaker-fenced" in line else None
                    if match:
                        self.tell(f"Pacemaker: {words.format(*match.groups())}", colour="cyan")

    def _storage(self) -> None:
        last = max((w.at for w in self.bed.storage.writes[-1000:] if w.node == self.victim), default=0.0)
        if self.began < last < time.monotonic() - QUIET:
            self.tell(f"Storage: {self.arrived}", last, "yellow")


def status(bed: "Bed", begin: str = "Cluster name") -> None:
    """The part of pcs status that matters here."""
    terminal.command(["pcs status"])
    name = next(n for n in bed.names if bed.nodes[n].running)
    text = bed.nodes[name].command("pcs", "status", "--full")
    for line in text[text.index(begin) :].split("Migration Summary")[0].splitlines():
        if line.strip() and not line.startswith("Status of pacemakerd"):
            terminal.say(terminal.paint(line, "dim"), 4)


def fenced(bed: "Bed") -> str:
    """The writing node loses its cluster link; others fence it; the writer continues on another node."""
    victim = bed.writer_on()
    terminal.heading(f"2. {victim} loses its link to the other nodes; its link to the storage host stays up")
    line = Timeline(bed, victim, f"the last byte of {victim} has arrived")
    bed.fabric.set_link(victim, 0, False)
    line.tell(f"eth0 of {victim} is down", colour="yellow")
    line.until(lambda: [name for name in bed.storage.active() if name != victim])
    spans = bed.storage.spans(line.began)
    heir, first, _ = spans[-1]
    line.tell(f"Storage: {heir} writes now", first, "green")
    must([name for name, _, _ in spans] in ([victim, heir], [heir]), "two nodes wrote at once")
    event = bed.wait_until_fenced(victim, limit=LIMIT)
    terminal.say()
    terminal.say(f"Fenced: {event.target}, by {event.delegate}, for {event.origin}, at {event.completed}")
    must(bed.cloud.isolated(victim), f"{victim} is not isolated")
    return victim


def returned(bed: "Bed", victim: str) -> None:
    """Stopped, restored and started by the monitor of the device, rejoined."""
    terminal.heading(f"3. {victim} has stopped, and the next monitor of the fence device brings it back")
    terminal.say("The monitor waits until the deadline of the fencing is over: here 15 s, 45 s by default.")
    bed.follow_power()
    must(not bed.nodes[victim].running, f"{victim} runs")
    line = Timeline(bed, victim, f"data that {victim} had buffered before the fencing has arrived")

    def runs() -> bool:
        bed.follow_power()
        return bed.nodes[victim].running

    line.until(runs)
    line.tell(f"{victim} boots; its cluster software starts with it", colour="yellow")
    line.until(bed.healthy)
    line.tell(f"{victim} is online again, and nobody has touched anything", colour="green")
    must(all(bed.cloud.pristine(name) for name in bed.names), "original groups are missing, or tags are left")
    terminal.say(f"{victim} has its original groups; the backup is deleted")
    status(bed, "Node List")


def nowhere(bed: "Bed", victim: str) -> None:
    """The link is up again; the groups still isolate the node."""
    terminal.heading(f"3. The link of {victim} is up again; {victim} still runs, and its packets are dropped")
    addresses = bed.nodes[victim].machine.addresses
    bed.fabric.set_link(victim, 0, True)
    before = bed.storage.bytes_of(victim)
    dropped = [bed.plane.dropped(a) for a in addresses]
    seconds = 4.0
    time.sleep(seconds)
    lost = sum(bed.plane.dropped(a) for a in addresses) - sum(dropped)
    terminal.say(f"in {seconds:g} s: {lost} packets of {victim} dropped, 0 bytes at the storage host")
    must(lost > 0, f"{victim} sends nothing, so this shows nothing")
    must(bed.storage.bytes_of(victim) == before, f"bytes of {victim} arrived")
    status(bed, "Node List")


def back(bed: "Bed", victim: str) -> None:
    """Restarted, unfenced, rejoined."""
    terminal.heading(f"4. {victim} is restarted and unfenced")
    terminal.say("A restart loses what the kernel had buffered for the storage. A node that is unfenced without one")
    terminal.say("delivers it: old data, after another node has written. In this cluster a node shares the kernel of")
    terminal.say("this machine, so such data can arrive here despite the restart. It is no write of a second node.")
    line = Timeline(bed, victim, f"data that {victim} had buffered before the fencing has arrived")
    bed.restart(victim)
    line.tell(f"{victim} was restarted; it is still isolated")
    terminal.command([f"stonith_admin --unfence {victim}"])
    bed.unfence(victim)
    line.tell("stonith_admin: done")
    line.until(bed.healthy)
    line.tell(f"{victim} is online again", colour="green")
    must(all(bed.cloud.pristine(name) for name in bed.names), "original groups are missing, or tags are left")
    terminal.say(f"{victim} has its original groups; no tags are left")
    status(bed, "Node List")


def tell(auto: bool) -> None:
    """All steps; ``auto``: with auto_unfence, without a hand."""
    from cluster.bed import Bed

    began = time.monotonic()
    terminal.say(
        "Real corosync and Pacemaker in network namespaces. EC2 is the emulator of tests/ec2, and its groups", 0
    )
    terminal.say("are nftables rules on the links of the nodes. The limits of this are in doc/dev/testing.md.", 0)
    terminal.heading("1. Three nodes, the fence device, and a resource that writes to a storage host continuously")
    with Bed(settle_time=None) as bed:
        if auto:
            options = ["onfence_poweroff=1", "auto_unfence=1", "deadline=15", "filter=tag:Name=node*"]
            bed.pcs("stonith", "update", "fence-vpc", *options, "op", "monitor", "interval=10s")
            bed.wait_until_healthy()
        terminal.say(f"up {time.monotonic() - began:.1f} s after the start; {bed.writer_on()} writes")
        if auto:
            terminal.say(f"the device also has {' '.join(options)}")
        status(bed)
        victim = fenced(bed)
        if auto:
            returned(bed, victim)
        else:
            nowhere(bed, victim)
            back(bed, victim)
    terminal.say()
    text = f"All steps succeeded, in {time.monotonic() - began:.1f} s; the cluster is removed."
    terminal.say(terminal.paint(text, "green"), 0)


def main() -> int:
    """The exit code."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.default_int_handler)
    try:
        from cluster import host

        reason = host.reason_against()
        if reason:
            terminal.say(f"demo: {reason}", 0)
            return 1
        tell("--auto" in sys.argv)
    except (Failed, AssertionError) as reason:  # the latter are the bed's
        terminal.say(terminal.paint(f"demo: failed: {reason}", "red"), 0)
        return 1
    except KeyboardInterrupt:
        print("demo: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read along has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
