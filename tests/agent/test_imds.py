"""The instance metadata service: the agent waits if it is unavailable, and follows the settings of the SDK."""

import contextlib
import datetime
import socket
import time

import pytest
from assertions import is_isolated
from ec2 import AccessKey, Hook, Imds
from ec2.transport import Transport
from ec2.wire import Reply
from test_access import EXPIRES, files, pair, temporary, use

SDKS = ["distribution", "oldest", "newest"]
FORM = "%Y-%m-%dT%H:%M:%SZ"


@pytest.fixture
def imds(agent, ec2):
    """On node3, with the credentials of its role, and without DMI."""
    agent.is_on(None)
    agent.options.update(access_key=None, secret_key=None)
    del agent.env["AWS_EC2_METADATA_DISABLED"]
    key = temporary(ec2)
    with Imds(ec2.world.nodes["node3"], ec2.region) as running:
        running.credentials(key.access_key, key.secret_key, key.session_token, EXPIRES)
        agent.env["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = running.endpoint
        yield running


# --- temporary failures ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", SDKS)
@pytest.mark.parametrize("mode", ["429", "500", "503", "reset"])
def test_off_waits_for_credentials_of_an_unavailable_imds(agent, ec2, node, keep, imds, mode, which):
    use(agent, which)
    imds.fail_temporarily(mode, seconds=2.5)
    result = agent.pacemaker("off", node, **keep)
    assert result.code == 0, result.err
    assert is_isolated(ec2, node, keep)
    assert "cannot determine which instance" not in result.err


@pytest.mark.parametrize("path", ["api/token", "security-credentials/", "/fence", "instance-id"])
@pytest.mark.parametrize("mode,requests", [("503", 2), ("reset", 2), ("black hole", 1)])
def test_off_waits_at_every_request_to_imds(agent, ec2, node, keep, imds, mode, requests, path):
    imds.fail_temporarily(mode, requests=requests, path=path)
    result = agent.pacemaker("off", node, **keep)
    assert result.code == 0, result.err
    assert is_isolated(ec2, node, keep)


@pytest.mark.parametrize("path", ["api/token", "security-credentials/", "/fence", "instance-id"])
@pytest.mark.parametrize("status", ["302", "400", "401", "404"])
def test_attempts_hold_for_every_reply(agent, ec2, node, keep, imds, status, path):
    """As with the SDK: a role that was just attached is missing at first."""
    agent.env["AWS_METADATA_SERVICE_NUM_ATTEMPTS"] = "3"
    imds.fail_temporarily(status, requests=2, path=path)
    result = agent.pacemaker("off", node, **keep)
    assert result.code == 0, result.err
    assert is_isolated(ec2, node, keep)
    assert "cannot determine which instance" not in result.err


def test_off_waits_for_a_service_that_restarts(agent, ec2, node, keep, imds):
    """An error, then refused connections for longer than the wait on a machine without the service."""
    imds.fail_temporarily("503", requests=1)
    running = agent.start(*agent.arguments("off", node, **keep))
    while not imds.paths:
        time.sleep(0.02)
        assert running.poll() is None
    imds._transport.stop()
    port = int(imds.endpoint.rpartition(":")[2])
    with socket.socket() as kept:  # from others, which look for a free one; who connects is refused
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        kept.bind(("127.0.0.1", port))
        time.sleep(4)
        assert running.poll() is None, running.communicate()[1]
        again = Imds(ec2.world.nodes["node3"], ec2.region, port=port)
    with again:
        again.values = imds.values
        _, err = running.communicate(timeout=60)
    assert running.returncode == 0, err
    assert is_isolated(ec2, node, keep)


def test_imds_version_1_is_used_without_version_2(agent, ec2, node, keep, imds):
    imds.fail_temporarily("501", requests=100, path="api/token")
    imds.v1 = True
    assert agent.pacemaker("off", node, **keep).code == 0


def test_off_waits_for_the_region_of_an_unavailable_imds(agent, ec2, node, keep, imds):
    imds.fail_temporarily("503", requests=5, path="placement/region")
    assert agent.pacemaker("off", node, region=None, **keep).code == 0


def test_self_fencing_is_refused_with_an_unavailable_imds(agent, ec2, keep, imds):
    imds.fail_temporarily("503", seconds=2.5, path="instance-id")
    result = agent.pacemaker("off", ec2.world.nodes["node3"], **keep)
    assert "Self-fencing detected" in result.last


@pytest.mark.parametrize("which", SDKS)
def test_an_unavailable_imds_is_named_at_the_deadline(agent, node, keep, imds, which):
    use(agent, which)
    imds.mode = "503"
    result = agent.pacemaker("off", node, deadline=4, **keep)
    assert result.last.startswith("ERROR: deadline error: gave up after 4 s: set up the AWS SDK and its credentials")
    assert f"the instance metadata service {imds.endpoint}: HTTP 503" in result.last
    assert result.seconds < 6


def test_an_attempt_that_the_deadline_cuts_off_does_not_hide_an_unavailable_imds(agent, node, keep, imds):
    agent.env["AWS_METADATA_SERVICE_TIMEOUT"] = "10"
    imds.fail_temporarily("503", requests=1)
    imds.mode = "black hole"
    result = agent.pacemaker("off", node, deadline=4, **keep)
    assert f"the instance metadata service {imds.endpoint}: HTTP 503" in result.last


@pytest.mark.parametrize("which", SDKS)
@pytest.mark.parametrize("why,told", [("404", "HTTP 404"), ("black hole", "no reply"), ("refused", "refused")])
def test_a_machine_without_a_role_is_reported_soon(agent, node, keep, imds, which, why, told):
    use(agent, which)
    imds.mode = why
    with socket.socket() as refuses:  # as long as it does not listen
        refuses.bind(("127.0.0.1", 0))
        if why == "refused":
            agent.env["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = f"http://127.0.0.1:{refuses.getsockname()[1]}"
        result = agent.pacemaker("off", node, **keep)
    assert result.last.startswith("ERROR: authentication error: ")
    assert "Unable to locate credentials; the instance metadata service http://" in result.last
    assert told in result.last
    assert result.seconds < 14
    assert len(imds.paths) <= 6


@pytest.mark.parametrize("which", SDKS)
def test_off_does_not_need_imds_after_the_credentials(agent, ec2, node, keep, imds, which):
    """They are valid for three more minutes, so the SDK would refresh them at each call, and IMDS fails."""
    use(agent, which)
    key = temporary(ec2)
    soon = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(minutes=3)
    imds.credentials(key.access_key, key.secret_key, key.session_token, soon.strftime(FORM))
    ec2.rules.add("DescribeInstances", Hook(lambda _call: setattr(imds, "mode", "503")))
    assert agent.pacemaker("off", node, **keep).code == 0
    assert imds.mode == "503"


@pytest.mark.parametrize("which", SDKS)
def test_off_takes_new_credentials_when_its_own_expire(agent, ec2, node, keep, imds, which):
    use(agent, which)
    old = ec2.keys["ASIATEMPORARY0000001"]

    def expire(_call):
        old.expired = True
        new = ec2.keys.add(AccessKey("ASIATEMPORARY0000002", "another/secret+key", "another//token=="))
        imds.credentials(new.access_key, new.secret_key, new.session_token, EXPIRES)
        imds.revoke()

    ec2.rules.add("CreateTags", Hook(expire))
    result = agent.pacemaker("off", node, **keep)
    assert result.code == 0, result.err
    assert is_isolated(ec2, node, keep)


def test_credentials_that_stay_expired_are_reported_at_once(agent, ec2, node, keep, imds):
    ec2.keys["ASIATEMPORARY0000001"].expired = True
    result = agent.pacemaker("off", node, **keep)
    assert result.last.startswith("ERROR: authentication error: ")
    assert "RequestExpired" in result.last
    assert len(ec2.calls) == 2


def test_imds_that_forgets_its_tokens_gives_new_ones(agent, ec2, node, keep, imds):
    imds.uses = 1
    assert agent.pacemaker("off", node, **keep).code == 0


def test_imds_without_tokens_is_asked_without_one(agent, node, keep, imds):
    """As behind one hop more than it allows for tokens, or where something old stands in its place."""
    imds.v1 = True
    imds.fail_temporarily("405", requests=100, path="api/token")
    assert agent.pacemaker("off", node, **keep).code == 0
    agent.env["AWS_EC2_METADATA_V1_DISABLED"] = "true"
    assert agent.pacemaker("off", node, **keep).last.startswith("ERROR: authentication error: ")


def container(agent, status, count):
    """A credentials service of a container that fails so often."""
    left = [count]

    def answer(_request, send):
        left[0] -= 1
        key = agent.ec2.key
        given = {"AccessKeyId": key.access_key, "SecretAccessKey": key.secret_key, "Token": "", "Expiration": EXPIRES}
        text = str({k: v for k, v in given.items() if v} | {"Token": ""}).replace("'", '"')
        send(Reply(status, b"not now") if left[0] >= 0 else Reply(200, text.encode()))

    service = Transport(answer)
    service.start()
    agent.env["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = service.endpoint + "/credentials"
    agent.options.update(access_key=None, secret_key=None)
    return service


@pytest.mark.parametrize("which", SDKS)
def test_off_waits_for_the_credentials_of_a_container(agent, node, keep, which):
    use(agent, which)
    service = container(agent, 503, 5)
    try:
        assert agent.pacemaker("off", node, **keep).code == 0
    finally:
        service.stop()


def test_a_container_without_credentials_is_reported(agent, node, keep):
    service = container(agent, 404, 1000)
    try:
        result = agent.pacemaker("off", node, **keep)
    finally:
        service.stop()
    assert result.last.startswith("ERROR: authentication error: ")
    assert result.seconds < 14


# --- the SDK's settings ----------------------------------------------------------------------------------------


def in_the_file(agent, *lines):
    """The endpoint is not in the environment but in the configuration file."""
    agent.env.pop("AWS_EC2_METADATA_SERVICE_ENDPOINT", None)
    files(agent, "[default]\n" + "".join(f"{line}\n" for line in lines))


@contextlib.contextmanager
def ipv6_in_place(agent, tmp_path, imds):
    """A machine on which the IPv6 address of IMDS is that of the test service."""
    folder = tmp_path / "names"
    folder.mkdir()
    port = imds.endpoint.rpartition(":")[2]
    (folder / "sitecustomize.py").write_text(
        "import socket\nfind = socket.getaddrinfo\n"
        "def getaddrinfo(host, port, *rest, **more):\n"
        f"    there = ('127.0.0.1', {port}) if host == 'fd00:ec2::254' and port == 80 else (host, port)\n"
        "    return find(*there, *(rest if there[0] == host else (0, *rest[1:])), **more)\n"
        "socket.getaddrinfo = getaddrinfo\n",
        encoding="ascii",
    )
    known = agent.env.get("PYTHONPATH")
    agent.env["PYTHONPATH"] = f"{folder}:{known}" if known else str(folder)
    yield


SETTINGS = {
    "endpoint in the file": lambda agent, imds: in_the_file(agent, f"ec2_metadata_service_endpoint={imds.endpoint}"),
    "with a slash": lambda agent, imds: in_the_file(agent, f"ec2_metadata_service_endpoint={imds.endpoint}/"),
    "IPv6 in the file": lambda agent, imds: in_the_file(agent, "ec2_metadata_service_endpoint_mode=ipv6"),
    "IPv6 of old SDKs": lambda agent, imds: in_the_file(agent, "imds_use_ipv6=true"),
    "IPv6": lambda agent, imds: (
        agent.env.pop("AWS_EC2_METADATA_SERVICE_ENDPOINT"),
        agent.env.update(AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE="IPv6"),
    ),
    "endpoint before IPv6": lambda agent, imds: agent.env.update(AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE="IPv6"),
}


@pytest.mark.parametrize("which", SDKS)
@pytest.mark.parametrize("how", SETTINGS)
def test_credentials_identity_and_region_follow_one_setting(agent, ec2, keep, imds, tmp_path, which, how):
    use(agent, which)
    with ipv6_in_place(agent, tmp_path, imds):
        SETTINGS[how](agent, imds)
        result = agent.pacemaker("off", ec2.world.nodes["node3"], region=None, **keep)
    assert "Self-fencing detected" in result.last, result.err
    assert [p.rpartition("/")[2] for p in imds.paths] == ["token", "region", "", "fence", "instance-id"]


def test_the_endpoint_of_the_profile_holds_for_identity(agent, ec2, keep, imds):
    agent.env.pop("AWS_EC2_METADATA_SERVICE_ENDPOINT")
    files(agent, f"[profile a]\nec2_metadata_service_endpoint={imds.endpoint}\n", f"[a]\n{pair(ec2.key)}")
    result = agent.pacemaker("off", ec2.world.nodes["node3"], profile="a", **keep)
    assert "Self-fencing detected" in result.last


def test_attempts_and_seconds_hold_for_identity_too(agent, ec2, keep, imds):
    """A service that answers after the SDK's second is too slow by default, and not with seven."""
    agent.options.update(access_key=ec2.key.access_key, secret_key=ec2.key.secret_key)
    imds.slow = 1.8
    assert agent.pacemaker("off", ec2.world.nodes["node3"], **keep).code == 0
    agent.env["AWS_METADATA_SERVICE_TIMEOUT"] = "7"
    assert "Self-fencing detected" in agent.pacemaker("off", ec2.world.nodes["node3"], **keep).last


@pytest.mark.parametrize("mode", ["ipv5", ""])
def test_an_invalid_setting_is_reported(agent, node, keep, imds, mode):
    agent.env.pop("AWS_EC2_METADATA_SERVICE_ENDPOINT")
    agent.env["AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE" if mode else "AWS_EC2_METADATA_SERVICE_ENDPOINT"] = mode or "x"
    assert agent.pacemaker("off", node, **keep).last.startswith("ERROR: authentication error: ")


def test_a_disabled_imds_gets_no_request(agent, node, keep, imds):
    agent.env["AWS_EC2_METADATA_DISABLED"] = "true"
    result = agent.pacemaker("off", node, **keep)
    assert "switched off by AWS_EC2_METADATA_DISABLED" in result.last
    assert imds.paths == []


DEAD = "http://127.0.0.1:9"
PROXIES = {
    "http_proxy": {"http_proxy": DEAD},
    "HTTP_PROXY": {"HTTP_PROXY": DEAD},
    "ALL_PROXY": {"ALL_PROXY": DEAD, "all_proxy": DEAD},
    "NO_PROXY": {"http_proxy": DEAD, "NO_PROXY": "example.com"},
    "no_proxy": {"HTTP_PROXY": DEAD, "no_proxy": "[fe80::1],.example.com", "NO_PROXY": "*.example.com"},
    "defaults": {"http_proxy": DEAD, "AWS_DEFAULTS_MODE": "auto"},
}


@pytest.mark.parametrize("env", PROXIES)
@pytest.mark.parametrize(
    "how,which", [("endpoint in the file", "oldest"), ("IPv6", "distribution"), ("endpoint in the file", "newest")]
)
def test_imds_requests_never_use_a_proxy(agent, ec2, keep, imds, tmp_path, which, env, how):
    use(agent, which)
    agent.env.update(PROXIES[env])
    with ipv6_in_place(agent, tmp_path, imds):
        SETTINGS[how](agent, imds)
        result = agent.pacemaker("off", ec2.world.nodes["node3"], region=None, deadline=10, **keep)
    assert "Self-fencing detected" in result.last, result.err
