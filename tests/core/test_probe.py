"""What ``off`` does with ``probe_port``, one transcript for each behaviour; see transcript.py."""

from dataclasses import replace
from typing import Any

import pytest
from core.transcript import ID, KEEP, KEEP_UNTRACK, OWN, Run, World, eni, off_of, play

from aws_vpc_net.core.model import IsolationSpec
from aws_vpc_net.core.protocol import Read
from aws_vpc_net.core.settling import network_seconds

BEFORE = """read
        connect e0 e1
        write e0:ad e1:as
        read"""
TWICE = """connect e0 e1
        settle
        check e0 e1
        connect e0 e1
        settle
        check e0 e1"""


def probing(spec: IsolationSpec = KEEP, settle: float = 5, **more: Any) -> Run:
    """An off that looks for itself."""
    return off_of(World(), spec, settle_seconds=settle, probe=True, **more)


def go_on(run: Run, until: float, lines: str) -> None:
    """Play these lines until then, and the reads that come between; then, if one is due, another."""
    while run.world.now < until:
        if isinstance(run.decide(run.plan, run.knowledge, run.tick()).action, Read):
            play(run, "read")
        play(run, lines)
    if isinstance(run.decide(run.plan, run.knowledge, run.tick()).action, Read):
        play(run, "read")


def test_silence_ends_the_settle_time():
    """Two attempts, half a second apart, then the read that counts."""
    run = probing()
    play(run, f"{BEFORE}\ncheck e0 e1\nisolate e0:i e1:i")
    accepted = run.world.now
    play(run, f"read\n{TWICE}\nread\nsuccess")
    assert 1 <= run.world.now - accepted < 5
    assert network_seconds(run.plan, run.knowledge) == pytest.approx(0.2, abs=0.11)
    assert len([line for line in run.log if "2 of 2 addresses answer" in line]) == 1
    assert not [line for line in run.log if "addresses answer" in line and "2 of 2" not in line]
    assert not [line for line in run.log if "cannot probe" in line]


def test_the_silence_that_a_fencer_hears_which_is_not_fenced_ends_the_settle_time():
    run = probing(own=OWN)
    play(run, BEFORE.replace("read", "read target and own") + "\ncheck e0 e1\nisolate e0:i e1:i")
    accepted = run.world.now
    play(run, f"read\n{TWICE}\nread target and own\nsuccess")
    assert run.world.now - accepted < 5


def test_the_silence_that_a_fenced_fencer_hears_does_not_end_the_settle_time():
    """It is isolated itself: nothing shows whether the other is."""
    run = probing(own=OWN)
    play(run, BEFORE.replace("read", "read target and own") + "\ncheck e0 e1\nisolate e0:i e1:i")
    accepted = run.world.now
    run.world.own_is_fenced = True
    play(run, f"read\n{TWICE}\nread target and own\nsettle\nread target and own\nsuccess")
    assert run.world.now - accepted >= 5


def test_the_silence_that_a_fencer_hears_whose_groups_have_changed_does_not_end_the_settle_time():
    """A device with another secg may have isolated it."""
    run = probing(own=OWN)
    play(run, BEFORE.replace("read", "read target and own") + "\ncheck e0 e1\nisolate e0:i e1:i")
    accepted = run.world.now
    run.world.own_groups = "s"
    play(run, f"read\n{TWICE}\nread target and own\nsettle\nread target and own\nsuccess")
    assert run.world.now - accepted >= 5


def test_the_silence_that_a_fencer_of_another_account_hears_does_not_end_the_settle_time():
    """No read shows it."""
    run = probing(own=OWN)
    run.world.own_is_shown = False
    play(run, BEFORE.replace("read", "read target and own") + "\ncheck e0 e1\nisolate e0:i e1:i")
    accepted = run.world.now
    play(run, f"read\n{TWICE}\nsettle\nread target and own\nsuccess")
    assert run.world.now - accepted >= 5


def test_the_silence_that_an_unknown_fencer_hears_does_not_end_the_settle_time():
    """It may be isolated itself, which no read can show."""
    run = probing(unknown_fencer=True)
    play(run, f"{BEFORE}\ncheck e0 e1\nisolate e0:i e1:i")
    accepted = run.world.now
    play(run, f"read\n{TWICE}\nsettle\nread\nsuccess")
    assert run.world.now - accepted >= 5


def test_a_later_read_of_the_target_alone_does_not_show_that_the_fencer_is_not_fenced():
    run = probing(own=OWN)
    play(run, BEFORE.replace("read", "read target and own") + "\ncheck e0 e1\nisolate e0:i e1:i")
    run.world.own_is_fenced = True
    play(run, f"read\n{TWICE}\nread target and own | no tags\nwrite e0:ad e1:as\npause read\nsettle")


def test_an_answer_begins_the_count_anew():
    play(
        probing(),
        f"""{BEFORE}
        check e0 e1
        isolate e0:i e1:i
        read
        connect e0 e1
        settle
        check e0 e1         | e1 answers
        connect e0 e1
        settle
        check e0 e1
        connect e1
        settle
        check e1            | e1 answers
        connect e1
        settle
        check e1
        connect e1
        settle
        check e1
        read
        success
        """,
    )


def test_one_that_goes_on_answering_is_waited_for_until_the_deadline_and_named():
    run = probing()
    play(run, f"{BEFORE}\ncheck e0 e1\nisolate e0:i e1:i\nread")
    accepted = run.world.now
    play(run, "connect e0 e1\nsettle\ncheck e0 e1 | e1 answers\nconnect e0 e1\nsettle\ncheck e0 e1 | e1 answers")
    go_on(run, accepted + 30, "connect e1\nsettle\ncheck e1 | e1 answers")
    play(
        run,
        """
        * 20 s
        fail: deadline: cannot verify in time that i-0000000000000000a is isolated: 10.0.0.1: it still answers
        """,
    )
    assert run.world.groups == {eni("e0"): KEEP.named, eni("e1"): KEEP.named}, "it is not rolled back"


def test_one_that_falls_silent_long_after_the_settle_time_is_waited_for():
    run = probing()
    play(run, f"{BEFORE}\ncheck e0 e1\nisolate e0:i e1:i\nread")
    accepted = run.world.now
    go_on(run, accepted + 12, "connect e0 e1\nsettle\ncheck e0 e1 | e0 answers, e1 answers")
    play(run, f"{TWICE}\nread\nsuccess")
    assert network_seconds(run.plan, run.knowledge) == pytest.approx(12.5, abs=0.6)


def test_an_interface_that_nobody_could_watch_has_its_settle_time_in_full():
    run = probing()
    play(run, f"{BEFORE}\ncheck e0 e1 | e1 silent\nisolate e0:i e1:i")
    accepted = run.world.now
    play(run, "read\nconnect e0\nsettle\ncheck e0\nconnect e0\nsettle\ncheck e0\nsettle\nread\nsuccess")
    assert run.world.now - accepted >= 5


def test_a_node_that_is_dead_is_no_slower():
    quick, slow = off_of(World(), settle_seconds=5), probing()
    play(quick, "read\nwrite e0:ad e1:as\nread\nisolate e0:i e1:i\nread\nsettle\nread\nsuccess")
    play(slow, f"{BEFORE}\ncheck e0 e1 | e0 silent, e1 silent\nisolate e0:i e1:i\nread\nsettle\nread\nsuccess")
    assert slow.world.now - quick.world.now < 0.3, "a step takes 0.1 s here"
    assert network_seconds(slow.plan, slow.knowledge) is None


def test_one_of_two_addresses_of_an_interface_is_enough_to_watch_it():
    run = probing()
    run.world.addresses[eni("e0")] = ("10.0.0.0", "10.0.0.7")
    play(
        run,
        f"""read
        connect e0 e7 e1
        write e0:ad e1:as
        read
        check e0 e7 e1      | e0 silent
        isolate e0:i e1:i
        read
        {TWICE.replace("e0", "e7")}
        read
        success
        """,
    )


def test_an_address_without_a_route_is_a_warning_and_not_watched():
    run = probing()
    play(
        run,
        f"""{BEFORE}
        check e0 e1         | e0 no route
        isolate e0:i e1:i
        read
        connect e1
        settle
        check e1
        connect e1
        settle
        check e1
        settle
        read
        success
        """,
    )
    assert [line for line in run.log if "cannot probe 10.0.0.0" in line]


def test_a_route_that_is_lost_since_is_a_warning_and_the_settle_time_in_full():
    run = probing(settle=1.5)
    play(run, f"{BEFORE}\ncheck e0 e1\nisolate e0:i e1:i")
    accepted = run.world.now
    play(
        run,
        """read
        connect e0 e1
        settle
        check e0 e1         | e0 no route
        connect e0 e1
        settle
        check e0 e1         | e0 no route
        settle
        read
        success
        """,
    )
    assert run.world.now - accepted >= 1.5
    assert len([line for line in run.log if "cannot probe" in line]) == 1


def test_a_route_that_is_lost_for_a_moment_does_not_end_the_watch():
    play(
        probing(),
        f"""{BEFORE}
        check e0 e1
        isolate e0:i e1:i
        read
        connect e0 e1
        settle
        check e0 e1         | e0 no route
        connect e0 e1
        settle
        check e0 e1         | e0 answers
        connect e0
        settle
        check e0
        connect e0
        settle
        check e0
        read
        success
        """,
    )


def test_routes_that_are_lost_for_a_moment_are_tried_again_within_the_settle_time():
    run = probing()
    play(run, f"{BEFORE}\ncheck e0 e1\nisolate e0:i e1:i")
    accepted = run.world.now
    play(run, f"read\nconnect e0 e1\nsettle\ncheck e0 e1 | e0 no route, e1 no route\n{TWICE}\nread\nsuccess")
    assert run.world.now - accepted < 5


def test_no_time_of_the_network_is_told_where_nothing_was_seen_to_fall_silent():
    run = probing(settle=1)
    lost = "connect e0 e1\nsettle\ncheck e0 e1 | e0 no route, e1 no route"
    play(run, f"{BEFORE}\ncheck e0 e1\nisolate e0:i e1:i\nread\n{lost}\nsettle\nread\nsuccess")
    assert network_seconds(run.plan, run.knowledge) is None


def test_an_address_that_was_silent_only_once_at_the_deadline_is_named():
    run = probing()
    play(run, f"{BEFORE}\ncheck e0 e1\nisolate e0:i e1:i\nread\nconnect e0 e1\nsettle\ncheck e0 e1")
    play(run, f"* 45 s\nfail: deadline: cannot verify in time that {ID} is isolated: 10.0.0.0: there was no time")


def test_an_address_that_left_the_instance_is_not_waited_for():
    """A cluster moves secondary addresses to another node, where they go on answering."""
    run = probing(settle=1)
    run.world.addresses[eni("e1")] = ("10.0.0.1", "10.0.0.8")
    play(
        run,
        """read
        connect e0 e1 e8
        write e0:ad e1:as
        read
        check e0 e1 e8
        isolate e0:i e1:i
        """,
    )
    run.world.addresses[eni("e1")] = ("10.0.0.1",)
    play(run, f"read\n{TWICE}\nread\nsuccess")


def test_where_it_isolates_again_silence_does_not_end_the_settle_time():
    """An on has opened it in between: the network may be silent by the earlier isolation, and open it later."""
    run = probing()
    play(
        run,
        f"""{BEFORE}
        check e0 e1
        isolate e0:i e1:i
        read
        {TWICE}
        * groups e1:s
        read
        write e0:ad e1:as
        pause read
        pause isolate e1:i
        """,
    )
    accepted = run.world.now
    play(run, f"read\n{TWICE}\nsettle\nread\nsuccess")
    assert run.world.now - accepted >= 5


def test_an_interface_that_appears_has_its_settle_time_in_full():
    run = probing()
    play(
        run,
        f"""{BEFORE}
        check e0 e1
        isolate e0:i e1:i
        * attach e2:a
        read
        write e0:ad e1:as e2:a
        pause read
        pause isolate e2:i
        """,
    )
    accepted = run.world.now
    play(run, f"read\n{TWICE}\nsettle\nread\nsuccess")
    assert run.world.now - accepted >= 5


def test_silence_does_not_end_the_wait_for_an_isolation_without_a_reply():
    """It may arrive when this run has ended, and undo an on."""
    run = probing()
    play(run, f"{BEFORE}\ncheck e0 e1\nisolate e0:i e1:i | e1 lost before")
    until = run.world.now + 5
    play(run, f"read\npause isolate e1:i\nread\n{TWICE}\nsettle\nread\nsuccess")
    assert run.world.now >= until


def test_silence_does_not_end_the_wait_for_an_untracking_that_may_still_arrive():
    run = probing(KEEP_UNTRACK, 0)
    play(run, f"{BEFORE}\ncheck e0 e1 keep e0 e1 | e0 ended, e1 ended\nuntrack e0:o e1:o | e0 lost before")
    until = run.world.now + 5
    play(run, "isolate e0:i e1:i\nread\npause untrack e0:o\nisolate e0:i\nread")
    while run.world.now < until - 1:
        play(run, "settle\nread")
    go_on(run, until, "settle")
    once = "connect e0 e1\nsettle\ncheck e0 e1\nread\n"
    play(run, f"{once}{once}success")
    assert run.world.now >= until


def test_a_node_that_goes_on_answering_is_read_again():
    """An untracking that arrives late, or an on beside this run, has opened it."""
    run = probing(settle=1)
    play(run, f"{BEFORE}\ncheck e0 e1\nisolate e0:i e1:i\nread")
    play(run, 8 * "connect e0 e1\nsettle\ncheck e0 e1 | e0 answers, e1 answers\n")
    play(run, "* groups e1:as\nread\nwrite e0:ad e1:as\npause read\npause isolate e1:i\nread")
    play(run, f"{TWICE}\nread\nsuccess")


def test_a_node_that_goes_on_answering_is_read_again_within_a_long_settle_time():
    run = probing(settle=20)
    play(run, f"{BEFORE}\ncheck e0 e1\nisolate e0:i e1:i\nread")
    accepted = run.world.now
    play(run, 8 * "connect e0 e1\nsettle\ncheck e0 e1 | e0 answers, e1 answers\n" + "read")
    assert run.world.now - accepted < 10


def test_a_late_untracking_that_opens_the_node_while_it_is_watched_is_closed_soon():
    run = probing(KEEP_UNTRACK, 0)
    play(run, f"{BEFORE}\ncheck e0 e1 keep e0 e1 | e0 ended, e1 ended\nuntrack e0:o e1:o | e0 lost before")
    until = run.world.now + 5
    play(run, "isolate e0:i e1:i\nread\npause untrack e0:o\nisolate e0:i\nread")
    while run.world.now < until - 1:
        play(run, "settle\nread")
    play(run, "* groups e0:o\nsettle\nconnect e0 e1\nsettle\ncheck e0 e1 | e0 answers")
    play(run, "read\nwrite e0:ad e1:as\npause read\npause isolate e0:i\nread")
    assert run.world.now < until + 5


# --- untrack_secg ----------------------------------------------------------------------------------------------

UNTRACKED = f"""{BEFORE}
        check e0 e1 keep e0 e1
        untrack e0:o e1:o
        settle
        isolate e0:i e1:i
        read"""


def test_a_connection_that_stood_before_has_to_be_dead():
    run = probing(KEEP_UNTRACK)
    began = run.world.now
    play(run, UNTRACKED)
    isolated = run.world.now
    assert isolated - began >= 5, "the dwell on untrack_secg is not shortened"
    play(
        run,
        f"""
        {TWICE}
        connect e0 e1
        settle
        check e0 e1         | e0 dead
        connect e1
        settle
        check e1            | e1 dead
        read
        success
        """,
    )
    assert run.world.now - isolated < 5


def test_a_connection_that_lives_on_is_named_at_the_deadline():
    run = probing(KEEP_UNTRACK)
    play(
        run,
        f"""{UNTRACKED}
        connect e0 e1
        settle
        check e0 e1         | e0 dead
        connect e0 e1
        settle
        check e0 e1
        connect e1
        settle
        check e1
        * 40 s
        fail: deadline: cannot verify in time that i-0000000000000000a is isolated: 10.0.0.1: an earlier connection
        """,
    )
    assert "10.0.0.0" not in str(run.knowledge.ending)


def test_a_connection_that_its_peer_ended_proves_nothing():
    run = probing(KEEP_UNTRACK)
    play(run, UNTRACKED)
    isolated = run.world.now
    play(run, f"{TWICE} | e0 dead, e1 ended\nsettle\nread\nsuccess")
    assert run.world.now - isolated >= 4.8


def test_a_network_later_than_the_untracking_may_never_have_seen_it():
    """The other side has hung up: no connection shows whether the others are dead."""
    run = probing(KEEP_UNTRACK)
    play(run, UNTRACKED)
    answers = "e0 answers, e1 answers, e0 ended, e1 ended"
    go_on(run, run.world.now + 5, f"connect e0 e1\nsettle\ncheck e0 e1 | {answers}")
    play(run, f"{TWICE}\nread")
    play(run, "fail: modification: i-0000000000000000a is isolated, but 10.0.0.0, 10.0.0.1 still answered")


def test_a_dead_connection_shows_that_a_late_network_has_seen_the_untracking():
    run = probing(KEEP_UNTRACK)
    play(run, UNTRACKED)
    go_on(run, run.world.now + 5, "connect e0 e1\nsettle\ncheck e0 e1 | e0 answers, e1 answers")
    play(run, f"{TWICE} | e0 dead, e1 dead\nread\nsuccess")


def test_without_untracking_a_late_network_is_waited_for():
    run = probing()
    play(run, f"{BEFORE}\ncheck e0 e1\nisolate e0:i e1:i\nread")
    go_on(run, run.world.now + 6, "connect e0 e1\nsettle\ncheck e0 e1 | e0 answers, e1 answers")
    play(run, f"{TWICE}\nread\nsuccess")


def test_without_a_route_a_connection_that_stands_has_to_be_dead_all_the_same():
    run = probing(KEEP_UNTRACK, 1)
    play(run, UNTRACKED)
    lost = "check e0 e1 | e0 no route, e1 no route"
    play(run, f"connect e0 e1\nsettle\n{lost}\nconnect e0 e1\nsettle\n{lost}, e0 dead, e1 dead\nread\nsuccess")


def test_without_a_backup_the_warning_comes_once_before_the_addresses_are_checked():
    run = probing(replace(KEEP, without_backup=True))
    play(run, "read\nconnect e0 e1\nwrite e0:ad e1:as | refused\ncheck e0 e1\nisolate e0:i e1:i")
    assert len([line for line in run.log if "without a backup" in line]) == 1


def test_no_connection_is_kept_where_the_interface_is_not_untracked():
    """It is isolated already, by another off, and tracked: it would never die."""
    run = probing(KEEP_UNTRACK)
    play(run, BEFORE)
    play(run, "check e0 e1 keep e0 e1 | e0 silent")
    assert run.knowledge.probe.addresses.keys() == {"10.0.0.1"}


# --- not asked for ---------------------------------------------------------------------------------------------


def test_without_the_option_nothing_is_connected_to():
    run = off_of(World())
    play(run, "read\nwrite e0:ad e1:as\nread\nisolate e0:i e1:i\nread\nsuccess")
    assert run.knowledge.probe.connected is None


def test_without_the_option_the_last_read_is_of_the_target_alone():
    run = off_of(World(), own=OWN, settle_seconds=5)
    play(run, "read target and own\nwrite e0:ad e1:as\nread target and own\nisolate e0:i e1:i\nread\nsettle\nread")


def test_an_instance_that_is_refused_is_not_connected_to():
    run = probing()
    run.world.state = "stopped"
    play(run, "read\nfail:")
