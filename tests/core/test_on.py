"""What ``on`` does next, one transcript for each behaviour that safety depends on; see transcript.py."""

import pytest
from core.on_runs import DELETED, RESTORED, fenced, in_progress, new_off
from core.transcript import KEEP, KEEP_UNTRACK, REMOVE, REMOVE_UNTRACK, World, eni, groups, off_of, on_of, play, shown

from aws_vpc_net import messages
from aws_vpc_net.core.backup import LASTFENCE
from aws_vpc_net.core.model import FrozenMap, IsolationSpec
from aws_vpc_net.core.protocol import Restore
from aws_vpc_net.core.tag_slots import make_backup

# --- the order of steps ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", [KEEP, REMOVE, KEEP_UNTRACK, REMOVE_UNTRACK])
def test_on_deletes_the_backup_after_a_read_that_shows_the_originals(spec):
    run = on_of(fenced(spec), spec)
    play(run, f"{RESTORED}\nread | stale groups\npause read\ndelete\nread\nsuccess")
    assert shown(run.world.groups) == "e0:ad e1:as"
    assert not run.world.tags


def test_on_sets_an_accepted_interface_again_after_two_wrong_reads():
    play(
        on_of(fenced()),
        f"""{RESTORED}
        read                | stale groups
        pause read          | stale groups
        pause restore e0:ad e1:as
        read
        delete
        read
        success
        """,
    )


def test_on_counts_wrong_reads_anew_after_each_change():
    steps = f"{RESTORED}\nread | stale groups\npause read | stale groups\npause restore e0:ad e1:as"
    play(on_of(fenced()), f"{steps}\n* groups e0:i e1:i\nread\npause read\npause restore e0:ad e1:as")


def test_on_counts_wrong_reads_in_a_row():
    steps = f"{RESTORED} | e1 throttled\nread\npause restore e1:as | e1 throttled"
    play(on_of(fenced()), f"{steps}\n* groups e0:i\nread\npause restore e1:as\nread\npause restore e0:ad")


def test_on_isolates_again_what_it_had_restored_though_a_later_attempt_failed():
    run = on_of(fenced())
    play(run, f"{RESTORED}\nread | stale groups\npause read | stale groups")
    play(run, "pause restore e0:ad e1:as | e0 throttled, e1 throttled")
    play(run, "off: read\noff: write e0:ad e1:as\nread\nisolate e0:i e1:i", off=new_off(run))


def test_on_says_that_it_has_written_the_backup_again():
    run = on_of(in_progress())
    play(run, f"{DELETED}\n* groups e0:i e1:i\nread\npause read\npause read\nwrite e0:ad e1:as")
    assert run.log[-1] == messages.backup_written(run.plan.id, 3, run.knowledge.backup.latest.time)


def test_on_sets_a_throttled_interface_again_at_once():
    play(on_of(fenced()), f"{RESTORED} | e1 throttled\nread\npause restore e1:as\nread\ndelete\nread\nsuccess")


def test_on_keeps_all_tags_where_one_interface_is_refused():
    run = on_of(fenced())
    tags = set(run.world.tags)
    play(run, f"{RESTORED} | e1 refused\nread\nfail: modification: i-0000000000000000a was not completely restored")
    assert set(run.world.tags) == tags


def test_on_of_a_node_that_was_never_fenced_succeeds():
    play(on_of(World()), "read\nsuccess")


def test_on_of_an_isolated_node_without_a_backup_fails():
    play(on_of(World("e0:i e1:i")), "read\npause read\npause read\nfail: backup:")


def test_on_of_an_instance_that_has_lost_its_name_is_refused():
    play(on_of(fenced()), "read | no name\nwait read | no name\nfail: instance: node1 named i-0000000000000000a and")
    play(on_of(fenced()), "read | no name\nwait read\nclaim\nrestore e0:ad e1:as")


def test_on_restores_the_backup_that_only_a_later_read_shows_of_a_finished_off():
    for claim in ("claim", "claim | refused"):
        steps = f"read | no tags\npause read\n{claim}\nrestore e0:ad e1:as\nread\ndelete\nread\nsuccess"
        play(on_of(fenced()), steps)


def test_two_off_of_the_same_second_and_an_on_lose_no_backup():
    """The second writes to the keys of the first, which has ended, and isolates while the on restores and deletes."""
    world = World()
    first, second, on = off_of(world), off_of(world, nonce=7 << 8), on_of(world, nonce=9)
    play(first, "B: read\nread\nwrite e0:ad e1:as\nread\nisolate e0:i e1:i\nread\nsuccess", B=second)
    play(second, "write e0:ad e1:as\nON: read\nON: claim\nON: restore e0:ad e1:as\nread\nisolate e0:i e1:i", ON=on)
    play(second, "read\nwrite e0:ad e1:as\nON: read\npause read\nsuccess", ON=on)
    play(on, "isolate e0:i e1:i\nread\nfail: restore:")
    play(on_of(world), f"{RESTORED}\nread\ndelete\nread\nsuccess")
    assert shown(world.groups) == "e0:ad e1:as"


@pytest.mark.parametrize("first", ["read", "read | no tags\npause read"])
def test_on_notices_a_second_off_of_the_same_second(first):
    """Its tags have the same keys and contents, and spaces of their own."""
    run = on_of(fenced())
    second = {k: f"{v[:-1]} }}" for k, v in run.world.tags.items() if k != LASTFENCE}
    play(run, f"{first}\nclaim\nrestore e0:ad e1:as")
    run.world.write(second)
    play(run, "read\nisolate e0:i e1:i")


def test_on_does_not_restore_a_backup_that_was_written_after_its_first_read():
    """The first read shows no backup, and one interface open: an off is in progress."""
    world = World("e0:i e1:as")
    run = on_of(world)
    play(run, "read")
    off = off_of(world)
    play(off, "read\n" + 8 * "pause read\n" + "write e0:i e1:as\nread\nisolate e0:i e1:i")
    play(run, "pause read\nfail: ")


def test_on_does_not_restore_beside_an_off_that_began_after_its_first_read():
    """All was isolated in that read, and it showed no tags. Now there are two backups, one of a finished off."""
    run = on_of(fenced())
    play(run, "read | no tags")
    play(new_off(run), "read\nwrite e0:ad e1:as\nread\nisolate e0:i e1:i\nread\nsuccess")
    play(run, "pause read\nfail: ")


def test_on_fails_when_time_is_over():
    play(on_of(fenced()), f"{RESTORED} | e1 throttled\n* 50 s\nread\nfail: deadline:")


def test_on_looks_at_what_it_opened_with_the_time_that_is_kept_for_it():
    """An off has succeeded meanwhile: it is isolated again."""
    world = fenced()
    run = on_of(world)
    play(run, "read")
    play(new_off(run), "read\nwrite e0:ad e1:as\nread\nisolate e0:i e1:i\nread\nsuccess")
    play(run, "claim\n* 41 s\nrestore e0:ad e1:as")
    tick = run.tick()
    assert run.decide(run.plan, run.knowledge, tick).ends == tick.reserve_ends
    play(run, "read\nisolate e0:i e1:i\nread\nfail: ")
    assert shown(world.groups) == "e0:i e1:i"


def test_on_reads_again_where_a_read_lacks_what_is_not_restored_yet():
    run = on_of(fenced())
    play(
        run,
        f"""{RESTORED}          | e1 throttled
        read                | without e1
        pause read
        pause restore e1:as
        read
        delete
        read
        success
        """,
    )
    assert shown(run.world.groups) == "e0:ad e1:as"


def test_on_names_the_groups_of_an_interface_that_went_away_before_it_was_restored():
    run = on_of(fenced())
    play(run, f"{RESTORED} | e1 throttled\nread | without e1\npause read | without e1\ndelete\n* detach e1\nread")
    play(run, "success")
    assert any("sg-33333333333333333" in line and "eni-11111111111111111" in line for line in run.log)


def test_on_fails_after_a_failed_read_and_keeps_the_tags():
    run = on_of(fenced())
    play(run, f"{RESTORED}\nread | refused\nfail: ")
    assert run.world.tags


def test_on_sets_static_groups_instead_of_the_backup():
    run = on_of(fenced(), static=FrozenMap({0: groups("s"), 1: groups("d")}))
    play(run, "read\nclaim\nrestore e0:s e1:d\nread\ndelete\nread\nsuccess")


def test_on_restores_an_interface_that_is_attached_again_meanwhile():
    play(
        on_of(fenced()),
        """
        * detach e1
        read
        claim
        restore e0:ad
        * attach e1:i
        read
        pause restore e1:as
        read
        delete
        read
        success
        """,
    )


@pytest.mark.parametrize(
    "steps",
    ["* detach e1\nread\nclaim\nrestore e0:ad", f"{RESTORED} | e1 gone\n* detach e1"],
    ids=["before", "since"],
)
def test_on_names_once_the_groups_of_an_interface_that_is_gone(steps):
    """By the read that shows it for the first time."""
    run = on_of(fenced())
    play(run, f"{steps}\nread" + ("\npause read" if "gone" in steps else "") + "\ndelete\nread\nsuccess")
    named = [line for line in run.log if "no longer attached" in line]
    assert named == [messages.detached(run.plan.id, eni("e1"), groups("as"))]


def test_on_names_the_groups_of_an_interface_that_is_gone_where_nothing_is_restored():
    """They are deleted with the backup, though no interface that is left has one."""
    run = on_of(fenced())
    play(run, "* detach e0\n* detach e1\n* attach e2:a\nread\nread\ndelete\nsuccess")
    for name in ("eni-00000000000000000", "eni-11111111111111111"):
        assert any(f"{name} of the backup is no longer attached" in line for line in run.log)


def test_on_that_is_to_restore_nothing_asks_nothing():
    run = on_of(fenced(), restore=Restore(ignored=True))
    play(run, "success")
    assert run.log == [messages.restore_skipped(run.plan.id)]


# --- the first read --------------------------------------------------------------------------------------------


def test_on_fails_after_a_first_read_that_failed():
    play(on_of(fenced()), "read | refused\nfail: modification: not permitted")


def test_on_reads_once_more_where_the_instance_is_not_shown():
    play(on_of(fenced()), "read | nothing\nwait read\nclaim\nrestore e0:ad e1:as")
    play(on_of(fenced()), "read | nothing\nwait read | nothing\nfail: instance:")


def test_on_deletes_what_it_has_claimed_though_a_read_shows_what_was_there_before():
    run = on_of(fenced())
    play(run, f"{RESTORED}\nread | stale tags\ndelete\nread\nsuccess")
    assert not run.world.tags


@pytest.mark.parametrize("gone", ["* detach e0\n* detach e1\n", ""])
def test_on_of_an_instance_that_is_terminated_meanwhile_fails(gone):
    """It deletes no tags: there is nothing to restore any more."""
    run = on_of(fenced())
    play(run, f"{RESTORED}\n{gone}* state terminated\nread\nfail: instance: i-0000000000000000a is terminated")


def test_on_of_a_terminated_instance_fails():
    run = on_of(fenced())
    run.world.state = "terminated"
    play(run, "read\nfail: instance: i-0000000000000000a is terminated")


def test_on_reads_again_for_a_backup_though_a_read_does_not_show_the_instance():
    play(on_of(fenced()), "read | no tags\npause read | nothing\npause read\nclaim\nrestore e0:ad e1:as")


def test_on_verifies_also_after_a_read_that_does_not_show_the_instance():
    play(on_of(fenced()), f"{RESTORED}\nread | nothing\npause read\ndelete\nread\nsuccess")


# --- what it says ----------------------------------------------------------------------------------------------


def test_on_of_a_node_without_groups_of_secg_warns_that_there_is_no_backup():
    """Perhaps an off has removed them."""
    run = on_of(World("e0:d e1:s"), REMOVE)
    play(run, "read\npause read\npause read\nsuccess")
    assert run.log == [messages.isolated_without_backup(run.plan.id), messages.nothing_to_restore(run.plan.id)]


@pytest.mark.parametrize("interfaces", ["e0:ad e1:as", ""], ids=["open", "no interfaces"])
def test_on_of_a_node_that_was_never_fenced_warns_of_nothing(interfaces):
    run = on_of(World(interfaces), REMOVE)
    play(run, "read\nsuccess")
    assert run.log == [messages.nothing_to_restore(run.plan.id)]


def test_on_of_a_node_with_one_interface_without_groups_of_secg_warns_of_nothing():
    run = on_of(World("e0:d e1:as"), REMOVE)
    play(run, "read\npause read\npause read\nsuccess")
    assert run.log == [messages.nothing_to_restore(run.plan.id)]


@pytest.mark.parametrize(("spec", "letter"), [(KEEP, "i"), (KEEP_UNTRACK, "o"), (REMOVE_UNTRACK, "o")])
def test_on_names_an_interface_that_stays_as_a_fencer_sets_it(spec, letter):
    """Its backup was written when the original groups were lost already, or it has had no others."""
    world = World(f"e0:{letter} e1:as")
    world.write(make_backup(world.read(""), dict(world.groups), 1, spec).tags)
    run = on_of(world, spec)
    play(run, "read\nclaim")
    assert run.log == [messages.restored_as_fenced(run.plan.id, eni("e0"), groups(letter))]


def test_on_of_a_node_that_lacked_the_groups_to_remove_names_no_interface():
    world = World("e0:d e1:as")
    world.write(make_backup(world.read(""), dict(world.groups), 1, REMOVE).tags)
    run = on_of(world, REMOVE)
    play(run, "read\nclaim")
    assert run.log == []


def test_on_names_an_interface_without_a_backup():
    run = on_of(fenced())
    play(run, "* attach e2:a\nread")
    step = run.decide(run.plan, run.knowledge, run.tick())
    assert [note.text for note in step.notes] == [
        messages.left_without_backup(run.plan.id, "eni-22222222222222222", groups("a"))
    ]


@pytest.mark.parametrize(
    ("why", "older", "lastfence"),
    [
        ("the groups that it had, not those that isolate", "ad", "i"),
        ("if it was isolated by nature, those", "i", "i"),
        ("those of the latest backup", "s", "ad"),
    ],
)
def test_on_names_the_original_groups_of_an_interface_that_is_gone(why, older, lastfence):
    world = World()
    for time, letters in enumerate((older, lastfence), 1):
        some = {"eni-22222222222222222": groups(letters)}
        world.write(make_backup(world.read(""), some, time, KEEP, numbers=dict.fromkeys(some, 3)).tags)
    run = on_of(world)
    play(run, "read\nread")
    named = groups(older if lastfence == "i" else lastfence)
    assert run.log == [messages.detached(run.plan.id, "eni-22222222222222222", named)], why


def test_on_does_not_name_an_interface_that_was_restored_and_went_away_since():
    run = on_of(fenced())
    play(run, f"{RESTORED}\n* detach e1\nread\ndelete\nread\nsuccess")
    assert run.log == [messages.tags_deleted(run.plan.id, 3)]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("", "eni-00000000000000000: reads sg-44444444444444444; eni-11111111111111111: throttled"),
        ("| nothing", "eni-11111111111111111: throttled"),
        ("| refused", "eni-11111111111111111: throttled; last read: not permitted"),
    ],
)
def test_on_says_why_it_is_not_restored(answer, why):
    run = on_of(fenced())
    category = "modification" if "refused" in answer else "deadline"
    text = f"fail: {category}: i-0000000000000000a was not completely restored: {why}; the backup is kept"
    play(run, f"{RESTORED} | e1 throttled\n* groups e0:i\n* 50 s\nread {answer}\n{text}")


def test_on_says_that_no_read_showed_what_it_restored():
    text = "fail: deadline: i-0000000000000000a was not completely restored: interfaces: no read showed them;"
    play(on_of(fenced()), f"{RESTORED}\n* 50 s\nread | nothing\n{text}")


def test_on_says_that_a_change_may_still_arrive():
    text = "was not completely restored: eni-11111111111111111: a change without a reply may still arrive;"
    play(
        on_of(fenced()),
        f"""
        read
        * 37 s
        claim
        restore e0:ad e1:as | e1 lost
        read
        pause restore e1:as
        * 2 s
        read
        fail: deadline: i-0000000000000000a {text}
        """,
    )


# --- what it verifies ------------------------------------------------------------------------------------------


def test_on_waits_until_a_restore_without_a_reply_can_arrive_no_more():
    """It would open the node behind an off that comes after this run."""
    play(on_of(fenced()), f"{RESTORED} | e1 lost\nread\npause restore e1:as\nread\nwait read\ndelete\nread\nsuccess")


def test_on_restores_what_reads_restored_and_was_not_accepted():
    """A read that is behind may show the groups from before the fence."""
    play(
        on_of(fenced()),
        f"{RESTORED} | e1 throttled\n* groups e1:as\nread\npause restore e1:as\nread\ndelete\nread\nsuccess",
    )


def test_on_does_not_try_again_what_was_refused():
    play(on_of(fenced()), f"{RESTORED} | e0 throttled, e1 refused\nread\npause restore e0:ad\nread\nfail: ")


def test_on_restores_what_is_attached_again_also_where_its_first_read_showed_no_tags():
    play(
        on_of(fenced()),
        """
        read                | no tags
        * detach e1
        pause read
        claim
        restore e0:ad
        * attach e1:i
        read
        pause restore e1:as
        read
        delete
        read
        success
        """,
    )


def test_on_that_restores_nothing_does_not_delete_the_backup_of_what_is_isolated_since():
    """Both reads may lack what an off wrote of it."""
    world = fenced()
    play(on_of(world), "* detach e0\n* detach e1\n* attach e2:a\nread\n* groups e2:i\nread\nfail: backup:")
    assert world.tags


def test_on_that_restores_nothing_opens_nothing_behind_an_off_and_claims_nothing():
    world = fenced()
    play(off_of(world), "read\nwrite e0:ad e1:as")
    play(on_of(world), "* detach e0\n* detach e1\n* attach e2:a\nread\nread\ndelete\nsuccess")


def test_on_without_secg_deletes_no_backup_where_it_restores_nothing():
    """It cannot tell what is isolated."""
    run = on_of(fenced(), IsolationSpec())
    play(run, "* detach e0\n* detach e1\n* attach e2:a\nread\nsuccess")
    assert run.world.tags
    assert run.log[-1] == messages.nothing_to_restore(run.plan.id)
