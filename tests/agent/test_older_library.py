"""An older fencing library: the agent accepts options that the library lacks, and configure reports them.

plug_separator came with 4.12; the library of Debian 11 (4.7.1) lacks more. Both are made from the installed one, by
removing later additions.
"""

import os
import re
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest
from assertions import is_isolated

AGENT = Path(os.environ.get("AGENT", "build/install/sbin/agent"))
TREE = AGENT.parents[2] / "tree"
OLDER = {
    "4.11": ("plug_separator",),
    "4.7.1": ("plug_separator", "verbose_level", "stonith_status_sleep", "disable_timeout", "quiet"),
}
CODE = [  # what the library does with the options, and did before
    (r'\.split\(options\["--plug-separator"\]\)', '.split(",")'),
    (r'int\(options\["--stonith-status-sleep"\]\)', "1"),
    (r'\ttry:\n\t\toptions\["--verbose-level"\] = int.*?options\["--verbose"\] = 1\n', ""),
    (r'\topt\.setdefault\("--verbose-level".*?\n', ""),
    (r'\tlong_opts\.setdefault\("--verbose-level".*?\n', ""),
]


def variable(name):
    """What configure found."""
    return re.search(rf"^{name} = (.*)$", (TREE / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)[1]


def without(names, text):
    """The library's source without these options, and without what it does with them."""
    for name in names:
        text = re.sub(rf'\t"{name}"\s*:\s*\{{.*?\}},?\n', "", text, count=1, flags=re.DOTALL)
        text = re.sub(rf'"{name}",?\s*', "", text)
    for pattern, before in CODE:
        option = re.search(r"--([a-z-]+)", pattern)[1].replace("-", "_")
        if option in names:
            text = re.sub(pattern, lambda _match, now=before: now, text, flags=re.DOTALL)
    return text


@pytest.fixture(params=OLDER)
def library(request, agent, tmp_path):
    """The agent has the library of this release; returns its folder and its release."""
    source = (Path(variable("FENCINGDIR")) / "fencing.py").read_text(encoding="utf-8")
    if any(f'"{name}"' not in source for name in OLDER["4.7.1"] if name not in OLDER[request.param]):
        pytest.skip(f"the installed library is older than {request.param}")
    source = re.sub(r'RELEASE_VERSION = ".*"', f'RELEASE_VERSION = "{request.param}"', source)
    folder = tmp_path / "older"
    folder.mkdir()
    (folder / "fencing.py").write_text(without(OLDER[request.param], source), encoding="utf-8")
    agent.env["PYTHONPATH"] = str(folder)
    return folder, request.param


def test_an_older_library_lacks_these_options(library):
    folder, release = library
    code = "import fencing, sys; print([n for n in sys.argv[1:] if n in fencing.all_opt])"
    command = [variable("PYTHON"), "-c", code, *OLDER["4.7.1"]]
    known = subprocess.run(command, env={"PYTHONPATH": str(folder)}, capture_output=True, text=True, check=True)
    assert known.stdout == f"{[n for n in OLDER['4.7.1'] if n not in OLDER[release]]}\n"


def interface(metadata):
    """Names, letters, types and defaults."""
    found = {p.get("name"): p for p in ElementTree.fromstring(metadata).iter("parameter")}
    return {n: (p.attrib, p.find("getopt").attrib, p.find("content").attrib) for n, p in found.items()}


def test_an_older_library_shows_the_same_metadata(agent, library):
    result = agent.raw("-o", "metadata")
    assert (result.code, result.err) == (0, "")
    del agent.env["PYTHONPATH"]
    assert interface(result.out) == interface(agent.raw("-o", "metadata").out)


def test_an_older_library_shows_help_and_the_agents_version(agent, library):
    assert "--plug-separator=[char]" in agent.raw("--help").out
    assert agent.raw("--version").out == "0.1.0\n"


@pytest.mark.parametrize("way", ["pacemaker", "command"])
def test_an_older_library_fences_several_plugs(agent, ec2, library, keep, way):
    nodes = [ec2.world.nodes[n] for n in ("node1", "node2")]
    given = {"plug_separator": ";", "stonith_status_sleep": 1, "disable_timeout": "true", **keep}
    run = getattr(agent, way)
    for action, code in (("status", 0), ("off", 0), ("status", 2), ("on", 0), ("status", 0), ("monitor", 0)):
        result = run(action, ";".join(nodes), **given)
        assert (action, result.code) == (action, code), result.err
        assert "unknown option" not in result.err
        if action in ("off", "on"):
            assert all(is_isolated(ec2, node, keep) == (action == "off") for node in nodes)


def test_an_older_library_takes_verbosity_and_quiet(agent, ec2, library, keep):
    node = ec2.world.nodes["node1"]
    assert "DEBUG: describe_instances" in agent.pacemaker("status", node, verbose_level=2, **keep).err
    assert "INFO: summary" in agent.command("status", node, verbose=True, **keep).err
    assert agent.pacemaker("off", node, quiet=1, **keep).err == ""


def test_an_older_library_lists_and_refuses(agent, ec2, library):
    assert agent.pacemaker("list").out.splitlines() == [f"{i},{name}" for name, i in ec2.world.nodes.items()]
    assert "plug-separator is empty" in agent.pacemaker("list", plug_separator="").last


@pytest.mark.parametrize("library", ["4.7.1"], indirect=True)
def test_configure_reports_what_an_older_library_lacks(library, tmp_path):
    folder, release = library
    given = [f"--with-fencing-dir={folder}", f"--with-relaxng-dir={variable('RELAXNGDIR')}", f"--prefix={tmp_path}"]
    configure = TREE.parent / "src" / "configure"
    built = tmp_path / "built"
    built.mkdir()
    done = subprocess.run([configure, *given], cwd=built, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"fencing:    {release}, in {folder} (without {','.join(OLDER[release])}, which the agent" in done.stdout


def test_configure_refuses_a_library_that_lacks_what_the_agent_needs(tmp_path):
    (tmp_path / "fencing.py").write_text("RELEASE_VERSION = '3.1'\nall_opt = {}\n", encoding="ascii")
    configure = TREE.parent / "src" / "configure"
    given = [f"--with-fencing-dir={tmp_path}", f"--with-relaxng-dir={variable('RELAXNGDIR')}"]
    done = subprocess.run([configure, *given], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "the fencing library 3.1 is too old, it lacks SyslogLibHandler" in done.stderr
