"""configure, make dist, and the packages' files. tests/distro builds and installs the packages themselves."""

import ast
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from unit.pages import TOP, text
from unit.test_imports import imported

PACKAGING = TOP / "agents" / "aws_vpc_net" / "packaging"
INSTALLED = Path(os.environ.get("AGENT", "build/install/sbin/agent"))
SOURCE, TREE = INSTALLED.parents[2] / "src", INSTALLED.parents[2] / "tree"
WITHOUT_AUTOTOOLS = dict.fromkeys("ACLOCAL AUTOCONF AUTOHEADER AUTOMAKE".split(), "false")


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


# --- make dist, and the packages ---------------------------------------------------------------------------------


def test_the_distribution_builds_without_autoconf_and_installs_without_bytecode(tmp_path):
    made = run("sh", "-c", f"{SOURCE}/configure --with-relaxng-dir={schemas()} && make dist-gzip", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as archive:
        archive.extractall(tmp_path / "dist")
    (source,) = (tmp_path / "dist").iterdir()
    assert (source / PACKAGING.relative_to(TOP) / "debian" / "rules").exists()
    script = "./configure --prefix=/usr && make install DESTDIR=$PWD/root BYTECODE=no"
    done = run("sh", "-c", script, cwd=source, **WITHOUT_AUTOTOOLS)
    assert done.returncode == 0, done.stderr
    assert (source / "root" / "usr" / "sbin" / "fence_aws_vpc_net").exists()
    assert (source / "root" / "usr" / "share" / "fence" / "aws_vpc_net" / "runner.py").exists()
    assert list((source / "root").rglob("*.pyc")) == []


def test_the_packages_have_the_version_of_the_agent():
    version = re.search(r"AC_INIT\(\[.*\], \[(.*)\]\)", text(TOP / "configure.ac"))[1]
    assert text(PACKAGING / "debian" / "changelog").startswith(f"fence-aws-vpc-net ({version}) ")
    assert re.search(r"^Version: +(.*)$", text(PACKAGING / "fence-aws-vpc-net.spec"), re.MULTILINE)[1] == version


def test_the_packages_require_every_library_that_is_imported():
    sources = [*(TOP / "lib").rglob("*.py"), TOP / "agents" / "aws_vpc_net" / "fence_aws_vpc_net.py"]
    names = {n.split(".")[0] for s in sources for n in imported(ast.walk(ast.parse(text(s))))}
    ours = {path.stem for path in sources} | {"aws_vpc_net", "core"}
    foreign = names - set(sys.stdlib_module_names) - ours
    assert foreign == {"boto3", "botocore", "fencing"}  # python3-boto3 brings botocore
    for file in ("debian/control", "fence-aws-vpc-net.spec"):
        for package in ("fence-agents-common", "python3-boto3"):
            assert re.search(rf"^(Requires:)? +{package}\b", text(PACKAGING / file), re.MULTILINE), file
