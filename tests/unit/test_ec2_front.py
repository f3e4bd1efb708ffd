"""The EC2 double keeps the promises that the other tests rely on."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("moto", reason="the EC2 double needs moto[ec2,server]")
boto3 = pytest.importorskip("boto3")

import ec2  # noqa: E402
from botocore.config import Config  # noqa: E402
from botocore.exceptions import (  # noqa: E402
    ClientError,
    ConnectionClosedError,
    HTTPClientError,
    ReadTimeoutError,
    ResponseStreamingError,
)
from botocore.parsers import ResponseParserError  # noqa: E402
from ec2.edit import secondary_interface  # noqa: E402
from ec2.transport import LONG  # noqa: E402

TESTS = Path(__file__).resolve().parents[1]
UNKNOWN = "i-0123456789abcdef0"
BROKEN = (ConnectionClosedError, HTTPClientError, ResponseParserError, ResponseStreamingError)


@pytest.fixture(scope="session")
def started():
    with ec2.Ec2Server() as server:
        yield server


@pytest.fixture
def server(started):
    started.reset()
    yield started


def client_for(server, service="ec2", attempts=1, timeout=5, **other):
    config = Config(
        retries={"mode": "standard", "total_max_attempts": attempts},
        connect_timeout=timeout,
        read_timeout=timeout,
        proxies={},
    )
    return boto3.client(service, config=config, **{**server.client_kwargs(), **other})


@pytest.fixture(scope="session")
def shared_client(started):
    return client_for(started)


@pytest.fixture
def client(server, shared_client):
    return shared_client


@pytest.fixture
def node(server):
    return server.world.nodes["node1"]


@pytest.fixture
def eni(server):
    return server.world.interfaces["node1"][0]


def wait_for(condition):
    """Until something is so that a thread of the server does."""
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def code_of(function, *args, **kwargs):
    """The error code of a call that fails."""
    with pytest.raises(ClientError) as caught:
        function(*args, **kwargs)
    return caught.value.response["Error"]["Code"]


def seconds(function, *args, **kwargs):
    """The CPU time of a call, with that of the server's threads; the machine may be doing other things."""
    start = time.process_time()
    function(*args, **kwargs)
    return time.process_time() - start


def instances(reply):
    return [i for reservation in reply["Reservations"] for i in reservation["Instances"]]


def tags_of(client, instance):
    (found,) = instances(client.describe_instances(InstanceIds=[instance]))
    return {tag["Key"]: tag["Value"] for tag in found.get("Tags", [])}


def put(client, resource, tags):
    return client.create_tags(
        Resources=[resource], Tags=[{"Key": key, "Value": value} for key, value in tags.items()]
    )


# The world


def test_describe_shows_interfaces_groups_attachment_vpc_and_tags(server, client, node):
    (found,) = instances(client.describe_instances(InstanceIds=[node]))
    assert found["State"]["Name"] == "running"
    assert found["VpcId"] == server.world.vpc
    assert found["PrivateDnsName"]
    assert {"Key": "Name", "Value": "node1"} in found["Tags"]
    first, second = sorted(found["NetworkInterfaces"], key=lambda i: i["Attachment"]["DeviceIndex"])
    assert (first["NetworkInterfaceId"], second["NetworkInterfaceId"]) == server.world.interfaces["node1"]
    assert [i["Attachment"]["DeviceIndex"] for i in (first, second)] == [0, 1]
    assert first["Attachment"]["Status"] == "attached"
    assert first["Attachment"]["NetworkCardIndex"] == 0
    assert first["VpcId"] == server.world.vpc
    names = server.world.groups
    assert {g["GroupId"] for g in first["Groups"]} == {names["app"], names["ssh"]}
    assert {g["GroupId"] for g in second["Groups"]} == {names["app"], names["db"]}
    # An instance's groups are those of its primary interface.
    assert {g["GroupId"] for g in found["SecurityGroups"]} == {names["app"], names["ssh"]}


def test_an_attached_interface_has_its_own_groups_only_after_a_change(server, client, node, eni):
    client.modify_network_interface_attribute(NetworkInterfaceId=eni, Groups=[server.world.isolation])
    (found,) = instances(client.describe_instances(InstanceIds=[node]))
    groups = {i["NetworkInterfaceId"]: [g["GroupId"] for g in i["Groups"]] for i in found["NetworkInterfaces"]}
    assert groups[eni] == [server.world.isolation]
    assert len(groups[server.world.interfaces["node1"][1]]) == 2
    (shown,) = client.describe_network_interfaces(NetworkInterfaceIds=[eni])["NetworkInterfaces"]
    assert [g["GroupId"] for g in shown["Groups"]] == [server.world.isolation]


def test_isolation_has_no_rules_and_open_has_all(server, client):
    isolation, wide = server.world.isolation, server.world.open
    found = {g["GroupId"]: g for g in client.describe_security_groups(GroupIds=[isolation, wide])["SecurityGroups"]}
    assert found[isolation]["IpPermissions"] == found[isolation]["IpPermissionsEgress"] == []
    for direction in ("IpPermissions", "IpPermissionsEgress"):
        (rule,) = found[wide][direction]
        assert rule["IpProtocol"] == "-1"
        assert [r["CidrIp"] for r in rule["IpRanges"]] == ["0.0.0.0/0"]
        assert [r["CidrIpv6"] for r in rule["Ipv6Ranges"]] == ["::/0"]


def test_app_is_on_every_interface_and_never_alone(server):
    for state in server.snapshot().values():
        for groups in state["interfaces"].values():
            assert server.world.groups["app"] in groups
            assert len(groups) >= 2


def test_snapshot_and_describe_agree(server, client, node, eni):
    put(client, node, {"a": "b"})
    client.modify_network_interface_attribute(NetworkInterfaceId=eni, Groups=[server.world.isolation])
    told = {}
    for found in instances(client.describe_instances()):
        told[found["InstanceId"]] = {
            "state": found["State"]["Name"],
            "tags": {t["Key"]: t["Value"] for t in found["Tags"]},
            "interfaces": {
                i["NetworkInterfaceId"]: sorted(g["GroupId"] for g in i["Groups"]) for i in found["NetworkInterfaces"]
            },
        }
    assert server.snapshot() == told


def test_network_cards_share_device_indexes_and_one_can_be_detached(server, client):
    app = [server.world.groups["app"]]
    made = server.edit.add_instance(
        "big",
        [{"groups": app}, {"groups": app, "device_index": 1}]
        + [{"groups": app, "device_index": 1, "network_card": card} for card in (1, 2)],
    )

    def places():
        (found,) = instances(client.describe_instances(InstanceIds=[made]))
        return sorted(
            (i["Attachment"]["NetworkCardIndex"], i["Attachment"]["DeviceIndex"], i["NetworkInterfaceId"])
            for i in found["NetworkInterfaces"]
        )

    before = places()
    assert [place[:2] for place in before] == [(0, 0), (0, 1), (1, 1), (2, 1)]
    server.edit.detach(before[2][2])
    assert places() == [before[0], before[1], before[3]]


def test_secondary_interfaces_and_operators_are_shown(server, client, node, eni):
    server.edit.secondary_interfaces(node, [secondary_interface(7)])
    server.edit.operator(eni, "eks.amazonaws.com")
    (found,) = instances(client.describe_instances(InstanceIds=[node]))
    (second,) = found["SecondaryInterfaces"]
    assert second["SecondaryInterfaceId"].endswith("7")
    assert second["Attachment"]["NetworkCardIndex"] == 1
    operators = {i["NetworkInterfaceId"]: i.get("Operator", {}) for i in found["NetworkInterfaces"]}
    assert operators.pop(eni)["Managed"] is True
    assert not any(operator.get("Managed") for operator in operators.values())


def test_a_terminated_instance_shows_no_interfaces(server, client, node):
    client.terminate_instances(InstanceIds=[node])
    (found,) = instances(client.describe_instances(InstanceIds=[node]))
    assert found["State"]["Name"] == "terminated"
    assert found["NetworkInterfaces"] == []
    assert server.snapshot()[node]["interfaces"] == {}


def test_two_servers_are_two_worlds(server, client, node):
    with ec2.Ec2Server() as other:
        assert code_of(client_for(other).describe_instances, InstanceIds=[node]) == "InvalidInstanceID.NotFound"
        other.reset()
    assert len(instances(client.describe_instances())) == 3


def test_reset_is_quick_and_leaves_no_trace(server, client, node):
    put(client, node, {"a": "b"})
    server.rules.add(None, ec2.Throttle())
    server.stale(tags_changes=1)
    server.key.deny("ec2:*")
    server.config.groups_per_interface = 2
    began = time.monotonic()
    assert min(seconds(server.reset) for _ in range(3)) < 0.05
    assert time.monotonic() - began < LONG, "it waits for nobody"
    assert server.calls == []
    assert server.config.groups_per_interface == 5
    found = instances(client.describe_instances())
    assert sorted(t["Value"] for i in found for t in i["Tags"]) == ["node1", "node2", "node3"]


def test_a_call_takes_a_few_milliseconds(server, client, node):
    client.describe_instances(InstanceIds=[node])
    # The client included, and the best of many.
    assert min(seconds(client.describe_instances, InstanceIds=[node]) for _ in range(20)) < 0.03


# Tags


@pytest.mark.parametrize(
    ("key", "value", "code"),
    [
        ("k" * 128, "v" * 256, None),
        ("ключ" * 32, "値" * 256, None),
        ("k" * 129, "v", "InvalidParameterValue"),
        ("k", "v" * 257, "InvalidParameterValue"),
        ("", "v", "InvalidParameterValue"),
        ("aws:thing", "v", "InvalidParameterValue"),
        ("AWS:thing", "v", "InvalidParameterValue"),
    ],
)
def test_tag_lengths_and_prefix(server, client, node, key, value, code):
    before = server.snapshot()
    if code:
        assert code_of(put, client, node, {"good": "1", key: value}) == code
        assert server.snapshot() == before
    else:
        put(client, node, {key: value})
        assert tags_of(client, node)[key] == value


def test_fifty_tags_fit_and_can_be_overwritten_but_not_exceeded(server, client, node):
    server.edit.put_tags(node, {"aws:cloudformation:stack-name": "s"})
    put(client, node, {f"k{n}": "v" for n in range(49)})
    put(client, node, {f"k{n}": "w" for n in range(49)})
    before = server.snapshot()
    assert code_of(put, client, node, {"k1": "x", "more": "x"}) == "TagLimitExceeded"
    assert server.snapshot() == before


def test_tags_of_several_resources_are_written_together_or_not_at_all(server, client, node):
    before = server.snapshot()
    unknown = "i-" + "0" * 17
    tags = [{"Key": "a", "Value": "b"}]
    assert code_of(client.create_tags, Resources=[node, unknown], Tags=tags) == "InvalidInstanceID.NotFound"
    assert server.snapshot() == before


@pytest.mark.parametrize(
    ("resource", "code"),
    [
        ("i-0123456789abcdef0", "InvalidInstanceID.NotFound"),
        ("i-nonsense", "InvalidInstanceID.Malformed"),
        ("eni-0123456789abcdef0", "InvalidNetworkInterfaceID.NotFound"),
        ("sg-0123456789abcdef0", "InvalidGroup.NotFound"),
        ("vol-0123456789abcdef0", "InvalidVolume.NotFound"),
        ("vpc-0123456789abcdef0", "InvalidVpcID.NotFound"),
        ("nonsense", "InvalidID"),
    ],
)
def test_tags_of_unknown_resources_are_refused_by_their_kind(client, resource, code):
    assert code_of(put, client, resource, {"a": "b"}) == code
    assert code_of(client.delete_tags, Resources=[resource], Tags=[{"Key": "a"}]) == code


def test_keys_for_the_instance_metadata_have_no_slash_or_space(server, client, node):
    server.edit.metadata_tags(node)
    assert code_of(put, client, node, {"fence/eni": "v"}) == "InvalidParameterValue"
    put(client, node, {"fence:eni": "v"})


def test_delete_tags_by_key_by_value_and_all(server, client, node):
    server.edit.put_tags(node, {"aws:reserved": "stays"})
    put(client, node, {"a": "1", "b": "2", "c": "3", "e": ""})
    client.delete_tags(Resources=[node], Tags=[{"Key": "a"}, {"Key": "b", "Value": "other"}, {"Key": "never"}])
    assert set(tags_of(client, node)) == {"Name", "aws:reserved", "b", "c", "e"}
    client.delete_tags(Resources=[node], Tags=[{"Key": "b", "Value": "2"}, {"Key": "c", "Value": ""}])
    assert set(tags_of(client, node)) == {"Name", "aws:reserved", "c", "e"}
    client.delete_tags(Resources=[node], Tags=[{"Key": "e", "Value": ""}])
    assert set(tags_of(client, node)) == {"Name", "aws:reserved", "c"}
    client.delete_tags(Resources=[node])
    assert set(tags_of(client, node)) == {"aws:reserved"}


def test_describe_tags_knows_wildcards(client, node):
    put(client, node, {"fence-1": "x", "fence-2": "y", "other": "z"})
    filters = [{"Name": "resource-id", "Values": [node]}, {"Name": "key", "Values": ["fence-?"]}]
    assert {t["Key"] for t in client.describe_tags(Filters=filters)["Tags"]} == {"fence-1", "fence-2"}


# Interfaces


def refused(server, client, eni, groups):
    """The code of a refused change, which must have changed nothing."""
    before = server.snapshot()
    code = code_of(client.modify_network_interface_attribute, NetworkInterfaceId=eni, Groups=groups)
    assert server.snapshot() == before
    return code


def test_groups_must_exist_be_well_formed_and_one_at_least(server, client, eni):
    app = server.world.groups["app"]
    assert refused(server, client, eni, [app, "sg-0123456789abcdef0"]) == "InvalidGroup.NotFound"
    assert refused(server, client, eni, [app, "sg-xyz"]) == "InvalidGroupId.Malformed"
    assert refused(server, client, eni, [app, "app"]) == "InvalidGroupId.Malformed"
    assert refused(server, client, eni, []) == "MissingParameter"


def test_a_group_of_another_vpc_is_not_found_until_it_is_associated(server, client, eni):
    foreign = server.edit.add_group("foreign", server.edit.add_vpc()["vpc"])
    assert refused(server, client, eni, [foreign]) == "InvalidGroup.NotFound"
    server.edit.associate_group(foreign, server.world.vpc)
    by_vpc = [{"Name": "vpc-id", "Values": [server.world.vpc]}]
    told = client.describe_security_group_vpc_associations(Filters=by_vpc)["SecurityGroupVpcAssociations"]
    assert [(a["GroupId"], a["State"]) for a in told] == [(foreign, "associated")]
    client.modify_network_interface_attribute(NetworkInterfaceId=eni, Groups=[foreign])


def test_groups_of_an_interface_are_limited(server, client, eni):
    groups = [server.edit.add_group(f"g{n}") for n in range(17)]
    client.modify_network_interface_attribute(NetworkInterfaceId=eni, Groups=groups[:5])
    assert refused(server, client, eni, groups[:6]) == "SecurityGroupsPerInterfaceLimitExceeded"
    server.config.groups_per_interface = 99
    client.modify_network_interface_attribute(NetworkInterfaceId=eni, Groups=groups[:16])
    assert refused(server, client, eni, groups) == "SecurityGroupsPerInterfaceLimitExceeded"


def test_unknown_and_requester_managed_interfaces_refuse(server, client, eni):
    app = [server.world.groups["app"]]
    unknown = "eni-0123456789abcdef0"
    assert refused(server, client, unknown, app) == "InvalidNetworkInterfaceID.NotFound"
    server.edit.requester_managed(eni)
    assert refused(server, client, eni, app) == "AuthFailure"
    assert server.calls[-1].status == 401


def test_refusals_have_the_words_of_the_real_ec2(server, client, node, eni):
    """As public threads quote them: operators search for these, and the agent reads some of them."""

    def words(call, **params):
        with pytest.raises(ClientError) as raised:
            call(**params)
        return raised.value.response["Error"]["Message"]

    def tag(key, value=""):
        return words(client.create_tags, Resources=[node], Tags=[{"Key": key, "Value": value}])

    groups = [server.world.groups["app"], *(server.edit.add_group(f"g{n}") for n in range(5))]
    modify, described, stop = (
        client.modify_network_interface_attribute,
        client.describe_instances,
        client.stop_instances,
    )
    assert words(modify, NetworkInterfaceId=eni, Groups=groups) == (
        "The maximum number of security groups per interface has been reached."
    )
    assert words(modify, NetworkInterfaceId=eni, Groups=["web"]) == 'Invalid id: "web" (expecting "sg-...")'
    assert words(modify, NetworkInterfaceId=eni, Groups=["sg-x"]) == 'Invalid id: "sg-x"'
    assert words(described, InstanceIds=["node1"]) == 'Invalid id: "node1" (expecting "i-...")'
    assert words(described, InstanceIds=[UNKNOWN]) == f"The instance ID '{UNKNOWN}' does not exist"
    assert words(described, MaxResults=1).endswith("maxResults is invalid. Expecting a value greater than 5.")
    assert tag("k", "v" * 257) == "Tag value exceeds the maximum length of 256 characters"
    assert tag("k" * 129) == "Tag key exceeds the maximum length of 128 characters"
    assert tag("aws:x") == (
        "Value ( aws:x ) for parameter key is invalid. Tag keys starting with 'aws:' are reserved for internal use"
    )
    server.config.unstoppable.add(node)
    assert words(stop, InstanceIds=[node]) == (
        f"The instance '{node}' does not have an 'ebs' root device type and cannot be stopped."
    )
    server.edit.cannot_stop(node, lifecycle="spot")
    assert words(stop, InstanceIds=[node]) == (
        f"You can't stop the Spot Instance '{node}' because it is associated with a one-time Spot Instance request. "
        "You can only stop Spot Instances associated with persistent Spot Instance requests."
    )
    server.edit.requester_managed(eni)
    assert words(modify, NetworkInterfaceId=eni, Groups=groups[:1]) == (
        "You do not have permission to access the specified resource."
    )
    server.key.deny("ec2:StopInstances", why="with an explicit deny in a service control policy")
    assert words(stop, InstanceIds=[node]).startswith(
        f"You are not authorized to perform this operation. User: arn:aws:iam::{server.account}:user/fence is not "
        f"authorized to perform: ec2:StopInstances on resource: arn:aws:ec2:{server.region}:{server.account}:instance"
        f"/{node} with an explicit deny in a service control policy. Encoded authorization failure message: "
    )


# Instances


def test_stopping_and_pending_last_as_long_as_configured(server, client, node):
    def state():
        return instances(client.describe_instances(InstanceIds=[node]))[0]["State"]["Name"]

    server.config.stop_seconds, server.config.start_seconds = 3600, 0.05
    (change,) = client.stop_instances(InstanceIds=[node], SkipOsShutdown=True)["StoppingInstances"]
    assert (change["PreviousState"]["Name"], change["CurrentState"]["Name"]) == ("running", "stopping")
    assert state() == "stopping"
    assert code_of(client.start_instances, InstanceIds=[node]) == "IncorrectInstanceState"
    server.edit.end_transitions()
    assert state() == "stopped"
    (change,) = client.start_instances(InstanceIds=[node])["StartingInstances"]
    assert (change["PreviousState"]["Name"], change["CurrentState"]["Name"]) == ("stopped", "pending")
    time.sleep(0.06)
    assert state() == "running"


def test_stop_can_be_refused_in_the_ways_ec2_does(server, client, node):
    def stop(**how):
        return code_of(client.stop_instances, InstanceIds=[node], **how)

    server.config.skip_os_shutdown = "refuse"
    assert stop(SkipOsShutdown=True) == "OperationNotPermitted"
    server.config.skip_os_shutdown = "unknown"
    assert stop(SkipOsShutdown=True) == "UnknownParameter"
    server.config.unstoppable.add(node)
    assert stop() == "UnsupportedOperation"
    server.config.unstoppable.clear()
    server.edit.stop_protection(node)
    assert stop() == "OperationNotPermitted"
    server.edit.set_state(node, "terminated")
    assert stop() == "IncorrectInstanceState"


def test_a_spot_instance_can_be_started_some_time_after_its_stop_and_not_after_an_interruption(server, client, node):
    server.edit.spot(node, hibernation=True)
    client.stop_instances(InstanceIds=[node])
    server.config.spot_seconds = 3600
    assert code_of(client.start_instances, InstanceIds=[node]) == "IncorrectSpotRequestState"
    server.config.spot_seconds = 0
    client.start_instances(InstanceIds=[node])
    server.edit.interrupted(node)
    (shown,) = instances(client.describe_instances(InstanceIds=[node]))
    assert shown["State"]["Name"] == "stopped"
    assert shown["StateReason"]["Code"] == "Server.SpotInstanceShutdown"
    assert shown["InstanceLifecycle"] == "spot"
    assert shown["HibernationOptions"] == {"Configured": True}
    assert code_of(client.start_instances, InstanceIds=[node]) == "IncorrectSpotRequestState"


def test_in_a_disruption_of_a_zone_only_instances_of_others_are_described_and_by_id(server, client, node):
    server.config.disrupted = {server.world.nodes["node2"]}
    by_filter = [{"Name": "instance-id", "Values": [node]}]
    assert code_of(client.describe_instances) == "Unavailable"
    assert code_of(client.describe_instances, Filters=by_filter) == "Unavailable"
    assert code_of(client.describe_instances, InstanceIds=[node, server.world.nodes["node2"]]) == "Unavailable"
    assert len(instances(client.describe_instances(InstanceIds=[node]))) == 1


def test_unknown_and_malformed_instances(server, client, node):
    assert code_of(client.describe_instances, InstanceIds=["i-" + "0" * 17]) == "InvalidInstanceID.NotFound"
    assert code_of(client.describe_instances, InstanceIds=["i-12"]) == "InvalidInstanceID.Malformed"
    assert code_of(client.describe_instances, InstanceIds=["node1"]) == "InvalidInstanceID.Malformed"
    assert len(instances(client.describe_instances(InstanceIds=[node, node]))) == 1
    missing = [{"Name": "instance-id", "Values": ["i-" + "0" * 17]}]
    assert instances(client.describe_instances(Filters=missing)) == []
    by_group = [{"Name": "network-interface.group-id", "Values": [server.world.groups["app"]]}]
    assert len(instances(client.describe_instances(Filters=by_group))) == 3
    named = [{"Name": "tag:Name", "Values": ["node2"]}, {"Name": "instance-state-name", "Values": ["running"]}]
    assert len(instances(client.describe_instances(Filters=named))) == 1
    wrong = [{"Name": "no-such-filter", "Values": ["x"]}]
    assert code_of(client.describe_instances, Filters=wrong) == "InvalidParameterValue"


def test_instances_are_found_by_what_is_attached_until_they_are_terminated(server, client, node, eni):
    other = server.world.nodes["node2"]
    volume = server.edit.attach_volume(node)
    server.edit.attach_volume(other, volume)
    server.edit.ipv6(eni, "2001:db8::1")
    filters = {
        "network-interface.network-interface-id": eni,
        "network-interface.ipv6-addresses.ipv6-address": "2001:db8::1",
        "private-ip-address": instance_of(client, node)["PrivateIpAddress"],
        "private-dns-name": instance_of(client, node)["PrivateDnsName"],
    }
    by_volume = {"block-device-mapping.volume-id": volume}
    assert [found(client, {name: value}) for name, value in filters.items()] == [[node]] * 4
    assert found(client, by_volume) == sorted([node, other])
    server.edit.detach_volume(other, volume)
    server.edit.set_state(node, "terminated")
    assert [found(client, {name: value}) for name, value in {**filters, **by_volume}.items()] == [[]] * 5
    shown = instance_of(client, node)
    assert {shown.get("PrivateIpAddress"), shown["PrivateDnsName"]} == {None, ""}
    assert (shown["NetworkInterfaces"], shown["BlockDeviceMappings"]) == ([], [])


def test_an_ipv6_only_instance_has_no_ipv4_address(server, client, node):
    server.edit.ipv6_only(node, "2001:db8::1", "2001:db8::2")
    shown = instance_of(client, node)
    assert "PrivateIpAddress" not in shown
    assert shown["PrivateDnsName"] == f"{node}.{server.region}.compute.internal"
    assert [i.get("PrivateIpAddresses", []) for i in shown["NetworkInterfaces"]] == [[], []]
    assert ["PrivateIpAddress" in i for i in shown["NetworkInterfaces"]] == [False, False]


def instance_of(client, node):
    return instances(client.describe_instances(InstanceIds=[node]))[0]


def found(client, wanted):
    filters = [{"Name": name, "Values": [value]} for name, value in wanted.items()]
    return sorted(i["InstanceId"] for i in instances(client.describe_instances(Filters=filters)))


def test_unknown_groups_are_an_error_by_id_but_not_by_filter(server, client):
    unknown = "sg-0123456789abcdef0"
    assert code_of(client.describe_security_groups, GroupIds=[unknown]) == "InvalidGroup.NotFound"
    assert code_of(client.describe_security_groups, GroupIds=["app"]) == "InvalidGroupId.Malformed"
    twice = [server.world.open] * 2
    assert len(client.describe_security_groups(GroupIds=twice)["SecurityGroups"]) == 1
    wrong = [{"Name": "no-such-filter", "Values": ["x"]}]
    assert code_of(client.describe_security_groups, Filters=wrong) == "InvalidParameterValue"
    by_filter = [{"Name": "group-id", "Values": [unknown]}]
    assert client.describe_security_groups(Filters=by_filter)["SecurityGroups"] == []


def test_max_results_is_bounded_and_not_for_ids(client, node):
    assert code_of(client.describe_instances, MaxResults=4) == "InvalidParameterValue"
    assert code_of(client.describe_instances, MaxResults=1001) == "InvalidParameterValue"
    both = {"MaxResults": 5, "InstanceIds": [node]}
    assert code_of(client.describe_instances, **both) == "InvalidParameterCombination"
    assert code_of(client.describe_instances, NextToken="nonsense") == "InvalidParameterValue"


@pytest.mark.parametrize("limit", [None, 2])
def test_pages_show_every_instance_once(server, client, limit):
    made = {server.edit.add_instance(f"more{n}") for n in range(9)} | set(server.world.nodes.values())
    server.config.page_limit = limit
    pages = list(client.get_paginator("describe_instances").paginate(PaginationConfig={"PageSize": 5}))
    shown = [i["InstanceId"] for page in pages for i in instances(page)]
    assert sorted(shown) == sorted(made)
    assert all(reservation["Instances"] for page in pages for reservation in page["Reservations"])
    assert len(pages) == (6 if limit else 3)
    if limit:
        assert len(instances(client.describe_instances())) == 2
        groups = client.get_paginator("describe_security_groups").paginate()
        ids = [g["GroupId"] for page in groups for g in page["SecurityGroups"]]
        assert len(ids) == len(set(ids)) > 5


# Who may do what


def test_bad_credentials_are_distinguished_as_in_ec2(server, client):
    def code(**other):
        return code_of(client_for(server, **other).describe_instances)

    assert code(aws_access_key_id="AKIAUNKNOWN000000001") == "AuthFailure"
    assert code(aws_secret_access_key="wrong") == "AuthFailure"
    assert code(aws_session_token="not-asked-for") == "AuthFailure"
    assert code(region_name="xx-nowhere-1") == "AuthFailure"
    temporary = server.keys.add(ec2.AccessKey("ASIATEMPORARY0000001", "other", "token"))
    good = {
        "aws_access_key_id": temporary.access_key,
        "aws_secret_access_key": "other",
        "aws_session_token": "token",
    }
    assert len(instances(client_for(server, **good).describe_instances())) == 3
    assert code(**{**good, "aws_session_token": "wrong"}) == "AuthFailure"
    temporary.expired = True
    assert code(**good) == "RequestExpired"
    assert {call.status for call in server.calls if call.error == "AuthFailure"} == {401}


def test_a_request_from_another_time_is_expired(server, client, monkeypatch):
    monkeypatch.setattr("ec2.keys.CLOCK_SKEW", -1.0)
    assert code_of(client.describe_instances) == "RequestExpired"


def test_another_region_is_another_world(server, node):
    elsewhere = client_for(server, region_name="us-east-1")
    assert code_of(elsewhere.describe_instances, InstanceIds=[node]) == "InvalidInstanceID.NotFound"


def test_sts_returns_the_account_and_refuses_unknown_keys(server):
    assert client_for(server, "sts").get_caller_identity()["Account"] == server.account
    stranger = client_for(server, "sts", aws_access_key_id="AKIAUNKNOWN000000001")
    assert code_of(stranger.get_caller_identity) == "InvalidClientTokenId"


def test_denials_by_action_by_resource_and_by_allow_list(server, client, node):
    other = server.world.nodes["node2"]
    server.key.deny("ec2:CreateTags", node)
    assert code_of(put, client, node, {"a": "b"}) == "UnauthorizedOperation"
    put(client, other, {"a": "b"})
    server.key.deny("ec2:Create*")
    assert code_of(put, client, other, {"a": "b"}) == "UnauthorizedOperation"
    assert server.calls[-1].status == 403
    server.key.permit_all()
    server.key.allow_only("ec2:Describe*")
    assert code_of(client.stop_instances, InstanceIds=[node]) == "UnauthorizedOperation"
    client.describe_instances()
    assert server.snapshot()[node]["state"] == "running"


def test_dry_runs_check_permission_and_change_nothing(server, client, node, eni):
    tags = [{"Key": "a", "Value": "b"}]
    app = [server.world.groups["app"]]
    calls = {
        "DescribeInstances": lambda: client.describe_instances(DryRun=True),
        "DescribeSecurityGroups": lambda: client.describe_security_groups(DryRun=True),
        "DescribeTags": lambda: client.describe_tags(DryRun=True),
        "CreateTags": lambda: client.create_tags(Resources=[node], Tags=tags, DryRun=True),
        "DeleteTags": lambda: client.delete_tags(Resources=[node], DryRun=True),
        "StopInstances": lambda: client.stop_instances(InstanceIds=[node], DryRun=True),
        "ModifyNetworkInterfaceAttribute": lambda: client.modify_network_interface_attribute(
            NetworkInterfaceId=eni, Groups=app, DryRun=True
        ),
    }
    before = server.snapshot()
    for action, call in calls.items():
        server.key.permit_all()
        assert code_of(call) == "DryRunOperation"
        assert server.calls[-1].status == 412
        server.key.deny(f"ec2:{action}")
        assert code_of(call) == "UnauthorizedOperation"
    assert server.snapshot() == before


def test_a_dry_run_looks_up_what_it_names_after_the_permission(server, client, node, eni):
    def modify(group):
        return code_of(client.modify_network_interface_attribute, NetworkInterfaceId=eni, Groups=[group], DryRun=True)

    assert code_of(client.stop_instances, InstanceIds=[UNKNOWN], DryRun=True) == "InvalidInstanceID.NotFound"
    assert code_of(client.delete_tags, Resources=[UNKNOWN], DryRun=True) == "InvalidInstanceID.NotFound"
    assert modify("sg-0123456789abcdef0") == "InvalidGroup.NotFound"
    server.key.deny("ec2:*")
    assert code_of(client.stop_instances, InstanceIds=[UNKNOWN], DryRun=True) == "UnauthorizedOperation"
    assert modify("sg-0123456789abcdef0") == "UnauthorizedOperation"


def policy(action, resource="*", effect="Allow", **conditions):
    """A document of one statement; conditions as operator={key: values}, with _ for ':' in the operator."""
    tests = {operator.replace("_", ":"): test for operator, test in conditions.items()}
    statement = {"Effect": effect, "Action": action, "Resource": resource, "Condition": tests}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def test_a_policy_allows_exactly_its_statements(server, client, node):
    server.key.attach(policy(["ec2:Describe*", "ec2:createtags"], "*"))
    client.describe_instances()
    put(client, node, {"a": "b"})
    assert code_of(client.delete_tags, Resources=[node]) == "UnauthorizedOperation"
    server.key.attach(policy("ec2:*", "*", "Deny"))
    assert code_of(client.describe_instances) == "UnauthorizedOperation"


def test_a_policy_is_asked_for_every_resource_of_a_call(server, client, node, eni):
    modify = partial(client.modify_network_interface_attribute, NetworkInterfaceId=eni)
    arns = [f"arn:aws:ec2:{server.region}:{server.account}:{kind}/*" for kind in ("network-interface", "instance")]
    app = server.world.groups["app"]
    server.key.attach(policy("ec2:*", arns))
    assert code_of(modify, Groups=[app]) == "UnauthorizedOperation"
    assert code_of(client.describe_instances) == "UnauthorizedOperation"  # needs the resource "*"
    server.key.attach(policy("ec2:*", [*arns, f"arn:aws:ec2:*:*:security-group/{app}"]))
    modify(Groups=[app])
    assert code_of(modify, Groups=[app, server.world.open]) == "UnauthorizedOperation"
    server.key.attach(policy("ec2:*", arns[:1]))  # of an attached interface the instance counts
    assert code_of(modify, Groups=[app]) == "UnauthorizedOperation"


def test_conditions_on_tag_keys_hold_for_all_of_them_and_not_for_none(server, client, node):
    keys = {"aws:TagKeys": ["lastfence", "Original_*"]}
    server.key.attach(policy(["ec2:CreateTags", "ec2:DeleteTags"], "*", ForAllValues_StringLike=keys))
    put(client, node, {"lastfence": "1", "Original_x": "y"})
    assert code_of(put, client, node, {"lastfence": "1", "Name": "x"}) == "UnauthorizedOperation"
    client.delete_tags(Resources=[node])  # all of nothing: every tag is gone
    null = {"aws:TagKeys": "false"}
    server.key.attach(policy("ec2:DeleteTags", "*", ForAllValues_StringLike=keys, Null=null))
    assert code_of(client.delete_tags, Resources=[node]) == "UnauthorizedOperation"


def test_conditions_on_tags_and_vpc_are_those_of_the_resource(server, client, node, eni):
    server.key.attach(policy("ec2:StopInstances", "*", StringEquals={"aws:ResourceTag/cluster": "one"}))
    assert code_of(client.stop_instances, InstanceIds=[node], DryRun=True) == "UnauthorizedOperation"
    server.edit.put_tags(node, {"cluster": "two"})
    assert code_of(client.stop_instances, InstanceIds=[node], DryRun=True) == "UnauthorizedOperation"
    server.edit.put_tags(node, {"cluster": "one"})
    assert code_of(client.stop_instances, InstanceIds=[node], DryRun=True) == "DryRunOperation"
    other = [node, server.world.nodes["node2"]]
    assert code_of(client.stop_instances, InstanceIds=other, DryRun=True) == "UnauthorizedOperation"
    server.key.attach(policy("ec2:*", "*", ArnLike={"ec2:Vpc": f"*:vpc/{server.world.vpc}"}))
    server.edit.detach(eni)
    client.modify_network_interface_attribute(NetworkInterfaceId=eni, Groups=[server.world.open])
    foreign = server.edit.add_vpc()["default"]
    modify = partial(client.modify_network_interface_attribute, NetworkInterfaceId=eni, Groups=[foreign])
    assert code_of(modify) == "UnauthorizedOperation"


@pytest.mark.parametrize(
    "document",
    [
        policy("ec2:*", "*", Bool={"aws:SecureTransport": "true"}),
        policy("ec2:*", "*", StringEquals={"aws:SourceVpc": "vpc-1"}),
        policy("ec2:*", "*", "Maybe"),
        '{"Version": "2008-10-17", "Statement": []}',
        '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "NotAction": "x", "Resource": "*"}]}',
    ],
)
def test_unmodelled_parts_of_policies_are_refused(server, document):
    with pytest.raises(ValueError, match="not"):
        server.key.attach(document)


def test_a_bucket_throttles_and_refills(server, client):
    bucket = server.limits.add("Describe*", size=2, refill=0.1)
    client.describe_instances()
    client.describe_instances()
    assert code_of(client.describe_instances) == "RequestLimitExceeded"
    assert server.calls[-1].status == 503
    bucket.filled -= 11  # seconds
    client.describe_instances()
    assert code_of(client.describe_instances) == "RequestLimitExceeded"


# Faults


def test_errors_happen_at_the_chosen_call_and_have_no_effect(server, client, node):
    rule = server.rules.add("CreateTags", ec2.Throttle(), nth=2, times=2)
    put(client, node, {"a": "1"})
    assert code_of(put, client, node, {"a": "2"}) == "RequestLimitExceeded"
    client.describe_instances()
    assert code_of(put, client, node, {"a": "3"}) == "RequestLimitExceeded"
    assert tags_of(client, node)["a"] == "1"
    put(client, node, {"a": "4"})
    assert (rule.seen, rule.fired) == (4, 2)


def test_rules_can_look_at_the_call(server, client, node):
    other = server.world.nodes["node2"]
    server.rules.add(
        None, ec2.ServerError("Unavailable", 503), when=lambda call: node in call.listing("ResourceId"), times=None
    )
    put(client, other, {"a": "b"})
    for _ in range(2):
        assert code_of(put, client, node, {"a": "b"}) == "Unavailable"


def test_a_retrying_client_survives_transient_errors(server, node):
    patient = client_for(server, attempts=4)
    server.rules.add("CreateTags", ec2.ServerError())
    server.rules.add("CreateTags", ec2.LoseReply(), nth=1)
    server.rules.add("CreateTags", ec2.Reset(), nth=2)
    put(patient, node, {"a": "b"})
    outcomes = [(c.status, c.outcome, c.took_effect) for c in server.calls_of("CreateTags")]
    assert outcomes == [(500, "lost", False), (None, "reset", False), (200, "whole", True)]


@pytest.mark.parametrize(
    ("fault", "effect"),
    [
        (ec2.Reset(), False),
        (ec2.LoseReply(), True),
        (ec2.LoseReply(reset=True), True),
        (ec2.Garbage(), True),
        (ec2.Truncate(), True),
        (ec2.Truncate(announce=False), True),
    ],
    ids=str,
)
def test_broken_replies_break_the_client_and_take_effect_as_configured(server, client, node, fault, effect):
    server.rules.add("CreateTags", fault)
    with pytest.raises(BROKEN) as caught:
        put(client, node, {"a": "b"})
    assert not isinstance(caught.value, ReadTimeoutError)
    assert ("a" in server.snapshot()[node]["tags"]) is effect
    assert server.calls_of("CreateTags")[-1].took_effect is effect
    assert "Name" in tags_of(client, node)


@pytest.mark.parametrize("effect", [False, True])
def test_a_stall_never_answers_and_takes_effect_as_configured(server, node, effect):
    hasty = client_for(server, timeout=1)
    server.rules.add("CreateTags", ec2.Stall(effect=effect))
    with pytest.raises(ReadTimeoutError):
        put(hasty, node, {"a": "b"})
    (call,) = server.calls
    wait_for(lambda: call.outcome == "stall")
    assert ("a" in server.snapshot()[node]["tags"]) is effect


def test_a_trickle_exceeds_every_time_limit(server, node):
    hasty = client_for(server, timeout=1)
    server.rules.add("DescribeInstances", ec2.Trickle(0.02))
    start = time.monotonic()

    def read():
        with pytest.raises(BROKEN):
            hasty.describe_instances()
        ended.append(True)

    ended = []
    worker = threading.Thread(target=read, daemon=True)
    worker.start()
    worker.join(1.3)
    # Each byte comes in time, so that a read timeout alone does not end it.
    assert worker.is_alive()
    server.reset()
    worker.join(30)
    assert ended == [True]
    assert time.monotonic() - start < 60, "the whole of it takes minutes"


@pytest.mark.parametrize("late", [False, True])
def test_delays_come_before_or_after_the_effect(server, client, node, late):
    effect = []  # when the call had it

    def look(_call):
        effect.append(time.monotonic())
        assert "a" in server.snapshot()[node]["tags"]

    server.rules.add("CreateTags", ec2.Hook(look, late=True))
    server.rules.add("CreateTags", ec2.Delay(0.5, late=late))
    put(client, node, {"a": "b"})
    (call,) = server.calls
    assert (call.ended - effect[0] if late else effect[0] - call.at) >= 0.5
    assert server.broken == []


def send_and_leave(server, times):
    """A client that is gone before it is answered, as one that was killed."""
    body = b"Action=DescribeInstances&Version=2016-11-15"
    for _ in range(times):
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))


def test_what_was_sent_before_a_reset_is_no_call_afterwards(server):
    send_and_leave(server, 20)
    world = server.reset()
    taken = server.rules.add(None, ec2.Throttle(), times=None)
    server.await_gone()
    assert (server.world, server.calls, taken.fired) == (world, [], 0)


def test_a_call_that_a_reset_interrupts_has_no_effect(server, client, node):
    arrived, go_on = threading.Event(), threading.Event()
    server.rules.add("CreateTags", ec2.Hook(lambda _call: (arrived.set(), go_on.wait(30))))

    def is_broken():
        with pytest.raises(BROKEN):
            put(client, node, {"a": "b"})

    worker = threading.Thread(target=is_broken)
    worker.start()
    assert arrived.wait(30)
    before = server.reset() and server.snapshot()
    go_on.set()
    worker.join(30)
    server.await_gone()
    assert (server.snapshot(), server.calls) == (before, [])


def test_what_a_client_has_sent_that_is_gone_can_be_waited_for(server):
    send_and_leave(server, 20)
    server.await_gone()
    assert [call.outcome for call in server.calls] == ["whole"] * 20


def test_faults_that_never_happened_are_reported(server, client, node):
    never = server.rules.add("DeleteTags", ec2.Throttle())
    server.rules.add("DescribeInstances", ec2.Delay(0))
    no_difference = server.stale(tags_changes=1)
    client.describe_instances()
    assert server.idle() == [never, no_difference]
    server.fresh()
    put(client, node, {"a": "b"})
    server.stale(tags_changes=1)
    client.describe_instances()
    assert server.idle() == [never, no_difference]
    server.reset()
    assert server.idle() == []


@pytest.mark.parametrize("late", [False, True])
def test_a_hook_that_fails_is_remembered_until_reset(server, client, late):
    reason = AssertionError("in a hook")

    def fail(_call):
        raise reason

    rule = server.rules.add("DescribeInstances", ec2.Hook(fail, late=late))
    with pytest.raises((ClientError, HTTPClientError)):
        client.describe_instances()
    server.rules.clear()
    assert (server.broken, server.rules.added, rule.fired) == ([reason], [rule], 1)
    server.reset()
    assert (server.broken, server.rules.added) == ([], [])


def test_hooks_run_before_or_after_the_effect(server, client, node):
    seen = []

    def look(call):
        seen.append((call.action, "a" in server.snapshot()[node]["tags"]))
        server.edit.put_tags(node, {f"hook{len(seen)}": "x"})

    server.rules.add("CreateTags", ec2.Hook(look))
    server.rules.add("CreateTags", ec2.Hook(look, late=True))
    put(client, node, {"a": "b"})
    assert seen == [("CreateTags", False), ("CreateTags", True)]
    assert {"hook1", "hook2"} <= set(tags_of(client, node))


def test_calls_are_recorded(server, client, node):
    client.describe_instances(InstanceIds=[node])
    put(client, node, {"a": "b"})
    code_of(put, client, "i-" + "0" * 17, {"a": "b"})
    read, write, wrong = server.calls
    assert [call.number for call in server.calls] == [1, 2, 3]
    assert read.params == {"InstanceId.1": node}
    assert write.records("Tag") == [{"Key": "a", "Value": "b"}]
    assert (write.key_id, write.status, write.error) == (server.key.access_key, 200, None)
    assert (wrong.status, wrong.error) == (400, "InvalidInstanceID.NotFound")
    assert read.port == write.port > 0
    assert server.writes() == [write, wrong]


# Stale reads


def shown(client, node, eni):
    (found,) = instances(client.describe_instances(InstanceIds=[node]))
    groups = {i["NetworkInterfaceId"]: {g["GroupId"] for g in i["Groups"]} for i in found["NetworkInterfaces"]}
    return {t["Key"]: t["Value"] for t in found["Tags"]}.get("a"), groups[eni]


def test_tags_and_groups_are_stale_independently_and_for_so_many_reads(server, client, node, eni):
    old = shown(client, node, eni)[1]
    new = {server.world.isolation}
    put(client, node, {"a": "1"})
    client.modify_network_interface_attribute(NetworkInterfaceId=eni, Groups=list(new))
    put(client, node, {"a": "2"})
    server.stale(tags_changes=1, reads=1)
    assert shown(client, node, eni) == ("1", new)
    assert shown(client, node, eni) == ("2", new)
    server.stale(groups_changes=1, reads=1)
    assert shown(client, node, eni) == ("2", old)
    server.stale(tags_changes=2, groups_changes=5)
    assert shown(client, node, eni) == (None, old)
    reply = client.describe_network_interfaces(NetworkInterfaceIds=[eni])
    assert {g["GroupId"] for g in reply["NetworkInterfaces"][0]["Groups"]} == old
    by_id = [{"Name": "resource-id", "Values": [node]}]
    assert [t["Key"] for t in client.describe_tags(Filters=by_id)["Tags"]] == ["Name"]
    assert server.snapshot()[node]["tags"]["a"] == "2"
    server.fresh()
    assert shown(client, node, eni) == ("2", new)


def test_reads_are_stale_by_seconds_and_for_a_time(server, client, node, eni, monkeypatch):
    clock = [time.monotonic()]
    monkeypatch.setattr("ec2.history.time", SimpleNamespace(monotonic=lambda: clock[0]))
    put(client, node, {"a": "1"})
    clock[0] += 0.7
    put(client, node, {"a": "2"})
    server.stale(tags_seconds=0.6, duration=100)
    assert shown(client, node, eni)[0] == "1"
    clock[0] += 0.65
    assert shown(client, node, eni)[0] == "2"
    put(client, node, {"a": "3"})
    assert shown(client, node, eni)[0] == "2"
    server.fresh()
    clock[0] = time.monotonic() + 1
    server.stale(tags_changes=1, duration=0)
    assert shown(client, node, eni)[0] == "3"


def test_writes_meet_the_present_though_reads_are_stale(server, client, node):
    server.stale(tags_changes=50)
    for number in range(49):
        put(client, node, {f"k{number}": "v"})
    assert code_of(put, client, node, {"one-more": "v"}) == "TagLimitExceeded"


# Metadata service and program


def fetch(url, method="GET", timeout=5.0, **headers):
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(urllib.request.Request(url, method=method, headers=named), timeout=timeout) as reply:
        return reply.read().decode()


def test_metadata_needs_a_token_and_knows_the_instance(server, node):
    with ec2.Imds(node, server.region) as imds:
        imds.credentials("ASIAROLE000000000001", "secret", "token", "2099-01-01T00:00:00Z")
        base = imds.endpoint + "/latest/"
        with pytest.raises(urllib.error.HTTPError, match="401"):
            fetch(base + "meta-data/instance-id")
        with pytest.raises(urllib.error.HTTPError, match="400"):
            fetch(base + "api/token", "PUT")
        token = {
            "X_aws_ec2_metadata_token": fetch(base + "api/token", "PUT", X_aws_ec2_metadata_token_ttl_seconds="60")
        }
        assert fetch(base + "meta-data/instance-id", **token) == node
        assert fetch(base + "meta-data/placement/region", **token) == server.region
        role = fetch(base + "meta-data/iam/security-credentials/", **token)
        got = json.loads(fetch(base + "meta-data/iam/security-credentials/" + role, **token))
        assert got["AccessKeyId"] == "ASIAROLE000000000001"
        imds.mode = "404"
        with pytest.raises(urllib.error.HTTPError, match="404"):
            fetch(base + "api/token", "PUT")
        imds.mode = "garbage"
        with pytest.raises(UnicodeDecodeError):
            fetch(base + "api/token", "PUT")
        imds.mode = "black hole"
        with pytest.raises(OSError, match="timed out"):
            fetch(base + "api/token", "PUT", timeout=0.3)


@pytest.mark.parametrize("end", ["signal", "eof"])
def test_the_program_prints_one_line_and_ends(end):
    command = [sys.executable, "-m", "ec2", "--port", "0", "--seconds", "30", "--until-eof"]
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        told = json.loads(process.stdout.readline())
        client = boto3.client(
            "ec2",
            endpoint_url=told["endpoint"],
            region_name=told["region"],
            aws_access_key_id=told["access_key"],
            aws_secret_access_key=told["secret_key"],
            config=Config(proxies={}),
        )
        assert {i["InstanceId"] for i in instances(client.describe_instances())} == set(told["nodes"].values())
        if end == "signal":
            process.send_signal(signal.SIGTERM)
        else:
            process.stdin.close()
        assert process.wait(60) == 0


EDITS = {
    "add_group": lambda e, w: e.add_group("isolation2"),
    "add_instance": lambda e, w: e.add_instance("node9"),
    "add_rule": lambda e, w: e.add_rule(w.groups["db"], "0.0.0.0/0"),
    "add_vpc": lambda e, w: e.add_vpc(),
    "addresses": lambda e, w: e.addresses(w.interfaces["node1"][0], "10.20.0.77", "10.20.0.78"),
    "associate_group": lambda e, w: e.associate_group(w.groups["db"], w.vpc),
    "attach": lambda e, w: e.attach(w.nodes["node1"], [w.groups["app"]], 5),
    "attach_again": lambda e, w: e.attach_again(w.nodes["node1"], w.interfaces["node1"][1], 3),
    "attach_volume": lambda e, w: e.attach_volume(w.nodes["node1"]),
    "hibernated": lambda e, w: e.hibernated(w.nodes["node1"]),
    "cannot_stop": lambda e, w: e.cannot_stop(w.nodes["node1"], lifecycle="spot"),
    "delete_group": lambda e, w: e.delete_group(w.groups["open"]),
    "detach": lambda e, w: e.detach(w.interfaces["node1"][1]),
    "detach_volume": lambda e, w: e.detach_volume(w.nodes["node1"], e.attach_volume(w.nodes["node1"])),
    "drop_rules": lambda e, w: e.drop_rules(w.groups["db"]),
    "end_transitions": lambda e, w: e.end_transitions(),
    "interrupted": lambda e, w: e.interrupted(w.nodes["node1"]),
    "interface_type": lambda e, w: e.interface_type(w.interfaces["node1"][0], "efa"),
    "ipv6": lambda e, w: e.ipv6(w.interfaces["node1"][0], "fd00::7"),
    "ipv6_only": lambda e, w: e.ipv6_only(w.nodes["node1"], "fd00::8", "fd00::9"),
    "metadata_tags": lambda e, w: e.metadata_tags(w.nodes["node1"]),
    "network_card": lambda e, w: e.network_card(w.interfaces["node1"][1], 1),
    "operator": lambda e, w: e.operator(w.interfaces["node1"][0], "eks.amazonaws.com"),
    "outpost": lambda e, w: e.outpost(w.nodes["node1"]),
    "put_tags": lambda e, w: e.put_tags(w.nodes["node1"], {"a": "<&>\"'", "\u65e5": "", "b  ": ' {"n": 1}'}),
    "requester_managed": lambda e, w: e.requester_managed(w.interfaces["node1"][0]),
    "secondary_interfaces": lambda e, w: e.secondary_interfaces(w.nodes["node1"], [secondary_interface(1)]),
    "set_groups": lambda e, w: e.set_groups(w.interfaces["node1"][1], reversed([*w.groups.values()][:4])),
    "set_state": lambda e, w: e.set_state(w.nodes["node1"], "stopped"),
    "spot": lambda e, w: e.spot(w.nodes["node1"], hibernation=True),
    "stop_protection": lambda e, w: e.stop_protection(w.nodes["node1"]),
    "tracking": lambda e, w: e.tracking(w.interfaces["node1"][0], 60),
}
CALLS = {
    "stop": lambda c, w: c.stop_instances(InstanceIds=[w.nodes["node1"]]),
    "start": lambda c, w: c.start_instances(InstanceIds=[w.nodes["node1"]]),
    "terminate": lambda c, w: c.terminate_instances(InstanceIds=[w.nodes["node1"]]),
    "description": lambda c, w: c.modify_network_interface_attribute(
        NetworkInterfaceId=w.interfaces["node1"][0], Description={"Value": "other"}
    ),
    "stop protection": lambda c, w: c.modify_instance_attribute(
        InstanceId=w.nodes["node1"], DisableApiStop={"Value": True}
    ),
}


def everything(client):
    """What reads show of all instances."""
    found = client.describe_instances(Filters=[{"Name": "vpc-id", "Values": ["vpc-*"]}])["Reservations"]
    ids = [i["InstanceId"] for i in instances({"Reservations": found})]
    return [found, client.describe_instances(InstanceIds=ids[:0:-1])["Reservations"]]


def test_every_edit_is_tried_below(server):
    assert {name for name in vars(type(server.edit)) if name[0] != "_"} == set(EDITS)


@pytest.mark.parametrize("change", [*EDITS, *CALLS])
def test_what_is_remembered_of_instances_is_what_moto_says(server, client, change):
    """After each change that tests can make, and after a reset."""
    world = server.world
    first = everything(client)
    if change == "attach_again":
        server.edit.detach(world.interfaces["node1"][1])
    if change in ("start", "hibernated"):
        server.edit.set_state(world.nodes["node1"], "stopped")
    if change in EDITS:
        EDITS[change](server.edit, world)
    else:
        CALLS[change](client, world)
    remembered = server._front.shapes.remembered
    shown = [everything(client) for _ in range(2)][1]
    assert server._front.shapes.remembered > remembered
    server._front.shapes.clear()
    assert everything(client) == shown
    if server.reset() == world:
        assert everything(client) == first
    assert set(server.world.nodes) == set(world.nodes)


def test_reset_keeps_ids_until_more_than_tags_groups_and_states_change(server, client, node, eni):
    server.edit.put_tags(node, {"a": "b"})
    server.edit.set_groups(eni, [server.world.open])
    client.stop_instances(InstanceIds=[node])
    world = server.world
    assert server.reset() == world
    server.edit.stop_protection(node)
    assert server.reset() != world
