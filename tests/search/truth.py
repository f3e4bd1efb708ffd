"""What is true in EC2, and what must be: at the moment an invocation ends, and once all have ended."""

from dataclasses import replace
from typing import Any, Dict, FrozenSet, Iterator, List, Optional, Sequence, Tuple

from aws_vpc_net.core import backup as tags_of
from aws_vpc_net.core.backup import RETURNED
from aws_vpc_net.core.isolation import groups_to_restore, matches_isolation
from aws_vpc_net.core.model import FrozenMap
from aws_vpc_net.core.protocol import DeleteTags, LookUpGroups, Read, SetGroups, StartInstance, WriteTags
from aws_vpc_net.core.tag_slots import unreadable_tags

from .invocations import DEAD, FAILED, LEFT_ALONE, SUCCEEDED, Exit, Invocations, Tables, ec2_refusal
from .tag_edits import TAG_EVENTS
from .world import APP, DB, E0, E1, EDITED, ISO, NEW, OTHER, OTHERS, SHORT, WORLDS, Network, Scenario

BASE = 6  # fields of a state before those of the invocations
# what the checks know of an invocation
(LAST_STALE, DISTURBED, BEGAN, WROTE, GROUPS_MOVED, TAGS_GONE, EVER_STALE, MISLED, UNREADABLE, NO_TIME_LEFT) = (
    1 << n for n in range(10)
)
# of each interface, << its number: this invocation changed it last; and did so after a deletion that its latest read
# did not show; EC2 refused it for good to isolate it (again); its original groups are named in the log
CHANGED, BLIND, NOT_CLOSED, NAMED = (1 << n for n in (10, 13, 16, 19))
OLDER = 1 << 22  # << actor: that "on" had begun when this "off" wrote its backup
# Of the data plane: attempts to connect are under way that were begun after this invocation's latest accepted change;
# of each interface, << its number: observable, silent to one and to two of these in a row, not tried the last time,
# its connection from before is alive, and has been ended by the other side.
ASKED = 1 << 26
OBSERVABLE, SILENT, TWICE, NOT_TRIED, ALIVE, ENDED = (1 << n for n in (27, 30, 33, 36, 39, 42))
SILENCES = ASKED | 7 * (SILENT | TWICE | NOT_TRIED)
SETTLES, DWELLS = 45, 53  # tenths of seconds, 8 bits: of settle_time since the latest accepted change, and untracking
PARTS = 10
FENCE_SHOWN = 1 << 61  # the latest read of a return was made after an off, which began later, had written its backup
# what matters of one that has ended
AFTERWARDS = ~(WROTE | GROUPS_MOVED | TAGS_GONE | EVER_STALE) & (ASKED - 1)
CROSSED = 16  # in misc: a deletion crossed a change, both decided by reads before either
DAMAGED = 32  # in misc, << the number of an interface: an operator has destroyed its backup
WHOLE = 1000  # changes: more than any invocation makes
NUMBER = {E0: 0, E1: 1, NEW.id: 2}
State = Tuple[int, ...]
Label = Tuple[Any, ...]
Transition = Tuple[Label, State, Tuple[str, ...]]  # how it comes about, and what is wrong with it


class Truth(Invocations):
    """The world of a scenario, and the checks on it."""

    def __init__(self, scenario: Scenario, tables: Optional[Tables] = None) -> None:
        super().__init__(scenario, tables)
        self._recovered: Dict[Tuple[int, int, FrozenSet[str]], Tuple[str, ...]] = {}
        self._isolated: Dict[int, bool] = {}
        self._changed: Dict[Tuple[int, int], Tuple[str, ...]] = {}
        self._lost: Dict[Tuple[int, int], FrozenSet[str]] = {}
        self.network = WORLDS[scenario.world]
        self.natural = (0, 0)  # tags and groups at the start
        self.allowed = {n.id: {n.groups} for n in self.network.attached}
        for nic in (*self.network.attached, NEW):
            if self.static:
                self.allowed.setdefault(nic.id, set()).add(self.static[nic.number - 1])
        for event in set(scenario.events).difference(TAG_EVENTS):
            new = self.event(event, self.network)
            for nic in new.attached if new else ():
                self.allowed.setdefault(nic.id, set()).add(nic.groups)

    # --- the world --------------------------------------------------------------------------------------------

    def written(self, tags: int, more: FrozenMap) -> int:
        return self.tags.number(self.tags.values[tags].updated(more))

    def deleted(self, tags: int, doomed: FrozenMap) -> int:
        there = self.tags.values[tags]
        return self.tags.number(there.without(k for k, v in doomed.items() if there.get(k) == v))

    def ours(self, tags: int) -> FrozenSet[str]:
        """The keys that are not of others."""
        return frozenset(k for k in self.tags.values[tags] if not k.startswith(OTHERS))

    def open(self, net: int) -> Tuple[str, ...]:
        """The attached interfaces that are not isolated, in truth."""
        nics = self.nets.values[net].attached
        return tuple(n.id for n in nics if not matches_isolation(n.groups, self.spec))

    def isolated(self, net: int) -> bool:
        """Is the node, in truth?"""
        found = self._isolated.get(net)
        if found is None:
            nics = self.nets.values[net].attached
            found = self._isolated[net] = all(matches_isolation(n.groups, self.spec) for n in nics)
        return found

    def changed(self, before: int, after: int) -> Tuple[str, ...]:
        """The interfaces that are not the same."""
        found = self._changed.get((before, after))
        if found is None:
            old, new = self.nets.values[before], self.nets.values[after]
            both = {*new.attached, *new.elsewhere} ^ {*old.attached, *old.elsewhere}
            found = self._changed[(before, after)] = tuple(sorted({n.id for n in both}))
        return found

    def lost(self, tags: int, net: int) -> FrozenSet[str]:
        """The interfaces whose original groups are neither set nor in the tags."""
        found = self._lost.get((tags, net))
        if found is None:
            network = self.nets.values[net]
            both = Network((*network.attached, *network.elsewhere))
            instance = both.instance(self.tags.values[tags])
            kept = groups_to_restore(instance, tags_of.read(instance), self.spec)
            ranks = {n.id: rank for rank, n in enumerate(network.attached)}
            kept.update({n.id: self.static[ranks.get(n.id, n.number - 1)] for n in both.attached if self.static})
            found = self._lost[(tags, net)] = frozenset(
                n.id for n in both.attached if n.id in self.allowed
                and not {n.groups, kept.get(n.id)} & self.allowed[n.id]
            )  # fmt: skip
        return found

    def alone(self, tags: int, net: int, actor: int, changes: int = WHOLE) -> Tuple[int, int, Optional[Exit]]:
        """A plain invocation, nothing beside it, which is killed after so many changes; (tags, net, its end)."""
        number = self.begin(actor)
        for _ in range(80):
            p = self.pendings[number]
            action = p.action
            key: Any = "accepted"
            if not isinstance(action, (Read, LookUpGroups)):
                if not changes:
                    return tags, net, None
                changes -= 1
            if isinstance(action, Read):
                key = (tags, net)
            elif isinstance(action, WriteTags):
                tags = self.written(tags, action.tags)
            elif isinstance(action, DeleteTags):
                tags = self.deleted(tags, action.tags)
            elif isinstance(action, StartInstance):
                net = self.nets.number(self.nets.values[net].started())
            elif isinstance(action, SetGroups):
                network, results = self.nets.values[net], []
                changes += 1
                for i, g in sorted(action.goals.items()):
                    if not changes:
                        return tags, self.nets.number(network), None
                    changes -= 1
                    nic = network.find(i)
                    how = "gone" if nic is None else ec2_refusal(g, nic.vpc) or "accepted"
                    network = network.with_groups(i, g) if how == "accepted" else network
                    results.append((i, how))
                net, key = self.nets.number(network), tuple(sorted(results))
            number, end, _ = self.answer(number, key, p.flag)
            if number < 0:
                return tags, net, end
        return tags, net, None

    def recovered(self, tags: int, net: int, damaged: FrozenSet[str] = frozenset()) -> Tuple[str, ...]:
        """What is wrong after a plain on, and after a plain off and on; ``damaged``: see there."""
        found = self._recovered.get((tags, net, damaged))
        if found is None:
            found = self._recovered[(tags, net, damaged)] = tuple(self._recover(tags, net, damaged))
        return found

    def _recover(self, tags: int, net: int, damaged: FrozenSet[str]) -> Iterator[str]:
        plain_off, plain_on = len(self.actors) - 2, len(self.actors) - 1
        for both in (False, True):
            t, n = tags, net
            failed = False
            for actor in (plain_off, plain_on) if both else (plain_on,):
                unreadable = self.unreadable(t, n) if damaged else frozenset()
                t, n, end = self.alone(t, n, actor)
                what = self.actors[actor].action
                if what == "on" and self.is_isolated_by_nature(t, n):
                    continue
                left = {nic.id for nic in self.nets.values[n].attached if nic.id in damaged} - {*self.open(n)}
                without = self.static or len(left) == len(self.nets.values[n].attached)
                if what == "off" and without and self.isolated(n) and not self.spec.keep_only:
                    continue  # perhaps refused: nothing shows that an off without a backup has removed groups
                failed = end is None or not end.succeeded
                if failed and not (what == "on" and left):
                    yield f"afterwards, a plain {what} fails: {end.text if end else 'no end'}"
                if left and unreadable - self.unreadable(t, n):
                    yield f"afterwards, a plain {what} deletes what cannot be read"
                if what == "off" and not self.isolated(n):
                    yield "afterwards, a plain off does not isolate"
            after = "off and on" if both else "on"
            wrong = [nic.id for nic in self.nets.values[n].attached
                     if nic.groups not in self.allowed.get(nic.id, ()) and nic.id not in left]  # fmt: skip
            if wrong:
                yield f"afterwards, a plain {after} does not restore {', '.join(SHORT[i] for i in wrong)}"
            refused = self.is_isolated_by_nature(t, n)  # then the count of returns stays
            if self.ours(t) - ({RETURNED} if refused else set()) and not failed:
                yield f"afterwards, a plain {after} leaves tags"

    def unreadable(self, tags: int, net: int) -> FrozenSet[Tuple[str, str]]:
        """The tags that nobody can read, with which an operator may still find the original groups."""
        there = self.tags.values[tags]
        keys = unreadable_tags(self.nets.values[net].instance(there), self.spec)
        return frozenset((key, there[key]) for key in keys)

    def is_isolated_by_nature(self, tags: int, net: int) -> bool:
        """Is nothing to be restored, and an interface has the groups that isolate by nature? Then ``on`` fails, as it
        cannot tell whether the backup was lost."""
        network = self.nets.values[net]
        found = any(matches_isolation(n.groups, self.spec) for n in network.attached) and self.spec.keep_only
        unchanged = all(n.groups in self.allowed.get(n.id, ()) for n in network.attached)
        return found and unchanged and not self.ours(tags) - {RETURNED}

    def _edit(self, event: str) -> FrozenSet[str]:
        return {
            "edit": frozenset((APP, EDITED)),
            "edit isolated": frozenset((ISO,)) if self.spec.keep_only else frozenset((DB, EDITED)),
        }[event]

    def event(self, event: str, network: Network) -> Optional[Network]:
        """What an operator's deed makes of it; None if it cannot be done."""
        there = {n.id for n in network.attached}
        other = network.find(E1)
        if event in ("start", "stop"):
            return self._power(event, network)
        if event == "rename":
            return replace(network, renamed=True)
        if event == "edit the other":
            return network.with_groups(E1, frozenset((OTHER, EDITED)))
        if event.startswith("edit"):
            return network.with_groups(E0, self._edit(event))
        if event == "delete" and E1 in there:
            return network.without(E1)
        if event == "detach" and E1 in there:
            return network.detached(E1)
        if event == "return" and other and E1 not in there:
            return network.with_attached(other)
        if event.startswith("attach") and network.find(NEW.id) is None:
            return network.with_attached(replace(NEW, groups=frozenset((ISO,))) if "isolated" in event else NEW)
        return None

    def _power(self, event: str, network: Network) -> Optional[Network]:
        """An operator starts or stops it."""
        if event == "start":
            return replace(network.started(), by_hand=False) if network.state == "stopped" else None
        untouched = not any(matches_isolation(n.groups, self.spec) for n in network.attached)
        return replace(network, state="stopped", by_hand=untouched) if network.state == "running" else None

    # --- checks on the truth ----------------------------------------------------------------------------------

    def at_exit(self, state: List[int], actor: int, end: Exit) -> Tuple[str, ...]:
        """What is wrong at the moment an invocation exits."""
        ghost = state[BASE + 2 * actor + 1]
        texts = []
        action = self.actors[actor].action
        if state[BASE + 2 * actor] == LEFT_ALONE:
            return ()
        named = self.named(end.logged)
        for i in named:
            state[BASE + 2 * actor + 1] |= NAMED << NUMBER[i]
        if action == "off" and end.succeeded and not ghost & (LAST_STALE | DISTURBED) and not self.isolated(state[1]):
            texts.append("off exits 0, and the node is open")
        if action == "off" and end.succeeded:
            texts += self.too_early(ghost, state[1])
            if self.actors[actor].require_poweroff and self.nets.values[state[1]].state != "stopped":
                texts.append("off exits 0, and the instance has not stopped")
        if action == "off" and not ghost & LAST_STALE:
            lost = (self.lost(state[0], state[1]) & end.changed) - named - self._known_to_others(state, actor)
            lost -= self.damaged(state)
            if lost:
                texts.append(f"{action} exits, and the original groups of what it isolated are nowhere")
        if action == "on" and end.succeeded and all(a.action == "on" for a in self.scenario.actors):
            nics = self.nets.values[state[1]].attached
            # It names what is detached when it begins, and may be attached again when the backup is gone.
            wrong = {n.id for n in nics if n.groups not in self.allowed[n.id]} - named - self.damaged(state)
            # What is set does not depend on the first read, where it is static.
            stale = LAST_STALE | MISLED if self.static else EVER_STALE
            if not ghost & (stale | DISTURBED) and wrong:
                texts.append("on exits 0, and the original groups are not set")
        return tuple(texts)

    def _known_to_others(self, state: List[int], actor: int) -> FrozenSet[str]:
        """Of three: the interfaces that another invocation has changed last, which is not at its end and writes them
        again."""
        if len(self.scenario.actors) < 3:
            return frozenset()
        running = [a for a in range(len(self.scenario.actors)) if a != actor and state[BASE + 2 * a] >= 0]
        return frozenset(i for i, n in NUMBER.items() if any(state[BASE + 2 * a + 1] & CHANGED << n for a in running))

    def too_early(self, ghost: int, net: int) -> Iterator[str]:
        """What EC2's network may not have followed, at an exit 0."""
        for number in NUMBER.values():
            tried = ghost & (TWICE | NOT_TRIED) << number
            if ghost & OBSERVABLE << number and (ghost & ALIVE << number or not tried):
                yield "off exits 0, and an address may still answer"
        bits = [OBSERVABLE | TWICE] * bool(ghost & 7 * OBSERVABLE)
        quiet = [n.id for n in self.nets.values[net].attached for b in bits
                 if ghost & b << NUMBER[n.id] == b << NUMBER[n.id] and not ghost & ENDED << NUMBER[n.id]]  # fmt: skip
        watched = len(quiet) == len(self.nets.values[net].attached) and not ghost & 7 * NOT_TRIED
        if ghost >> SETTLES & 255 and not watched and not ghost & DISTURBED:
            yield "off exits 0 before settle_time is over"

    def named(self, logged: FrozenSet[Tuple[str, FrozenSet[str]]]) -> FrozenSet[str]:
        """The interfaces whose original groups this log names."""
        return frozenset(i for i, groups in logged if groups in self.allowed.get(i, ()))

    def at_end(self, s: State) -> List[str]:
        """What is wrong once every invocation has ended."""
        fates, ghosts = s[BASE::2], s[BASE + 1 :: 2]
        damaged = self.damaged(s)
        lost = self.lost(s[0], s[1]) - damaged
        excused = lost and all(self.loss_is_excused(s, i) for i in lost)
        texts = [] if excused else list(self.recovered(s[0], s[1], damaged))
        ons = [i for i, a in enumerate(self.scenario.actors) if a.action == "on"]
        for i, fate in enumerate(fates):
            if self.scenario.actors[i].action != "off" or fate != SUCCEEDED or ghosts[i] & (LAST_STALE | DISTURBED):
                continue
            if all(ghosts[i] & OLDER << o for o in ons) and not all(
                self.opening_is_excused(s, i) for i in self.open(s[1])
            ):
                texts.append("an off has succeeded, every on began earlier, and the node is open in the end")
        if s[5] & 15 == self.scenario.budget and not any(a.denied for a in self.scenario.actors):
            late = {a.action for a in self.scenario.actors} == {"off", "on"}  # an on may be overtaken
            failed = [i for i, f in enumerate(fates) if f == FAILED and not (late and i in ons)]
            if self.is_isolated_by_nature(*self.natural) or self.is_isolated_by_nature(s[0], s[1]):
                failed = [i for i in failed if i not in ons]
            # EC2 may refuse the tags of one of two, as the other has taken the room.
            texts += [f"without any adversity, {self.name(i)} fails" for i in failed if not self.scenario.others]
            if len(ons) == len(fates) and LEFT_ALONE not in fates:
                kept = self.lost(s[0], s[1]) or self.ours(s[0]) - {RETURNED}
                texts += ["without any adversity, on does not restore"] * bool(kept)
            began = self.nets.values[self.natural[1]]
            if all(a.returning for a in self.scenario.actors) and not began.by_hand and not self.scenario.before:
                left = self.nets.values[s[1]].state != "running" or self.isolated(s[1])
                texts += ["without any adversity, monitor does not bring it back"] * left
        return texts

    def damaged(self, s: Sequence[int]) -> FrozenSet[str]:
        """The interfaces whose last backup an operator has destroyed, when no invocation could write it again: that
        of one that was fenced; or after the latest read of the one that has isolated it."""
        if not set(TAG_EVENTS).intersection(self.scenario.events):
            return frozenset()
        return frozenset(
            i for i, n in NUMBER.items()
            if s[5] & DAMAGED << n or any(g & CHANGED << n and g & DISTURBED for g in s[BASE + 1 :: 2])
        )  # fmt: skip

    # --- what no order of calls can prevent -------------------------------------------------------------------

    def opening_is_excused(self, s: State, interface: str) -> bool:
        """Is this interface open, beside an off that has succeeded, as no order of calls could have closed it?

        Whoever changed it last had decided that by a read before the other's success; EC2 cannot take it back.
        It could not close it again, as it was killed; or as each read since then failed, or showed an earlier state
        of EC2; or no time at all was left; or EC2 refused for good to isolate this interface (which an off then gives
        back its earlier groups, if it had set it to untrack_secg).
        """
        bit = NUMBER[interface]
        for actor, (fate, ghost) in enumerate(zip(s[BASE::2], s[BASE + 1 :: 2])):
            if ghost & CHANGED << bit:
                if fate == DEAD:
                    return True
                if fate == FAILED:
                    return bool(ghost & (UNREADABLE | NO_TIME_LEFT | LAST_STALE | NOT_CLOSED << bit))
                return self.actors[actor].action == "on" and bool(ghost & (LAST_STALE | MISLED))
        return False

    def loss_is_excused(self, s: State, interface: str) -> bool:
        """Are the original groups of this interface gone, though an invocation has named them in its log, or as no
        order of calls could have kept them?

        A deletion of the backup crossed the latest change of the interface, both decided by reads before either, and
        neither could write the backup again. The one that changed it was killed, or its last read showed an earlier
        state of EC2. And the change came after the deletion, perhaps after the look back; or the one that deleted
        was killed too, or the read before the deletion, or the look back, showed an earlier state of EC2.
        """
        bit = NUMBER[interface]
        fates, ghosts = s[BASE::2], s[BASE + 1 :: 2]
        if any(ghost & NAMED << bit for ghost in ghosts):
            return True
        ons = [n for n in range(len(fates)) if self.actors[n].action == "on"]
        unaware = all(fates[n] == DEAD or ghosts[n] & (LAST_STALE | MISLED) for n in ons)  # of the change
        return bool(s[5] & CROSSED) and any(
            ghost & CHANGED << bit and (fate == DEAD or ghost & LAST_STALE) and (unaware or ghost & BLIND << bit)
            for fate, ghost in zip(fates, ghosts)
        )
