"""Tests, files, links, options, messages and modules in the documents exist and are correct."""

import ast
import importlib
import json
import re
import shlex
import unicodedata
from pathlib import Path
from typing import Dict, List, Set, Tuple
from xml.etree import ElementTree

import hcl2
import pytest
import yaml
from aws import settle as settle_report
from unit.pages import DEV, DOC, OPERATORS, PAGES, TOP, Block, blocks, introduction, operators_blocks, path, text
from unit.test_imports import LAYERS, MODULES, imports
from unit.test_messages import CATALOGUE, said

from aws_vpc_net import auto_unfence, messages
from aws_vpc_net.core import backup, invariants, returning
from aws_vpc_net.ec2 import RESERVE_SECONDS
from aws_vpc_net.errors import FenceError
from aws_vpc_net.options import OPTIONS

PATHS = {"Success paths": 3, "Failure paths": 6}  # as many as the design document has
MARKS = {"run", "fenced", "aws", "cluster", "host", "checkout", "recovery"}
PACEMAKER = set(  # options of a device that are Pacemaker's own
    "pcmk_host_map pcmk_host_check pcmk_host_argument pcmk_delay_max pcmk_delay_base pcmk_action_limit "
    "pcmk_off_action pcmk_reboot_action pcmk_on_action "
    "pcmk_reboot_timeout pcmk_reboot_retries pcmk_off_timeout pcmk_off_retries".split()
)
OTHER_AGENTS = {"region", "power_timeout", "tag", "profile"}  # options of theirs
CLUSTER_COMMANDS = set("grep pcs crm stonith_admin crm_mon journalctl corosync-quorumtool corosync-cmapctl".split())
SETTLE_SECONDS = 5  # that EC2's network is given to follow
METADATA = TOP / "tests" / "metadata" / "fence_aws_vpc_net.xml"
NO_ACTION = (  # messages of progress, and of checks that passed
    "answers appeared bringing_back brought_back can_be_stopped backup_rewritten "
    "group_found groups_fit groups_set identity interface_found lets_nothing_through name_found "
    "not_opened_again nothing_to_restore observable options_valid other_address_answers permitted "
    "preflight_passed probe_not_allowed backup_written restore_skipped room silence_expected starting stopping "
    "tags_deleted terminated_meanwhile would_be_untracked would_remove"
).split()


def table(page: Path) -> List[List[str]]:
    """The rows of all tables of a page."""
    lines = [line for line in text(page).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if not line.startswith("|---")]


def chapter(page: Path, title: str) -> str:
    """Below a heading, up to the next one of the same or a higher level."""
    level, after = re.split(rf"^(#+) {re.escape(title)}$", text(page), flags=re.MULTILINE)[1:3]
    bare = re.sub(
        r"^```.*?^```$", lambda block: re.sub("^#", " ", block[0], flags=re.M), after, flags=re.M | re.DOTALL
    )
    following = re.search(rf"^#{{1,{len(level)}}} ", bare, re.MULTILINE)
    return after[: following.start()] if following else after


def rows() -> List[List[str]]:
    """The rows of the tables of the design's paths: step, here, tests."""
    lines = chapter(DEV / "architecture.md", "Paths of the design document").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    return [row for row in cells if row[0] != "step"]


def functions_of(file: str) -> Set[str]:
    tree = ast.parse(text(TOP / "tests" / file))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def known_options() -> Set[str]:
    return {str(p.get("name")) for p in ElementTree.parse(METADATA).iter("parameter") if not p.get("deprecated")}


# --- tests that are named --------------------------------------------------------------------------------------


def test_every_path_of_the_design_has_tests():
    page = DEV / "architecture.md"
    for title, count in PATHS.items():
        sections = re.split(r"^#### ", chapter(page, title), flags=re.MULTILINE)[1:]
        assert [s[: s.index(".")] for s in sections] == [str(n + 1) for n in range(count)]
        assert all("::test_" in s for s in sections)


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_the_tests_of_a_path_exist(row):
    for name in [n.strip() for n in row[2].split(",")]:
        file, _, test = name.partition("::")
        assert re.fullmatch(r"(agent|unit|core|search)/test_\w+\.py", file), name
        assert test in functions_of(file), name


def guarantees() -> List[Dict[str, str]]:
    """Of each guarantee its paragraphs, by their first word."""
    sections = chapter(DEV / "architecture.md", "Guarantees").split("\n### ")[1:]
    return [dict(re.findall(r"^\*\*(\w+)\*\*: (.+?)(?:\n\n|\n?\Z)", c, re.MULTILINE | re.DOTALL)) for c in sections]


def test_every_guarantee_has_a_mechanism_tests_that_exist_and_limits():
    assert len(guarantees()) == 8
    for guarantee in guarantees():
        assert list(guarantee) == ["Mechanism", "Tests", "Limits"]
        for name in re.split(r",\s+", guarantee["Tests"].strip()):
            file, _, test = name.partition("::")
            assert name.strip("`") in invariants.NAMES or test in functions_of(file), name


def test_every_invariant_guards_a_guarantee():
    named = {name for guarantee in guarantees() for name in re.findall(r"`(\w+)`", guarantee["Tests"])}
    assert named == set(invariants.NAMES)


def test_the_functions_of_a_mechanism_exist():
    named = {name for guarantee in guarantees() for name in re.findall(r"`(\w+\.\w+)`", guarantee["Mechanism"])}
    assert len(named) > 10
    for name in named:
        module, _, function = name.partition(".")
        where = "aws_vpc_net.core" if MODULES[module].parent.name == "core" else "aws_vpc_net"
        assert hasattr(importlib.import_module(f"{where}.{module}"), function), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tests_that_a_page_names_exist(page):
    """tests/agent/test_x.py, agent/test_x.py, agent/test_x.py::test_y"""
    named = r"\b(?:tests/)?((?:agent|unit|core|search|matrix|cluster)/test_\w+\.py)(?:::(test_\w+))?"
    for file, test in re.findall(named, text(page)):
        assert (TOP / "tests" / file).exists(), file
        assert not test or test in functions_of(file), f"{file}::{test}"


# --- links -----------------------------------------------------------------------------------------------------


def test_variables_of_the_tests_are_those_that_are_documented():
    """A variable that the tests do not read, or that no page names, is of no use to anybody."""
    variable = r"FENCE_(?!AWS)[A-Z]+_[A-Z]+"  # FENCE_AWS_VPC_NET_… are the agent's
    named = set(re.findall(variable, text(DEV / "testing.md")))
    trees = [ast.parse(text(file)) for file in (TOP / "tests").rglob("*.py")]
    texts = {str(node.value) for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    assert named == {name for name in texts if re.fullmatch(variable, name)}


def anchors(page: Path) -> Set[str]:
    """Of the headings, as GitHub makes them."""
    bare = re.sub(r"^```.*?^```$", "", text(page), flags=re.MULTILINE | re.DOTALL)
    found: List[str] = []
    for heading in re.findall(r"^#+ +(.+?) *$", bare, re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        kept = "".join(c for c in words if c in "-_ " or unicodedata.category(c)[0] in "LN")
        found.append(kept.replace(" ", "-"))
    return {f"{name}-{found[:n].count(name)}" if name in found[:n] else name for n, name in enumerate(found)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_anchors_lead_somewhere(page):
    bare = re.sub(r"^```.*?^```$", "", text(page), flags=re.MULTILINE | re.DOTALL)
    for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", bare):
        there = (page.parent / target) if target else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), f"{target}#{anchor}"


# --- commands and configuration --------------------------------------------------------------------------------


@pytest.mark.parametrize("block", operators_blocks(), ids=str)
def test_every_block_of_commands_says_what_it_needs(block):
    assert block.mark in MARKS


@pytest.mark.parametrize("name", OPERATORS)
def test_every_block_for_operators_has_a_language(name):
    assert [str(b) for b in blocks(path(name)) if not b.language] == []


def commands(block: Block) -> List[List[str]]:
    return [shlex.split(line, comments=True) for line in block.text.replace("\\\n", " ").splitlines() if line.strip()]


def device(words: List[str]) -> Tuple[bool, List[str]]:
    """Of a command that sets options of a device: is it one of this agent, and which options."""
    if words[:3] == ["pcs", "stonith", "create"]:
        return words[4] == "fence_aws_vpc_net", names_before_op(words[5:])
    if words[:3] == ["pcs", "stonith", "update"]:
        return True, names_before_op(words[4:])
    if words[:3] == ["crm", "configure", "primitive"]:
        assert words[5] == "params"
        return words[4] == "stonith:fence_aws_vpc_net", names_before_op(words[6:])
    if words[:3] == ["crm", "resource", "param"]:
        return True, [words[5]]
    return True, []


def names_before_op(words: List[str]) -> List[str]:
    given = words[: words.index("op")] if "op" in words else words
    assert given
    return [word.partition("=")[0] for word in given]


@pytest.mark.parametrize("block", operators_blocks("cluster"), ids=str)
def test_devices_have_options_that_exist(block):
    for words in commands(block):
        assert words[0] in CLUSTER_COMMANDS, words
        ours, names = device(words)
        assert set(names) <= PACEMAKER | (known_options() if ours else OTHER_AGENTS), words


def test_the_device_of_the_readme_is_that_of_the_guide():
    """For pcs, and for crmsh, with the same options."""
    found = {
        page: [b.text for b in blocks(path(page)) if "fence-vpc" in b.text] for page in ("README.md", "setup.md")
    }
    assert [b for b in found["README.md"] if " create " in b or " primitive " in b] == found["setup.md"][:2]
    pcs, crm = ([w for w in re.findall(r"\S+=", b) if w != "timeout="] for b in found["setup.md"][:2])
    assert pcs == crm


def test_the_guide_shows_whether_pacemaker_fences_at_all():
    """With fencing disabled, `pcs stonith fence` works, and a failed node is not fenced (Pacemaker 2.1.5)."""
    (block,) = [b for b in operators_blocks("cluster") if "--include=options" in b.text]
    assert block.page == "setup.md"
    for option in ("`pcs property set stonith-enabled=true`", "`symmetric`", "`Stop ALL resources`"):
        assert option in chapter(path("setup.md"), "The device")
    assert "pkill -9 -x corosync" in chapter(path("setup.md"), "Checks before production")


def test_a_default_priority_of_resources_excludes_the_fence_device():
    """Otherwise the device counts for the node that runs it, and priority-fencing-delay may delay nothing."""
    found = [b.text for b in operators_blocks("cluster") if "pcs resource defaults update priority=" in b.text]
    assert found
    assert [text for text in found if "pcs stonith meta fence-vpc priority=0\n" not in text] == []


def test_options_in_the_texts_exist():
    """`option` and `option=value`, in the pages for operators."""
    known = known_options() | PACEMAKER
    hyphened = {name.replace("_", "-") for name in known}
    for name in OPERATORS:
        for option in re.findall(r"`([a-z][a-z0-9]*(?:_[a-z0-9]+)+)=[^`]*`", text(path(name))):
            assert option in known, f"{name}: {option}"
        for option in re.findall(r"(?<=[ `])--([a-z0-9]+(?:-[a-z0-9]+)*)=", commands_of_the_agent(name)):
            assert option in hyphened, f"{name}: --{option}"


def commands_of_the_agent(name: str) -> str:
    lines = text(path(name)).replace("\\\n", " ").splitlines()
    return "\n".join(line for line in lines if "fence_aws_vpc_net -o" in line)


def test_new_options_are_named_where_users_look():
    field = json.loads(text(TOP / "tests" / "metadata" / "field-interface.json"))
    new = {str(p.get("name")) for p in ElementTree.parse(METADATA).iter("parameter")}
    new -= {p["name"] for p in field["parameters"]}
    assert "untrack_secg" in new
    for page in ("CHANGELOG.md", "migration.md"):
        assert {n for n in new if f"`{n}`" not in text(DOC / page)} == set(), page


def test_every_option_of_ours_is_in_the_guide():
    library = {
        "action",
        "port",
        "plug",
        "quiet",
        "verbose",
        "verbose_level",
        "debug",
        "debug_file",
        "version",
        "help",
    }
    library |= {"plug_separator", "separator", "delay", "disable_timeout", "login_timeout", "power_timeout"}
    library |= {"power_wait", "shell_timeout", "stonith_status_sleep", "retry_on"}
    ours = {n for n in known_options() - library if not re.fullmatch(r"interface\d+_sg", n)}
    pages = text(DOC / "setup.md")
    assert {n for n in ours if not re.search(rf"`{n}[`=]", pages)} == set()


READS = (
    r"fence_aws_vpc_net (-o (status|monitor|list|list-status|validate-all|metadata)\b|--version)",
    r"aws ec2 (describe-[\w-]+|get-[\w-]+|wait)\b",
    r"pcs (stonith (config|describe|history|status)|cluster status)\b",
    r"crm (configure verify|ra info)\b",
    r"(grep|journalctl|crm_mon) ",
    r"stonith_admin --history ",
)


def changing(block: Block) -> List[bool]:
    """For each command of a block, whether it changes something. What is not known to read only, does."""
    programs = "|".join(CLUSTER_COMMANDS | {"fence_aws_vpc_net", "aws"})
    begins = rf"(?:^|[|(;&]) *(?:sudo )?((?:{programs}) .*)"
    found = re.findall(begins, block.text.replace("\\\n", " "), re.MULTILINE)
    return [not any(re.match(reads, command) for reads in READS) for command in found]


@pytest.mark.parametrize("block", [b for b in operators_blocks() if b.page == "runbook.md"], ids=str)
def test_changing_blocks_of_the_runbook_are_announced_in_bold(block):
    """Blocks are pasted whole, in a hurry."""
    said = re.search(r"\*\*This\s[^*]+\*\*", introduction(block)[1].split("\n\n")[-1])
    assert bool(said) == any(changing(block)), str(block)


def test_no_block_mixes_queries_and_changes():
    asks = [b for b in operators_blocks() if "-o status" in b.text or "-o validate-all" in b.text]
    assert asks
    assert [str(b) for b in asks if any(changing(b))] == []


def test_commands_in_the_text_of_the_runbook_need_the_permissions_of_an_operator():
    """Those of its blocks are run with the policy. What goes beyond it is named where it is needed."""
    page = text(DOC / "runbook.md")
    named = re.findall(r"`aws\s+ec2\s+([a-z-]+)", page)
    actions = {"ec2:" + "".join(word.capitalize() for word in name.split("-")) for name in named}
    assert len(actions) > 1
    policy = text(DOC / "iam-policy-operator.json")
    assert {a for a in actions if f'"{a}"' not in policy and f"`{a}`" not in page} == set()


def test_what_reads_the_output_of_the_aws_cli_names_its_format():
    """The operator's configuration may have another one than JSON."""
    texts = [(str(b), b.text.replace("\\\n", " ")) for b in operators_blocks() if "aws " in b.text]
    read = [(b, c) for b, t in texts for c in re.findall(r"(?<=\$\()aws .+?(?=\))|aws [^\n|]+?(?= *[|>])", t)]
    assert len(read) > 4
    assert [(b, command) for b, command in read if "--output " not in command] == []


def test_terraform_blocks_are_valid():
    found = [b for page in PAGES for b in blocks(page) if b.language == "terraform"]
    assert len(found) >= 3
    for block in found:
        assert hcl2.loads(block.text)["resource"], str(block)
    with pytest.raises(Exception, match=r"(?i)unexpected|token"):
        hcl2.loads(found[0].text.replace("{", "[", 1))


def test_json_and_yaml_blocks_are_valid():
    for block in (b for page in PAGES for b in blocks(page) if b.language in ("json", "yaml")):
        (json.loads if block.language == "json" else yaml.safe_load)(block.text)


def test_timeouts_are_calculated_correctly():
    lines = rows_below(chapter(DOC / "setup.md", "Timeouts"), "`deadline`")
    assert [line[:2] for line in lines[:1]] == [[settle_report.DEADLINE, SETTLE_SECONDS]]
    for deadline, settle, calls, calls_untracked, ends, again, choose in lines:
        reserve = min(RESERVE_SECONDS, deadline / 5)
        assert [calls, calls_untracked] == [deadline - reserve - settle, deadline - reserve - 2 * settle]
        assert ends == deadline + 2
        assert again - 1 < ends / 0.7 <= again
        assert choose >= 2 * (deadline + 2) + 12
        assert deadline >= settle_report.RESERVE_SECONDS + settle_report.CALL_SECONDS + 2 * settle
    assert settle_report.RESERVE_SECONDS == RESERVE_SECONDS


def test_the_worst_case_of_the_default_deadline_adds_up():
    seconds = [row[0] for row in rows_below(chapter(DOC / "setup.md", "Timeouts"), "seconds | ")]
    assert seconds == [settle_report.CALL_SECONDS, SETTLE_SECONDS, SETTLE_SECONDS, RESERVE_SECONDS, 2]
    assert sum(seconds) == settle_report.DEADLINE + 2
    last_end = float(re.search(r"\| 30 × 3 \|(?: [^|]+ \|){4} ([\d.]+) \|", text(DEV / "performance.md"))[1])
    assert last_end < settle_report.CALL_SECONDS


def test_how_many_interfaces_fit_into_a_deadline():
    page = " ".join(chapter(DOC / "setup.md", "Timeouts").split())
    formula = r"`deadline` ≥ (\d+) \+ `settle_time` \+ ([\d.]+) × \(c − (\d+)\) / ([\d.]+)\."
    more, times, size, refill = map(float, re.search(formula, page).groups())
    assert more == 2 * RESERVE_SECONDS
    most = int(size + refill * (settle_report.DEADLINE - more - SETTLE_SECONDS) / times)
    assert f"The default is enough for {most} interfaces, and" in page
    deadline, nodes = map(int, re.search(r"and (\d+) s for (\d+) nodes of two\.", page).groups())
    assert deadline - 10 < more + SETTLE_SECONDS + times * (2 * nodes - size) / refill <= deadline
    assert f"| {nodes} × 2 | {deadline} s |" in text(DEV / "performance.md")


def rows_below(page: str, head: str) -> List[List[int]]:
    """The numbers in each row of the table whose first line begins so."""
    lines = page[page.index(f"\n| {head}") :].split("\n\n", maxsplit=1)[0].strip().splitlines()[2:]
    return [[int(n) for n in re.findall(r"(?<![\w])\d+", line)] for line in lines]


def apart(most: int, longest: int) -> int:
    """Of a hundred pairs of draws below `longest`, those at most so far apart. Pacemaker draws whole seconds."""
    draws = range(longest)
    near = sum(abs(one - other) <= most for one in draws for other in draws)
    return round(100 * near / longest**2)


def test_delays_of_two_nodes_are_calculated_correctly():
    page = chapter(DOC / "setup.md", "Two nodes")
    _, isolated, succeeds = rows_below(page, "| without")
    head_start = int(re.search(r'pcmk_delay_base="node1:(\d+)s;node2:0s"', page)[1])
    assert head_start > max(succeeds), "the second fencer begins after the first one has succeeded"
    assert succeeds == [isolated[0] + SETTLE_SECONDS, isolated[1] + SETTLE_SECONDS]
    assert isolated[1] == isolated[0] + SETTLE_SECONDS, "it stays on untrack_secg for as long"
    draws = rows_below(page, "`pcmk_delay_max`")
    assert [row[0] for row in draws] == [10, 30, 90]
    for longest, *stated in draws:
        assert stated == [apart(most, longest) for most in (0, isolated[0], isolated[1])]


def test_delays_of_two_nodes_never_meet():
    """Whichever has the higher priority, or none."""
    page = chapter(DOC / "setup.md", "Two nodes")
    priority = int(re.search(r"priority-fencing-delay=(\d+)s", page)[1])
    base = int(re.search(r"node1:(\d+)s", page)[1])
    assert priority >= 2 * base
    worked_out = [[base + priority, 0], [base, 0], [base, priority]]
    assert [row[-3:] for row in rows_below(page, "priorities")] == [[a, b, abs(a - b)] for a, b in worked_out]
    assert min(abs(a - b) for a, b in worked_out) >= base
    assert f"pcmk_off_timeout={120 + priority} pcmk_reboot_timeout={120 + priority}" in page


def test_the_times_of_the_guide_are_the_defaults():
    defaults = {o.name: o.more.get("default") for o in OPTIONS}
    assert defaults["settle_time"] == str(SETTLE_SECONDS) == str(settle_report.DEFAULT)
    assert defaults["deadline"] == str(settle_report.DEADLINE)


def test_the_limits_of_auto_unfence_are_those_of_the_guide():
    page = " ".join(chapter(DOC / "setup.md", "Coming back").split())
    times, hours = returning.MOST_RETURNS, returning.PERIOD_SECONDS / 3600
    assert f"**At most {times} times in {hours:g} hours**" in page
    (option,) = [o.text for o in OPTIONS if o.name == "auto_unfence"]
    assert f"at most {times} times in {hours:g} hours" in option
    assert f"{times} times within {hours:g} hours" in messages.stays_stopped("", times)
    assert f"`deadline` + {auto_unfence.GRACE_SECONDS:g} s after the fence" in page
    assert f"if less than {auto_unfence.NEEDED_SECONDS:g} s are left" in page
    for tag in (backup.RETURNED, returning.EXEMPT):
        assert f"`{tag}`" in page
    assert all(f"`{value}`" in page for value in returning.NOT_EXEMPT)


# --- messages --------------------------------------------------------------------------------------------------


def described() -> Dict[str, str]:
    """Name of a message, in a comment of its row -> its text on the page, … for what differs."""
    found = re.findall(r"^\| `([^`]+)` \| .*<!-- (\w+) --> \|$", text(DOC / "troubleshooting.md"), re.MULTILINE)
    assert len({name for _, name in found}) == len(found)
    return {name: shown for shown, name in found}


def test_every_message_that_needs_an_action_is_described_and_no_other():
    assert set(described()) == set(CATALOGUE) - set(NO_ACTION)
    assert set(CATALOGUE) >= set(NO_ACTION)


def test_no_block_lets_pacemaker_unfence_a_node_that_has_not_restarted():
    """It does so a second after the fencing, if the node is still a member, as with storage-only fencing."""
    pages = [path("README.md"), *DOC.glob("*.md")]
    assert [b.text for page in pages for b in blocks(page) if "unfencing" in b.text] == []


def test_no_block_has_another_action_in_place_of_a_fencing():
    """Pacemaker takes the success of any action for that of off."""
    options = [word for block in operators_blocks("cluster") for words in commands(block) for word in words]
    replacing = [o for o in options if re.match(r"(action|pcmk_(off|reboot)_action)=", o)]
    assert set(replacing) == {"pcmk_reboot_action=off"}, "of fence_aws"
    assert "leave `action`, `pcmk_off_action` and `pcmk_reboot_action` unset" in text(path("setup.md"))


@pytest.mark.parametrize(
    ("page", "title"), [("setup.md", "Coming back"), ("setup.md", "Timeouts"), ("runbook.md", "Fence device stopped")]
)
def test_a_device_that_failed_on_every_node_stays_stopped_without_failure_timeout(page, title):
    """Measured with Pacemaker 2.1.5: no monitor runs then, and none brings a node back."""
    assert "`failure-timeout" in chapter(path(page), title)


def test_a_second_agent_comes_after_the_limit_of_actions():
    """Pacemaker before 2.1.8 may lose the end of a monitor while it reads the metadata of another agent."""
    [block] = [b.text for b in blocks(path("setup.md")) if "create fence-power" in b.text]
    assert block.index("update fence-vpc pcmk_action_limit=-1") < block.index("create fence-power")


def test_every_error_needs_an_action():
    assert [name for name in NO_ACTION if isinstance(said(CATALOGUE[name]), FenceError)] == []


@pytest.mark.parametrize("name", sorted(set(CATALOGUE) - set(NO_ACTION)))
def test_a_message_is_quoted_correctly(name):
    message = said(CATALOGUE[name])
    shown = message.text if isinstance(message, FenceError) else str(message)
    pattern = ".*".join(re.escape(part) for part in described()[name].split("…"))
    assert re.fullmatch(pattern, shown), shown


def test_messages_that_the_runbook_names_exist():
    """Pieces of messages in the first column of the tables by symptom."""
    sections = [chapter(DOC / "runbook.md", title) for title in ("off is refused", "Node stays UNCLEAN")]
    cells = [line.split("|")[1] for section in sections for line in section.splitlines() if line.startswith("| ")]
    pieces = [piece for cell in cells for piece in cell.split("`")[1::2] if "_" not in piece]
    assert len(pieces) > 8
    texts = [str(said(function)) for function in CATALOGUE.values()]
    others = [piece for piece in pieces if not any(piece in message for message in texts)]
    assert others == ["will not die"], "of Pacemaker"


def test_every_category_is_described():
    assert {said(f).category.value for f in CATALOGUE.values() if isinstance(said(f), FenceError)} <= {
        name.strip() for row in table(DOC / "troubleshooting.md") if len(row) == 2 for name in row[0].split(",")
    }


# --- for contributors ------------------------------------------------------------------------------------------


def test_the_architecture_names_every_module():
    page = text(DEV / "architecture.md")
    modules = set(MODULES)
    assert {m for m in modules if f"`{m}`" not in page} == set()


def test_the_diagram_of_imports_is_correct():
    """Each box imports from those to the right of it, and from itself."""
    picture = next(b.text for b in blocks(DEV / "architecture.md") if b.text.startswith("flowchart"))
    boxes = [set(found.split(", ")) for found in re.findall(r'\["([^"]+)"\]', picture)]
    assert boxes.pop(0) == {"fence_aws_vpc_net"}
    own = set().union(*boxes)
    assert own == set().union(*LAYERS)
    for number, box in enumerate(boxes):
        reached = set().union(*boxes[number:])
        assert {m: imports(m) & own - reached for m in box if imports(m) & own - reached} == {}
