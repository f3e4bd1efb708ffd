"""The agent under pcs and stonith_admin."""

import re
import xml.etree.ElementTree as ET

import pytest

GROUP = "sg-0123456789abcdef0"
UNWANTED = {"action", "help", "version"}  # not options for pcs
SAMPLES = {"boolean": "1", "integer": "7", "second": "7", "select": "1", "string": GROUP}
GOOD = {
    "keep": f"secg={GROUP} invert_sg_removal=1",
    "remove, several": f"secg={GROUP},sg-0123456789abcdef1 invert_sg_removal=0 ignore_instance_state=true",
    "the field's spelling": f"secg={GROUP} invert-sg-removal=1 ignore-instance-state=0",
}
BAD = {
    "no secg": ("invert_sg_removal=1", "secg"),
    "no boolean": (f"secg={GROUP} invert_sg_removal=ture", "invert_sg_removal=ture is neither true nor false"),
    "malformed group": ("secg=sg-nonsense invert_sg_removal=1", "sg-nonsense"),
    "untracking in secg": (f"secg={GROUP} untrack_secg={GROUP} invert_sg_removal=1", "untrack_secg"),
    "half a key": (f"secg={GROUP} invert_sg_removal=1 access_key=AKIAFENCETEST0000001", "secret-key"),
}


@pytest.fixture(scope="module")
def bed(three):
    """The cluster for all tests of this file: none changes it."""
    three.reset()
    return three


@pytest.fixture
def node(bed):
    """A node of the cluster, with an empty CIB in a file."""
    first = bed.nodes[bed.names[0]]
    first.command("sh", "-c", "cibadmin --empty >/run/cib.xml")
    return first


@pytest.fixture
def parameters(node):
    """The parameters of the metadata, read by Pacemaker."""
    return list(
        ET.fromstring(node.command("stonith_admin", "--metadata", "-a", "fence_aws_vpc_net")).iter("parameter")
    )


def create(node, options, *more):
    words = ("stonith", "create", "tried", "fence_aws_vpc_net", *options)
    return node.result("pcs", "-f", "/run/cib.xml", *words, *more)


@pytest.mark.parametrize("deprecated", [False, True], ids=["as shown", "deprecated forms"])
def test_pcs_accepts_every_form_of_every_parameter(node, parameters, deprecated):
    chosen = [
        p for p in parameters if (p.get("deprecated") is not None) is deprecated and p.get("name") not in UNWANTED
    ]
    assert len(chosen) > (5 if deprecated else 30)
    options = [f"{p.get('name')}={SAMPLES[p.find('content').get('type')]}" for p in chosen]
    done = create(node, options)
    assert done.returncode == 0, done.stderr
    stored = ET.fromstring(node.command("cat", "/run/cib.xml")).findall(".//primitive[@id='tried']//nvpair")
    assert {f"{n.get('name')}={n.get('value')}" for n in stored} == set(options)


def test_describe_shows_each_option_once(node, parameters):
    """Each begins a line; pcs 0.11 has the text on that line, and 0.12 below it."""
    shown = node.command("pcs", "stonith", "describe", "fence_aws_vpc_net")
    shown = shown[shown.index("Stonith options:") : shown.index("Default operations:")]
    options = re.findall(r"^  ([\w-]+)(.*(?:\n    .*)*)", shown, re.MULTILINE)
    names = [name for name, _text in options]
    assert len(names) == len(set(names))
    wanted = {p.get("name") for p in parameters if p.get("deprecated") is None} - UNWANTED
    assert wanted <= set(names)
    assert [name for name, text in options if len(re.sub(r"\n +(Type|Default): .*", "", text)) < 15] == []


@pytest.mark.parametrize("options", GOOD.values(), ids=GOOD)
def test_agent_validation_accepts_valid_options(node, options):
    done = create(node, options.split(), "--agent-validation")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("options", "reason"), BAD.values(), ids=BAD)
def test_agent_validation_names_the_invalid_option(node, options, reason):
    done = create(node, options.split(), "--agent-validation")
    assert done.returncode != 0
    assert reason in done.stderr
    assert "tried" not in node.command("cat", "/run/cib.xml")


def test_stonith_admin_validates_and_lists(bed, node):
    validate = ("stonith_admin", "--validate", "-a", "fence_aws_vpc_net")
    assert node.result(*validate, "-o", f"secg={GROUP}").returncode == 0
    assert node.result(*validate, "-o", "secg=sg-nonsense").returncode != 0
    assert "fence_aws_vpc_net" in node.command("stonith_admin", "--list-installed").split()
    assert "fence-vpc" in node.command("stonith_admin", "--list-registered")
    for name in bed.names:
        assert "fence-vpc" in node.command("stonith_admin", "--list", name)
    assert node.result("stonith_admin", "--list", "stranger").stdout.count("fence-vpc") == 0


@pytest.mark.parametrize(
    "line",
    ["(STONITH|Fencing) of failed nodes enabled", "Cluster is symmetric", "No quorum policy: Stop ALL resources"],
)
def test_crm_mon_shows_the_options_that_the_setup_page_requires(node, line):
    assert re.search(line, node.command("crm_mon", "--one-shot", "--include=options"))
