"""The API by HTTPS: trusted certificates are read once, and nothing else is trusted by any connection."""

import os
import ssl
from contextlib import contextmanager

import pytest
from assertions import is_isolated
from ec2.proxy import certificate
from ec2.transport import TlsTransport

from aws_vpc_net.ec2 import _Context


@contextmanager
def https(ec2, folder, name="127.0.0.1", ahead=0):
    """EC2 by HTTPS: (endpoint, file with its certificate, which is for this name, and so many days ahead)."""
    pem = certificate(folder, name, ahead=ahead)
    server = TlsTransport(ec2._answer, pem)
    server.start()
    try:
        yield server.endpoint, pem
    finally:
        server.stop()


@pytest.fixture(params=["distribution", "oldest", "newest"])
def use(request, agent):
    """The agent with each boto3."""
    if request.param != "distribution":
        agent.env["PYTHONPATH"] = os.environ[f"BOTO3_{request.param.upper()}"]
    return agent


def test_many_connections_to_an_endpoint_that_is_trusted(use, ec2, keep, tmp_path):
    groups = [ec2.world.groups["app"], ec2.world.groups["db"]]
    node = ec2.edit.add_instance("other", [{"groups": groups}] * 15)
    with https(ec2, tmp_path) as (endpoint, pem):
        use.env["AWS_CA_BUNDLE"] = str(pem)
        assert use.command("off", node, endpoint_url=endpoint, **keep).code == 0
    assert is_isolated(ec2, node, keep)
    assert len({c.port for c in ec2.calls}) > 2


@pytest.mark.parametrize("name", ["127.0.0.1", "ec2.example"], ids=["unknown issuer", "other host"])
def test_an_endpoint_that_is_not_trusted_sees_no_request(use, ec2, keep, tmp_path, name):
    with https(ec2, tmp_path, name) as (endpoint, pem):
        if name != "127.0.0.1":
            use.env["AWS_CA_BUNDLE"] = str(pem)
        result = use.command("off", ec2.world.nodes["node1"], endpoint_url=endpoint, **keep)
    assert result.code == 1
    assert "check AWS_CA_BUNDLE" in result.last
    assert result.seconds < 10  # at once: to try again does not help
    assert ec2.calls == []


@pytest.mark.parametrize("ahead", [3, -3], ids=["not yet valid", "expired"])
def test_a_certificate_of_another_time_is_one_for_the_clock(use, ec2, keep, tmp_path, ahead):
    with https(ec2, tmp_path, ahead=ahead) as (endpoint, pem):
        use.env["AWS_CA_BUNDLE"] = str(pem)
        result = use.command("off", ec2.world.nodes["node1"], endpoint_url=endpoint, **keep)
    assert result.code == 1
    assert "this machine's clock" in result.last
    assert ec2.calls == []


def test_a_file_of_certificates_is_read_once_and_again_only_if_that_failed(tmp_path):
    pem = certificate(tmp_path, "127.0.0.1")
    good = pem.read_bytes()
    context = _Context(ssl.PROTOCOL_TLS_CLIENT)
    pem.write_bytes(b"no certificate")
    for _ in range(2):
        with pytest.raises(ssl.SSLError):
            context.load_verify_locations(str(pem), None, None)
    pem.write_bytes(good)
    context.load_verify_locations(str(pem), None, None)
    pem.unlink()
    context.load_verify_locations(str(pem), None, None)
    assert len(context.get_ca_certs()) == 1
    with pytest.raises(OSError, match="No such file"):
        _Context(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(str(pem), None, None)
