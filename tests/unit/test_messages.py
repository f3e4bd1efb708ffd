"""Every message for operators: of one form, safe for the parser of Pacemaker, and defined in one module."""

import ast
import inspect
import re
import typing
from pathlib import Path
from typing import Any, Callable, Dict

import pytest

from aws_vpc_net import logs, messages
from aws_vpc_net.ec2 import CallContext
from aws_vpc_net.errors import ApiError, Category, FenceError

LIB = Path(messages.__file__).parent
SECOND = FenceError(Category.PERMISSION, "cannot set the groups of eni-2: not permitted; allow ec2:Modify")
BUSY = ApiError(Category.RETRIEVAL, "cannot read instance i-0123456789abcdef0: busy", call="X", code="Y")
SAMPLES: Dict[str, Any] = {
    "account": "123456789012",
    "action": "off",
    "address": "2001:db8::5",
    "addresses": ["10.0.0.5", "2001:db8::5"],
    "tried": ["10.0.0.5", "10.0.0.9", "2001:db8::5"],
    "call": "CreateTags",
    "category": Category.MODIFICATION,
    "code": "AuthFailure",
    "count": 17,
    "cut": ["eni-1"],
    "purpose": CallContext("read instance i-0123456789abcdef0", Category.RETRIEVAL),
    "error": SECOND,
    "errors": {"i-2": SECOND, "i-1": BUSY},
    "failed": ["group sg-1", "permission ec2:CreateTags"],
    "expected": "1 or 0",
    "found": ["in: tcp 22 from 10.0.0.0/16"],
    "free": 1,
    "group": "sg-0123456789abcdef0",
    "groups": frozenset(("sg-0123456789abcdef0",)),
    "before": BUSY,
    "slow": BUSY,
    "idle": {"eni-1": 350, "eni-2": None},
    "kind": "trunk",
    "instance": "i-0123456789abcdef0",
    "guess": "secg",
    "key": "Hostname",
    "keys": ["Original_SG_Backup_i-0123456789abcdef0_1732300000_1_0"],
    "other": ["sg-3"],
    "restored": ["sg-1", "sg-2"],
    "interface": "eni-0123456789abcdef0",
    "interfaces": ["eni-2", "eni-1"],
    "known": ("on", "off"),
    "line": 3,
    "missing_rules": ["out: all traffic to ::/0"],
    "last": "RequestLimitExceeded",
    "least": 1,
    "matched": ["i-2", "i-1"],
    "missing": [0],
    "most": 16,
    "name": "deadline",
    "names": ["node1", "vol-0123456789abcdef0"],
    "needed": 3,
    "node": "node1",
    "plugs": ["i-0123456789abcdef0"],
    "number": 0,
    "variables": ["HTTPS_PROXY"],
    "numbering": {0: "eni-1", 1: "eni-2"},
    "numbers": [5],
    "operation": "describe_things",
    "option": "interface0-sg",
    "originals": {"eni-1": frozenset(("sg-1", "sg-2"))},
    "options": ["secg"],
    "outcome": "no group was changed",
    "own": "i-0123456789abcdef0",
    "pages": 1000,
    "part": "nonsense",
    "transient": False,
    "path": "/nowhere/x",
    "plug": "i-0123456789abcdef0",
    "poweroff": True,
    "reason": "not permitted; allow ec2:CreateTags",
    "region": "eu west",
    "deadline": 45.0,
    "endpoint": "https://ec2.eu-central-1.amazonaws.com",
    "zone": "eu-west-1a",
    "seconds": 45.0,
    "settle": 36.0,
    "rules": ["sg-2 in: all traffic from ::/0", "sg-1 in: tcp 22 from 10.0.0.0/16"],
    "sdk": "boto3 1.26.27",
    "ipv6": True,
    "source": "AssumeRole of STS at sts.eu-central-1.amazonaws.com",
    "state": "stopped",
    "status": 403,
    "tags": 3,
    "text": "Connect timeout on endpoint URL",
    "texts": ["not permitted; allow ec2:CreateTags"] * 3,
    "time": 1732300000,
    "outcome_unknown": True,
    "untracks": True,
    "value": "x" * 16384,
    "vpc": "vpc-0123456789abcdef0",
    "warnings": 2,
    "what": "read instance i-0123456789abcdef0",
    "why": {"eni-2": SECOND, "eni-1": SECOND},
}
KINDS = {"Mapping[str, FrozenSet[str]]": {"eni-1": frozenset(("sg-1", "sg-2"))}}
TEXTS = {"missing": "secret-key", "why": {"eni-1": "reads sg-1"}, "error": "ValueError: x"}
CATALOGUE = {
    n: f
    for n, f in inspect.getmembers(messages, inspect.isfunction)
    if n[0] != "_" and f.__module__ == messages.__name__
}


def said(function: Callable[..., Any]) -> Any:
    """The message with a sample for each argument."""
    given = {}
    for name, parameter in inspect.signature(function).parameters.items():
        kind = str(parameter.annotation)
        text = (kind == "str" and not isinstance(SAMPLES[name], str)) or kind == "Mapping[str, str]"
        given[name] = TEXTS[name] if text and name in TEXTS else KINDS.get(kind, SAMPLES[name])
    return function(**given)


@pytest.mark.parametrize("name", CATALOGUE)
def test_a_message_is_one_short_clean_line(name):
    function = CATALOGUE[name]
    message = said(function)
    wanted = typing.get_type_hints(function, vars(messages) | {"CallContext": CallContext})["return"]
    assert isinstance(message, wanted)
    text = str(message)
    assert text == text.strip()
    assert text.isprintable()
    assert len(text) < 500
    assert not text.endswith(".")
    shown = logs.sanitize(text)
    assert not re.search(r"timed out|timeout|uns?upported action|unrecognised action", shown, re.I)
    assert "_time-out" not in shown, "no option has that name"


@pytest.mark.parametrize(
    "name", [n for n, f in CATALOGUE.items() if "Error" in str(inspect.signature(f).return_annotation)]
)
def test_an_error_begins_with_its_category_and_names_its_object(name):
    error = said(CATALOGUE[name])
    assert str(error).startswith(f"{error.category.value} error: ")
    assert error.text
    names = [
        SAMPLES[n]
        for n in inspect.signature(CATALOGUE[name]).parameters
        if n in ("plug", "interface", "group", "own")
    ]
    assert all(n in error.text for n in names)


def test_a_cause_names_its_object_once():
    refused = messages.refused_all("i-1", {"eni-2": SECOND, "eni-20": SECOND}, Category.PERMISSION).text
    assert refused == f"i-1 is not isolated: {SECOND.text}; eni-20: {SECOND.text}; no group was changed"
    unverified = messages.not_isolated("i-1", {"10.0.0.1": "it still answers", "eni-2": "reads sg-1"}).text
    assert "10.0.0.1: it still answers; eni-2: reads sg-1" in unverified


@pytest.mark.parametrize("message", [messages.no_answer("read i-1", 4.61514, None), messages.stuck("off", 4.61514)])
def test_measured_seconds_are_rounded(message):
    assert " 4.6 s" in str(message)


def test_a_partial_error_says_isolated_only_of_what_it_names():
    """An off that changed nothing for good, beside the tags of an earlier one."""
    assert "i-1 is not completely isolated: " in messages.partly_isolated("i-1", {"eni-2": SECOND}, (), "no").text


def test_no_message_advises_to_restore_a_node_that_runs():
    """Its services may run elsewhere by then, as Pacemaker repeats an off that failed: it is to be stopped first."""
    advised = {name for name, f in CATALOGUE.items() if re.search(r"\brun on\b|\bunfence it\b", str(said(f)))}
    assert advised == {"stays_stopped", "interrupted"}, "of a stopped node; of an off that somebody has interrupted"


def test_every_category_has_a_message():
    found = {said(f).category for f in CATALOGUE.values() if "Error" in str(inspect.signature(f).return_annotation)}
    fixed = re.findall(r"Category\.([A-Z_]+)", (LIB / "messages.py").read_text(encoding="utf-8"))
    taken = {Category[n] for n in fixed} | {Category.MODIFICATION, Category.RETRIEVAL, Category.DEADLINE} | found
    assert taken == set(Category)


def test_every_message_is_used_and_no_other_text():
    """All texts for operators are in messages; other modules only pass them on."""
    used = ""
    for path in [*LIB.rglob("*.py"), LIB.parents[1] / "agents" / "aws_vpc_net" / "fence_aws_vpc_net.py"]:
        source = path.read_text(encoding="utf-8")
        if path.name in ("messages.py", "errors.py"):
            continue
        used += source
        for node in ast.walk(ast.parse(source)):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            if called in ("log.info", "log.warning", "log.error"):
                only_passed_on = isinstance(node.args[-1], (ast.Call, ast.Name))
                formats = [ast.unparse(argument) for argument in node.args[:-1]]
                assert only_passed_on and formats in ([], ["'%s'"]), f"{path.name}: {ast.unparse(node)}"
            passed_on = all(isinstance(a, ast.Attribute) or ast.unparse(a).startswith("messages.") for a in node.args)
            assert called not in ("FenceError", "ApiError") or passed_on, f"{path.name}: {ast.unparse(node)}"
            text = node.args[1] if called == "Note" else None
            assert not isinstance(text, (ast.Constant, ast.JoinedStr)), f"{path.name}: {ast.unparse(node)}"
    assert [n for n in CATALOGUE if f"messages.{n}" not in used] == []
