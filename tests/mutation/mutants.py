"""Safety rules outside of the core, each broken once: what the code would say if somebody took it back, and the tests
that should notice. Mutants of the core are made by generate.py.

`old` occurs exactly once in its function (tests/unit/test_mutants.py); `tests` are the first to be tried, below tests/.
"""

from pathlib import Path
from typing import Dict, List, Tuple

from mutation.source import Mutant, by_hand

Row = Tuple[str, str, str, str, str, Tuple[str, ...]]  # rule, file, function, old, new, tests

AGENT = "agents/aws_vpc_net/fence_aws_vpc_net.py"
FAULTS, ON, SETTLE = "agent/test_off_faults.py", "agent/test_on.py", "agent/test_settle.py"
PROBE, AUTO = "agent/test_probe.py", "agent/test_auto_unfence.py"
LIFECYCLE, REFUSALS, QUERIES = "agent/test_lifecycle.py", "agent/test_refusals.py", "agent/test_queries.py"
UNTRACK, FACES, BAD = "agent/test_untrack.py", "agent/test_interfaces.py", "agent/test_bad_input.py"
NAMES = "agent/test_names.py"

# Generated mutants that change nothing that anybody could see: key -> why.
BORDER = "one point in time, the border of a wait for others"
EQUIVALENT: Dict[str, str] = {
    "backing_up._choose_groups: replace(k, phase=Phase.LOOK_UP) -> without phase": "the same read leads there once more; the phase names what is waited for",
    "backing_up._backup: tick.now < k.timers.patience -> tick.now <= k.timers.patience": BORDER,
    "backing_up._backup: tick.now >= k.timers.patience -> tick.now > k.timers.patience": BORDER,
    "backing_up._backup: tick.now >= k.timers.rewrite -> tick.now > k.timers.rewrite": BORDER,
    "rolling_back.look_again: tick.now >= k.timers.patience -> tick.now > k.timers.patience": BORDER,
    "rolling_back.why_not_rolled_back: set(tags.own(latest.tags, latest.id).items()) <= k.backup.written -> set(tags.own(latest.tags, latest.id).items()) < k.backup.written": "of two backups there is one lastfence: what a read shows is less than both",
    "settling.watch: tick.now >= k.timers.reread -> tick.now > k.timers.reread": BORDER,
    "settling.watch: tick.now + ATTEMPT_SECONDS > k.timers.settled -> tick.now + ATTEMPT_SECONDS >= k.timers.settled": BORDER,
    "observe._read: k.probe.addresses -> True": "a time that nothing looks at without them; the search would have more states",
    "protocol.Tick.expired: self.now >= self.ends -> self.now > self.ends": BORDER,
    "model.FrozenMap.__hash__: self._hash is None -> True": "the same, computed again",
    "model.FrozenMap.__eq__: isinstance(other, FrozenMap) -> False": "the same, by way of the other's comparison",
    "model.Instance.__post_init__: isinstance(self.tags, FrozenMap) -> False": "a copy that is equal",
    "model.IsolationSpec.forbidden_groups: self.untrack -> True": "no interface has the group None; for the type checker",
    "model.BackupHistory.at: time is not None -> True": "no set is of the time None; for the type checker",
    "on._looked_back: tick.now < k.timers.patience -> tick.now <= k.timers.patience": BORDER,
    "off._settled: k.probe.addresses and (not k.probe.unfinished(k.latest)) -> not k.probe.unfinished(k.latest)": "without a probe the wait was until then",
}  # fmt: skip


def _m(rule: str, file: str, function: str, old: str, new: str, *tests: str) -> Row:
    return rule, file if "/" in file else f"lib/aws_vpc_net/{file}", function, old, new, tests


ROWS: Tuple[Row, ...] = (
    # --- status and the other actions
    _m("status: an error of the API is OFF", "queries.py", "status", "    instances = _read_all(context, plugs)\n", "    try:\n        instances = _read_all(context, plugs)\n    except FenceError as error:\n        if error.category is Category.INSTANCE:\n            raise\n        return dict.fromkeys(plugs, True)\n", f"{QUERIES}::test_reading_actions_end_within_fourteen_seconds"),
    _m("status: an error of the API is ON", "queries.py", "status", "    instances = _read_all(context, plugs)\n", "    try:\n        instances = _read_all(context, plugs)\n    except FenceError as error:\n        if error.category is Category.INSTANCE:\n            raise\n        return dict.fromkeys(plugs, False)\n", f"{QUERIES}::test_reading_actions_end_within_fourteen_seconds"),
    _m("status: an unknown instance is ON", "queries.py", "status", "    instances = _read_all(context, plugs)\n    _check", "    instances = context.instances.read(plugs)\n    if len(instances) < len(plugs):\n        return dict.fromkeys(plugs, False)\n    _check", f"{QUERIES}::test_status_of_an_unknown_instance_is_an_error"),
    _m("the stop comes first", "actions.py", "fence", "    errors = _run(runners)\n", "    _power_off(context, [r.plan.id for r in runners])\n    errors = _run(runners)\n", "agent/test_power.py::test_an_instance_that_cannot_be_stopped_is_fenced_with_a_warning", f"{LIFECYCLE}::test_poweroff_stops_the_instance_after_it_is_isolated"),
    _m("already off is an answer", AGENT, "FenceAWSVPCNet.get_power_status", '            return "on"\n', '            return "off" if all(queries.status(self.context, self._plugs).values()) else "on"\n', "agent/test_power.py::test_poweroff_also_of_an_instance_that_is_isolated_already"),
    _m("of several matches the first", "queries.py", "_found", "    if len(matched) > 1:", "    if False:", f"{NAMES}::test_several_matches_are_refused_and_listed"),
    _m("a terminated namesake is final", "instances.py", "InstanceOperations.named", '        if all(state == "terminated" for state in states.values()):', "        if not states:", f"{NAMES}::test_a_stale_look_up_that_shows_only_a_terminated_namesake_is_repeated"),
    _m("one that is terminated later stands for its replacement", "instances.py", "InstanceOperations.read", "            if replaced:", "            if False:", f"{NAMES}::test_an_instance_that_is_terminated_after_its_look_up_does_not_stand_for_its_replacement"),
    _m("a name that has moved is not noticed", "instances.py", "parse_instance", 'if state != "terminated" and not n.matches(raw)', "if False", f"{NAMES}::test_an_instance_that_has_lost_the_name_is_not_touched"),
    _m("an address of any interface is a name", "names.py", "_primary_ipv6", 'if not at.get("DeviceIndex") and not at.get("NetworkCardIndex"):', "if True:", f"{NAMES}::test_what_names_no_instance_is_refused"),
    _m("list offers names that no plug has", "queries.py", "listed", 'context.settings.lookup.tag or "Name"', '"Name"', f"{NAMES}::test_list_offers_the_names_of_plug_tag"),
    _m("monitor swallows errors", AGENT, "FenceAWSVPCNet.get_nodes_list", "            plugs = queries.monitor(self.context)\n", "            plugs = []\n            try:\n                queries.monitor(self.context)\n            except FenceError:\n                pass\n", f"{QUERIES}::test_monitor_fails_when_fencing_would_fail"),
    _m("monitor does not miss a group", "queries.py", "_check_groups", "        raise messages.groups_missing(missing)", "        pass", f"{UNTRACK}::test_monitor_misses_the_untracking_group"),
    _m("monitor does not look again before it returns a node", "auto_unfence.py", "_try", "if latest is None or _judge(context, latest, fence_seconds) is not verdict:", "if latest is None:", f"{AUTO}::test_an_instance_that_somebody_starts_meanwhile_is_not_started_again"),
    _m("one that cannot return keeps others from it", "auto_unfence.py", "_bring_one_back", "    eligible.sort(key=lambda item: (item[0].returns.latest, random.random()))\n", "    eligible.sort(key=lambda item: -item[0].returns.latest)\n", f"{AUTO}::test_a_node_that_cannot_return_does_not_keep_another_from_it"),
    _m("monitor returns nodes of other devices", "auto_unfence.py", "_search", "if not plugs or raw", "if True or raw", f"{AUTO}::test_nothing_is_done_to_a_node_that_must_not_return"),
    # --- reading
    _m("one page is all", "instances.py", "InstanceOperations._pages", 'token = reply.get("NextToken")', "token = None", f"{QUERIES}::test_list_shows_every_page"),
    _m("interfaces in the order of the reply", "instances.py", "parse_instance", 'sorted(raw.get("NetworkInterfaces", ()), key=_position)', 'list(raw.get("NetworkInterfaces", ()))', "unit/test_instances.py"),
    _m("secondary interfaces do not count", "instances.py", "parse_instance", 'enumerate(raw.get("SecondaryInterfaces", ()),', "enumerate((),", f"{FACES}::test_a_secondary_interface_is_never_isolated_whatever_the_sdk_knows"),
    _m("what the SDK does not know does not count", "replies.py", "complete", "    if not dropped and not any(sign in content for sign in SIGNS):", "    if True:", f"{FACES}::test_a_secondary_interface_is_never_isolated_whatever_the_sdk_knows"),
    # --- writing
    _m("opening goes on after an interrupt", "ec2.py", "run_concurrently", "            todo.clear()\n", "            pass\n", f"{UNTRACK}::test_an_interrupt_starts_no_further_change"),
    _m("tags are deleted by key only", "tags.py", "TagOperations.delete", '[{"Key": k, "Value": v} for k, v in tags.items()]\n        self._ec2.call("delete_tags"', '[{"Key": k} for k in tags]\n        self._ec2.call("delete_tags"', f"{ON}::test_an_off_before_the_clean_up_keeps_its_backup"),
    _m("transient errors fail at once", "ec2.py", "Ec2.call", "                if not (error.transient or undecided or behind):", "                if not (undecided or behind):", f"{FAULTS}::test_transient_errors_do_not_fail_it"),
    # --- time
    _m("syslog is waited for", "outputs.py", "BackgroundHandler.put", "        self._records.put(logging.LogRecord(", "        self._handler.emit(logging.LogRecord(", "agent/test_environment.py::test_a_syslog_that_hangs_keeps_no_node_from_being_fenced"),
    _m("power_wait is time for the operation", AGENT, "_operate", "Deadline(chosen.seconds, STARTED + delay)", "Deadline(chosen.seconds + wait, STARTED + delay)", "agent/test_environment.py::test_power_wait_does_not_extend_the_deadline"),
    _m("no deadline", "deadline.py", "Deadline.remaining", "return max(0.0, self._ends - self._clock())", "return self.seconds", f"{FAULTS}::test_tags_that_are_accepted_but_never_seen_isolate_nothing", "agent/test_deadline.py"),
    _m("no watchdog", AGENT, "watch", "        timer.start()\n", "        pass\n", "agent/test_deadline.py::test_a_hanging_library_ends_before_the_options_are_read"),
    _m("a call may take for ever", "deadline.py", "call_with_timeout", "    thread.join(seconds)\n", "    thread.join()\n", "agent/test_deadline.py::test_a_hanging_call_does_not_delay_a_success"),
    _m("threads are waited for at the end", AGENT, "exit_now", "    finally:\n        end_programs()\n        os._exit(outcome)", "    finally:\n        [t.join() for t in threading.enumerate() if t.name.endswith('(run)')]\n        os._exit(outcome)", "agent/test_deadline.py::test_a_hanging_call_does_not_delay_a_success"),
    # --- options
    _m("a boolean that cannot be read is dropped", "inputs.py", "check_stdin", "            raise messages.bad_boolean(name, value)", "            pass", "agent/test_interface.py::test_a_boolean_that_cannot_be_read_is_refused_for_every_action"),
    _m("every boolean is true", "inputs.py", "boolean", "    if text in FALSE:\n        return False\n", "", "agent/test_interface.py::test_a_flag_may_have_a_value_on_the_command_line", "agent/test_interface.py::test_both_spellings_are_read"),
    _m("white space belongs to a group", "settings.py", "_Parser.parts", "parts = [p.strip() for p in text.split(separator)]", "parts = text.split(separator)", "agent/test_interface.py::test_white_space_and_empty_elements_in_lists"),
    _m("secg may be missing", "settings.py", "_Parser.secg", 'if not secg and action in ("off", "status", "validate-all"):', "if False:", "agent/test_interface.py::test_bad_input_is_one_clear_line_and_no_call", BAD),
    _m("untrack_secg may be within secg", "settings.py", "_Parser.untrack", "        if groups and groups[0] in secg:", "        if False:", f"{BAD}::test_a_mistake_is_one_clear_line_and_changes_nothing[untracking-group-within-secg]"),
    _m("reboot means on", "settings.py", "_Parser.action", 'return "off" if action == "reboot"', 'return "on" if action == "reboot"', f"{LIFECYCLE}::test_off_isolates_and_on_restores_exactly", LIFECYCLE),
    # --- secrets
    _m("secrets in the log", "logs.py", "hide", '        text = text.replace(secret, "***")', "        pass", "unit/test_logs.py"),
    # --- what performs the steps of the core
    _m("self-fencing", "actions.py", "prepare_off", "    if own in plugs:", "    if False:", f"{REFUSALS}::test_this_machine_itself"),
    _m("an unknown outcome is a refusal", "runner.py", "failure_of", "    if error.outcome_unknown:", "    if False:", f"{FAULTS}::test_an_unknown_outcome_stays_isolated"),
    _m("no step is waited for", "runner.py", "Runner._due_at", "due = step.not_before", "due = 0.0", UNTRACK),
    _m("nothing settles", "runner.py", "Runner._plan_step", "min(step.action.until, step.ends)", "0.0", SETTLE),
    _m("a read counts as later than it was asked", "runner.py", "Runner._perform", "asked = self._now()", 'asked = float("inf")', f"{SETTLE}::test_off_succeeds_after_the_network_has_settled_and_reads_then"),
    _m("what was opened is left open by an interrupt", "runner.py", "run_all", "                stack.callback(runner.interrupt)\n", "                pass\n", f"{UNTRACK}::test_an_interrupt_between_the_steps_isolates_first"),
    _m("plugs are watched one after the other", "runner.py", "run_all", "            _advance_one(running)", "            _advance_one(running[:1])", f"{PROBE}::test_plugs_are_watched_together"),
    _m("what on opens follows calls for another plug", "runner.py", "_take_turn", "if runner.waits_for_power:", "if True:", f"{LIFECYCLE}::test_on_changes_one_instance_after_the_other"),
    _m("a plug that stops holds up the others", "runner.py", "_take_turn", "if runner.waits_for_power:", "if False:", "agent/test_power.py::test_a_plug_that_still_stops_holds_up_no_other"),
    _m("only the first plug that failed is named", "messages.py", "all_of", "    if len({error.text for error in errors.values()}) == 1:", "    if True:", f"{LIFECYCLE}::test_each_plug_that_fails_is_named_with_its_cause"),
    _m("calls for another plug keep one open", "runner.py", "_advance_one", ".advance(open_until)", ".advance(math.inf)", f"{UNTRACK}::test_a_plug_is_not_kept_open_by_calls_for_another"),
    _m("a connection is left behind", "probe.py", "Prober._begin", 'struct.pack("ii", 1, 0)', 'struct.pack("ii", 0, 0)', f"{PROBE}::test_an_interrupted_probe_leaves_no_connection"),
    _m("what was opened is not closed where no thread can be started", "ec2.py", "Ec2._attempt", "insist=self.insist", "insist=False", f"{UNTRACK}::test_no_thread_for_the_second_round_leaves_nothing_open"),
)  # fmt: skip


def mutants(top: Path) -> List[Mutant]:
    """All of them.

    Raises:
        LookupError: the code has changed.
    """
    return [by_hand(top, path, function, old, new, rule, tests) for rule, path, function, old, new, tests in ROWS]
