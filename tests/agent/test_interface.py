"""The command line, stdin and documentation, as the fencing library and Pacemaker have them."""

import xml.etree.ElementTree as ET

import pytest
from assertions import changes, is_isolated

SECG = "sg-0123456789abcdef0"
PLUG = "i-0123456789abcdef0"


def refused(result, word):
    assert result.code == 1
    assert word in result.last, result.err
    assert result.last.startswith("ERROR: ")
    assert sum("ERROR" in line for line in result.lines) == 1
    assert "timeout" not in result.err.lower()
    assert "timed out" not in result.err.lower()


BOOLEANS = ["onfence_poweroff", "invert-sg-removal", "ignore_tag_write_failure", "verbose"]


@pytest.mark.parametrize("value", ["ture", "", "2", "tru e"])
@pytest.mark.parametrize("action", ["off", "on", "status", "monitor", "list", "validate-all", "metadata"])
def test_a_boolean_that_cannot_be_read_is_refused_for_every_action(agent, ec2, value, action):
    name = BOOLEANS[(len(value) + len(action)) % len(BOOLEANS)]
    text = f"action={action}\nplug={PLUG}\nsecg={SECG}\n{name}={value}\n"
    refused(agent.stdin(text), f"validation error: {name}=")
    assert ec2.calls == []


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["-o", "bogus"], "action bogus is unknown"),
        (["-o", "off"], "requires plug"),
        (["-o", "off", "-n", PLUG], "off requires secg"),
        (["-o", "status", "-n", PLUG], "status requires secg"),
        (["-o", "off", "-n", PLUG, "--secg="], "secg is empty"),
        (["-o", "off", "-n", PLUG, "--secg=, ,"], "secg is empty"),
        (["-o", "off", "-n", PLUG, "--secg=sg-1"], "sg-1 is not a security group ID"),
        (["-o", "off", "-n", PLUG, f"--secg={SECG},web"], "web is not a security group ID"),
        (["-o", "off", "-n", "", f"--secg={SECG}"], "plug is empty"),
        (["-o", "off", "-n", PLUG, "--plug-separator=", f"--secg={SECG}"], "plug-separator is empty"),
        (["-o", "off", "-n", PLUG, f"--secg={SECG}", "-a", "AKIA"], "secret-key is missing"),
        (["-o", "off", "-n", PLUG, f"--secg={SECG}", "-s", "x"], "access-key is missing"),
        (["-o", "off", "-n", PLUG, f"--secg={SECG}", "--deadline=soon"], "not a whole number of seconds"),
        (["-o", "off", "-n", PLUG, f"--secg={SECG}", "--deadline=-5"], "not a whole number of seconds"),
        (["-o", "off", "-n", PLUG, f"--secg={SECG}", "--api-timeout=0"], "not a whole number of seconds"),
        (["-o", "off", "-n", PLUG, f"--secg={SECG}", "--power-timeout=x"], "not a whole number of seconds"),
        (["-o", "off", "-n", PLUG, f"--secg={SECG}", "--onfence-poweroff", "false"], "unexpected arguments"),
        (["-o", "off", "-n", PLUG, f"--secg={SECG}", "--onfence-poweroff=ture"], "neither true nor false"),
        (["-o", "off", "-n", PLUG, f"--secg={SECG}", "--bogus"], "an option on the command line is not recog"),
        (["-o", "off", "-n", PLUG, "--secgs=sg-1"], "not recognized; did you mean --secg?"),
        (["-o", "off", "-n", PLUG, "--skip-race-check=", f"--secg={SECG}"], "skip-race-check= is neither"),
        (["-o", "validate-all", f"--secg={SECG}", "--debug-file=/nowhere/x"], "the debug file /nowhere/x"),
        (["-o", "off", "-n", PLUG, f"--secg={SECG}", "--endpoint-url=ftp://x"], "endpoint_url is not"),
        (["-o", "list", "--filter=nonsense"], "filter nonsense is not of the form key=value"),
        (["-o", "on", "-n", PLUG, "--interface0-sg=x"], "interface0-sg: x is not a security group ID"),
        (["-o", "off", "-n", PLUG, f"--secg={SECG}", "--boto3_debug=maybe"], "boto3_debug=maybe"),
        (["-o", "off", "-n", PLUG, f"--secg={SECG}", "-b", ""], "boto3_debug= is neither"),
    ],
)
def test_bad_input_is_one_clear_line_and_no_call(agent, ec2, arguments, word):
    connection = [a for k, a in zip(("region", "endpoint_url"), (f"-r{ec2.region}",)) if k]
    refused(agent.raw(*arguments, *connection), word)
    assert ec2.calls == []


@pytest.mark.parametrize("data", ["\udcff", "action=off\0\n"])
def test_binary_stdin_is_refused(agent, data):
    import os
    import subprocess

    done = subprocess.run(
        [os.environ["AGENT"]],
        input=data.encode("utf-8", "surrogateescape"),
        capture_output=True,
        env=agent.env,
        check=False,
    )
    assert done.returncode == 1
    assert b"validation error: cannot read stdin" in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("spelling", ["invert_sg_removal", "invert-sg-removal"])
def test_both_spellings_are_read(agent, ec2, spelling):
    node = ec2.world.nodes["node1"]
    assert agent.pacemaker("off", node, secg=ec2.world.isolation, **{spelling: "true"}).code == 0


def test_white_space_around_names_and_values_on_stdin_is_dropped(agent, ec2, node):
    """The library does not know "action ", and would fence the node."""
    options = {**agent.options, "action": "status", "plug": node, "secg": ec2.world.isolation, "invert_sg_removal": 1}
    result = agent.stdin("".join(f" {k}\t=  {v} \r\n" for k, v in options.items()))
    assert (result.code, result.out) == (0, "Status: ON\n")
    assert "Ignoring" not in result.err


def test_white_space_and_empty_elements_in_lists(agent, ec2):
    node, app = ec2.world.nodes["node1"], ec2.world.groups["app"]
    result = agent.pacemaker("off", f" {node} ,", secg=f" , {app} ,sg-0123456789abcdef0,")
    assert result.code == 0, result.err
    assert any("secg has empty elements" in line for line in result.lines)
    assert agent.pacemaker("status", node, secg=f"{app},sg-0123456789abcdef0").code == 2


def test_white_space_of_any_kind_around_items_of_lists_is_dropped(agent, ec2, keep):
    nodes, groups = ec2.world.nodes, ec2.world.groups
    plugs = f"\n{nodes['node1']}\t,\r\n node2 \n"
    options = {
        **keep,
        "secg": f"\n{keep['secg']}\t,\n\tsg-0123456789abcdef0\n",
        "untrack_secg": f"\t{ec2.world.open}\n",
        "interface0_sg": f"{groups['app']}\t,\n{groups['db']}\n",
        "filter": "tag:Name\t=\tnode1,\n\tnode2\t;\n instance-state-name\t= running\n",
    }
    result = agent.command("off", plugs, **options)
    assert result.code == 0, result.err
    assert all(is_isolated(ec2, nodes[n], keep) for n in ("node1", "node2"))
    assert agent.command("validate-all", f"{nodes['node1']}\t{nodes['node2']}", plug_separator="\t", **keep).code == 0


@pytest.mark.parametrize("option", ["secg", "untrack_secg", "interface0_sg", "filter", "plug"])
def test_control_characters_in_items_of_lists_are_refused(agent, ec2, keep, option):
    for text in ("tag:a=b\tc", "tag:a=b\x07,c"):
        given = {"plug": ec2.world.nodes["node1"], **keep, option: text}
        result = agent.command("off", given.pop("plug"), **given)
        assert result.code == 1
        assert "is too long or contains control characters" in result.last


def test_a_flag_may_have_a_value_on_the_command_line(agent, ec2, keep):
    node = ec2.world.nodes["node1"]
    given = {**keep, "invert_sg_removal": "true"}
    assert agent.command("off", node, onfence_poweroff="false", **given).code == 0
    assert ec2.calls_of("StopInstances") == []


@pytest.mark.parametrize(("how", "action"), [("raw", "metadata"), ("stdin", "manpage")])
def test_documentation_needs_neither_boto3_nor_network(agent, ec2, tmp_path, action, how):
    for name in ("boto3", "botocore", "requests"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('not here')\n", encoding="ascii")
    agent.env["PYTHONPATH"] = str(tmp_path)
    result = agent.raw("-o", action) if how == "raw" else agent.stdin(f"action={action}\n")
    assert result.code == 0
    assert result.err == ""
    assert '<parameter name="secg"' in result.out
    assert agent.raw("--help").code == 0
    assert agent.raw("-o", "validate-all", f"--secg={SECG}").code == 0
    assert "cannot import boto3" in agent.raw("-o", "status", "-n", PLUG, f"--secg={SECG}", "-r", "eu-west-1").last


def test_version_is_that_of_the_agent(agent):
    result = agent.raw("--version")
    assert (result.code, result.out) == (0, "0.1.0\n")


def test_help_names_every_option(agent):
    text = agent.raw("--help").out
    for option in ("--plug", "--secg", "--invert-sg-removal", "--interface15-sg", "--deadline", "--endpoint-url"):
        assert option in text


@pytest.mark.parametrize("plug", [None, "placeholder", "node1"])
def test_validate_all_is_offline_without_a_plug_or_with_pacemakers_own(agent, ec2, plug):
    """Pacemaker has no target then: it passes node1, as plug and as nodename."""
    result = agent.pacemaker("validate-all", plug, nodename="node1" if plug is None else plug, secg=SECG)
    assert result.code == 0, result.err
    assert "nothing was checked in EC2" in result.out
    assert ec2.calls == []
    refused(agent.pacemaker("validate-all", plug, nodename=plug, secg="nonsense"), "not a security group ID")


def test_validate_all_with_a_malformed_instance_id_is_refused(agent, ec2):
    refused(agent.command("validate-all", "i-0123", secg=SECG), "plug i-0123 is not an instance ID")
    assert ec2.calls == []


def test_delay_delays_off(agent, ec2, keep):
    result = agent.command("off", ec2.world.nodes["node1"], delay=2, deadline=20, **keep)
    assert result.code == 0
    assert 1.5 < result.seconds < 6


def test_the_delay_does_not_count_against_the_deadline(agent, ec2, keep):
    assert agent.command("off", ec2.world.nodes["node1"], delay=6, deadline=5, **keep).code == 0


def test_disable_timeout_does_not_cause_endless_polling(agent, ec2, keep):
    agent.env["PCMK_service"] = "pacemaker-fenced"
    node = ec2.world.nodes["node1"]
    assert agent.pacemaker("off", node, **keep).code == 0
    assert agent.pacemaker("on", node, unfence_ignore_restore=1, **keep).code == 0
    assert [a for a, _ in changes(ec2)].count("CreateTags") == 1


def test_no_region_anywhere(agent, ec2, keep):
    result = agent.command("status", PLUG, region=None, **keep)
    refused(result, "region error: no region")


def test_a_malformed_region(agent, ec2, keep):
    refused(agent.command("status", PLUG, region="eu west", **keep), "region error")


@pytest.mark.parametrize("flag", ["--invert-sg=false", "--unfence-ignore=1", "--invert_sg=1", "--unfence-ignore"])
def test_an_abbreviation_works_like_the_full_name(agent, ec2, flag):
    assert agent.raw("-o", "validate-all", f"--secg={SECG}", flag).code == 0
    removed = agent.raw(
        *agent.arguments("off", ec2.world.nodes["node1"], secg=ec2.world.groups["app"]), "--invert-sg=false"
    )
    assert removed.code == 0, removed.err


@pytest.mark.parametrize(
    ("argument", "word"),
    [("--sec=x", "not a unique prefix"), ("--deadl", "requires argument"), ("--invert-sg=ture", "neither true nor"),
     ("--api-timeout", "--api-\u2026 requires argument"), ("--api-timout=5", "did you mean --api-\u2026?")],
)  # fmt: skip
def test_a_bad_abbreviation_is_one_clear_line(agent, argument, word):
    refused(agent.raw("-o", "validate-all", f"--secg={SECG}", argument), word)


@pytest.mark.parametrize("line", ["no_password=1", "no_password=0", "no-password=1", "agent=fence_aws_vpc_net"])
def test_options_of_the_library_only_are_ignored(agent, line):
    result = agent.stdin(f"action=validate-all\nsecg={SECG}\n{line}\n")
    assert (result.code, result.err) == (0, "")


@pytest.mark.parametrize("level", ["", "-1", "much", "\u00b2"])
@pytest.mark.parametrize("how", ["stdin", "command"])
def test_no_level_of_verbosity_keeps_a_node_from_being_fenced(agent, ec2, keep, level, how):
    run = agent.pacemaker if how == "stdin" else agent.command
    result = run("off", ec2.world.nodes["node1"], verbose_level=level, **keep)
    assert result.code == 0
    assert sum(line.startswith(f"WARNING: verbose_level={level} is ignored") for line in result.lines) == 1
    assert "Parse error" not in result.err


def test_api_timeout_is_named_without_the_reserved_word(agent):
    result = agent.stdin(f"action=validate-all\nsecg={SECG}\napi_timeout=abc\n")
    refused(result, "api-\u2026=abc is not a whole number of seconds")
    assert "time-out" not in result.err


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize(("name", "other"), [("plug", "port"), ("port", "plug")])
def test_a_plug_of_the_device_comes_before_the_name_of_the_node(agent, ec2, keep, name, other, swapped):
    """Pacemaker passes port=node1 beside a plug of the device, in any order. The library takes the last."""
    nodes = ec2.world.nodes
    given = [f"{name}={nodes['node2']}", f"{other}=node1"]
    options = {**agent.options, **keep, "invert_sg_removal": 1, "nodename": "node1", "action": "off"}
    lines = [*(f"{k}={v}" for k, v in options.items()), *(given[::-1] if swapped else given)]
    result = agent.stdin("\n".join(lines))
    assert result.code == 0, result.err
    assert {n for n in ("node1", "node2") if is_isolated(ec2, nodes[n], keep)} == {"node2"}


@pytest.mark.parametrize("nodename", ["node3", None])
@pytest.mark.parametrize("action", ["off", "status", "on"])
def test_a_plug_of_the_device_and_another_of_pacemaker_are_refused(agent, ec2, node, keep, nodename, action):
    """Pacemaker has it from pcmk_host_map. Whatever is fenced, it takes its own node for fenced."""
    result = agent.pacemaker(action, "node2", port=node, **{**keep, "nodename": nodename})
    refused(result, "validation error: plug and port have different values")
    assert ec2.calls == []


@pytest.mark.parametrize("empty", ["", '""'])
def test_an_empty_plug_of_the_device_names_no_instance(agent, ec2, node, keep, empty):
    """Pacemaker passes it as it is in the device."""
    options = {**agent.options, **keep, "invert_sg_removal": 1, "nodename": "node1", "action": "status"}
    for port in (node, "node1"):
        lines = [*(f"{k}={v}" for k, v in options.items()), f"port={port}", f"plug={empty}"]
        result = agent.stdin("\n".join(lines))
        assert (result.code, result.err) == (0, "")
    refused(agent.stdin("\n".join([*lines[:-2], "port=", f"plug={empty}"])), "plug is empty")


@pytest.mark.parametrize("empty", ["", '""'])
@pytest.mark.parametrize("action", ["reboot", "status", "on"])
def test_the_plug_of_the_device_does_not_stand_for_a_node_with_an_empty_plug(agent, ec2, node, keep, action, empty):
    """Pacemaker passes port= for node1, if a blank follows the colon in pcmk_host_map: ``node1: i-…;node2:i-…``."""
    result = agent.pacemaker(action, node, port=empty, **{**keep, "nodename": "node2"})
    refused(result, "validation error: port is empty: the node has no plug; correct pcmk_host_map")
    assert ec2.calls == []
    given = {**agent.options, **keep, "invert_sg_removal": 1, "action": "status", "plug": node, "port": empty}
    result = agent.stdin("".join(f"{k}={v}\n" for k, v in given.items()))
    assert (result.code, result.err) == (0, ""), "nobody names a node"


def test_the_id_of_the_node_is_no_unknown_option(agent, ec2, node, keep):
    """Pacemaker passes it where DLM requests the fencing."""
    result = agent.pacemaker("status", node, nodeid=1, **keep)
    assert (result.code, result.err) == (0, "")


def test_plug_and_port_of_the_same_value_are_no_mistake(agent, ec2, node, keep):
    result = agent.pacemaker("status", node, port=f'"{node}"', **keep)
    assert (result.code, result.err) == (0, "")


@pytest.mark.parametrize(
    ("lines", "name"),
    [
        ("invert_sg_removal=0\ninvert-sg-removal=1", "invert-sg-removal"),
        (f"secg={SECG}1\nsecg={SECG}", "secg"),
        ("plug=node1\nplug=node2", "plug"),
        ("action=off\naction=status", "action"),
        ("secret_key=a\nsecret-key=b", "secret-key"),
    ],
)
@pytest.mark.parametrize("swapped", [False, True])
def test_an_option_with_two_values_on_stdin_is_refused(agent, ec2, lines, name, swapped):
    """A cluster may have the old spelling of an option beside a new one; the library takes the last, in any order."""
    texts = lines.split("\n")
    texts = texts[::-1] if swapped else texts
    result = agent.stdin("\n".join((f"action={'off' if name != 'action' else 'status'}", f"plug={PLUG}", *texts)))
    name = texts[-1].partition("=")[0]
    refused(result, f"validation error: {name} has several values")
    assert ec2.calls == []


@pytest.mark.parametrize("more", ["-n node2", "--plug=node2", "-nnode2", "--plug node2 --", "-vn node2", "-qvnnode2"])
def test_two_plugs_on_the_command_line_are_refused(agent, ec2, node, keep, more):
    """The library takes the last, and reports success: a script would take both for fenced."""
    arguments = agent.arguments("off", **keep)
    refused(agent.raw("-n", node, *arguments, *more.split()), "validation error: plug has several values")
    assert ec2.calls == []
    assert agent.raw("-n", node, *agent.arguments("status", node, **keep)).code == 0


REPEATED = [
    "--secg=sg-0123456789abcdef0",
    "--secg sg-0123456789abcdef0",
    "--filt=tag:a=1 --filter=tag:a=2",
    "--action=status",
    "--invert-sg-removal=false",
    "--interface0-sg=sg-1 --interface0_sg=sg-2",
    "-o status",
    "-ostatus",
    "-qvo status",
    "-r us-east-1",
    "-aAKIAIOSFODNN7EXAMPLE",
    "-s another",
]


@pytest.mark.parametrize("more", REPEATED)
@pytest.mark.parametrize("first", [False, True])
def test_an_option_with_two_values_on_the_command_line_is_refused(agent, ec2, node, keep, more, first):
    """Of two groups to remove only one would be removed, and the node be called fenced."""
    arguments = agent.arguments("off", node, **keep)
    result = agent.raw(*more.split(), *arguments) if first else agent.raw(*arguments, *more.split())
    refused(result, " has several values")
    assert ec2.calls == []


def test_an_option_with_the_same_value_twice_on_the_command_line_is_no_mistake(agent, ec2, node, keep):
    more = f"--secg {keep['secg']} --action=off -vooff --invert_sg_removal=1 --boto3_debug=0 --boto3_debug=no"
    result = agent.raw(*agent.arguments("off", node, **keep), *more.split())
    assert result.code == 0, result.err
    assert is_isolated(ec2, node, keep)


def test_an_option_with_the_same_value_twice_is_no_mistake(agent, ec2, node, keep):
    options = {"invert-sg-removal": "yes", "onfence_poweroff": 1, "onfence-poweroff": "on", "verbose_level": 0}
    result = agent.pacemaker("off", node, **{**keep, **options, "secg": f'"{keep["secg"]}"'})
    assert result.code == 0, result.err
    assert is_isolated(ec2, node, keep)
    assert ec2.calls_of("StopInstances")


@pytest.mark.parametrize("line", ["ACTION=status", "option=status", "acton=status"])
def test_without_an_action_an_unknown_option_on_stdin_is_refused(agent, ec2, node, keep, line):
    """The default is off: a misspelled action would fence the node that it asks about."""
    options = {**agent.options, "plug": node, **keep, "invert_sg_removal": 1}
    result = agent.stdin("".join(f"{k}={v}\n" for k, v in options.items()) + line)
    refused(result, "validation error: action is not given, and line 9 of the input is an unknown option")
    assert ec2.calls == []


@pytest.mark.parametrize("line", ["version=1", "help=true"])
@pytest.mark.parametrize("action", ["off", "reboot", "on", "status", "monitor", "validate-all", None])
def test_help_in_place_of_an_action_on_stdin_is_refused(agent, ec2, node, keep, action, line):
    """The metadata of the library offer both as options of a device: its off would end with 0, and nothing fenced."""
    options = {"action": action, **agent.options, "plug": node, **keep, "invert_sg_removal": 1}
    result = agent.stdin("".join(f"{k}={v}\n" for k, v in options.items() if v is not None) + f"{line}\n")
    refused(result, f"validation error: {line.partition('=')[0]} is set beside an action")
    assert (result.out, ec2.calls) == ("", [])


FILES = ("debug", "debug_file", "metrics_file")
MULTICAST = "224.0.0.1"  # nothing connects to it, whatever probe_port is


def test_off_with_any_parameter_of_a_device_succeeds_only_behind_the_isolation(agent, ec2, node, keep, tmp_path):
    """Those of the library, too: whatever is set, success means fenced."""
    root = ET.fromstring(agent.raw("--action=metadata").out)
    names = {str(p.get("name")) for p in root.iter("parameter")} - {"action", "plug", "port"}
    assert names > {"version", "help", "delay", "filter"}
    agent.env["FENCE_AWS_VPC_NET_BOTO3_LOG"] = str(tmp_path / "boto3_debug")
    for interface in ec2.world.interfaces["node1"]:
        ec2.edit.addresses(interface, MULTICAST)
    mark, outcomes = ec2.mark(), set()
    for name in sorted(names):
        value = str(tmp_path / name) if name in FILES else "1"
        result = agent.pacemaker("off", node, **{"settle_time": 0, **keep, name: value})
        outcomes.add(result.code)
        assert result.code in (0, 1), name
        assert is_isolated(ec2, node, keep) or result.code == 1, name
        assert ec2.rewind(mark)
    assert outcomes == {0, 1}


def test_help_alone_on_stdin_is_shown(agent):
    assert agent.stdin("version=1\n").out == "0.1.0\n"
    assert agent.stdin("action=metadata\nhelp=1\n").code == 0
