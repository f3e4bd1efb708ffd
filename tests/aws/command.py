"""Tries fence_aws_vpc_net on the real EC2, and prints a report to attach to an issue. Needs boto3 and the agent.

It makes a VPC of its own without any way in or out, three of the smallest instances, and three security groups;
fences and unfences; measures; and removes everything that it made, also when it is interrupted. All carries a tag
with the run's ID, so what a lost connection or a kill leaves behind goes with --clean-up RUN-ID.

Whether flows survive is seen by the instances themselves: two keep TCP connections going to each other, and say on
their serial consoles what arrives, which needs no network and no role. That tells instants to some seconds only.

How long EC2's network takes to follow a change of groups is measured with --subnet, which names a subnet that this
machine reaches: run it on an instance in EC2. It makes one more instance there, whose lines this process reads while
it changes the groups itself, so that acceptance and arrival are on one clock (receiver.py). The report says which
settle_time follows. Whoever reaches the subnet reaches that instance while it is on the group that allows everything.

What it cannot show: other protocols than TCP over IPv4 (so no load balancers, NAT gateways, PrivateLink); new
connections that the instance begins; EBS; other hosts and hours, and how often rare delays of EC2 happen.
"""

import argparse
import platform
import shutil
import signal
import sys
import time
import uuid
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

import boto3
import botocore
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from .bed import TAG, TYPES, Bed
from .measure import Agent
from .report import Report
from .settle import DWELLS
from .story import Story

TOP = Path(__file__).resolve().parents[2]
BUILT = TOP / "build" / "install" / "sbin" / "fence_aws_vpc_net"
SENDER = "In {subnet}, three more security groups, and one more such instance.\n"
PLAN = """This run, {run}, makes in {where}:
  one VPC (no internet gateway, no public address), one subnet, three security groups,
  three instances, {kind}, with a disk of 8 GiB each, one with two interfaces.
{more}It takes about {minutes:.0f} minutes and costs about 0.01 USD, less than 0.05 USD. Then it removes all of it,
also when interrupted. All carries the tag {tag}={run}. Should anything be left: {again}"""


def say(text: str) -> None:
    """Progress, for people; the report alone is on standard output."""
    print(text, file=sys.stderr, flush=True)


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--region", help="default: as the AWS SDK is configured")
    parser.add_argument("--endpoint-url", help="of the EC2 API, for an emulator")
    parser.add_argument("--agent", default=str(BUILT) if BUILT.exists() else shutil.which(BUILT.name))
    parser.add_argument("--instance-type", default="", help=f"default: {' or '.join(TYPES)}")
    parser.add_argument("--image", default="", help="default: the newest Amazon Linux 2023")
    parser.add_argument("--role-arn", help="a role to assume with doc/iam-policy.json, and without each part of it")
    parser.add_argument("--rounds", type=int, default=10, help="of measuring how long reads and network lag")
    parser.add_argument("--watch", type=float, default=5.0, help="seconds to read on in each round")
    parser.add_argument("--subnet", help="measure in it how long the network lags; this machine must reach it")
    parser.add_argument("--window", type=float, default=20.0, help="seconds for which the network may lag")
    parser.add_argument("--without-packets", action="store_true", help="no flows: where no real packets run")
    parser.add_argument("--clean-up", metavar="RUN-ID", help="only remove what that run made")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    return parser.parse_args()


def client(service: str, given: argparse.Namespace) -> Any:
    """A client of the SDK that tries again what passes."""
    config = Config(retries={"mode": "standard", "max_attempts": 8}, connect_timeout=10, read_timeout=30)
    return boto3.client(service, region_name=given.region, endpoint_url=given.endpoint_url, config=config)


def agent(given: argparse.Namespace, region: str) -> Agent:
    """The agent, with what the script was given."""
    if not given.agent:
        sys.exit("no agent: build it (./tests/check does, or make install), or name it by --agent")
    more = [f"--endpoint-url={given.endpoint_url}"] if given.endpoint_url else []
    return Agent(given.agent, [f"--region={region}", *more])


def assumer(given: argparse.Namespace) -> Optional[Callable[[str], Dict[str, str]]]:
    """Credentials of the role, limited to a policy."""
    if not given.role_arn:
        return None
    sts = client("sts", given)

    def assume(policy: str) -> Dict[str, str]:
        reply = sts.assume_role(RoleArn=given.role_arn, RoleSessionName="fence-acceptance", Policy=policy)
        found = reply["Credentials"]
        return {
            "AWS_ACCESS_KEY_ID": found["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": found["SecretAccessKey"],
            "AWS_SESSION_TOKEN": found["SessionToken"],
        }

    return assume


def agree(given: argparse.Namespace, run: str, region: str) -> bool:
    """Say what will be made; ask, unless told not to."""
    again = f"{sys.argv[0]} --region {region} --clean-up {run}"
    kind = given.instance_type or f"{' or '.join(TYPES)}"
    more = SENDER.format(subnet=given.subnet) if given.subnet else ""
    seconds = given.rounds * sum(given.window + 3 + (dwell or 0) for dwell in DWELLS) if given.subnet else 0
    where = given.endpoint_url or region
    minutes = 15 + seconds / 60
    say(PLAN.format(run=run, where=where, kind=kind, tag=TAG, again=again, more=more, minutes=minutes))
    if given.yes:
        return True
    sys.stderr.write("Go on? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def begin(given: argparse.Namespace, run: str, region: str) -> Report:
    """A report with what it was made with."""
    system = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    facts = [("run", run), ("region", region), ("here", system)]
    facts.append(("SDK of this script", f"boto3 {boto3.__version__}, botocore {botocore.__version__}"))
    facts.append(("endpoint", given.endpoint_url or "EC2's own"))
    facts.append(("began", time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())))
    return Report("fence_aws_vpc_net on EC2", facts)


def clear(bed: Bed, interrupted: bool) -> bool:
    """Remove all, whatever signals come; is it gone?"""
    on_signals(lambda *_: say("clearing away; please wait"))
    left: List[str] = bed.clean_up(interrupted)
    if left:
        say(f"LEFT BEHIND: {', '.join(left)}; repeat with --clean-up {bed.run_id}")
    return not left


def on_signals(handler: Callable[..., None]) -> None:
    """Ctrl-C, a kill, a closed terminal."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, handler)


def interrupt(*_: object) -> None:
    """End, but by way of clearing away; once, so that a second signal does not end that."""
    on_signals(lambda *_: None)
    raise KeyboardInterrupt


def try_out(given: argparse.Namespace, bed: Bed, report: Report, region: str) -> None:
    """Build, then play."""
    bed.build(given.instance_type, given.image)
    if given.subnet:
        bed.build_sender(given.subnet, given.instance_type, given.image)
    packets, role = not given.without_packets, assumer(given)
    story = Story(bed, agent(given, region), report, packets, given.rounds, given.watch, given.window, role)
    story.play()


def main() -> int:
    """0: all as it should be, and nothing is left; 130 if interrupted."""
    given = options()
    ec2 = client("ec2", given)
    region = str(ec2.meta.region_name)
    run = given.clean_up or f"fence-{uuid.uuid4().hex[:12]}"
    bed = Bed(ec2, run, say)
    if given.clean_up:
        return 0 if clear(bed, interrupted=True) else 1
    agent(given, region)
    if not agree(given, run, region):
        say("nothing was made")
        return 1
    on_signals(interrupt)
    report = begin(given, run, region)
    ended = False
    try:
        try_out(given, bed, report, region)
        ended = True
    except KeyboardInterrupt:
        say("interrupted")
    except (ClientError, BotoCoreError) as error:
        say(f"cannot go on: {error}")
    finally:
        gone = clear(bed, interrupted=not ended)
        report.chapter("The end")
        report.row("the run", "came to its end" if ended else "did not come to its end", ended)
        report.row("left behind", "nothing" if gone else "see above", gone)
        print(report)
    if not ended:
        return 130
    return 0 if gone and not report.bad else 1
