"""secret_key as a CIB secret: it is not in the cluster's configuration, and the device works."""

import pytest
from ec2.keys import AccessKey

from .bed import DEVICE

KEY = AccessKey("AKIAFENCETEST0000009", "kept/in+files/of+the/nodes/0000000000001")
HIDDEN = "lrm://"


@pytest.fixture
def nodes(bed):
    """All nodes. pssh and pscp, which cibsecret uses to copy, do nothing: the nodes have no SSH server."""
    for node in bed.nodes.values():
        node.command("sh", "-c", "mkdir -p /run/bin; ln -sf /bin/true /run/bin/pssh; ln -sf /bin/true /run/bin/pscp")
    bed.ec2.keys.add(KEY)
    yield list(bed.nodes.values())
    bed.ec2.keys.remove(KEY.access_key)


def cibsecret(node, *words):
    return node.command("env", "PATH=/run/bin:/usr/sbin:/usr/bin:/sbin:/bin", "cibsecret", *words)


def test_device_with_a_cib_secret_fences(bed, nodes):
    first, *others = nodes
    bed.pcs("stonith", "update", DEVICE, f"access_key={KEY.access_key}", f"secret_key={KEY.secret_key}", "--force")
    cibsecret(first, "stash", DEVICE, "secret_key")
    for node in others:  # as cibsecret does by SSH
        cibsecret(node, "-C", "set", DEVICE, "secret_key", KEY.secret_key)
    assert cibsecret(first, "get", DEVICE, "secret_key").strip() == KEY.secret_key
    first.command("crm_resource", "--cleanup", "--resource", DEVICE)
    bed.wait_until_healthy()
    for shown in (first.command("cibadmin", "-Q"), bed.pcs("stonith", "config", DEVICE)):
        assert KEY.secret_key not in shown
        assert HIDDEN in shown
    before = len(bed.ec2.calls)
    victim = bed.others(bed.view().dc)[0]
    bed.fence(victim)
    assert bed.cloud.isolated(victim)
    assert {call.key_id for call in bed.ec2.calls[before:]} == {KEY.access_key}
