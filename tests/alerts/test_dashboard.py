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


@pytest.mark.skipif(not PROMTOOL.exists(), reason="no promtool: see make_promtool in tests/setup.sh")
def test_isolated_nodes_are_those_without_a_later_on(targets, tmp_path):
    (expr,) = [target["expr"] for title, target in targets if title.startswith("Isolated nodes")]
    last = PREFIX + 'node_last_operation_timestamp_seconds{{cluster="a", plug="{}", action="{}", result="ok"}}'
    history = {("i-1", "off"): "60x20", ("i-2", "off"): "60x20", ("i-1", "on"): "_x2 120x20"}
    case = {
        "interval": "1m",
        "input_series": [{"series": last.format(*key), "values": values} for key, values in history.items()],
        "promql_expr_test": [
            {"expr": expr.replace("$cluster", ".*"), "eval_time": time, "exp_samples": samples(isolated)}
            for time, isolated in {"1m": ("i-1", "i-2"), "5m": ("i-2",)}.items()
        ],
    }
    file = tmp_path / "cases.yml"
    file.write_text(yaml.safe_dump({"evaluation_interval": "1m", "tests": [case]}), encoding="utf-8")
    done = promtool("test", "rules", str(file))
    assert done.returncode == 0, done.stdout + done.stderr


def samples(plugs):
    """What the panel shows: when each of them was isolated, in milliseconds as Grafana takes times."""
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
