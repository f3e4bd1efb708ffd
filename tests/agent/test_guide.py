"""The pages for operators, executed on the emulator with the real AWS CLI; and the manual page.

Commands that need AWS itself are parsed by the AWS CLI, which checks options and queries without a call.
"""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Tuple
from xml.etree import ElementTree

import boto3
import pytest
from assertions import groups, is_isolated, our_tags
from ec2.keys import AccessKey
from fork_server import ForkServers
from programs import Programs
from unit.pages import DOC, TOP, Block, blocks, operators_blocks, path, text

CLI = str(Path(sys.executable).parent / "aws")
EXAMPLE = "0123456789abcdef"
NEEDED = {
    "run": {"README.md", "setup.md", "runbook.md", "migration.md"},
    "fenced": {"runbook.md"},
    "aws": {"setup.md"},
}


@pytest.fixture
def examples(ec2) -> Dict[str, str]:
    """ID in the documents -> ID in the emulator."""
    world = ec2.world
    ids = {f"i-{EXAMPLE}{n}": world.nodes[f"node{n + 1}"] for n in range(3)}
    ids.update({f"eni-{EXAMPLE}{n}": world.interfaces["node1"][n] for n in range(2)})
    for number, name in enumerate(("isolation", "open", "app", "db", "ssh")):
        ids[f"sg-{EXAMPLE}{number}"] = world.groups[name]
    ids[f"vpc-{EXAMPLE}0"] = world.vpc
    bare = {k[3:]: v[3:] for k, v in ids.items() if k.startswith("sg-")}  # as the tags hold them
    return {**ids, **bare}


def swapped(text: str, names: Dict[str, str]) -> str:
    known = sorted(names, key=len, reverse=True)
    return re.sub("|".join(map(re.escape, known)), lambda found: names[found[0]], text)


class Shell:
    """bash, where aws and fence_aws_vpc_net reach the emulator."""

    def __init__(self, agent, ec2, examples: Dict[str, str], folder: Path, commands: Tuple[str, str]) -> None:
        """``commands``: how the AWS CLI and the agent are started."""
        self.examples, self.folder = examples, folder
        tools = folder / "tools"
        tools.mkdir()
        aws, fence = commands
        self._program(tools / "aws", f'exec {aws} "$@"')
        reach = f'case " $* " in *\' -o \'*) set -- "$@" --endpoint-url={ec2.endpoint} --settle-time=0 ;; esac\n'
        self._program(tools / "fence_aws_vpc_net", f'{reach}exec {fence} "$@"')
        known = {**agent.env, **ec2.environment(), "AWS_PAGER": ""}
        self.env = {**known, "PATH": f"{tools}:{agent.env['PATH']}"}

    def use(self, name: str, key: AccessKey) -> None:
        """Let one of the two use these credentials."""
        file = self.folder / "tools" / name
        keys = f"export AWS_ACCESS_KEY_ID={key.access_key} AWS_SECRET_ACCESS_KEY={shlex.quote(key.secret_key)}"
        self._program(file, file.read_text(encoding="utf-8").replace("#!/bin/sh", keys, 1))

    @staticmethod
    def _program(file: Path, text: str) -> None:
        file.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
        file.chmod(0o755)

    def result(self, commands: str) -> "subprocess.CompletedProcess[str]":
        """How commands end."""
        return subprocess.run(
            ["bash", "-c", swapped(commands, self.examples)],
            env=self.env,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=250,
            check=False,
        )

    def errors(self, command: str) -> str:
        """What a command that has to fail prints on stderr."""
        done = self.result(command)
        assert done.returncode, command
        return done.stderr

    def run(self, commands: str) -> str:
        """What they print on stdout, in the IDs of the documents; each has to succeed."""
        done = self.result(f"set -euo pipefail\n{commands}")
        assert done.returncode == 0, f"{commands}\n{done.stdout}{done.stderr}"
        return swapped(done.stdout, {v: k for k, v in self.examples.items()})


@pytest.fixture(scope="module")
def programs(fork_servers, tmp_path_factory) -> Iterator[Programs]:
    with ForkServers(CLI) as servers:
        known = {"aws": servers, "fence_aws_vpc_net": fork_servers}
        with Programs(known, tmp_path_factory.mktemp("programs")) as made:
            yield made


@pytest.fixture
def shell(agent, ec2, examples, tmp_path, programs) -> Shell:
    folder = tmp_path / "shell"
    folder.mkdir()
    forked = agent.fork_servers.can_run(agent.env)
    ordinary = (shlex.quote(CLI), shlex.quote(os.environ["AGENT"]))
    commands = (programs.command("aws"), programs.command("fence_aws_vpc_net")) if forked else ordinary
    return Shell(agent, ec2, examples, folder, commands)


def alike(text: str) -> List[str]:
    """Its lines, with times and measured numbers as #."""
    return [re.sub(r"\b\d{10}\b|\b\d+\.\d+\b", "#", line.rstrip()) for line in text.strip().splitlines()]


@pytest.fixture
def fence(agent, ec2, keep) -> Callable[[], None]:
    """Fences node1, as the device of the guide does."""

    def off() -> None:
        options = {**keep, "untrack_secg": ec2.world.open, "ignore_instance_state": True}
        assert agent.command("off", ec2.world.nodes["node1"], **options).code == 0

    return off


@pytest.mark.parametrize("page", sorted(NEEDED["run"]))
def test_commands_of_the_pages_work_as_described(shell, page, fence):
    found = list(blocks(path(page)))
    for number, block in enumerate(found):
        if block.language != "sh" or block.mark not in ("run", "fenced"):
            continue
        if block.mark == "fenced":
            fence()
        printed = shell.run(block.text)
        after = found[number + 1] if number + 1 < len(found) else None
        if after and after.mark == "output":
            assert alike(printed) == alike(after.text), str(block)


@pytest.mark.parametrize("end", ["--output=text", "--instance-ids=i-0", "--no-such-option"])
def test_a_forked_aws_cli_says_and_ends_as_an_ordinary_one(shell, programs, end):
    call = f"ec2 describe-instances {end}"
    forked, ordinary = (shell.result(f"{command} {call}") for command in (programs.command("aws"), shlex.quote(CLI)))
    assert (forked.returncode, forked.stdout, forked.stderr) == (
        ordinary.returncode, ordinary.stdout, ordinary.stderr
    )  # fmt: skip
    assert len(forked.stdout + forked.stderr) > 100


def test_pages_have_commands_to_run():
    for mark, pages in NEEDED.items():
        assert {b.page for b in operators_blocks(mark)} == pages


@pytest.mark.parametrize("block", operators_blocks("aws"), ids=str)
def test_the_aws_cli_accepts_the_commands_of_the_pages(shell, block):
    shell.env.update(AWS_ENDPOINT_URL="http://127.0.0.1:9")  # nobody is asked
    commands = re.findall(r"\baws (?:[^\n\\)|>]|\\\n)+", block.text)
    assert commands, f"{block}: no command of the AWS CLI"
    shell.folder = DOC.parent
    shell.env.update(AWS_MAX_ATTEMPTS="1")
    for command in map(str.strip, commands):
        if "--query" in command:
            shell.run(f"{command} --generate-cli-skeleton output")
        else:  # the skeletons of some replies are refused by the AWS CLI itself
            assert "Could not connect to the endpoint URL" in shell.errors(command), command


def test_the_demo_can_be_drawn_as_an_image(tmp_path, program):
    """A line of text for each line of the steps that were asked for."""
    demo = TOP / "tests" / "demo.d"
    env = {**os.environ, "AGENT": program, "PYTHONPATH": str(TOP / "tests"), "SCRATCH": str(tmp_path)}
    output = subprocess.run(
        [sys.executable, str(demo / "story.py")], env=env, capture_output=True, text=True, timeout=250, check=True
    ).stdout
    drawn = subprocess.run(
        [sys.executable, str(demo / "svg.py"), "4"], input=output, capture_output=True, text=True, check=True
    )
    texts = [str(found.text) for found in ElementTree.fromstring(drawn.stdout) if found.tag.endswith("text")]
    step = output[output.index("\n4. ") : output.index("\n5. ")]
    assert texts == [line for line in step.splitlines() if line]
    nothing = subprocess.run(
        [sys.executable, str(demo / "svg.py"), "77"], input=output, capture_output=True, text=True, check=False
    )
    assert (nothing.returncode, nothing.stdout) == (1, "")


def test_a_node_is_stopped_while_its_groups_are_restored(shell, ec2, fence):
    """In the order of the runbook: the node must lose its buffered data before it can deliver it."""
    node = ec2.world.nodes["node1"]
    chapter = text(DOC / "runbook.md").split("\n## Return to service\n")[1].split("\n## ")[0]
    fence()
    states = []

    def watch(_call):
        states.extend([ec2.snapshot()[node]["state"]] * set_back(ec2, node))

    ec2.watchers.append(watch)
    try:
        for block in [b for b in blocks(DOC / "runbook.md") if b.mark in ("run", "fenced") and b.text in chapter]:
            if "reboot" not in block.text:  # that is for instances that cannot be stopped
                shell.run(block.text)
    finally:
        ec2.watchers.remove(watch)
    assert states[0] == "stopped"
    assert states[-1] == "running"


def set_back(ec2, node: str) -> bool:
    """Does any interface have a group that does not isolate?"""
    harmless = {ec2.world.isolation, ec2.world.open}
    return any(set(found) - harmless for found in groups(ec2, node).values())


def test_the_policies_are_rendered_for_every_partition(shell):
    """In the checkout, as the guide says; with every partition that it names."""
    (block,) = [b for b in operators_blocks("checkout") if "partition=" in b.text]
    table = text(DOC / "setup.md").split("| partition | regions |")[1].split("\n\n")[0]
    partitions = re.findall(r"`(aws-[a-z-]+)`", table)
    assert len(partitions) == 7
    (shell.folder / "doc").symlink_to(DOC)
    for partition in partitions:
        shell.run(block.text.replace("aws-cn", partition))
        for name in ("iam-policy", "iam-policy-operator"):
            rendered = arns(json.loads((shell.folder / f"{name}-{partition}.json").read_text(encoding="utf-8")))
            known = arns(json.loads(text(DOC / f"{name}.json")))
            assert rendered == [arn.replace("arn:aws:", f"arn:{partition}:") for arn in known]
            assert len(known) > 3


def arns(policy) -> List[str]:
    """Of every statement, in order."""
    named = [statement["Resource"] for statement in policy["Statement"]]
    return [arn for some in named for arn in ([some] if isinstance(some, str) else some)]


def device(block: Block) -> Dict[str, str]:
    """The options of the device that a block creates."""
    words = shlex.split(block.text.replace("\\\n", " "))
    return dict(word.split("=", 1) for word in words[: words.index("op")] if "=" in word)


DEVICES = {"fence_aws": "fence-vpc fence_aws_vpc_net ", "external/ec2": "stonith:fence_aws_vpc_net "}


@pytest.mark.parametrize("before", DEVICES)
def test_a_migrated_device_fences_every_node(agent, ec2, examples, before):
    """Each by the name that the cluster knows: that of the host map, or else one that list offers."""
    (block,) = [b for b in operators_blocks("cluster") if b.page == "migration.md" and DEVICES[before] in b.text]
    options = {k: swapped(v, examples) for k, v in device(block).items()}
    plugs = dict(pair.split(":") for pair in options.get("pcmk_host_map", "").split(";") if pair)
    options = {k: v for k, v in options.items() if not k.startswith("pcmk_")}
    nodes = ec2.world.nodes
    if "plug_tag" in options:
        for name, node in nodes.items():
            ec2.edit.put_tags(node, {options["plug_tag"]: name, "Name": "unknown"})
        (agent.folder / ".aws").mkdir()
        keys = f"aws_access_key_id={ec2.key.access_key}\naws_secret_access_key={ec2.key.secret_key}\n"
        (agent.folder / ".aws" / "credentials").write_text(f"[{options['profile']}]\n{keys}", encoding="utf-8")
        agent.options.update(access_key=None, secret_key=None)
    listed = agent.pacemaker("list", **options).out.split()
    plugs = plugs or {name: name for _, name in (row.split(",") for row in listed)}
    assert set(plugs) == set(nodes)
    assert agent.pacemaker("monitor", **options).code == 0
    for name in set(nodes) - {"node3"}:  # which is the fencer
        assert agent.pacemaker("reboot", plugs[name], **options).code == 0
        assert is_isolated(ec2, nodes[name], {"secg": options["secg"], "invert_sg_removal": True})


# --- the manual page -------------------------------------------------------------------------------------------

SECTIONS = ("NAME|DESCRIPTION|OPTIONS|ACTIONS|EXIT STATUS|TIME|TAGS|FILES|ENVIRONMENT|EXAMPLES|NOTES|SEE ALSO").split(
    "|"
)


@pytest.fixture
def manual() -> str:
    """The installed page."""
    page = Path(os.environ["AGENT"]).parents[1] / "share" / "man" / "man8" / "fence_aws_vpc_net.8"
    return page.read_text(encoding="utf-8")


def test_the_manual_page_has_every_section_and_every_option_once(manual):
    """The name on stdin is the long form with underscores, as the page says; interfaceN_sg are one paragraph."""
    assert re.findall(r"^\.SH (.+)$", manual, re.MULTILINE) == SECTIONS
    options = manual.split(".SH OPTIONS")[1].split(".SH ACTIONS")[0].replace("\\-", "-")
    shown = re.findall(r"^\.B .*--([\w-]+)(?:=\S+)?$", options, re.MULTILINE)
    recorded = ElementTree.parse(TOP / "tests" / "metadata" / "fence_aws_vpc_net.xml").iter("parameter")
    names = [str(option.get("name")) for option in recorded if not option.get("deprecated")]
    assert sorted(name.replace("-", "_") for name in shown) == sorted(
        name for name in names if not name.startswith("interface") or name == "interface15_sg"
    )
    assert "--interface0-sg=[sg,...] to --interface15-sg=[sg,...]" in options


def test_the_manual_page_describes_every_action(manual):
    section = manual.split(".SH ACTIONS")[1].split(".SH ")[0].replace("\\-", "-")
    described = {
        name for line in re.findall(r"^\.TP\n\.B (.+)$", section, re.M) for name in re.split(r"\\fR, \\fB", line)
    }
    recorded = ElementTree.parse(TOP / "tests" / "metadata" / "fence_aws_vpc_net.xml").iter("action")
    assert described == {action.get("name") for action in recorded}


def test_the_manual_page_shows_the_commands_of_the_readme(manual):
    plain = manual.replace("\\-", "-").replace("\\e\n", "\\\n")
    assert next(b.text for b in blocks(path("README.md")) if b.mark == "cluster") in plain
    shown = re.findall(r"^fence_aws_vpc_net -o (\S+) -n", plain, re.MULTILINE)
    assert shown == ["validate-all", "status", "on"]
    assert plain.count("--untrack-secg=sg-0123456789abcdef1") == len(shown)


def test_the_manual_page_names_every_permission(manual):
    notes = manual.split(".SH NOTES")[1].split(".SH ")[0]
    assert set(re.findall(r"ec2:\w+", notes)) == set(re.findall(r'"(ec2:\w+)"', text(DOC / "iam-policy.json")))


WITHOUT_EFFECT = {
    "disable_timeout": "false", "login_timeout": "1", "power_timeout": "1", "retry_on": "4", "shell_timeout": "1",
    "stonith_status_sleep": "9",
}  # fmt: skip


def test_the_manual_page_names_the_options_without_effect(manual, agent, ec2, keep):
    said = manual.split(".SS Options of every fence agent")[1].split(".TP")[0]
    assert set(re.findall(r"\w+_\w+", said)) == set(WITHOUT_EFFECT)
    node = ec2.world.nodes["node1"]
    assert agent.command("off", node, **keep).code == 0
    ec2.key.deny("ec2:ModifyNetworkInterfaceAttribute")
    counts = []
    for more in {}, WITHOUT_EFFECT:
        before = len(ec2.calls)
        failed = agent.command("on", node, **keep, **more)
        assert failed.code == 1
        assert failed.seconds < 9
        counts.append(len(ec2.calls) - before)
    assert counts[0] == counts[1] > 0


def test_the_texts_contain_no_roff_request(manual):
    """The texts of the metadata go into the page as they are."""
    body = manual.split(".SH DESCRIPTION")[1].split('.\\" What the metadata')[0]
    lines = [line for line in body.splitlines() if line[:1] in (".", "'")]
    assert {line.split(" ")[0] for line in lines} <= {".TP", ".B", ".I", ".SH", ".SS"}
    assert "\\" not in re.sub(r"\\-|\\\(aq", "", body)


# --- recovery by hand ------------------------------------------------------------------------------------------


@pytest.fixture
def fenced(agent, ec2, shell, keep) -> str:
    """node1, isolated, with only the backup tags that the page shows."""
    node = ec2.world.nodes["node1"]
    assert agent.command("off", node, **keep).code == 0
    client = boto3.client("ec2", **ec2.client_kwargs())
    client.delete_tags(Resources=[node], Tags=[{"Key": key} for key in our_tags(ec2, node)])
    tags = [dict(zip(("Key", "Value"), swapped(line, shell.examples).split("\t"))) for line in tags_of_the_page()]
    client.create_tags(Resources=[node], Tags=tags)
    return node


def tags_of_the_page() -> List[str]:
    return next(b.text for b in blocks(DOC / "runbook.md") if b.mark == "tags").splitlines()


@pytest.fixture
def originals(ec2) -> Dict[str, List[str]]:
    """Groups of node1's interfaces before anything happened."""
    found: Dict[str, List[str]] = groups(ec2, ec2.world.nodes["node1"])
    return found


def test_the_manual_recovery_works_as_described(originals, fenced, shell, ec2, agent, keep):
    assert agent.command("status", fenced, **keep).code == 2
    read, restore, look, delete, delete_all = operators_blocks("recovery")
    assert sorted(shell.run(read.text).splitlines()) == sorted(tags_of_the_page())
    shell.run(restore.text)
    looked = shell.run(look.text).splitlines()
    assert [line.split("\t")[0] for line in looked] == [f"eni-{EXAMPLE}{n}" for n in range(2)]
    assert groups(ec2, fenced) == originals
    tags = ec2.snapshot()[fenced]["tags"]
    for block in (delete, delete_all):
        ec2.edit.put_tags(fenced, tags)
        shell.run(block.text)
        assert ec2.snapshot()[fenced]["tags"] == {"Name": "node1"}
    ec2.edit.put_tags(fenced, {"fence_aws_vpc_net:returned": "5"})  # of auto_unfence
    shell.run(delete_all.text)
    assert ec2.snapshot()[fenced]["tags"] == {"Name": "node1"}
    shell.run(delete_all.text)  # with no tag to delete
    assert ec2.snapshot()[fenced]["tags"] == {"Name": "node1"}


def test_the_runbook_names_exactly_the_permissions_it_needs(fenced, shell, ec2, fence):
    """The AWS CLI with the operators' policy, the agent with that of the nodes' role."""
    boto3.client("ec2", **ec2.client_kwargs()).create_tags(
        Resources=list(ec2.world.nodes.values()), Tags=[{"Key": "cluster", "Value": "one"}]
    )
    operator = ec2.keys.add(AccessKey("AKIAOPERATOR00000001", "secret-of-an-operator"))
    role = ec2.keys.add(AccessKey("AKIAROLEOFTHENODES01", "secret-of-the-role"))
    operator.attach(text(DOC / "iam-policy-operator.json"))
    role.attach(text(DOC / "iam-policy.json"))
    shell.use("aws", operator)
    shell.use("fence_aws_vpc_net", role)
    runbook = [b for b in blocks(DOC / "runbook.md") if b.language == "sh"]
    for block in [b for b in runbook if b.mark == "recovery"]:
        shell.run(block.text)
    for block in [b for b in runbook if b.mark in ("run", "fenced")]:
        if block.mark == "fenced":
            fence()
        shell.run(block.text)
    used = {f"ec2:{call.action}" for call in ec2.calls if call.key_id == operator.access_key}
    assert used == {action for s in operator.policy.statements for action in s.actions}


def test_the_agent_reads_the_tags_of_the_page(originals, fenced, ec2, agent, keep):
    assert agent.command("on", fenced, **keep).code == 0
    assert groups(ec2, fenced) == originals
    assert our_tags(ec2, fenced) == {}
