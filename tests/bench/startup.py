"""Where the time of a run goes before the first call: CPU seconds of processes that each do a little more."""

import os
from typing import Dict, List, Tuple

from . import report
from .measure import median, run

CLIENT = (
    "import boto3;boto3.client('ec2', region_name='eu-central-1', aws_access_key_id='a', aws_secret_access_key='b');"
)
LEAVE = "import os; os._exit(0)"
OURS = "import gc, sys; gc.disable(); sys.modules['urllib3.contrib.pyopenssl'] = None;"
CERTIFICATES = (
    "import ssl; from botocore.httpsession import where;"
    "ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(where());"
)
SECG = "--secg=sg-0123456789abcdef0"


def commands() -> Dict[str, Tuple[List[str], str]]:
    """What each does more -> (command, the name of the one to compare it with)."""
    python = [os.environ["PYTHON"], "-c"]
    agent = os.environ["AGENT"]
    fencing = f"import sys; sys.path.append({os.environ['FENCINGDIR']!r}); import fencing;"
    return {
        "Python": ([*python, "pass"], ""),
        "the fencing library": ([*python, fencing + LEAVE], "Python"),
        "metadata: the agent's first modules, printing": ([agent, "-o", "metadata"], "the fencing library"),
        "options: more modules, reading and checking": ([agent, "-o", "validate-all", SECG], "the fencing library"),
        "import boto3, as a script does": ([*python, "import boto3;" + LEAVE], "Python"),
        "make a client, as a script does": ([*python, CLIENT + LEAVE], "import boto3, as a script does"),
        "end, as a script does": ([*python, CLIENT], "make a client, as a script does"),
        "import boto3, as the agent does": ([*python, OURS + "import boto3;" + LEAVE], "Python"),
        "read the trusted certificates": (
            [*python, OURS + "import boto3;" + CERTIFICATES + LEAVE],
            "import boto3, as the agent does",
        ),
        "make a client, as the agent does": ([*python, OURS + CLIENT + LEAVE], "import boto3, as the agent does"),
    }


def play(env: Dict[str, str], rounds: int) -> str:
    """The table."""
    found: Dict[str, list] = {name: [] for name in commands()}
    for _ in range(rounds):
        for name, (command, _less) in commands().items():
            found[name].append(run(command, env))
    cpu = {name: median(runs, "cpu") for name, runs in found.items()}
    body = [(n, f"{cpu[n] - cpu.get(less, 0.0):.3f}", f"{cpu[n]:.3f}") for n, (_, less) in commands().items()]
    return report.markdown(("what", "CPU seconds for it", "in all"), body)
