"""What must not be shown is not shown, however it is written; and nothing makes a second line."""

import base64
import logging
import random
import re
import string
import time
from urllib.parse import quote, unquote

import pytest

from aws_vpc_net import logs

SECRET = "wJalrXUt/K7MD+bPx=="
WRITTEN = [
    "x-amz-security-token:{}\nx-amz-date:20260101T000000Z",
    "Signature:\n{}",
    "{{'X-Amz-Security-Token': '{}', 'Host': 'x'}}",
    "{{'X-Amz-Security-Token': b'{}'}}",
    "('X-Amz-Security-Token', b'{}')",
    "x-amz-sso_bearer_token: {}",
    "X-aws-ec2-metadata-token: {}",
    "b'<AssumeRoleResponse>\\n  <SecretAccessKey>{}</SecretAccessKey>\\n</AssumeRoleResponse>'",
    "<SessionToken>\n    {}\n  </SessionToken>",
    "&lt;SessionToken&gt;{}&lt;/SessionToken&gt;",
    '{{"Code": "Success", "SecretAccessKey" : "{}", "Expiration": "x"}}',
    '{{"Code": "Success", "Token" : "{}"}}',
    'b\'{{"roleCredentials":{{"secretAccessKey":"{}","sessionToken":"y"}}}}\'',
    '"{{\\"accessToken\\": \\"{}\\"}}"',
    "Action=AssumeRoleWithWebIdentity&WebIdentityToken={}&Version=1",
    "https://x/?X-Amz-Security-Token%3D{}%26X-Amz-Date",
    "AWS4-HMAC-SHA256 Credential=AKIA/20260101/eu/ec2/aws4_request, SignedHeaders=host;x-amz-date, Signature={}",
    "Authorization: {}",
    "Proxy-Authorization: Basic {}",
    "{{'Authorization': b'Bearer {}'}}",
    "Cannot connect to proxy http://user:{}@proxy:3128",
    "http%3A%2F%2Fuser%3A{}%40proxy",
    "secret_key={}",
    "password: {}",
]


@pytest.mark.parametrize("text", WRITTEN)
def test_an_unregistered_secret_is_found_by_its_context(text):
    shown = logs.sanitize(text.format(SECRET))
    assert SECRET not in shown
    assert "***" in shown


@pytest.mark.parametrize(
    "form",
    ["{}", "wJalrXUt%2FK7MD%2BbPx%3D%3D", "wJalrXUt/K7MD%2BbPx%3D%3D", "d0phbHJYVXQvSzdNRCtiUHg9PQ=="],
    ids=["plain", "url", "path", "base64"],
)
def test_a_registered_secret_is_hidden_everywhere(form, monkeypatch):
    monkeypatch.setattr(logs, "_known", [])
    text = form.format(SECRET)
    assert logs.sanitize(f"said {text} aloud") == f"said {text} aloud"
    logs.register_secrets(SECRET, None, "abc")
    assert logs.sanitize(f"said {text} aloud, abc") == "said *** aloud, abc"


@pytest.mark.parametrize(
    "text",
    ["no such group: {}", "https://{}/", "https://ec2.{}.amazonaws.com", "{},{}", "Name={}", "({})", "'{}'", "/{}",
     "Credential={}/20260101/eu-central-1/ec2/aws4_request", "Credential%3D{}%2F20260101%2Feu-central-1%2Fec2"],
)  # fmt: skip
@pytest.mark.parametrize(
    "key",
    ["wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "wJalrXUtnFEMI0K7MDENG0bPxRfiCYEXAMPLEKEY",
     "/JalrXUtnFEMI0K7MDENG0bPxRfiCYEXAMPLEKE+"],
)  # fmt: skip
def test_text_like_a_secret_key_is_hidden(text, key):
    shown = logs.sanitize(text.replace("{}", key))
    assert key[1:9] not in shown
    assert key[-8:-1] not in shown


@pytest.mark.parametrize(
    "text",
    ["summary action=off plug=i-1 result=ok", 'https://ec2.amazonaws.com:443 "POST / HTTP/1.1" 200', "NextToken=abc",
     "AuthFailure: AWS was not able to validate the provided access credentials", "eni-1: groups set to sg-1, sg-2",
     "/usr/lib/python3/site/Packages/Aws/Vpc/Net/Module", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca4",
     "Credential=AKIAIOSFODNN7EXAMPLE/20260101/eu-central-1/ec2/aws4_request", "ec2:ModifyNetworkInterfaceAttribute"],
)  # fmt: skip
def test_other_text_is_shown(text):
    assert logs.sanitize(text) == text


@pytest.mark.parametrize(
    "char", ["\n", "\r", "\x1b[2J", "\x9b31m", "\x85", "\u2028", "\u2029", "\u202e", "\x08", "\0"]
)
def test_control_characters_are_removed(char):
    shown = logs.sanitize(f"name{char}2026-01-01 00:00:00,000 ERROR: forged")
    assert shown.isprintable()


@pytest.mark.parametrize(
    "text",
    [
        *(
            "\\" * 20000,
            "\\n" * 20000,
            "a" * 100000,
            "://" * 20000,
            "://a:" * 10000,
            "secret" * 5000,
            "token=\\" * 5000,
            "token: " + "\\" * 100000,
            "secret_key=" + "\\" * 100000 + "x",
        ),
        *("%5c" * 20000, "\\u002f" * 10000, "aB1/" * 20000, "aB1+" * 20000, "aA" * 40000, "0123456789abcdef" * 5000),
    ],
)
def test_no_text_takes_long(text):
    began = time.thread_time()  # on a busy machine too
    logs.sanitize(text)
    assert time.thread_time() - began < 3


def random_key(seed: int) -> str:
    """As AWS makes them; every third without a sign."""
    chance = random.Random(seed)
    signs = "" if seed % 3 == 0 else "+/"
    return "".join(chance.choice(f"{string.ascii_letters}{string.digits}{signs}") for _ in range(40))


def hidden(key: str, shown: str) -> bool:
    return "***" in shown and not any(key[n : n + 8] in shown for n in range(33))


KEYS = [random_key(seed) for seed in range(60)]


def test_the_keys_are_of_each_kind():
    assert sum("/" in key for key in KEYS) > 9
    assert sum("+" in key for key in KEYS) > 9
    assert sum("/" not in key and "+" not in key for key in KEYS) > 19


@pytest.mark.parametrize(
    "text",
    ["{}", "plug={}", "profile={} of x", "/{}", "/var/lib/{}/fence.prom", "https://{}/x", "arn:aws:iam::1:role/{}",
     "assumed-role/PacemakerClusterFencingInstanceRole/{}", "ProductionPostgresDatabaseClusterNode01/{}"],
)  # fmt: skip
@pytest.mark.parametrize("written", ["plain", "url", "json", "cut"])
def test_random_keys_are_hidden(text, written):
    write = {
        "plain": str,
        "url": lambda key: quote(key, safe=""),
        "json": lambda key: key.replace("/", "\\/").replace("+", "\\u002b"),
        "cut": lambda key: key[:38],
    }[written]
    shown = [key for key in KEYS if not hidden(key, logs.hide(text.format(write(key))))]
    assert shown == []


def test_long_tokens_are_hidden():
    for seed in range(20):
        token = base64.b64encode(random.Random(seed).randbytes(400)).decode()
        assert logs.hide(f"token is {token}") == "token is ***"


@pytest.mark.parametrize(
    "text",
    [
        "User: arn:aws:sts::123456789012:assumed-role/PacemakerClusterFencingInstanceRole/i-0abc1234def567890 is not "
        "authorized to perform: ec2:CreateTags",
        "arn:aws:iam::123456789012:instance-profile/FencingInstanceProfileOfTheFrankfurtCluster2",
        "arn:aws:sts::123456789012:assumed-role/ClusterFencingRole/0abc1234def567890abcdef1234567890",
        "arn:aws:iam::123456789012:role/aws-reserved/sso.amazonaws.com/eu-central-1/AWSReservedSSO_Admin_0123456789abcdef",
        "arn:aws:iam::123456789012:user/Operations/HighAvailability/FencingUser01",
        "arn:aws:ec2:eu-central-1:123456789012:network-interface/eni-0123456789abcdef0",
        "arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab",
        "arn:aws:cloudformation:eu-west-1:123456789012:stack/PostgresClusterStack/6d5c0a20-1e2f-11ee-be56-0242ac120002",
        "role/PostgresClusterStackFencingRole-1ABCDEFGHIJKL",
        "assumed-role/PostgresClusterFencingRole/AKIAIOSFODNN7EXAMPLE",
        "plug=ProductionPostgresDatabaseClusterNode01",
        "plug=SAPHanaProductionDatabaseNode02EuCentral1",
        "plug=KubernetesControlPlaneNode3AvailabilityZoneB",
        "profile=ProductionClusterFrankfurtFencingProfile01",
        "metrics_file=/var/lib/node_exporter/TextFiles/Cluster01/Production/fence.prom",
        "/opt/NodeExporterTextfileCollector1/fencing.prom",
        "/usr/share/doc/Packages/EC2/Fencing2/V1/Guide/Chapter10/Section4",
        "https://docs.aws.amazon.com/AWSEC2/latest/APIReference/APIReferenceModifyNetworkInterfaceAttribute.html",
        "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/TroubleshootingInstancesConnecting",
        "https://github.com/ClusterLabs/fence/agents/AwsVpcNet/Issues/Problem42",
        "request ID 7a62c49f-347e-4fc4-9331-6e8eEXAMPLE1",
        "RequestId=ABCDEF0123456789ABCDEF0123456789ABCDEF01",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "/overlay2/5f3a1b2c4d5e6f708192a3b4c5d6e7f801234567890abcdef1234567890abcde/merged/Root",
        "sha256/DA39A3EE5E6B4B0D3255BFEF95601890AFD80709",
        "wrote/Backup/of/Cluster01/0abc1234def567890abcdef1234567890abcdef12",
        "InvalidParameterValueForTheSecurityGroupIdentifier1",
    ],
)  # fmt: skip
def test_names_paths_and_hashes_are_shown(text):
    assert logs.sanitize(text) == text


@pytest.mark.parametrize(
    "text",
    ["AuthFailure: token: expired", "the proxy asks for Basic authentication", "Basic auth, Bearer tokens",
     "Error retrieving token: connection refused", "password: not accepted", "Authorization: missing header"],
)  # fmt: skip
def test_prose_is_shown(text):
    assert logs.sanitize(text) == text


@pytest.mark.parametrize("text", ["token=expired", '"token": "expired"', "password: 'secret'", "<password>word</x>"])
def test_short_values_are_hidden_in_an_unambiguous_context(text):
    assert "***" in logs.sanitize(text)


def test_a_piece_of_a_password_that_is_too_short_to_be_registered_is_hidden():
    """What urllib3 and Python say of the proxy ``operator:zqx/k1@host``."""
    said = logs.sanitize("Failed to parse: 'operator:zqx' is not a valid host or port")
    assert said == "Failed to parse: 'operator:***' is not a valid host or port"
    assert logs.sanitize("Port could not be cast to integer value as 'zqx'").endswith(" ***")


@pytest.mark.parametrize(
    "password", ["plain1word", "quo'te\"dword", "slash/inword", "hash#inword", "per%2Fcent", "at@in"]
)
@pytest.mark.parametrize("name", ["HTTP_PROXY", "https_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("scheme", ["http://", ""])
def test_the_password_of_a_proxy_is_hidden_everywhere(monkeypatch, password, name, scheme):
    monkeypatch.setattr(logs, "_known", ())
    logs.register_secrets(*logs.proxy_secrets({name: f"{scheme}operator:{password}@proxy:3128", "PATH": "a:b@c"}))
    for form in (password, unquote(password), quote(password, safe=""), quote(password, safe="!$&'()*+,;=:%")):
        assert logs.sanitize(f"it said {form} aloud") == "it said *** aloud"
    piece = re.split("[/#]", password)[0]
    assert logs.sanitize(f"Port could not be cast to integer value as '{piece}'").endswith(" ***")
    encoded = base64.b64encode(f"operator:{unquote(password)}".encode()).decode()
    assert encoded not in logs.sanitize(f"sent {encoded}")


@pytest.mark.parametrize("secret", [SECRET, "pass <word> of a proxy"])
@pytest.mark.parametrize("before", range(0, 24, 3))
def test_a_long_line_is_cut_at_no_secret(secret, before):
    logs.register_secrets("pass <word> of a proxy")
    start = "x " * (logs.MOST_CHARACTERS // 2 - 15)
    text = f"{start}{'y' * before}<SecretAccessKey>{secret}</SecretAccessKey>{'z' * 300000}"
    record = logging.LogRecord("", logging.DEBUG, "", 0, text, None, None)
    shown = logs._SanitizingFormatter("%(message)s").format(record)
    assert len(shown) < logs.MOST_CHARACTERS + 100
    assert shown.endswith(" more characters")
    assert all(part not in shown for part in (secret[:4], "word", "of a"))
