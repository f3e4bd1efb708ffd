"""The agent under crmsh, the counterpart of pcs on SUSE's distributions and on Debian."""

import re
import shutil
import xml.etree.ElementTree as ET

import pytest

from . import host
from .bed import DEVICE
from .shell import wait
from .test_pcs import GROUP, SAMPLES, UNWANTED, parameters

pytestmark = pytest.mark.skipif(shutil.which("crm") is None, reason="no crmsh here")
__all__ = ["parameters"]
PLAIN = ("crm", "-D", "plain")


@pytest.fixture
def node(bed):
    """A node of the cluster, with an empty CIB in a file."""
    first = bed.nodes[bed.names[0]]
    first.command("sh", "-c", "cibadmin --empty >/run/cib.xml")
    return first


def on_file(node, *words):
    return node.result("env", "CIB_file=/run/cib.xml", *PLAIN, *words)


def test_ra_info_shows_the_text_of_each_option(node, parameters):
    shown = node.command(*PLAIN, "ra", "info", "stonith:fence_aws_vpc_net")
    texts = dict(re.findall(r"^([\w-]+)\*?(?: \(obsoletes: [^)]+\))? \([^)]+\): (.+)$", shown, re.MULTILINE))
    wanted = {p.get("name") for p in parameters if p.get("deprecated") is None} - UNWANTED
    assert len(wanted) > 30
    assert wanted <= set(texts)
    assert [name for name in wanted if len(texts[name]) < 15] == []


def test_crmsh_accepts_every_option_and_refuses_others(node, parameters):
    chosen = [p for p in parameters if p.get("deprecated") is None and p.get("name") not in UNWANTED]
    options = [f"{p.get('name')}={SAMPLES[p.find('content').get('type')]}" for p in chosen]
    create = ("configure", "primitive", "tried", "stonith:fence_aws_vpc_net", "params")
    done = on_file(node, *create, *options)
    assert (done.returncode, "ERROR" in done.stderr) == (0, False), done.stderr
    shown = on_file(node, "configure", "show", "tried").stdout
    assert set(re.findall(r"(\S+=\S+)", shown)) == set(options)
    done = on_file(node, *create[:2], "other", *create[3:], f"secg={GROUP}", "untrack_group=sg-1")
    assert done.returncode != 0
    assert 'parameter "untrack_group" is not known' in done.stderr


ALERT = """#!/bin/sh
echo "$CRM_alert_kind $CRM_alert_task $CRM_alert_node $CRM_alert_rc" >>"$CRM_alert_recipient"
"""
# crmsh 5 asks systemd whether Pacemaker runs, and the nodes have no systemd.
SYSTEMCTL = """mkdir -p /run/bin
printf '#!/bin/sh\\n[ "$1" != is-active ] || case $* in *sbd*) false;; *) pgrep -x pacemakerd >/dev/null;; esac\\n' \\
    >/run/bin/systemctl
chmod 755 /run/bin/systemctl"""
CRM = ("env", "PATH=/run/bin:/usr/sbin:/usr/bin:/sbin:/bin", *PLAIN)
SET_UP_ALERT = 'printf %s "$0" >/run/alert.sh; chmod 755 /run/alert.sh; touch /run/alerts; chmod 666 /run/alerts'


def test_crmsh_configures_a_cluster_and_fences_a_node(bed):
    """Without complaints. fence_kdump first checks whether the node writes a dump; an alert reports the fencing."""
    first = bed.nodes[bed.names[0]]
    for node in bed.nodes.values():  # alert agents run as hacluster
        node.command("sh", "-c", SET_UP_ALERT, ALERT)
    first.command("sh", "-c", SYSTEMCTL)
    # crmsh 5.1 refuses any value where sbd does not run, also the default.
    first.command("crm_attribute", "--name", host.fencing_property("watchdog-timeout"), "--delete")
    bed.end_monitor()
    configured = first.result(*CRM, "-F", "-f", "-", stdin=configuration(bed))
    assert (configured.returncode, configured.stdout + configured.stderr) == (0, "")
    verified = first.result(*CRM, "configure", "verify")
    assert (verified.returncode, verified.stdout + verified.stderr) == (0, "")
    assert first.result("crm_verify", "--live-check").returncode == 0
    bed.wait_until_healthy()
    levels = ET.fromstring(first.command("cibadmin", "-Q", "-o", "fencing-topology")).iter("fencing-level")
    assert [(x.get("target"), x.get("index"), x.get("devices")) for x in levels] == [
        (name, index, device) for name in bed.names for index, device in (("1", "kdump"), ("2", DEVICE))
    ]
    victim = bed.names[2]
    first.command(*CRM, "-F", "node", "fence", victim)
    alert = rf"^fencing \w+ {victim} 0$"
    bed.wait_until_fenced(victim)
    assert bed.cloud.isolated(victim)
    for name in bed.others(victim):
        wait(f"the alert on {name}", lambda n=bed.nodes[name]: re.search(alert, n.command("cat", "/run/alerts")), 20)


def configuration(bed):
    """crm commands that create the device again, with topology and alert."""
    options = " ".join(f'"{o}"' for o in (f"pcmk_host_map={bed.host_map}", *bed.device_options))
    concurrent = "" if host.pacemaker() >= (3,) else "concurrent-fencing=true "
    return f"""configure
delete {DEVICE}
primitive {DEVICE} stonith:fence_aws_vpc_net params {options} op monitor interval=60s
primitive kdump stonith:fence_kdump params timeout=2 pcmk_reboot_action=off pcmk_host_list="{" ".join(bed.names)}"
fencing_topology {" ".join(f"{name}: kdump {DEVICE}" for name in bed.names)}
property {concurrent}{host.fencing_property("timeout")}=180s
alert log "/run/alert.sh" select fencing to "/run/alerts"
verify
commit
"""
