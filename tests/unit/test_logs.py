"""What must not be shown is not shown, however it is written; and nothing makes a second line."""

import time

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
def test_a_secret_that_nobody_has_named_is_known_by_what_stands_before_it(text):
    shown = logs.clean(text.format(SECRET))
    assert SECRET not in shown
    assert "***" in shown


@pytest.mark.parametrize(
    "form",
    ["{}", "wJalrXUt%2FK7MD%2BbPx%3D%3D", "wJalrXUt/K7MD%2BbPx%3D%3D", "d0phbHJYVXQvSzdNRCtiUHg9PQ=="],
    ids=["plain", "url", "path", "base64"],
)
def test_a_secret_that_is_known_is_hidden_wherever_it_stands(form, monkeypatch):
    monkeypatch.setattr(logs, "_known", [])
    text = form.format(SECRET)
    assert logs.clean(f"said {text} aloud") == f"said {text} aloud"
    logs.never_show(SECRET, None, "abc")
    assert logs.clean(f"said {text} aloud, abc") == "said *** aloud, abc"


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
def test_what_looks_like_a_secret_key_is_hidden(text, key):
    shown = logs.clean(text.replace("{}", key))
    assert key[1:9] not in shown
    assert key[-8:-1] not in shown


@pytest.mark.parametrize(
    "text",
    ["summary action=off plug=i-1 result=ok", 'https://ec2.amazonaws.com:443 "POST / HTTP/1.1" 200', "NextToken=abc",
     "AuthFailure: AWS was not able to validate the provided access credentials", "eni-1: groups set to sg-1, sg-2",
     "/usr/lib/python3/site/Packages/Aws/Vpc/Net/Module", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca4",
     "Credential=AKIAIOSFODNN7EXAMPLE/20260101/eu-central-1/ec2/aws4_request", "ec2:ModifyNetworkInterfaceAttribute"],
)  # fmt: skip
def test_what_is_no_secret_is_shown(text):
    assert logs.clean(text) == text


@pytest.mark.parametrize(
    "char", ["\n", "\r", "\x1b[2J", "\x9b31m", "\x85", "\u2028", "\u2029", "\u202e", "\x08", "\0"]
)
def test_nothing_makes_a_second_line_or_moves_the_cursor(char):
    shown = logs.clean(f"name{char}2026-01-01 00:00:00,000 ERROR: forged")
    assert shown.isprintable()


@pytest.mark.parametrize(
    "text",
    ["\\" * 20000, "\\n" * 20000, "a" * 100000, "://" * 20000, "://a:" * 10000, "secret" * 5000, "token=\\" * 5000],
)
def test_no_text_takes_long(text):
    began = time.monotonic()
    logs.clean(text)
    assert time.monotonic() - began < 3
