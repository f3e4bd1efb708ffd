"""Any sequence of off, on, crashes, interfaces that come and go, edits by hand: nothing is lost, no lie is told.

Two fencers may take turns at every call, their clocks may be wrong, and the first read of each may be stale. An `on`
beside an `off` is the matter of tests/schedules. The same 60 sequences are played each time:
FENCE_MACHINE_EXAMPLES=2000 plays more of them, FENCE_MACHINE_SEED=<number> plays others, the same for each number.
"""

from __future__ import annotations

import os
from typing import Any, List, Tuple

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from unit.fencing_model import (
    APP,
    DB,
    ID,
    ISO,
    OPEN,
    POLICIES,
    SSH,
    Node,
    Off,
    On,
    Refused,
    all_cut,
    as_wanted,
    finish,
)

from aws_vpc_net import backup_tags, rules

live = st.sets(st.sampled_from((DB, SSH)), min_size=1).flatmap(
    lambda some: st.sampled_from((frozenset({APP, *some}), frozenset(some)))
)
slots = st.integers(0, 4).map("eni-{:017x}".format)
skews = st.sampled_from((0, 0, 0, -3600, 1, 3600))
behind = st.tuples(st.integers(0, 4), st.integers(0, 4))
seeds = st.integers(0, 2**16)


class Fences(RuleBasedStateMachine):
    """One node; at most two `off`, or one `on`, at work."""

    def __init__(self) -> None:
        super().__init__()
        self.node = Node(POLICIES[0])
        self.running: List[Tuple[Any, Any]] = []

    @initialize(
        policy=st.sampled_from(POLICIES), groups=st.lists(live, min_size=1, max_size=3), others=st.integers(0, 45)
    )
    def begin(self, policy, groups, others):
        self.node = Node(policy, tags={f"user{n}": "" for n in range(others)})
        for number, some in enumerate(groups):
            self.node.attach(f"eni-{number:017x}", some)

    # Fencers

    def start(self, run) -> None:
        run.alone = not self.running
        for other, _ in self.running:
            other.alone = False
        self.running.append((run, run.steps()))

    @precondition(lambda self: len(self.running) < 2 and not any(isinstance(r, On) for r, _ in self.running))
    @rule(skew=skews, back=behind, seed=seeds)
    def off(self, skew, back, seed):
        self.start(Off(self.node, skew, back, seed))

    @precondition(lambda self: not self.running)
    @rule(seed=seeds)
    def on(self, seed):
        self.start(On(self.node, seed=seed))

    @precondition(lambda self: self.running)
    @rule(which=st.integers(0, 1), calls=st.integers(1, 14))
    def goes_on(self, which, calls):
        run, steps = self.running[which % len(self.running)]
        for _ in range(calls):
            try:
                next(steps)
            except (StopIteration, Refused):
                self.running.remove((run, steps))
                return
            self.nothing_is_lost()

    @precondition(lambda self: self.running)
    @rule(which=st.integers(0, 1))
    def is_killed(self, which):
        self.running.pop(which % len(self.running))

    # Others

    @rule(slot=slots, groups=live)
    def attach(self, slot, groups):
        if slot not in self.node.attached:
            self.node.attach(slot, groups)

    @rule(slot=slots)
    def detach(self, slot):
        if slot in self.node.attached and len(self.node.attached) > 1:
            self.node.detach(slot)

    @rule(slot=slots, groups=live)
    def edit(self, slot, groups):
        if slot in self.node.attached and not (self.running and rules.looks_fenced(groups, self.node.policy)):
            self.node.edit(slot, groups, bool(self.running))

    @precondition(lambda self: not self.running)
    @rule(slot=slots, groups=st.sampled_from((frozenset((ISO,)), frozenset((OPEN,)), frozenset((ISO, APP)))))
    def edit_to_special_groups(self, slot, groups):
        if slot in self.node.attached:
            self.node.edit(slot, groups, False)

    @rule(
        time=st.integers(1, 2 * backup_tags.LATEST), other=st.booleans(), value=st.sampled_from(("", "x", "{}", "5"))
    )
    def rubbish_in_tags(self, time, other, value):
        key = f"Original_SG_Backup_{'i-0000000000000000b' if other else ID}_{time}_1_0"
        if len(self.node.tags) < 50 and key not in self.node.tags:
            self.node.write({key: value})

    @rule(seconds=st.sampled_from((1, 1, 5, -5)))
    def time_goes(self, seconds):
        self.node.clock += seconds

    # What holds

    @invariant()
    def nothing_is_lost(self):
        assert self.node.lost() == {}

    @invariant()
    def status_tells_the_truth(self):
        seen = self.node.read()
        if rules.is_off(seen, backup_tags.read(seen), self.node.policy):
            assert all_cut(self.node)

    @invariant()
    def there_are_never_more_tags_than_ec2_takes(self):
        assert len(self.node.tags) <= 50

    @invariant()
    def a_plain_on_brings_back_the_originals(self):
        restored(self.node.copy())

    @invariant()
    def a_plain_off_isolates_and_then_a_plain_on_brings_back_the_originals(self):
        node = self.node.copy()
        before = (dict(node.attached), dict(node.tags))
        why = finish(Off(node))
        if why is not None:
            assert (dict(node.attached), dict(node.tags)) == before, why
            return
        assert all_cut(node)
        seen = node.read()
        book = backup_tags.read(seen)
        assert rules.is_off(seen, book, node.policy) or not rules.has_record(seen, book, node.policy)
        restored(node)


def restored(node: Node) -> None:
    wanted = {i: frozenset(w) for i, w in node.wanted.items()}
    why = finish(On(node))
    assert as_wanted(node, wanted), (why, node.attached, wanted)
    assert why is not None or not [k for k in node.tags if k == "lastfence" or ID in k]


EXAMPLES = int(os.environ.get("FENCE_MACHINE_EXAMPLES", "60"))
SEED = os.environ.get("FENCE_MACHINE_SEED")

if SEED is not None:
    seed(int(SEED))(Fences)
TestFences = Fences.TestCase
TestFences.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=30,
    deadline=None,
    derandomize=SEED is None,
    phases=[Phase.generate],
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow],
)
