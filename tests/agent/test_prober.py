"""The attempts to connect themselves, on real sockets of this machine."""

import fcntl
import os
import resource
import socket
import struct
import subprocess
import sys
import time

import pytest
from port import Port

from aws_vpc_net import probe
from aws_vpc_net.core.probing import Answer, Standing

HERE = "127.0.7.1"
MULTICAST = "224.0.0.1"  # nothing connects to it: ENETUNREACH


@pytest.fixture
def port():
    with Port(HERE) as made:
        yield made


@pytest.fixture
def prober(port):
    made = probe.Prober(port.number)
    before = {*os.listdir("/proc/self/fd")}
    yield made
    made.close()
    port.close()
    assert {*os.listdir("/proc/self/fd")} <= before, "no socket is left"


def outcome(prober, address=HERE, keep=()):
    """Of one attempt, once it has one; or half a second later."""
    prober.connect([address])
    until = time.monotonic() + 0.5
    while (answer := prober.check([address], keep)[0][address]) is Answer.SILENT and time.monotonic() < until:
        time.sleep(0.01)
    return answer


def test_a_connection_is_an_answer(port, prober):
    port.accept()
    assert outcome(prober) is Answer.ANSWERED


def test_a_refusal_is_an_answer(prober):
    assert outcome(prober) is Answer.ANSWERED


def test_a_dropped_attempt_is_silence(port, prober):
    port.mute()
    assert outcome(prober) is Answer.SILENT


def test_ipv6():
    with Port("::1") as port:
        prober = probe.Prober(port.number)
        assert outcome(prober, "::1") is Answer.ANSWERED
        port.mute()
        assert outcome(prober, "::1") is Answer.SILENT
        prober.close()


@pytest.mark.parametrize("address", [MULTICAST, "no.such.name.invalid", "300.1.1.1", "fe80::zz", ""])
def test_an_impossible_attempt_is_no_answer_and_no_silence(prober, address):
    seconds = []
    for _ in range(5):  # the best of some, as the machine may be doing other things
        began = time.monotonic()
        assert outcome(prober, address) is Answer.IMPOSSIBLE
        seconds.append(time.monotonic() - began)
    assert min(seconds) < 0.2, "no name is looked up"


def test_an_untried_address_is_no_answer_and_no_silence(prober):
    assert prober.check([HERE]) == ({HERE: Answer.IMPOSSIBLE}, {})


def test_an_answer_to_the_attempt_before_the_latest_counts(port, prober):
    """The kernel repeats each attempt after a second. By then the queue accepts the first one, and the second is
    still without an answer."""
    port.mute()
    prober.connect([HERE])
    time.sleep(0.5)
    assert prober.check([HERE])[0] == {HERE: Answer.SILENT}
    prober.connect([HERE])
    port.accept()
    until = time.monotonic() + 5
    while prober.check([HERE])[0] == {HERE: Answer.SILENT}:
        assert time.monotonic() < until
        time.sleep(0.01)


def test_no_more_than_two_attempts_are_under_way(port, prober):
    port.mute()
    for _ in range(5):
        prober.connect([HERE])
    assert len(prober._attempts[HERE]) == 2


def test_the_probe_is_skipped_without_sockets(port):
    """Calls of the API come first."""
    port.accept()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket() as lowest:
        free = lowest.fileno()
    prober = probe.Prober(port.number)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (2 * free, limits[1]))
        prober.connect([HERE])
        assert prober.check([HERE])[0] == {HERE: Answer.IMPOSSIBLE}
        resource.setrlimit(resource.RLIMIT_NOFILE, (2 * free + 4, limits[1]))
        assert outcome(prober) is Answer.ANSWERED
    finally:
        prober.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_a_connection_that_is_kept_is_alive_and_its_end_proves_nothing(port, prober):
    port.accept()
    assert outcome(prober, keep=[HERE]) is Answer.ANSWERED
    time.sleep(1.5)  # a keepalive, which is answered
    assert prober.check([])[1] == {HERE: Standing.ALIVE}
    port._socket.accept()[0].close()
    until = time.monotonic() + 5
    while prober.check([])[1] == {HERE: Standing.ALIVE}:
        assert time.monotonic() < until
    assert prober.check([])[1] == {HERE: Standing.ENDED}
    assert prober.check([])[1] == {HERE: Standing.ENDED}


def test_a_connection_is_not_kept_unless_asked_for(port, prober):
    port.accept()
    outcome(prober)
    assert prober.check([HERE])[1] == {}
    accepted = port._socket.accept()[0]
    accepted.settimeout(5)
    with pytest.raises(ConnectionResetError):
        accepted.recv(1)


SIOCGIFFLAGS, SIOCSIFFLAGS, UP = 0x8913, 0x8914, 1


def switch(up):
    """The loopback interface of this network namespace."""
    with socket.socket() as sock:
        request = struct.pack("16sh", b"lo", 0)
        flags = struct.unpack("16sh", fcntl.ioctl(sock, SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sh", b"lo", flags | UP if up else flags & ~UP))


@pytest.mark.parametrize(
    ("address", "local"),
    [
        (HERE, "127.0.0.1"),
        ("::1", "::1"),
        ("255.255.255.255", None),  # not allowed
        ("localhost", None),  # would be looked up
        ("", None),
    ],
)
def test_the_local_address_on_the_way_to_another(address, local):
    before = {*os.listdir("/proc/self/fd")}
    assert probe.local_address(address) == local
    assert {*os.listdir("/proc/self/fd")} <= before


def lose_the_network():
    """In a namespace of its own: a connection, then no network. Prints when it counts as dead, in seconds."""
    switch(True)
    with Port(HERE) as port:
        port.accept()
        prober = probe.Prober(port.number)
        assert outcome(prober, keep=[HERE]) is Answer.ANSWERED
        assert prober.check([HERE])[1] == {HERE: Standing.ALIVE}
        began = time.monotonic()
        switch(False)
        while prober.check([])[1] != {HERE: Standing.DEAD}:
            assert time.monotonic() - began < 10
            time.sleep(0.02)
        print(time.monotonic() - began)
        prober.close()


def test_a_connection_is_dead_once_two_keepalives_had_no_answer():
    root = [] if os.geteuid() == 0 else ["--map-root-user"]
    command = ["unshare", "--net", *root, sys.executable, __file__]
    path = os.pathsep.join(filter(None, sys.path))
    env = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert 0.9 < float(done.stdout) < 8


if __name__ == "__main__":
    lose_the_network()
