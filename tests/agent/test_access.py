"""Every way to credentials and to the API, with every boto3; and none of their secrets in any output."""

import base64
import contextlib
import hashlib
import json
import os
import re
import socket
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from ec2 import AccessKey, Error, Imds, Proxy, ServerError, Stall
from ec2.proxy import certificate
from ec2.transport import Transport
from ec2.wire import Reply

from aws_vpc_net import settings
from aws_vpc_net.errors import FenceError

NAMES = (
    "*.eu-central-1.amazonaws.com",
    "*.us-east-1.amazonaws.com",
    "*.amazonaws.com",
    "*.sso.eu-central-1.amazonaws.com",
    "*.eu-central-1.api.aws",
)
HOSTS = [f"{name}:443" for name in ("ec2.eu-central-1.amazonaws.com", "sts.eu-central-1.amazonaws.com")]
HOSTS.append("sts.amazonaws.com:443")  # where older SDKs ask
PORTAL = "portal.sso.eu-central-1.amazonaws.com:443"
EXPIRES = "2036-01-01T00:00:00Z"
PASSWORD = "p@ss/w:rd+&%'#?"
# An address of a network device that is not there: "no such host", said without asking a name server.
NO_SUCH_HOST = "http://[fe80::1%25nowhere]"


@pytest.fixture(scope="session")
def pem(tmp_path_factory):
    return certificate(tmp_path_factory.mktemp("tls"), *NAMES)


def use(agent, which):
    """The agent with this boto3."""
    if which != "distribution":
        known = agent.env.get("PYTHONPATH")
        folder = os.environ[f"BOTO3_{which.upper()}"]
        agent.env["PYTHONPATH"] = f"{known}:{folder}" if known else folder


@pytest.fixture
def proxy(ec2, pem):
    with Proxy(pem, "squid", PASSWORD) as running:
        emulator = ("127.0.0.1", ec2.port)
        running.routes = dict.fromkeys([*HOSTS, f"127.0.0.1:{ec2.port}"], emulator)
        yield running


@pytest.fixture
def behind(agent, proxy, pem):
    """The agent where only a proxy leads to AWS, whose names it uses; returns what the proxy was asked for."""
    agent.env["AWS_CA_BUNDLE"] = str(pem)
    agent.options.update(endpoint_url=None, proxy=proxy.url)
    return proxy.asked


def no_keys(agent):
    agent.options.update(access_key=None, secret_key=None)


def files(agent, config="", credentials=""):
    """The shared files, in the agent's home."""
    no_keys(agent)
    folder = agent.folder / ".aws"
    folder.mkdir()
    (folder / "config").write_text(config, encoding="utf-8")
    (folder / "credentials").write_text(credentials, encoding="utf-8")


def pair(key):
    return f"aws_access_key_id={key.access_key}\naws_secret_access_key={key.secret_key}\n"


def temporary(ec2):
    """Temporary credentials as AWS makes them."""
    token = "FwoGZXIvYXdzEJr//////////wEaDEXAMPLE+token/of=many==kinds"
    return ec2.keys.add(AccessKey("ASIATEMPORARY0000001", "temporary/secret+key000000000000000000000", token))


# --- the ways: each sets the agent up, and yields the secrets that are in play ---------------------------------


@contextlib.contextmanager
def environment(agent, ec2):
    key = temporary(ec2)
    no_keys(agent)
    agent.env.update(AWS_ACCESS_KEY_ID=key.access_key, AWS_SECRET_ACCESS_KEY=key.secret_key)
    agent.env["AWS_SESSION_TOKEN"] = key.session_token
    yield [key.secret_key, key.session_token]


@contextlib.contextmanager
def options(agent, ec2):
    yield [ec2.key.secret_key]


@contextlib.contextmanager
def shared_file(agent, ec2):
    key = temporary(ec2)
    files(agent, credentials=f"[default]\n{pair(key)}aws_session_token={key.session_token}\n")
    yield [key.secret_key, key.session_token]


@contextlib.contextmanager
def profile_of_the_file(agent, ec2):
    files(agent, credentials=f"[default]\n{pair(AccessKey('AKIAWRONG', 'wrong'))}[cluster]\n{pair(ec2.key)}")
    agent.options["profile"] = "cluster"
    yield [ec2.key.secret_key]


def chain(agent, ec2):
    """Profile b's role is taken with the role of a, which is taken with keys of the file."""
    role = f"arn:aws:iam::{ec2.account}:role"
    profiles = (
        f"[profile a]\nrole_arn={role}/a\nsource_profile=base\n[profile b]\nrole_arn={role}/b\nsource_profile=a\n"
    )
    files(agent, profiles, f"[base]\n{pair(ec2.key)}")
    agent.options["profile"] = "b"


def assumed(ec2):
    """What STS gave out."""
    return [key for name, key in ec2.keys._keys.items() if name not in (ec2.key.access_key, "ASIATEMPORARY0000001")]


@contextlib.contextmanager
def roles(agent, ec2):
    chain(agent, ec2)
    secrets = [ec2.key.secret_key]
    yield secrets
    first, second = assumed(ec2)
    assert [*dict.fromkeys(c.key_id for c in ec2.calls)] == [ec2.key.access_key, first.access_key, second.access_key]
    secrets += [s for key in (first, second) for s in (key.secret_key, key.session_token)]


@contextlib.contextmanager
def instance_role_of(agent, ec2, mode):
    """IMDS with credentials, in this mode, and proxies in the environment that are not for it."""
    key = temporary(ec2)
    no_keys(agent)
    agent.env.pop("AWS_EC2_METADATA_DISABLED", None)
    with Imds(ec2.world.nodes["node3"], ec2.region) as imds:
        imds.mode = mode
        imds.credentials(key.access_key, key.secret_key, key.session_token, EXPIRES)
        agent.env["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = imds.endpoint + "/"  # older SDKs want it so
        agent.env["http_proxy"] = "http://127.0.0.1:9"
        yield imds, [key.secret_key, key.session_token]


@contextlib.contextmanager
def instance_role(agent, ec2):
    with instance_role_of(agent, ec2, "ok") as (imds, secrets):
        yield secrets
        assert "GET /latest/meta-data/iam/security-credentials/fence" in imds.paths
        secrets += imds.tokens


@contextlib.contextmanager
def single_sign_on(agent, ec2):
    """A portal that gives role credentials for the access token of a log-in, which is on disk."""
    key = temporary(ec2)
    start = "https://example.awsapps.com/start"
    lines = (
        "sso_region=eu-central-1",
        f"sso_start_url={start}",
        f"sso_account_id={ec2.account}",
        "sso_role_name=fence",
    )
    files(agent, "[profile people]\n" + "\n".join(lines) + "\n")
    agent.options["profile"] = "people"
    cache = agent.folder / ".aws" / "sso" / "cache"
    cache.mkdir(parents=True)
    token = "eyJlbmMiOiJBMjU2R0NNIiwidGFnIjoiLEXAMPLEaccessToken"
    cached = {"startUrl": start, "region": "eu-central-1", "accessToken": token, "expiresAt": EXPIRES}
    (cache / f"{hashlib.sha1(start.encode()).hexdigest()}.json").write_text(json.dumps(cached), encoding="ascii")

    def answer(request, send):
        if request.headers["x-amz-sso_bearer_token"] != token:
            send(Reply(401, b'{"code": "UnauthorizedException", "message": "Session token not found or invalid"}'))
            return
        names = ("accessKeyId", "secretAccessKey", "sessionToken")
        given = dict(zip(names, (key.access_key, key.secret_key, key.session_token)))
        send(Reply(200, json.dumps({"roleCredentials": {**given, "expiration": 2082758400000}}).encode()))

    portal = Transport(answer)
    portal.start()
    agent.portal = ("127.0.0.1", portal.server_address[1])
    try:
        yield [key.secret_key, key.session_token, token]
    finally:
        portal.stop()


WAYS = [options, environment, shared_file, profile_of_the_file, roles, instance_role, single_sign_on]
OTHER_SDKS = [environment, roles, instance_role, single_sign_on]  # where versions differ


def forms(secret):
    """A secret, and what encodings make of it."""
    raw = secret.encode()
    encoded = {quote(secret), quote(secret, safe=""), quote_plus(secret), base64.b64encode(raw).decode()}
    return {
        secret,
        repr(secret)[1:-1],
        json.dumps(secret)[1:-1],
        json.dumps(secret).replace("/", "\\/")[1:-1],
    } | encoded


def proves_a_way(agent, ec2, proxy, syslog, keep, way):
    debug, log = (agent.folder / name for name in ("debug", "boto3.log"))
    agent.env["FENCE_AWS_VPC_NET_BOTO3_LOG"] = str(log)
    given = {**keep, "boto3_debug": "1", "debug_file": debug, "verbose_level": 3}
    with way(agent, ec2) as secrets:
        proxy.routes[PORTAL] = getattr(agent, "portal", None)
        result = agent.pacemaker("status", ec2.world.nodes["node1"], **given)
        assert result.code == 0, result.err
    assert "CONNECT ec2.eu-central-1.amazonaws.com:443" in proxy.asked
    assert [c.action for c in ec2.calls if " fence_aws_vpc_net/0.1.0" not in c.user_agent] == []
    texts = [result.out, result.err, *(path.read_text("utf-8") for path in (debug, log, syslog))]
    assert [len(t) > 200 for t in texts[1:]] == [True] * 4
    assert "***" in texts[3], "what the SDK logs is nothing to be proud of"
    secrets += [PASSWORD, f"{proxy.user}:{PASSWORD}"]
    assert [s for s in secrets for form in forms(s) for text in texts if form in text] == []


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_credentials_work_through_a_proxy_and_show_no_secret(agent, ec2, behind, proxy, syslog, keep, way):
    proves_a_way(agent, ec2, proxy, syslog, keep, way)


@pytest.mark.parametrize("way", OTHER_SDKS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("which", ["oldest", "newest"])
def test_oldest_and_newest_boto3_behave_the_same(agent, ec2, behind, proxy, syslog, keep, way, which):
    use(agent, which)
    proves_a_way(agent, ec2, proxy, syslog, keep, way)


@pytest.mark.parametrize("way", [roles, single_sign_on], ids=lambda way: way.__name__)
@pytest.mark.parametrize("which", ["distribution", "oldest", "newest"])
def test_a_list_leaves_dates_unread_and_knows_when_credentials_expire(agent, ec2, behind, proxy, way, which):
    use(agent, which)
    with way(agent, ec2):
        proxy.routes[PORTAL] = getattr(agent, "portal", None)
        assert len(agent.pacemaker("list").out.splitlines()) == 3


# --- what goes wrong on the way --------------------------------------------------------------------------------


def refused(agent, ec2, keep, **options):
    """The last line of an off that fails, shows no password, and changes nothing."""
    before = ec2.snapshot()
    given = {**keep, "verbose_level": 3, "deadline": 12, **options}
    result = agent.pacemaker("off", ec2.world.nodes["node1"], **given)
    assert result.code == 1
    assert ec2.snapshot() == before
    assert [form for form in forms(PASSWORD) if form in result.err] == []
    assert result.seconds < given["deadline"] + 2
    return result.last


def test_a_proxy_is_used_for_http_too(agent, ec2, proxy, keep):
    assert agent.command("status", ec2.world.nodes["node1"], proxy=proxy.url, **keep).code == 0
    assert proxy.asked == [f"http://127.0.0.1:{ec2.port}"]


@pytest.mark.parametrize("which", ["distribution", "newest"])
def test_a_proxy_that_is_dead_ends_by_the_deadline(agent, ec2, behind, proxy, keep, which):
    use(agent, which)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = proxy.url.replace(str(proxy.port), str(free.getsockname()[1]))
        last = refused(agent, ec2, keep, proxy=url, deadline=6)
    assert last.startswith("ERROR: deadline error: gave up after 6 s: read")
    assert "Failed to connect to proxy" in last


def test_a_proxy_that_never_answers_ends_by_the_deadline(agent, ec2, behind, proxy, keep):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = proxy.url.replace(str(proxy.port), str(silent.getsockname()[1]))
        last = refused(agent, ec2, keep, proxy=url, deadline=3, api_timeout=1)
    assert last.startswith("ERROR: deadline error: gave up after 3 s")


@pytest.mark.parametrize("which", ["distribution", "oldest", "newest"])
def test_a_wrong_proxy_password_is_reported_at_once(agent, ec2, behind, proxy, keep, which):
    use(agent, which)
    proxy.basic = "other"
    assert "the proxy refused the connection: 407 Proxy Authentication Required" in refused(agent, ec2, keep)


def test_a_proxy_that_refuses_the_api_is_reported_at_once(agent, ec2, behind, proxy, keep):
    proxy.routes.clear()
    assert "DescribeInstances: the proxy refused the connection: 403 Forbidden" in refused(agent, ec2, keep)


def test_a_proxy_without_an_address_is_reported_at_once(agent, ec2, behind, proxy, keep):
    """The network device does not exist: "no such host", without a query to a name server."""
    url = proxy.url.replace("127.0.0.1", "[fe80::1%25nowhere]")
    assert "no such host; check proxy" in refused(agent, ec2, keep, proxy=url)


@pytest.mark.parametrize(
    "proxy",
    ["{}", "squid:{}@proxy:3128", "ftp://squid:{}@proxy:3128", "http://squid:{}@", "http://squid:{}@proxy:99999",
     "http://squid:{}@proxy:0", "http://squid:{}@proxy:3128/path", "http://squid:p/{}@proxy:3128",
     "http://squid:p@{}@proxy:3128", "http://squid:{}@proxy:3128?x", "http://squid:{}#@proxy",
     "http://squid:{} @proxy",
     "http://squid:ä{}@proxy:3128", "http://squid:%c3%a4{}@proxy:3128", "http://squid:%0a{}@proxy:3128"],
)  # fmt: skip
def test_a_malformed_proxy_is_refused_and_not_shown(proxy):
    with pytest.raises(FenceError) as raised:
        settings.parse({"--action": "monitor", "--proxy": proxy.format("HIDE-ME")})
    assert str(raised.value).startswith(
        "validation error: proxy is not of the form http(s)://[user:password@]host:port"
    )
    assert "HIDE" not in str(raised.value)


@pytest.mark.parametrize("which", ["distribution", "oldest", "newest"])
@pytest.mark.parametrize(
    "url", ["http://[", "http://127.0.0.1:99999", "http://:80", "http://squid:HIDE-ME/x@127.0.0.1:80", "http://a..b:80"]
)
def test_a_malformed_proxy_in_the_environment_is_reported_at_once_and_not_shown(agent, ec2, keep, url, which):
    use(agent, which)
    agent.env["HTTP_PROXY"] = url
    result = agent.command("off", ec2.world.nodes["node1"], verbose_level=3, **keep)
    assert result.code == 1
    assert result.seconds < 5
    assert "HIDE-ME" not in result.err
    assert result.last.startswith("ERROR: validation error: cannot read instance ")
    assert result.last.endswith("is malformed (value not shown); correct HTTP_PROXY, proxy or endpoint_url")


def test_a_malformed_proxy_changes_nothing(agent, ec2, keep):
    last = refused(agent, ec2, keep, proxy="http://squid:HIDE-ME#@proxy:3128")
    assert last.startswith("ERROR: validation error: proxy is not")
    assert "HIDE" not in last


def test_a_missing_profile_is_reported(agent, ec2, keep):
    files(agent, "[profile other]\n")
    assert "The config profile (nobody) could not be found" in refused(agent, ec2, keep, profile="nobody")


def test_a_profile_and_keys_together_are_refused(agent, ec2, keep):
    last = refused(agent, ec2, keep, profile="cluster")
    assert last.startswith("ERROR: validation error: profile and access-key are both set; remove one")


def test_a_profile_takes_precedence_over_environment_keys(agent, ec2, keep):
    files(agent, credentials=f"[cluster]\n{pair(ec2.key)}")
    agent.env.update(AWS_ACCESS_KEY_ID="AKIAWRONG", AWS_SECRET_ACCESS_KEY="wrong")
    assert agent.command("status", ec2.world.nodes["node1"], profile="cluster", **keep).code == 0


def test_a_refused_assume_role_is_reported_at_once(agent, ec2, behind, keep):
    chain(agent, ec2)
    ec2.key.deny("sts:AssumeRole")
    metrics = agent.folder / "fence.prom"
    last = refused(agent, ec2, keep, metrics_file=metrics)
    assert last.startswith("ERROR: authentication error: ")
    assert "no credentials: AssumeRole: AccessDenied" in last
    # The alert FencingNotPermitted names this call. EC2 has not been asked.
    counted = re.findall(r'_api_errors_total\{call="(\w+)",code="(\w+)"\}', metrics.read_text(encoding="ascii"))
    assert counted == [("AssumeRole", "AccessDenied")]


def test_a_transient_sts_error_is_retried(agent, ec2, behind, keep):
    chain(agent, ec2)
    ec2.rules.add("AssumeRole", ServerError())
    ec2.rules.add("AssumeRole", Error("Throttling", "Rate exceeded"), nth=2)
    assert agent.command("status", ec2.world.nodes["node1"], **keep).code == 0


@pytest.mark.parametrize("which", ["distribution", "newest"])
def test_an_sts_that_stalls_ends_by_the_deadline(agent, ec2, behind, keep, which):
    use(agent, which)
    chain(agent, ec2)
    ec2.rules.add("AssumeRole", Stall(), times=None)
    last = refused(agent, ec2, keep, deadline=5, api_timeout=1)
    assert last.startswith("ERROR: deadline error: gave up after 5 s: ")


# --- STS: with every SDK that of the region, which a VPC endpoint serves ---------------------------------------

REGIONAL, GLOBAL = HOSTS[1], HOSTS[2]
SDKS = ["distribution", "oldest", "newest"]


def other_region(agent, ec2, _imds):
    """The profile has a region of its own, and the option goes before it."""
    chain(agent, ec2)
    with (agent.folder / ".aws" / "config").open("a") as file:
        file.write("region=us-east-1\n")


def instance_role_takes_another(agent, ec2, imds):
    """As in doc/setup.md; only the metadata service names the region."""
    agent.env.pop("AWS_EC2_METADATA_DISABLED")
    agent.env["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = imds.endpoint
    agent.options.update(region=None)
    lines = f"role_arn = arn:aws:iam::{ec2.account}:role/fencing\ncredential_source = Ec2InstanceMetadata\n"
    files(agent, f"[profile b]\n{lines}")
    agent.options["profile"] = "b"


@pytest.mark.parametrize("which", SDKS)
@pytest.mark.parametrize("way", [lambda *a: chain(*a[:2]), other_region, instance_role_takes_another],
                         ids=["chain", "other region", "instance role"])  # fmt: skip
def test_the_regional_sts_is_used(agent, ec2, behind, proxy, keep, which, way):
    use(agent, which)
    key = temporary(ec2)
    with Imds(ec2.world.nodes["node3"], ec2.region) as imds:
        imds.credentials(key.access_key, key.secret_key, key.session_token, EXPIRES)
        way(agent, ec2, imds)
        result = agent.pacemaker("off", ec2.world.nodes["node1"], **keep)
    assert result.code == 0, result.err
    assert f"CONNECT {REGIONAL}" in behind
    assert f"CONNECT {GLOBAL}" not in behind


@pytest.mark.parametrize("which", ["distribution", "oldest"])
@pytest.mark.parametrize("where", ["environment", "file"])
def test_the_global_sts_is_used_if_configured(agent, ec2, behind, keep, which, where):
    use(agent, which)
    chain(agent, ec2)
    if where == "environment":
        agent.env["AWS_STS_REGIONAL_ENDPOINTS"] = "legacy"
    else:
        with (agent.folder / ".aws" / "config").open("a") as file:
            file.write("sts_regional_endpoints=legacy\n")
    assert agent.command("status", ec2.world.nodes["node1"], **keep).code == 0
    assert f"CONNECT {GLOBAL}" in behind


@pytest.mark.parametrize("which", SDKS)
def test_a_proxy_that_refuses_sts_is_reported(agent, ec2, behind, proxy, keep, which):
    use(agent, which)
    chain(agent, ec2)
    del proxy.routes[REGIONAL], proxy.routes[GLOBAL]
    last = refused(agent, ec2, keep)
    assert last.startswith("ERROR: authentication error: ")
    assert "no credentials: AssumeRole of STS at sts.eu-central-1.amazonaws.com: the proxy refused" in last
    assert ": 403" in last
    assert "DescribeInstances" not in last
    assert "password" not in last


@pytest.mark.parametrize("which", SDKS)
def test_an_sts_that_cannot_be_reached_is_named(agent, ec2, behind, proxy, keep, which):
    use(agent, which)
    chain(agent, ec2)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        agent.options.update(proxy=None, endpoint_url=ec2.endpoint)
        agent.env["https_proxy"] = f"http://127.0.0.1:{free.getsockname()[1]}"
        last = refused(agent, ec2, keep, deadline=4)
    assert last.startswith("ERROR: deadline error: gave up after 4 s")
    assert "no credentials: AssumeRole of STS at sts.eu-central-1.amazonaws.com: " in last


@pytest.mark.parametrize("which", SDKS)
def test_an_sts_that_never_answers_is_named(agent, ec2, behind, keep, which):
    use(agent, which)
    chain(agent, ec2)
    ec2.rules.add("AssumeRole", Stall(), times=None)
    last = refused(agent, ec2, keep, deadline=6, api_timeout=1)
    assert last.startswith("ERROR: deadline error: gave up after 6 s")
    assert "AssumeRole of STS at sts.eu-central-1.amazonaws.com" in last
    assert "DescribeInstances" not in last, "also of attempts that wait for the first one"


def test_an_expired_login_is_reported_at_once(agent, ec2, behind, proxy, keep):
    with single_sign_on(agent, ec2):
        proxy.routes[PORTAL] = agent.portal
        for path in (agent.folder / ".aws" / "sso" / "cache").iterdir():
            path.write_text(path.read_text().replace("EXAMPLE", "OUTDATED"), encoding="ascii")
        assert refused(agent, ec2, keep).startswith("ERROR: authentication error: ")


def test_an_mfa_profile_is_reported(agent, ec2, behind, keep, monkeypatch):
    chain(agent, ec2)
    with (agent.folder / ".aws" / "config").open("a") as file:
        file.write("mfa_serial=arn:aws:iam::1:mfa/x\n")
    monkeypatch.setenv("AGENT_RUNNER", "setsid -w")  # without a terminal
    last = refused(agent, ec2, keep)
    assert "the credentials require input, such as an MFA code" in last


@pytest.mark.parametrize("mode", ["black hole", "404", "garbage"])
def test_imds_without_credentials_is_reported(agent, ec2, keep, mode):
    with instance_role_of(agent, ec2, mode) as (imds, _):
        last = refused(agent, ec2, keep, deadline=12)
    assert last.startswith("ERROR: authentication error: ")
    assert f"the instance metadata service {imds.endpoint}/ has no credentials: " in last


# --- FIPS and dual-stack: the SDK's own settings, as far as the SDK knows them ------------------------------------

REGION = "eu-central-1"
PLAIN = f"ec2.{REGION}.amazonaws.com"
FIPS, DUAL = {"AWS_USE_FIPS_ENDPOINT": "true"}, {"AWS_USE_DUALSTACK_ENDPOINT": "true"}
ENDPOINTS = [({}, PLAIN), (FIPS, f"ec2-fips.{REGION}.amazonaws.com"), (DUAL, f"ec2.{REGION}.api.aws")]
ENDPOINTS.append(({**FIPS, **DUAL}, f"ec2-fips.{REGION}.api.aws"))


def asked_for(agent, ec2, proxy, keep):
    """The host of the first call; the proxy refuses all connections."""
    proxy.routes.clear()
    proxy.asked.clear()
    refused(agent, ec2, keep)
    return proxy.asked[0].replace("CONNECT ", "").replace(":443", "")


@pytest.mark.parametrize("env,host", ENDPOINTS, ids=lambda value: "+".join(value) if isinstance(value, dict) else "")
def test_the_endpoint_is_the_one_that_the_sdk_is_set_to(agent, ec2, behind, proxy, keep, env, host):
    agent.env.update(env)
    assert asked_for(agent, ec2, proxy, keep) == host


@pytest.mark.parametrize("which", ["newest", "oldest"])
def test_an_old_sdk_ignores_the_endpoint_setting(agent, ec2, behind, proxy, keep, which):
    """The oldest that Python 3.12 and newer import is not that old."""
    use(agent, which)
    old = list(Path(agent.env["PYTHONPATH"]).glob("botocore-1.20.*"))
    agent.env.update({**FIPS, **DUAL})
    assert asked_for(agent, ec2, proxy, keep) == (PLAIN if old else f"ec2-fips.{REGION}.api.aws")


def test_the_configuration_file_chooses_the_endpoint_too(agent, ec2, behind, proxy, keep):
    files(agent, "[profile c]\nuse_fips_endpoint=true\nuse_dualstack_endpoint=true\n", f"[c]\n{pair(ec2.key)}")
    agent.options["profile"] = "c"
    assert asked_for(agent, ec2, proxy, keep) == f"ec2-fips.{REGION}.api.aws"


@pytest.mark.parametrize("which", ["distribution", "newest"])
def test_endpoint_url_takes_precedence_over_all_settings(agent, ec2, keep, which):
    use(agent, which)
    agent.env.update({**FIPS, **DUAL})
    assert agent.command("status", ec2.world.nodes["node1"], **keep).code == 0


SUFFIXES = {  # of a region of each partition but aws
    "cn-north-1": "amazonaws.com.cn",
    "us-gov-west-1": "amazonaws.com",
    "us-iso-east-1": "c2s.ic.gov",
    "us-isob-east-1": "sc2s.sgov.gov",
    "eu-isoe-west-1": "cloud.adc-e.uk",
    "us-isof-south-1": "csp.hci.ic.gov",
    "eusc-de-east-1": "amazonaws.eu",
}
PARTITIONS = [*(("newest", region) for region in SUFFIXES), ("oldest", "cn-north-1"), ("oldest", "us-isob-east-1")]


@pytest.mark.parametrize("which,region", PARTITIONS)
def test_each_partition_has_its_own_hosts(agent, ec2, behind, proxy, keep, which, region):
    """Those of EC2; and those of STS, which a profile asks first. Here the metadata service names the region."""
    use(agent, which)
    agent.options["region"] = region
    assert asked_for(agent, ec2, proxy, keep) == f"ec2.{region}.{SUFFIXES[region]}"
    with Imds(ec2.world.nodes["node3"], region) as imds:
        agent.env.pop("AWS_EC2_METADATA_DISABLED")
        agent.env["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = imds.endpoint + "/"  # older SDKs want it so
        agent.options["region"] = None
        chain(agent, ec2)
        assert asked_for(agent, ec2, proxy, keep) == f"sts.{region}.{SUFFIXES[region]}"


@pytest.mark.parametrize("action", ["off", "on", "status", "monitor", "list"])
def test_no_credentials_anywhere(agent, ec2, keep, action):
    result = agent.command(action, ec2.world.nodes["node1"], access_key=None, secret_key=None, **keep)
    assert result.code == 1
    assert "authentication error" in result.last
    assert "check the credentials" in result.last
    assert ec2.calls == []


def test_no_such_host(agent, ec2, keep):
    result = agent.command("status", ec2.world.nodes["node1"], endpoint_url=NO_SUCH_HOST, **keep)
    assert result.code == 1
    assert "region error" in result.last
    assert "no such host; check region and endpoint_url" in result.last
    assert result.seconds < 5, "no use in trying again"
