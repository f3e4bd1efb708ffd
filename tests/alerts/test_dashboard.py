"""doc/dashboard.json: its queries are PromQL, of metrics and labels that there are, and its panels do not overlap."""

import json
import re
from pathlib import Path

import pytest
import yaml
from alerts.test_alerts import PROMTOOL, promtool

from aws_vpc_net.metrics import FAMILIES, PREFIX

DASHBOARD = Path(__file__).parents[2] / "doc" / "dashboard.json"
OF_THE_SCRAPE = {"cluster", "instance"}


@pytest.fixture(scope="module")
def dashboard():
    return json.loads(DASHBOARD.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def targets(dashboard):
    found = [(panel["title"], target) for panel in dashboard["panels"] for target in panel["targets"]]
    assert len(found) >= len(dashboard["panels"]) > 0
    return found


def families(expr):
    """The families whose samples an expression selects."""
    names = re.findall(rf"\b{PREFIX}(\w+)", expr)
    assert names, expr
    assert set(names) <= set(FAMILIES), expr
    return [FAMILIES[name] for name in names]


def test_metrics_and_labels_exist(dashboard, targets):
    for title, target in targets:
        known = {label for family in families(target["expr"]) for label in family.labels} | OF_THE_SCRAPE
        used = re.findall(r"(\w+)=~?\"", target["expr"])
        for group in re.findall(r"\b(?:by|on) \(([^)]*)\)", target["expr"]):
            used += re.split(r", *", group)
        used += re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])
        assert set(used) <= known, title
        assert 'cluster=~"$cluster"' in target["expr"], title
    (variable,) = [v["query"] for v in dashboard["templating"]["list"] if v["name"] == "cluster"]
    assert families(variable) == [FAMILIES["info"]]


@pytest.mark.skipif(not PROMTOOL.exists(), reason="no promtool: see make_promtool in tests/setup.sh")
def test_queries_are_promql(targets, tmp_path):
    rules = [
        {"record": f"panel:{number}", "expr": target["expr"].replace("$cluster", ".*")}
        for number, (_, target) in enumerate(targets)
    ]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}), encoding="utf-8")
    done = promtool("check", "rules", str(file))
    assert done.returncode == 0, done.stdout + done.stderr


# Of a panel: the result of a node that it shows, and the result of each of two nodes at each minute; i-1 is brought
# back in the third; which it shows after so many minutes.
OF_NODES = {
    "Isolated nodes": (("off", "ok"), "60x90", {"1m": ("i-1", "i-2"), "5m": ("i-2",), "89m": ("i-2",)}),
    "Nodes that stay": (("on", "stays_stopped"), "60x90", {"1m": ("i-1", "i-2"), "5m": ("i-2",), "62m": ()}),
}


@pytest.mark.skipif(not PROMTOOL.exists(), reason="no promtool: see make_promtool in tests/setup.sh")
@pytest.mark.parametrize("panel", OF_NODES)
def test_nodes_are_shown_until_an_on_or_as_long_as_monitors_say_so(targets, tmp_path, panel):
    (expr,) = [target["expr"] for title, target in targets if title.startswith(panel)]
    what, values, wanted = OF_NODES[panel]
    last = PREFIX + 'node_last_operation_timestamp_seconds{{cluster="a", plug="{}", action="{}", result="{}"}}'
    history = {("i-1", *what): values, ("i-2", *what): values, ("i-1", "on", "ok"): "_x2 120x88"}
    case = {
        "interval": "1m",
        "input_series": [{"series": last.format(*key), "values": values} for key, values in history.items()],
        "promql_expr_test": [
            {"expr": expr.replace("$cluster", ".*"), "eval_time": time, "exp_samples": samples(plugs)}
            for time, plugs in wanted.items()
        ],
    }
    file = tmp_path / "cases.yml"
    file.write_text(yaml.safe_dump({"evaluation_interval": "1m", "tests": [case]}), encoding="utf-8")
    done = promtool("test", "rules", str(file))
    assert done.returncode == 0, done.stdout + done.stderr


def samples(plugs):
    """What the panel shows: when that was said of each of them, in milliseconds as Grafana takes times."""
    return [{"labels": f'{{cluster="a", plug="{plug}"}}', "value": 60_000} for plug in plugs]


def test_panels_have_a_place_and_a_number_of_their_own(dashboard):
    taken = set()
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells
    numbers = [panel["id"] for panel in dashboard["panels"]]
    assert len(numbers) == len(set(numbers))


@pytest.mark.skipif(not PROMTOOL.exists(), reason="no promtool: see make_promtool in tests/setup.sh")
def test_the_latest_result_of_the_cluster_is_shown(targets, tmp_path):
    """What another node did later counts. A node that refused to fence itself has neither of the two times."""
    (expr,) = [target["expr"] for title, target in targets if title.startswith("Did the last")]
    times = {
        "off": {"failure": ("n1", "60x9"), "success": ("n2", "120x9")},
        "status": {"failure": ("n1", "120x9"), "success": ("n2", "60x9")},
        "on": {"failure": ("n1", "60x9")},
        "monitor": {"success": ("n1", "60x9")},
    }
    last = PREFIX + 'last_{}_timestamp_seconds{{cluster="a", instance="{}", action="{}"}}'
    series = [
        {"series": last.format(result, node, action), "values": values}
        for action, found in times.items()
        for result, (node, values) in found.items()
    ]
    refused = PREFIX + 'last_operation_success{cluster="a", instance="n3", action="off"}'
    wanted = {"off": 1, "status": 0, "on": 0, "monitor": 1}
    shown = [{"labels": f'{{cluster="a", action="{action}"}}', "value": value} for action, value in wanted.items()]
    case = {
        "interval": "1m",
        "input_series": [*series, {"series": refused, "values": "0x9"}],
        "promql_expr_test": [{"expr": expr.replace("$cluster", ".*"), "eval_time": "5m", "exp_samples": shown}],
    }
    file = tmp_path / "cases.yml"
    file.write_text(yaml.safe_dump({"evaluation_interval": "1m", "tests": [case]}), encoding="utf-8")
    done = promtool("test", "rules", str(file))
    assert done.returncode == 0, done.stdout + done.stderr
