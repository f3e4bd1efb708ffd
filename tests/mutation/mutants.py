"""Safety rules, each broken once: what the code would say if somebody took it back, and the tests that should notice.

`old` occurs exactly once in its file (tests/unit/test_mutants.py); `tests` are the first to be tried, below tests/.
"""

from dataclasses import dataclass
from typing import Tuple

AGENT = "agents/aws_vpc_net/fence_aws_vpc_net.py"
RULES, TAGS, MACHINE = "unit/test_rules.py", "unit/test_backup_tags.py", "unit/test_state_machine.py"
FAULTS, RACES, ON = "agent/test_off_faults.py", "agent/test_races.py", "agent/test_on.py"
LIFECYCLE, REFUSALS, QUERIES = "agent/test_lifecycle.py", "agent/test_refusals.py", "agent/test_queries.py"
UNTRACK, FACES, BAD = "agent/test_untrack.py", "agent/test_interfaces.py", "agent/test_bad_input.py"


@dataclass(frozen=True)
class Mutant:
    """One rule, broken."""

    rule: str
    file: str
    old: str
    new: str
    tests: Tuple[str, ...]

    @property
    def path(self) -> str:
        """Below the top."""
        return self.file if "/" in self.file else f"lib/aws_vpc_net/{self.file}"


def _m(rule: str, file: str, old: str, new: str, *tests: str) -> Mutant:
    return Mutant(rule, file, old, new, tests)


EVERY = "all(isolated(i, instance, book, policy) for i in instance.interfaces)"
MODIFY = '__import__("aws_vpc_net.errors").errors.Category.MODIFICATION'

MUTANTS = (
    # --- status
    _m("status from tags", "rules.py", f"bool(instance.interfaces) and {EVERY}", "has_record(instance, book, policy)", RULES),
    _m("status ignores an interface", "rules.py", EVERY, EVERY.replace("interfaces)", "interfaces[:1])"), RULES),
    _m("one isolated interface is enough", "rules.py", EVERY, EVERY.replace("all(", "any("), RULES),
    _m("no interfaces is off", "rules.py", f"bool(instance.interfaces) and {EVERY}", EVERY, RULES),
    _m("an interface without groups is cut", "rules.py", "if not groups or not policy.secg:", "if not policy.secg:", RULES),
    _m("one group of secg is enough to be cut", "rules.py", "groups <= policy.named if", "bool(groups & policy.named) if", RULES),
    _m("the untracking group does no harm", "rules.py", "return self.named | ({self.untrack} if self.untrack else NONE)", "return self.named", RULES),
    _m("off without a record of what was removed", "rules.py", "return policy.keep_only or policy.without_record or has_record(instance, book, policy)", "return True", RULES),
    _m("any record proves a fence", "rules.py", "r is not None and r & policy.named for r", "r is not None for r", RULES),
    _m("a terminated instance is on", "rules.py", "    if instance.terminated:\n        return True\n", "", RULES),
    _m("status: an error of the API is OFF", "queries.py", "    instances = _read_all(context, plugs)\n", "    try:\n        instances = _read_all(context, plugs)\n    except FenceError as error:\n        if error.category is Category.INSTANCE:\n            raise\n        return dict.fromkeys(plugs, True)\n", f"{QUERIES}::test_reading_actions_end_within_fourteen_seconds"),
    _m("status: an error of the API is ON", "queries.py", "    instances = _read_all(context, plugs)\n", "    try:\n        instances = _read_all(context, plugs)\n    except FenceError as error:\n        if error.category is Category.INSTANCE:\n            raise\n        return dict.fromkeys(plugs, False)\n", f"{QUERIES}::test_reading_actions_end_within_fourteen_seconds"),
    _m("status: an unknown instance is ON", "queries.py", "    instances = _read_all(context, plugs)\n    return", "    instances = context.instances.read(plugs)\n    if len(instances) < len(plugs):\n        return dict.fromkeys(plugs, False)\n    return", f"{QUERIES}::test_status_of_an_unknown_instance_is_an_error"),
    # --- what is recorded
    _m("a backup of isolated groups", "rules.py", "on_record if kept and on_record is not None else i.groups", "i.groups", RULES),
    _m("a backup of the untracking group", "rules.py", "kept = isolated(i, instance, book, policy) or between_steps(i.groups, policy)", "kept = isolated(i, instance, book, policy)", RULES),
    _m("cut groups outrank originals", "rules.py", "return book.newest_open(interface.id, policy) or current or book.newest(interface.id)", "return current or book.newest(interface.id)", RULES),
    _m("only the set of lastfence counts", "rules.py", "if current is not None or looks_fenced(interface.groups, policy):", "if current is not None:", RULES),
    _m("older sets count for open interfaces", "rules.py", "if current is not None or looks_fenced(interface.groups, policy):", "if True:", RULES),
    _m("the record is never mended", "rules.py", "return changed if changed != dict(written) else None", "return None", RULES),
    _m("what a stale read took for originals is set", "rules.py", " and not _only_cut(v, now, policy)}", "}", RULES),
    _m("a missing chunk counts as complete", "backup_tags.py", "if not by_index or len(by_index) != next(iter(by_index.values())).count:", "if not by_index:", TAGS),
    _m("copied tags of another instance are ours", "backup_tags.py", 'k.startswith(f"{PREFIX}{instance}_")', "k.startswith(PREFIX)", TAGS),
    _m("lastfence is the clock", "backup_tags.py", "return max([int(now), *(t + 1 for", "return int(now) or max([*(t + 1 for", TAGS),
    _m("lastfence may stay the same", "backup_tags.py", "*(t + 1 for t in seen", "*(t for t in seen", TAGS),
    _m("the newest originals are overwritten", "backup_tags.py", "            keep.add(chunk.key)", "            pass", TAGS),
    _m("real originals are not kept from being overwritten", "backup_tags.py", "max(complete, default=None), max(real, default=None))", "max(complete, default=None))", TAGS),
    _m("room is not counted", "backup_tags.py", "    if missing > free:", "    if False:", TAGS),
    _m("one key for two interfaces", "backup_tags.py", " if c.key not in given}", "}", TAGS, MACHINE),
    _m("in place over other originals", "backup_tags.py", "return chunk and (chunk.interface, chunk.groups, chunk.index, chunk.count)", "return chunk and (chunk.interface, chunk.index)", TAGS),
    _m("a key that holds another interface is overwritten", "backup_tags.py", "while any(", "while False and any(", TAGS),
    _m("keys of two fencers are not kept apart", "backup_tags.py", "(1 + mark % 9999) if fenced else 0", "0", TAGS),
    _m("no mark of the writer", "backup_tags.py", "(mark >> 4 * index) % (MOST_SPACES + 1)", "0", TAGS),
    _m("writers of one second are mixed", "backup_tags.py", "found += [whole] if whole else [p for p in parts if p]", "found += [frozenset().union(*(c.groups for c in same))]", TAGS),
    # --- the order of off
    _m("the record is not read back", "recording.py", "if seen and proven(current, seen):", "if seen:", f"{FAULTS}::test_tags_that_are_accepted_but_never_seen_isolate_nothing"),
    _m("the record is checked by its keys", "recording.py", "if all(seen.tags.get(k) == v for k, v in planned.backups.items()):", "if all(k in seen.tags for k in planned.backups):", "unit/test_recording.py"),
    _m("the record is not made to agree with its proof", "recording.py", "if better is None:", "if True:", f"{RACES}::test_a_group_added_between_the_first_read_and_the_record_is_restored"),
    _m("isolated though the record was refused", "recording.py", "return tools.policy.without_record or all(", "return True or all(", f"{FAULTS}::test_without_permission_to_write_tags_nothing_is_isolated"),
    _m("groups change before the record", "off.py", "    recorded = recording.record(", f"    tools.groups.set_groups(fence.goals, {MODIFY})\n    recorded = recording.record(", f"{FAULTS}::test_without_permission_to_write_tags_nothing_is_isolated"),
    _m("untracking before the record", "off.py", "    recorded = recording.record(", f"    if tools.policy.untrack:\n        tools.groups.set_groups(dict.fromkeys(fence.goals, frozenset((tools.policy.untrack,))), {MODIFY})\n    recorded = recording.record(", f"{UNTRACK}::test_untrack_all_then_isolate_all_then_read", f"{UNTRACK}::test_no_record_no_opening"),
    _m("the stop comes first", AGENT, "            for each in () if self._isolated else self._plugs:\n", "            off.power_off(self.context, self._plugs)\n            for each in () if self._isolated else self._plugs:\n", "agent/test_power.py::test_an_instance_that_cannot_be_stopped_is_fenced_with_a_warning", f"{LIFECYCLE}::test_poweroff_stops_the_instance_after_it_is_isolated"),
    _m("already off is an answer", AGENT, '            return "on"\n', '            return "off" if all(queries.status(self.context, self._plugs).values()) else "on"\n', "agent/test_power.py::test_poweroff_also_of_an_instance_that_is_isolated_already"),
    # --- refusals
    _m("self-fencing", "off.py", "    if own in plugs:", "    if False:", f"{REFUSALS}::test_this_machine_itself"),
    _m("a fenced machine may fence", "off.py", "if own and rules.is_fenced_fencer(", "if False and rules.is_fenced_fencer(", f"{REFUSALS}::test_a_machine_that_is_fenced_itself_fences_nobody"),
    _m("nobody looks whether this machine was fenced meanwhile", "recording.py", "        look(found)\n", "", f"{FAULTS}::test_the_fencer_that_was_fenced_after_its_first_read_stops"),
    _m("an instance that is not running", "off.py", 'if target.state != "running" and not', 'if False and not', f"{REFUSALS}::test_an_instance_that_is_not_running"),
    _m("an interface that would be left without a group is skipped", "off.py", "        if not goals[interface.id]:\n            raise messages.nothing_left(", "        if not goals.get(interface.id) and goals.pop(interface.id, None) is None:\n            raise messages.nothing_left(", f"{REFUSALS}::test_removal_that_would_leave_an_interface_without_a_group"),
    _m("nothing to remove is success", "off.py", "if not rules.something_to_remove(target, policy) and not rules.has_record(target, book, policy):", "if False:", f"{REFUSALS}::test_nothing_to_remove_and_no_record"),
    _m("a managed interface", "off.py", "        if interface.managed:", "        if False:", f"{FACES}::test_an_interface_that_a_service_manages_is_refused_before_the_first_change"),
    _m("a trunk", "off.py", "        if interface.unfiltered:", "        if False:", f"{FACES}::test_a_trunk_is_refused_before_the_first_change"),
    _m("a trunk is off", "rules.py", " and not any(i.unfiltered for i in instance.interfaces)", "", f"{FACES}::test_a_fenced_node_with_a_trunk_is_not_off_and_comes_back"),
    _m("an interface without groups", "off.py", "        if not interface.groups:", "        if False:", f"{FACES}::test_a_secondary_interface_is_never_isolated_whatever_the_sdk_knows"),
    # --- isolation
    _m("no read proves the isolation", "isolation.py", "proven = self._reads_off(seen) and not (open_now or taken_in or undecided or late)", "proven = True", f"{FAULTS}::test_groups_that_never_read_right_are_no_success"),
    _m("off says what status would not", "isolation.py", "return bool(seen.interfaces) and not self.nothing_removed", "return bool(seen.interfaces)", f"{FACES}::test_the_only_interface_with_the_group_and_its_record_go_away"),
    _m("the record of an interface that went away does not count", "rules.py", "for r in [*found, *gone])", "for r in found)", f"{FACES}::test_the_only_interface_with_the_group_goes_away_after_the_fence"),
    _m("put back without knowing where to", "isolation.py", "for i in seen.interfaces} & set(self.before)", "for i in seen.interfaces}", f"{FACES}::test_an_interface_that_the_proof_of_the_record_lacked_is_not_put_back_blindly"),
    _m("syslog is waited for", "outputs.py", "        self._records.put(logging.LogRecord(", "        self._handler.emit(logging.LogRecord(", "agent/test_environment.py::test_a_syslog_that_hangs_keeps_no_node_from_being_fenced"),
    _m("power_wait is time for the operation", AGENT, "Deadline(chosen.seconds, STARTED + delay)", "Deadline(chosen.seconds + wait, STARTED + delay)", "agent/test_environment.py::test_the_wait_after_a_plug_is_no_time_for_the_operation"),
    _m("the wait after a plug is taken from the next one", "ec2.py", "        self._whole.extend(waited)\n", "", "agent/test_environment.py::test_the_wait_after_a_plug_is_no_time_for_the_operation"),
    _m("a change need not be accepted", "isolation.py", "return accepted and self._is_cut(interface)", "return self._is_cut(interface)", f"{FAULTS}::test_a_change_that_is_never_accepted_is_no_success_though_it_reads_right"),
    _m("an accepted change need not be read", "isolation.py", "return accepted and self._is_cut(interface)", "return accepted", f"{FAULTS}::test_groups_that_never_read_right_are_no_success"),
    _m("some interfaces are enough", "isolation.py", "open_now = [i for i in seen.interfaces if not self._is_done(i)]", "open_now = [] if any(map(self._is_done, seen.interfaces)) else list(seen.interfaces)", f"{FAULTS}::test_an_interface_that_is_opened_again_is_isolated_again", "matrix/test_matrix.py"),
    _m("a refusal of one is no failure", "isolation.py", "            self.refused[interface] = error\n            return False\n", "            return True\n", f"{FAULTS}::test_a_refused_interface_fails_it_and_the_other_is_put_back"),
    _m("an interface that appears is ignored", "isolation.py", "            if seen is not None:\n                if seen.terminated:\n", "            seen = seen and Instance(seen.id, seen.state, tuple(i for i in seen.interfaces if i.id in self.goals), seen.tags)\n            if seen is not None:\n                if seen.terminated:\n", f"{FAULTS}::test_an_interface_that_appears_meanwhile_is_recorded_and_isolated"),
    _m("an interface that appears is not recorded", "isolation.py", "            more = recording.record_more(self.tools, seen, originals, self.plan)\n", "            more = None\n", f"{FAULTS}::test_an_interface_that_appears_meanwhile_is_recorded_and_isolated"),
    _m("put back without looking for others", "isolation.py", "        if backup_tags.only_ours(seen, self.plan):\n            return None\n", "        return None\n", f"{FAULTS}::test_nothing_is_put_back_after_another_fencer"),
    _m("no look after the put back", "isolation.py", "undone = self._check_put_back(goals)", "undone = None", f"{RACES}::test_a_refused_fencer_puts_nothing_back_though_the_other_does_not_see_its_record", "schedules/test_schedules.py::test_one_of_two_fencers_is_refused_an_interface"),
    _m("what is left cut stays without a record", "isolation.py", "        if self.plan is not None and not any(recording.proven(plan, seen) for plan in self.plans):\n            self._record_again(seen)\n", "", "schedules/test_schedules.py::test_a_fencer_that_is_refused_an_interface_beside_one_that_unfences"),
    _m("cut again behind a read without a record", "isolation.py", "if seen is not None and not backup_tags.own(seen.tags, seen.id):", "if False:", "schedules/test_schedules.py::test_a_fencer_that_is_refused_an_interface_beside_one_that_unfences"),
    _m("set again behind a read that lacks the record", "isolation.py", "(under_it or (self.lacking and (again or twice)))", "under_it", "schedules/test_schedules.py::test_nothing_is_set_again_behind_a_read_that_lacks_the_record"),
    _m("put back after an unknown outcome", "isolation.py", "        if self.uncertain:\n", "        if False:\n", f"{FAULTS}::test_an_unknown_outcome_is_left_isolated"),
    _m("other fencers' tags are compared by key", "backup_tags.py", "return own(seen.tags, seen.id) == dict(written.tags)", "return own(seen.tags, seen.id).keys() == written.tags.keys()", TAGS),
    _m("no other fencer is ever seen", "backup_tags.py", "return not read(instance).times <= self.times or not backups <= self.tags", "return False", TAGS),
    _m("beside another fencer the record is not written again", "isolation.py", "if not self.claimed and self.known.is_news(seen):", "if False:", f"{FAULTS}::test_a_refused_second_fencer_does_not_undo_a_success"),
    _m("what is isolated is opened again", "isolation.py", "if i.id in self.goals and not rules.cut(i.groups, policy)}", "if i.id in self.goals}", f"{UNTRACK}::test_what_is_isolated_is_never_opened_again"),
    _m("what was untracked is left so", "isolation.py", "for i in interfaces if i not in self.refused})", "for i in interfaces if i not in self.refused and i not in self.untracked})", f"{UNTRACK}::test_untrack_all_then_isolate_all_then_read"),
    _m("untracking need not be accepted", "isolation.py", "            took = self._took(interface, error)\n", "            took = self._took(interface, error)\n            self.to_untrack.discard(interface)\n", f"{UNTRACK}::test_an_interface_is_done_only_when_its_untracking_was_accepted"),
    _m("what was opened is not set when time is short", "isolation.py", "            self.tools.ec2.use_reserve()  # what was opened", "            pass  # what was opened", "agent/test_deadline.py::test_an_untracking_that_never_answers_leaves_nothing_open"),
    # --- on
    _m("an untracking that may arrive late is not waited for", "isolation.py", "        if self._late:\n            self.tools.ec2.use_reserve()", "        if False:\n            self.tools.ec2.use_reserve()", f"{UNTRACK}::test_a_late_untracking_is_closed_though_off_fails"),
    _m("a late untracking is not closed when off fails", "isolation.py", "            self.opened |= late\n", "            pass\n", f"{UNTRACK}::test_a_late_untracking_is_closed_though_off_fails"),
    _m("a late untracking is not closed beside another fencer", "isolation.py", "        self.opened |= still & set(self.untracked)\n", "        pass\n", f"{UNTRACK}::test_a_late_untracking_is_closed_though_off_fails"),
    _m("what was opened is not closed", "isolation.py", "        if not self.opened:\n            return\n        self.tools.ec2.use_reserve()\n", "        return\n", f"{UNTRACK}::test_reads_that_fail_after_one_isolation_did_leave_nothing_open"),
    _m("opening goes on after an interrupt", "ec2.py", "            todo.clear()\n", "            pass\n", f"{UNTRACK}::test_interrupted_with_many_changes_to_come_none_is_begun_any_more"),
    _m("untracking is not seen by the network", "isolation.py", "        self.tools.deadline.pause(self.settled - self.tools.deadline.now())\n", "        pass\n", "agent/test_settle.py::test_it_stays_on_the_untracking_group_for_as_long"),
    _m("the network need not settle", "isolation.py", "return max([self.settled, *self.late_until.values()])", "return max([0.0, *self.late_until.values()])", "agent/test_settle.py::test_off_succeeds_after_the_network_has_settled_and_reads_then"),
    _m("open for the settle time though an untracking was refused", "isolation.py", "            if not self.refused:\n                self._dwell()", "            self._dwell()", f"{UNTRACK}::test_where_an_untracking_is_refused_nothing_stays_open_for_the_settle_time"),
    _m("a throttled untracking counts as an attempt", "isolation.py", "                self.opened.discard(interface)\n                continue\n", "                self.opened.discard(interface)\n", f"{UNTRACK}::test_a_second_of_throttling_does_not_use_up_the_attempts"),
    _m("a refusal hides an earlier unknown outcome", "isolation.py", "            self.uncertain.add(interface)\n", "            pass\n", f"{FAULTS}::test_an_unknown_outcome_is_left_isolated_though_a_later_attempt_is_refused"),
    _m("on takes a later read for its first", "on.py", "            if not rules.is_finished_fence(first, backup_tags.read(again), policy):", "            if False:", "agent/test_races.py::test_an_off_that_runs_while_on_reads_again_wins"),
    _m("groups that are behind for seconds are originals", "off.py", "is_sure, DOUBT_SECONDS", "is_sure", "agent/test_races.py::test_groups_that_are_behind_for_seconds_after_an_on_are_no_originals"),
    _m("groups of another VPC are not looked up", "isolating_groups.py", "            self.look_up()\n        refused", "            pass\n        refused", "agent/test_interfaces.py::test_of_many_groups_those_that_fit_are_kept_together"),
    _m("the tags are deleted first", "on.py", "    seen = _Restore(tools, first, goals, known).run()\n", "    _forget(tools, plug, leftovers)\n    seen = _Restore(tools, first, goals, known).run()\n", f"{ON}::test_one_refused_interface_keeps_all_tags"),
    _m("tags are deleted by key only", "tags.py", '[{"Key": k, "Value": v} for k, v in tags.items()]\n        self._ec2.call("delete_tags"', '[{"Key": k} for k in tags]\n        self._ec2.call("delete_tags"', f"{ON}::test_an_off_before_the_clean_up_keeps_its_record", "schedules/test_schedules.py::test_a_fencer_beside_one_that_unfences"),
    _m("all tags are deleted", "on.py", "leftovers = {**backup_tags.own(first.tags, plug),", "leftovers = {**first.tags,", f"{ON}::test_orphans_of_an_interrupted_life_are_removed"),
    _m("an off that comes in between does not win", "on.py", "if self.known.is_news(seen):", "if False:", f"{RACES}::test_an_off_that_wins_is_isolated_again_through_throttling"),
    _m("on is not read back", "on.py", "if set(wrong) <= set(self.refused):", "if True:", f"{ON}::test_groups_that_never_read_right_are_no_success_and_keep_the_tags"),
    _m("a part restored is success", "on.py", "        if self.refused:\n", "        if False:\n", f"{ON}::test_one_refused_interface_keeps_all_tags"),
    _m("isolated and no record is success", "on.py", "        raise messages.no_record(first.id)\n", "        return first, {}\n", f"{ON}::test_isolated_and_no_record_is_a_backup_error"),
    _m("nobody looks back", "on.py", " and _perhaps_beside_an_off(tools, first)", " and False", "schedules/test_schedules.py::test_a_fencer_beside_one_that_unfences"),
    # --- reading
    _m("one page is all", "instances.py", 'token = reply.get("NextToken")', "token = None", f"{QUERIES}::test_list_shows_every_page"),
    _m("interfaces in the order of the reply", "instances.py", 'sorted(raw.get("NetworkInterfaces", ()), key=_position)', 'list(raw.get("NetworkInterfaces", ()))', "unit/test_instances.py"),
    _m("secondary interfaces do not count", "instances.py", 'enumerate(raw.get("SecondaryInterfaces", ()),', "enumerate((),", f"{FACES}::test_a_secondary_interface_is_never_isolated_whatever_the_sdk_knows"),
    _m("what the SDK does not know does not count", "replies.py", "    if not dropped and not any(sign in content for sign in SIGNS):", "    if True:", f"{FACES}::test_a_secondary_interface_is_never_isolated_whatever_the_sdk_knows"),
    _m("of several matches the first", "queries.py", "        if len(matched) > 1:", "        if False:", "agent/test_names.py::test_several_matches_are_refused_and_listed"),
    _m("monitor swallows errors", AGENT, "            queries.monitor(self.context)\n", "            try:\n                queries.monitor(self.context)\n            except FenceError:\n                pass\n", f"{QUERIES}::test_monitor_fails_when_fencing_would_fail"),
    _m("monitor does not miss a group", "queries.py", "        raise messages.groups_missing(missing)", "        pass", f"{UNTRACK}::test_monitor_misses_the_untracking_group"),
    # --- time
    _m("no deadline", "deadline.py", "return max(0.0, self._ends - self._clock())", "return self.seconds", f"{FAULTS}::test_tags_that_are_accepted_but_never_seen_isolate_nothing", "agent/test_deadline.py"),
    _m("no watchdog", AGENT, "        timer.start()\n", "        pass\n", "agent/test_deadline.py::test_a_library_that_is_never_loaded_ends_it_before_it_knows_its_options"),
    _m("a call may take for ever", "deadline.py", "    thread.join(seconds)\n", "    thread.join()\n", "agent/test_deadline.py::test_a_call_that_hangs_for_ever_does_not_hold_up_a_success"),
    _m("transient errors fail at once", "ec2.py", "                elif not error.transient:", "                else:", f"{FAULTS}::test_passing_trouble_does_not_fail_it"),
    _m("threads are waited for at the end", AGENT, "    finally:\n        end_programs()\n        os._exit(code)", "    finally:\n        [t.join() for t in threading.enumerate() if t.name.endswith('(run)')]\n        os._exit(code)", "agent/test_deadline.py::test_a_call_that_hangs_for_ever_does_not_hold_up_a_success"),
    # --- options
    _m("a boolean that cannot be read is dropped", "inputs.py", "            raise messages.bad_boolean(name, value)", "            pass", "agent/test_interface.py::test_a_boolean_that_cannot_be_read_is_refused_for_every_action"),
    _m("every boolean is true", "inputs.py", "    if text in FALSE:\n        return False\n", "", "agent/test_interface.py::test_a_flag_may_say_its_value_on_the_command_line", "agent/test_interface.py::test_both_spellings_are_read"),
    _m("white space belongs to a group", "settings.py", "parts = [p.strip() for p in text.split(separator)]", "parts = text.split(separator)", "agent/test_interface.py::test_white_space_and_empty_elements_in_lists"),
    _m("secg may be missing", "settings.py", 'if not secg and action in ("off", "status", "validate-all"):', "if False:", "agent/test_interface.py::test_bad_input_is_one_clear_line_and_no_call", BAD),
    _m("untrack_secg may be within secg", "settings.py", "        if groups and groups[0] in secg:", "        if False:", f"{BAD}::test_a_mistake_is_one_clear_line_and_changes_nothing[untracking-group-within-secg]"),
    _m("reboot means on", "settings.py", '        action = "off"\n', '        action = "on"\n', f"{LIFECYCLE}::test_off_isolates_and_on_brings_back_exactly", LIFECYCLE),
    _m("secrets in the log", "logs.py", '        text = text.replace(secret, "***")', "        pass", "unit/test_logs.py"),
)  # fmt: skip
