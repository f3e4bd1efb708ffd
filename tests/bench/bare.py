"""What the agent is measured against: a script with the same least calls, and no check, record or proof of its own.

Two calls of the agent's on are missing, the claim and the last read: they are against an off in progress.

It runs on the Python and boto3 that the agent runs on: python3 bare.py ACTION ENDPOINT [INSTANCE GROUP]
"""

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import boto3
from botocore.config import Config

action, endpoint, node, group = (*sys.argv[1:], "", "")[:4]
ec2 = boto3.client("ec2", endpoint_url=endpoint, config=Config(max_pool_connections=16))


def read():
    found = ec2.describe_instances(Filters=[{"Name": "instance-id", "Values": [node]}])
    return found["Reservations"][0]["Instances"][0]


def groups(interface):
    return [g["GroupId"] for g in interface["Groups"]]


def change(goals):
    with ThreadPoolExecutor(len(goals)) as pool:
        list(
            pool.map(
                lambda item: ec2.modify_network_interface_attribute(NetworkInterfaceId=item[0], Groups=item[1]),
                goals.items(),
            )
        )
    assert all(sorted(groups(i)) == sorted(goals[i["NetworkInterfaceId"]]) for i in read()["NetworkInterfaces"])


def off():
    before = {i["NetworkInterfaceId"]: groups(i) for i in read()["NetworkInterfaces"]}
    tags = [{"Key": f"bare_{i}", "Value": json.dumps(g)} for i, g in before.items()]
    ec2.create_tags(Resources=[node], Tags=[*tags, {"Key": "bare", "Value": str(int(time.time()))}])
    assert {t["Key"] for t in tags} <= {t["Key"] for t in read()["Tags"]}
    change({i: [group] for i in before})


def on():
    tags = [t for t in read()["Tags"] if t["Key"].startswith("bare")]
    change({t["Key"][5:]: json.loads(t["Value"]) for t in tags if "_" in t["Key"]})
    ec2.delete_tags(Resources=[node], Tags=tags)


def status():
    print(all(groups(i) == [group] for i in read()["NetworkInterfaces"]))


def monitor():
    ec2.describe_instances(MaxResults=5)
    assert ec2.describe_security_groups(Filters=[{"Name": "group-id", "Values": [group]}])["SecurityGroups"]


def listed():
    pages = ec2.get_paginator("describe_instances").paginate(PaginationConfig={"PageSize": 1000})
    for instance in (i for page in pages for r in page["Reservations"] for i in r["Instances"]):
        names = [t["Value"] for t in instance.get("Tags", ()) if t["Key"] == "Name"]
        print(f"{instance['InstanceId']},{''.join(names)}")


{"off": off, "on": on, "status": status, "monitor": monitor, "list": listed}[action]()
