"""The text of the metrics: read by Prometheus' own parser, added up, and nothing foreign in it."""

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from aws_vpc_net import metrics
from aws_vpc_net.ec2 import Stats
from aws_vpc_net.errors import Category

ALERTS = Path(__file__).parents[2] / "doc" / "alerts.yml"
CASES = Path(__file__).parents[1] / "alerts" / "alerts_test.yml"


def run(action="off", result="ok", category=None, attempts=(), plugs=("i-1",), names=(), **stats):
    return metrics.Run(action, result, category, 1.25, Stats(attempts=list(attempts), **stats), "0.1.0", plugs, names)


def values(text):
    """{sample with its labels: value} by Prometheus' parser."""
    return {
        (sample.name.replace(metrics.PREFIX, ""), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def after(*runs, text=""):
    for one in runs:
        samples, _ = metrics.parse(text)
        metrics.add(samples, one, 1800000000.0)
        text = metrics.render(samples)
    return text


DENIED = ("CreateTags", "UnauthorizedOperation", 0.04)
FAILED = run("off", "failed", Category.PERMISSION, [("DescribeInstances", "", 0.2), DENIED])
TWO = [("CreateTags", "", 0.3), ("ModifyNetworkInterfaceAttribute", "", 7.0)]
DONE = run(attempts=TWO, tag_characters=354, chunks=1, tags_written=2, network_seconds=1.5)


def test_counters_add_up_and_gauges_keep_the_last():
    found = values(after(FAILED, DONE, DONE))
    expected = {
        ("operations_total", "off", "ok"): 2,
        ("operations_total", "off", "failed"): 1,
        ("operations_total", "on", "failed"): 0,
        ("operation_failures_total", "off", "permission"): 1,
        ("tag_operations_total", "write", "ok"): 2,
        ("tag_operations_total", "write", "failed"): 1,
        ("security_group_changes_total", "ok"): 2,
        ("api_errors_total", "CreateTags", "UnauthorizedOperation"): 1,
        ("api_calls_total", "CreateTags"): 3,
        ("api_call_seconds_total", "CreateTags"): 0.64,
        ("tags_written_total",): 4,
        ("backup_chunks_total",): 2,
        ("tag_characters_total",): 708,
        ("last_operation_success", "off"): 1,
        ("last_operation_duration_seconds", "off"): 1.25,
        ("last_operation_slowest_call_seconds", "off"): 7,
        ("last_success_timestamp_seconds", "off"): 1800000000,
        ("last_failure_timestamp_seconds", "off"): 1800000000,
        ("last_api_error_timestamp_seconds", "CreateTags", "UnauthorizedOperation"): 1800000000,
        ("node_last_operation_timestamp_seconds", "off", "i-1", "ok"): 1800000000,
        ("node_last_operation_timestamp_seconds", "off", "i-1", "failed"): 1800000000,
        ("network_seconds",): 1.5,
        ("info", "0.1.0"): 1,
    }
    assert found.items() >= expected.items()
    assert values(after(DONE, FAILED))["network_seconds",] == 1.5, "nothing was seen since"
    assert ("network_seconds",) not in values(after(FAILED))


def test_every_family_has_its_kind_and_help_as_prometheus_reads_them():
    families = {f.name: f for f in text_string_to_metric_families(after(FAILED, DONE))}
    for name, family in metrics.FAMILIES.items():
        known = families[metrics.PREFIX + (name[: -len("_total")] if family.kind == "counter" else name)]
        assert (known.type, known.documentation) == (family.kind, family.help)


def test_a_written_file_is_read_back_the_same():
    text = after(FAILED, DONE)
    assert metrics.parse(text)[1] == 0
    assert metrics.render(metrics.parse(text)[0]) == text


@pytest.mark.parametrize(
    "line",
    ["nonsense", "up 1", "OURS_unknown_total 1", "OURS_tags_written_total NaN", "OURS_tags_written_total -1",
     "OURS_tags_written_total 1e300", "OURS_tags_written_total 1 1800000000", 'OURS_tags_written_total{x="1"} 1',
     'OURS_operations_total{action="off"} 1', "OURS_tags_written_total",
     'OURS_operations_total{result="ok",action="off"} 1', "OURS_api_calls_total 1",
     'OURS_api_errors_total{call="a",code="x\\"y"} 1', "OURS_tags_written 1",
     'OURS_node_last_operation_timestamp_seconds{action="off",plug="a b",result="ok"} 1'],
)  # fmt: skip
def test_an_invalid_line_is_dropped(line):
    text = after(DONE)
    samples, dropped = metrics.parse(text + line.replace("OURS_", metrics.PREFIX))
    assert dropped == 1
    assert metrics.render(samples) == text


def test_no_update_is_lost_where_many_write_at_once(tmp_path):
    path = str(tmp_path / "fence.prom")
    with ThreadPoolExecutor(8) as pool:
        warnings = list(pool.map(lambda _: metrics.update(path, DONE, 1.5), range(80)))
    written = warnings.count(None)
    assert written > 20
    assert values(Path(path).read_text("ascii"))["operations_total", "off", "ok"] == written


def test_codes_from_outside_stay_few_and_plain():
    strange = ['x"} 1\nup 1', "ä", "x" * 65, *(f"Code{n}" for n in range(500))]
    text = after(run(attempts=[("CreateTags", code, 0.1) for code in strange]))
    found = {k: v for k, v in values(text).items() if k[0] == "api_errors_total"}
    assert len(found) == metrics.MOST_CODES
    assert found["api_errors_total", "CreateTags", "other"] == len(strange) - (metrics.MOST_CODES - 1)
    assert len(text) < metrics.LARGEST / 4


def test_a_file_without_the_nodes_is_read_and_gets_them():
    """It was written before there were any."""
    known = [line for line in after(FAILED, DONE).splitlines(keepends=True) if metrics.NODE_TIME not in line]
    assert metrics.parse("".join(known))[1] == 0
    found = values(after(run("on", plugs=("i-2",)), text="".join(known)))
    assert found["operations_total", "off", "ok"] == 1
    assert [key for key in found if key[0] == metrics.NODE_TIME] == [(metrics.NODE_TIME, "on", "i-2", "ok")]


def test_first_failure_has_a_time_and_success_has_none():
    """Alerts on what failed once, for the first time, look at that: its counter shows no increase."""
    found = values(after(run("monitor", "failed", Category.PERMISSION, [DENIED], plugs=())))
    assert found["last_failure_timestamp_seconds", "monitor"] == 1800000000
    assert found["last_api_error_timestamp_seconds", "CreateTags", "UnauthorizedOperation"] == 1800000000
    assert not [key for key in found if key[0] == "last_success_timestamp_seconds"]
    assert not [key for key in values(after(DONE)) if key[0].startswith(("last_failure", "last_api_error"))]


def test_refused_self_fencing_is_no_failure():
    found = values(after(run("off", "failed", Category.SELF_FENCING)))
    assert found["operations_total", "off", "refused"] == 1
    assert found["operations_total", "off", "failed"] == 0
    assert found["operation_failures_total", "off", "self-fencing"] == 1
    assert found["last_operation_success", "off"] == 0
    assert [key[1:] for key in found if key[0] == metrics.NODE_TIME] == [("off", "i-1", "refused")]
    assert not [key for key in found if key[0].startswith(("last_success", "last_failure"))]


def test_a_found_name_ends_its_earlier_failure():
    found = values(after(run("off", "failed", plugs=("node1",)), run(names=("node1", "node 1"))))
    assert {key[1:] for key in found if key[0] == metrics.NODE_TIME} == {
        ("off", "node1", "failed"),
        ("off", "node1", metrics.RESOLVED),
        ("off", "i-1", "ok"),
    }
    failed = values(after(run("off", "failed", names=("node1",))))
    assert [key[1:] for key in failed if key[0] == metrics.NODE_TIME] == [("off", "i-1", "failed")]


def test_only_what_changes_a_node_names_it():
    assert metrics.NODE_TIME not in after(run("status"), run("monitor", plugs=()))


def test_nodes_stay_few_and_plain_and_the_newest_are_kept():
    strange = ['x"} 1\nup 1', "ä", "x" * 65, "node 1"]
    text = ""
    for number, plug in enumerate([*strange, *(f"i-{n:017x}" for n in range(500))]):
        samples, _ = metrics.parse(text)
        for result in ("ok", "failed"):
            metrics.add(samples, run("off", result, plugs=(plug,)), 1800000000.0 + number)
        text = metrics.render(samples)
    assert metrics.parse(text)[1] == 0
    kept = {key[2] for key in values(text) if key[0] == metrics.NODE_TIME}
    assert kept == {f"i-{n:017x}" for n in range(500 - metrics.MOST_NODES, 500)}
    assert len(text) < metrics.LARGEST / 4
    assert (metrics.NODE_TIME, "off", "other", "ok") in values(after(run(plugs=tuple(strange))))


RESULTS = {*metrics.RESULTS, *metrics.RETURN_RESULTS, metrics.RESOLVED}
KNOWN = {"action": {*metrics.ACTIONS}, "result": RESULTS, "cluster": {""}}


def test_alerts_use_existing_metrics():
    """Shape, and names and labels of metrics."""
    (group,) = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    samples = metrics.parse(after(FAILED, run("monitor"), DONE))[0]
    names = {metrics.PREFIX + name for name, _ in samples}
    for rule in group["rules"]:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["annotations"]["summary"]
        assert rule["labels"]["severity"] in ("warning", "critical")
        used = re.findall(rf"({metrics.PREFIX}\w+)(?:\{{([^}}]*)\}})?", rule["expr"])
        assert used
        for name, labels in used:
            assert name in names
            for label, value in re.findall(r'(\w+)=~?"([^"]*)"', labels):
                if label != "code":
                    assert set(value.split("|")) <= KNOWN[label]


def rules():
    (group,) = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    return group["rules"]


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_no_alert_waits_for_a_counter_to_begin(rule):
    """Throttling continues; other events may happen once, in a new file."""
    assert rule["alert"] == "FencingThrottled" or not re.search("rate|increase|delta|_total", rule["expr"])


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_every_alert_is_in_the_guide_and_has_cases_to_run(rule):
    """One case at least where it fires, and one where it does not; promtool runs them."""
    guide = (ALERTS.parent / "setup.md").read_text(encoding="utf-8")
    assert f"| {rule['alert']} |" in guide
    tests = yaml.safe_load(CASES.read_text(encoding="utf-8"))["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"] if case["alertname"] == rule["alert"]]
    assert {bool(case.get("exp_alerts")) for case in cases} == {True, False}


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_a_failure_ends_by_a_later_success_of_any_node_of_the_cluster(rule):
    ends = r" unless .* <= (on \(cluster, plug\) group_left \(\) max by \(cluster, plug\)|max by \(cluster\)) "
    lasting = ("FencingFailed", "NodeFenced", "UnfencingFailed", "NodeStaysStopped", "FencingWouldFail")
    assert bool(re.search(ends, rule["expr"])) == (rule["alert"] in lasting)


AGGREGATION = r"\b(sum|min|max|avg|count|group|topk|bottomk|quantile|stddev|stdvar|count_values)\b(?! *by *\(cluster)"


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_alerts_distinguish_clusters(rule):
    assert not re.search(AGGREGATION, rule["expr"])


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_about_a_node_names_the_node_and_its_cluster(rule):
    about_nodes = re.search(r'action="(off|on)"', rule["expr"])
    summary = rule["annotations"]["summary"]
    assert bool(about_nodes) == ("$labels.plug" in summary)
    assert not about_nodes or {"$labels.cluster", "$labels.instance"} <= set(re.findall(r"\$labels\.\w+", summary))
    labels = {"instance", "cluster", *(label for f in metrics.FAMILIES.values() for label in f.labels)}
    assert set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"]))) <= labels
