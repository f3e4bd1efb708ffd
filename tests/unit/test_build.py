"""What configure chooses and reports."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from unit.pages import text

INSTALLED = Path(os.environ.get("AGENT", "build/install/sbin/agent"))
SOURCE, TREE = INSTALLED.parents[2] / "src", INSTALLED.parents[2] / "tree"


def run(*command, cwd, **env):
    return subprocess.run(
        command, cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True, timeout=300, check=False
    )


def schemas():
    return re.search(r"^RELAXNGDIR = (.*)$", text(TREE / "Makefile"), re.MULTILINE)[1]


# --- the Python that configure chooses ---------------------------------------------------------------------------


@pytest.fixture
def without_boto3(tmp_path):
    """A Python that has what the fencing library needs, and no boto3."""
    run("/usr/bin/python3", "-m", "venv", "--system-site-packages", "--without-pip", "venv", cwd=tmp_path)
    packages = next((tmp_path / "venv" / "lib").glob("python3*")) / "site-packages"
    (packages / "boto3.py").write_text("raise ImportError('none')\n", encoding="ascii")
    return tmp_path / "venv" / "bin" / "python3"


def fencing_for(folder, python, condition=""):
    """A fencing library whose first line names this Python."""
    source = text(Path("/usr/share/fence/fencing.py"))
    (folder / "fence").mkdir()
    (folder / "fence" / "fencing.py").write_text(f"#!{python} -tt\n{condition}{source}", encoding="utf-8")
    return f"--with-fencing-dir={folder}/fence"


def configure(folder, *options):
    (folder / "built").mkdir()
    return run(SOURCE / "configure", f"--with-relaxng-dir={schemas()}", *options, cwd=folder / "built", PYTHON="")


def test_configure_prefers_a_python_that_has_boto3_too(tmp_path, without_boto3):
    done = configure(tmp_path, fencing_for(tmp_path, without_boto3))
    assert done.returncode == 0, done.stderr
    assert "Python:     /usr/bin/python3 (" in done.stdout
    assert "cannot import boto3" not in done.stderr


def test_configure_reports_in_one_line_that_only_another_python_has_boto3(tmp_path, without_boto3):
    """As on SLES 15: fencing is for one Python, boto3 for another."""
    condition = "import sys\nif sys.prefix == sys.base_prefix: raise ImportError('No module named pycurl')\n"
    done = configure(tmp_path, fencing_for(tmp_path, without_boto3, condition))
    assert done.returncode == 0, done.stderr
    assert f"Python:     {without_boto3} (" in done.stdout
    assert f"{without_boto3} cannot import boto3 (only /usr/bin/python3 can): " in done.stderr


def test_configure_says_what_a_python_with_boto3_lacks(tmp_path):
    condition = "raise ImportError('No module named pycurl')\n"
    done = configure(tmp_path, fencing_for(tmp_path, "/usr/bin/python3", condition))
    assert done.returncode != 0
    assert "- /usr/bin/python3 has boto3, and lacks pycurl and pexpect" in done.stderr
