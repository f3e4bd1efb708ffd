"""A secret in the wrong place is shown nowhere: not on stderr, not in syslog, in no log, however verbose."""

import random
import re
import string
from urllib.parse import unquote

import pytest

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"  # as AWS makes them: 40 characters of base64
PLAIN = "wJalrXUtnFEMIxK7MDENGebPxRfiCY1EXAMPLEKE"  # one without signs
OTHERS = [SECRET[:39], f"{SECRET}=", f"({SECRET})", f"x{SECRET}", f"{'y,' * 39}{SECRET}"]  # cut, or pasted with more
ID = "AKIAIOSFODNN7EXAMPLE"


@pytest.fixture
def logged(agent, syslog, monkeypatch):
    """With all logs enabled; returns all outputs of a run."""
    monkeypatch.chdir(agent.folder)  # a debug file may be made there
    paths = [agent.folder / "debug", agent.folder / "boto3.log", syslog]
    agent.env["FENCE_AWS_VPC_NET_BOTO3_LOG"] = str(paths[1])
    paths.append(agent.folder / "fence.prom")
    agent.options.update(debug_file=str(paths[0]), boto3_debug="1", verbose_level="3", deadline="4")
    agent.options["metrics_file"] = str(paths[-1])

    def said(result):
        return result.err + result.out + "".join(p.read_text("utf-8") for p in paths if p.exists())

    return said


def parts(secret):
    """What must not be found: any eight characters of it, also in small letters."""
    return {secret[n : n + 8].lower() for n in range(len(secret) - 7)}


def hidden(text, *secrets):
    low = text.lower()
    return [part for secret in secrets for part in parts(secret) if part in low] == []


def as_stdin(agent, **options):
    given = {**agent.options, **options}
    return "".join(f"{k}={1 if v is True else v}\n" for k, v in given.items() if v is not None)


@pytest.mark.parametrize("secret", [SECRET, PLAIN])
@pytest.mark.parametrize(
    "lines",
    ["secret_key=\n{}", "{}", "{}=", "={}", "{}=1", "secret-key {}", "secret_key:{}", "secret_ky={}", "\"{}\"",
     "x={}", "#{}", "nodename={}", "secret_access_key={}"],
)  # fmt: skip
def test_a_line_that_is_no_option_is_not_shown(agent, logged, node, keep, lines, secret):
    more = {"secret_key": None} if lines.startswith("secret_key=") else {}
    text = as_stdin(agent, action="status", plug=node, **keep, **more)
    result = agent.stdin(f"{text}{lines.format(secret)}\n")
    assert hidden(logged(result), secret)
    silent = lines.startswith(("#", "nodename"))
    assert (
        silent
        or f"Ignoring unknown option in line {len(text.splitlines()) + 1 + lines.count(chr(10))} " in result.err
    )
    assert result.code == (1 if lines.startswith("secret_key=") else 0)


def test_an_unknown_option_is_named_by_line_and_suggestion(agent, node, keep):
    result = agent.stdin(f"skip-race-chek=1\n{as_stdin(agent, action='status', plug=node, **keep)}no_such=1\n")
    assert "WARNING: Ignoring unknown option in line 1 of the input; did you mean skip_race_check?" in result.lines
    assert any("Ignoring unknown option in line" in line and line.endswith("of the input") for line in result.lines)


@pytest.mark.parametrize(
    "arguments",
    [["--{}"], ["--{}=1"], ["--secret-kye={}"], ["--secret={}", "--secret-keys={}"], ["-{}"], ["-a", ID, "{}"],
     ["{}"], ["--secret-key", "--{}"], ["--quiet={}"], ["--invert-sg-removal={}"], ["--\n{}"]],
)  # fmt: skip
def test_an_argument_that_is_no_option_is_not_shown(agent, logged, node, keep, arguments):
    result = agent.raw(*agent.arguments("status", node, **keep), *(a.format(SECRET) for a in arguments))
    assert result.code == 1
    assert result.last.startswith("ERROR: ")
    assert hidden(logged(result), SECRET)


OPTIONS = [
    "action", "plug", "region", "secg", "untrack_secg", "filter", "interface0_sg", "api_timeout", "deadline", "delay",
    "power_wait", "retry_on", "verbose_level", "boto3_debug", "skip_os_shutdown", "onfence_poweroff", "profile",
    "endpoint_url", "proxy", "metrics_file", "debug_file", "plug_separator", "separator", "disable_timeout", "quiet",
    "probe_port",
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(OPTIONS) * 3))
def test_a_secret_in_place_of_another_option_is_not_shown(agent, logged, node, keep, number):
    """The secret is not in its own option, so only its form identifies it. Each option with three forms."""
    forms = [SECRET, PLAIN, *OTHERS]
    option, secret = OPTIONS[number // 3], forms[number % len(forms)]
    given = {"action": "status", "plug": node, **keep, option: secret}
    result = agent.stdin(as_stdin(agent, **given))
    assert hidden(logged(result), secret[secret.index("wJ") :][:39])


FIXED = [
    "action", "region", "secg", "untrack_secg", "interface0_sg", "interface15_sg", "api_timeout", "deadline", "delay",
    "settle_time", "power_wait", "login_timeout", "retry_on", "verbose_level", "boto3_debug", "skip_os_shutdown",
    "onfence_poweroff", "invert_sg_removal", "disable_timeout", "quiet", "probe_port",
]  # fmt: skip
BROKEN = [
    SECRET.replace("/", "%2F").replace("+", "%2B"), SECRET.replace("/", "\\/").replace("+", "\\u002b"),
    f"{SECRET[:20]} {SECRET[20:]}", " ".join(SECRET), f"{SECRET[:13]}-{SECRET[14:]}", SECRET[:31],
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(FIXED) * 3))
def test_a_malformed_value_of_an_option_of_fixed_format_is_not_shown_if_long(agent, logged, node, keep, number):
    """The secret in any form, also unrecognised ones. Each option with three forms."""
    option, secret = FIXED[number // 3], BROKEN[(number + number // 6) % len(BROKEN)]
    result = agent.stdin(as_stdin(agent, **{"action": "status", "plug": node, **keep, option: secret}))
    if option != "verbose_level":
        assert f"({len(secret)} characters, not shown)" in result.last
    said = logged(result)
    assert [part for part in (secret[:8], secret[-8:]) if part in said] == []


def random_key(seed):
    chance = random.Random(seed)
    signs = "" if seed % 3 == 0 else "+/"
    return "".join(chance.choice(f"{string.ascii_letters}{string.digits}{signs}") for _ in range(40))


@pytest.mark.parametrize(("seed", "option"), list(enumerate(OPTIONS)))
def test_any_secret_key_is_hidden(agent, logged, node, keep, seed, option):
    secret = random_key(seed)
    result = agent.stdin(as_stdin(agent, **{"action": "status", "plug": node, **keep, option: secret}))
    assert hidden(logged(result), secret)


NAMED = {
    "plug": "ProductionPostgresDatabaseClusterNode01",
    "profile": "ProductionClusterFrankfurtFencingProfile01",
    "metrics_file": "/opt/NodeExporterTextfileCollector1/fencing.prom",
    "debug_file": "/var/lib/PacemakerClusterLogs/Cluster01/Production/FenceAgent",
}


@pytest.mark.parametrize("option", NAMED)
def test_a_long_name_is_shown(agent, node, keep, option):
    """In the very message that is about it."""
    keys = {"access_key": None, "secret_key": None} if option == "profile" else {}
    given = {"action": "status", "plug": node, **keep, **keys, "deadline": "4", option: NAMED[option]}
    assert NAMED[option] in agent.stdin(as_stdin(agent, **given)).err


@pytest.mark.parametrize("number", range(len(OPTIONS) * 2))
def test_a_secret_that_is_in_another_option_too_is_not_shown(agent, logged, node, keep, number):
    """It is refused before all options are read. Each option with two of the four secrets."""
    option, secret = OPTIONS[number // 2], [SECRET, "short/secret"][number % 2]
    where = ["option", "environment"][(number + number // 2) % 2]
    if where == "option":
        agent.options.update(secret_key=secret)
    else:
        agent.options.update(access_key=None, secret_key=None)
        agent.env.update(AWS_ACCESS_KEY_ID=ID, AWS_SECRET_ACCESS_KEY=secret)
    given = {"action": "status", "plug": node, **keep, option: f"{'y,' * 35}{secret}"}
    result = agent.stdin(as_stdin(agent, **given))
    assert secret not in logged(result)
    assert secret[:11].lower() not in logged(result).lower()


@pytest.mark.parametrize(
    ("access", "secret"), [(SECRET, ID), (PLAIN, ID), (PLAIN, SECRET), (ID, ID), (f"{ID} ", "ASIAIOSFODNN7EXAMPLE")]
)
@pytest.mark.parametrize("action", ["off", "monitor", "validate-all"])
def test_keys_that_are_swapped_are_refused_and_not_shown(agent, logged, ec2, node, keep, action, access, secret):
    options = {**keep, "access_key": access, "secret_key": secret}
    result = agent.pacemaker(action, node, **options)
    assert result.code == 1
    assert "check whether they are swapped" in result.last
    assert hidden(logged(result).replace(f"as {ID}", ""), access.strip(), secret)
    assert ec2.calls == []


@pytest.mark.parametrize("secret", [SECRET, PLAIN])
@pytest.mark.parametrize("where", ["environment", "file"])
def test_keys_that_are_swapped_elsewhere_are_not_shown(agent, logged, node, keep, where, secret):
    """The SDK sends the secret as the name of the key, and logs it as Credential=…"""
    agent.options.update(access_key=None, secret_key=None)
    if where == "environment":
        agent.env.update(AWS_ACCESS_KEY_ID=secret, AWS_SECRET_ACCESS_KEY=ID)
    else:
        (agent.folder / ".aws").mkdir()
        text = f"[default]\naws_access_key_id={secret}\naws_secret_access_key={ID}\n"
        (agent.folder / ".aws" / "credentials").write_text(text, encoding="ascii")
    result = agent.pacemaker("status", node, **keep)
    assert result.code == 1
    assert "Credential=" in logged(result)
    assert hidden(logged(result), secret)


PROXIES = ["HTTP_PROXY", "https_proxy", "all_proxy", "HTTPS_PROXY", "ALL_PROXY", "http_proxy"]
PASSWORDS = ["zq1xword", "zq1'kv\"xword", "zq1kv/xword", "zq1kv#xword", "zq1kv%2Fxword", "zq1kv@xword", "zqx/k1"]


@pytest.mark.parametrize("scheme", ["http://", ""])
@pytest.mark.parametrize(("number", "password"), list(enumerate(PASSWORDS * 2)))
def test_the_password_of_a_proxy_of_the_environment_is_not_shown(agent, logged, node, keep, number, password, scheme):
    variable = PROXIES[(number + number // 7) % len(PROXIES)]
    agent.env[variable] = f"{scheme}operator:{password}@127.0.0.1:9"
    if variable.lower() != "all_proxy":
        agent.options["endpoint_url"] = f"{variable.lower().partition('_')[0]}://127.0.0.2:9"
    said = logged(agent.stdin(as_stdin(agent, action="status", plug=node, **{**keep, "deadline": "3"})))
    assert [p for p in (password, unquote(password), *re.split(r"[/#@%'\"]", password)) if p in said] == []


@pytest.mark.parametrize(
    "key", ["3f2b8c1e-9d4a-4f6b-8a7c-0123456789ab", "0a1b2c3d4e5f60718293a4b5c6d7e8f901234567", "cloud-user.key",
            "Kq3ZfP0xW7mB2vYt9LsHdRj4NcGuEa6oTi8kQwXyVbMnSpDzFrJhCgUeAlOI15KqZf0PxW7mB2vYt9LsHdR"],
)  # fmt: skip
def test_keys_of_other_clouds_are_accepted(agent, keep, key):
    agent.options["access_key"] = key
    result = agent.pacemaker("validate-all", None, **keep)
    assert result.code == 0, result.err


@pytest.mark.parametrize("key", ["two words", "schl\u00fcssel", "x" * 257])
def test_an_impossible_key_is_refused(agent, ec2, node, keep, key):
    result = agent.pacemaker("off", node, access_key=key, **keep)
    assert "access-key contains blanks" in result.last
    assert ec2.calls == []
