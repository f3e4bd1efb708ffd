"""doc/alerts.yml by promtool: it takes the rules, every case holds, and a rule that is changed fails its cases."""

import functools
import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

TOP = Path(__file__).parents[2]
RULES = TOP / "doc" / "alerts.yml"
CASES = TOP / "tests" / "alerts" / "alerts_test.yml"
PROMTOOL = TOP / "build" / "promtool" / "promtool"  # tests/setup.sh puts it there
ALERTS = {rule["alert"]: rule for rule in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"][0]["rules"]}
TOGETHER = 2  # cases for a run of promtool, which costs as much as some rules in a case

pytestmark = pytest.mark.skipif(not PROMTOOL.exists(), reason="no promtool: see make_promtool in tests/setup.sh")


def promtool(*words):
    # Less CPU time: memory is cheap here, and tests run side by side anyway.
    env = {**os.environ, "GOGC": "400", "GOMAXPROCS": "1"}
    return subprocess.run(
        [str(PROMTOOL), *words],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        stdin=subprocess.DEVNULL,
        env=env,
    )


@functools.cache
def all_cases():
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the quick one, where it was built
    return yaml.load(CASES.read_text(encoding="utf-8"), loader)["tests"]


def cases_of(alert):
    """The cases that say something of an alert, without what they say of others: these need no rule then."""
    found = []
    for group in all_cases():
        own = [entry for entry in group["alert_rule_test"] if entry["alertname"] == alert]
        if own:
            found.append({**group, "alert_rule_test": own})
    return found


def failed(folder, rules, cases):
    """Of these rules (name to rule), those for which one of the cases does not hold; and what promtool says."""
    file, tests = folder / "rules.yml", folder / "cases.yml"
    named = [{**rule, "alert": name} for name, rule in rules.items()]
    file.write_text(json.dumps({"groups": [{"name": "one", "rules": named}]}), encoding="utf-8")  # which is YAML
    said = []
    for case in cases:
        entries = [{**entry, "alertname": name} for entry in case["alert_rule_test"] for name in rules]
        said.append({**case, "alert_rule_test": entries})
    whole = {"rule_files": [file.name], "evaluation_interval": "1m", "tests": said}
    tests.write_text(json.dumps(whole), encoding="utf-8")
    done = promtool("test", "rules", str(tests))
    found = set(re.findall(r"alertname: ?(\w+)", done.stdout + done.stderr))
    assert found <= set(rules)
    assert bool(found) == bool(done.returncode), done.stdout + done.stderr
    return found, done.stdout + done.stderr


def each(pattern, replacement, text):
    """The text with one of the matches replaced, for each of them."""
    for match in re.finditer(pattern, text):
        yield text[: match.start()] + match.expand(replacement) + text[match.end() :]


def changed(rule):
    """What was changed -> the rule with that change."""
    expr = rule["expr"]
    texts = {
        "without what ends it": each(r" unless .*", "", expr),
        "the comparison is the other way round": each(r" > ", " < ", expr),
        "the comparison, likewise": each(r" <=? ", " > ", expr),
        "a shorter time": each(r"\b(\d{3,})\b", r"(\1 * 0.5)", expr),
        "a longer time": each(r"\b(\d{3,})\b", r"(\1 * 2)", expr),
        "clusters are one": each(r"by \(cluster\)", "by ()", expr),
        "nodes of clusters are one": each(
            r"on \(cluster, plug\) group_left \(\) max by \(cluster, plug\)",
            "on (plug) group_left () max by (plug)",
            expr,
        ),
        "nodes of a cluster are one": each(r"\(cluster, plug\)(.*)\(cluster, plug\)", r"(cluster)\1(cluster)", expr),
        "no memory": each(r"last_over_time\(([^\[]*)\[1d\]\)", r"(\1)", expr),
        "another result": each(r'result="\w+"', 'result="refused"', expr),
        "less ends it": each(r'"ok\|resolved"', '"ok"', expr),
        "less ends it, likewise": each(r'"off\|on"', '"on"', expr),
        "any code": each(r"code=~[^}]*", 'code!=""', expr),
        "no such metric": each(r"fence_aws_vpc_net_\w+", "fence_aws_vpc_net_none", expr),
    }
    made = {f"{what} {n}": {**rule, "expr": text} for what, some in texts.items() for n, text in enumerate(some)}
    if "for" in rule:
        made["at once"] = {**rule, "for": "0m"}
        made["late"] = {**rule, "for": "1h"}
    made["another severity"] = {**rule, "labels": {"severity": "info"}}
    return made


def test_promtool_takes_the_rules_without_a_complaint():
    done = promtool("check", "rules", "--lint=all", "--lint-fatal", str(RULES))
    assert done.returncode == 0, done.stderr
    assert f"{len(ALERTS)} rules found" in done.stdout


def test_every_alert_has_a_case_with_it_and_one_without():
    for alert in ALERTS:
        entries = [entry for case in cases_of(alert) for entry in case["alert_rule_test"]]
        assert {bool(entry.get("exp_alerts")) for entry in entries} == {True, False}, alert
    assert {entry["alertname"] for case in all_cases() for entry in case["alert_rule_test"]} == set(ALERTS)


@pytest.mark.parametrize("alert", ALERTS)
def test_cases_hold_and_a_changed_rule_fails_them(alert, tmp_path):
    """Together: the rule as it is, and each changed one under a name of its own, until a case shows it."""
    mutants = changed(ALERTS[alert])
    left = {f"Mutant{number}": what for number, what in enumerate(mutants)}
    cases = cases_of(alert)
    for n in range(0, len(cases), TOGETHER):
        rules = {"AsItIs": ALERTS[alert], **{name: mutants[what] for name, what in left.items()}}
        found, said = failed(tmp_path, rules, cases[n : n + TOGETHER])
        assert "AsItIs" not in found, said
        left = {name: what for name, what in left.items() if name not in found}
    assert {what: mutants[what].get("expr") for what in left.values()} == {}
