"""Runs the server on its own: python -m ec2 --port 0.

Prints one line of JSON when it is ready; ends on SIGTERM, SIGINT, after --seconds, or with --until-eof
when its standard input closes.
"""

import argparse
import json
import os
import signal
import sys
import threading

# Whatever a library might look for, it finds nothing real.
os.environ.update(
    {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
)
os.environ.pop("AWS_PROFILE", None)

from .server import Ec2Server


def drain(done: threading.Event) -> None:
    """Waits for the end of standard input."""
    sys.stdin.read()
    done.set()


def main() -> int:
    """Serves until told to end."""
    parser = argparse.ArgumentParser(prog="python -m ec2", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1, 0 for a free one")
    parser.add_argument("--region", default="eu-central-1")
    parser.add_argument("--seconds", type=float, default=3600.0, help="ends after so many seconds")
    parser.add_argument("--until-eof", action="store_true", help="ends when standard input closes")
    options = parser.parse_args()
    done = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: done.set())
    with Ec2Server(options.port, options.region) as server:
        print(json.dumps(description(server)), flush=True)
        if options.until_eof:
            threading.Thread(target=drain, args=(done,), daemon=True).start()
        done.wait(options.seconds)
    return 0


def description(server: Ec2Server) -> "dict[str, object]":
    """What a client needs to know."""
    return {
        "endpoint": server.endpoint,
        "access_key": server.key.access_key,
        "secret_key": server.key.secret_key,
        "region": server.region,
        "nodes": server.world.nodes,
        "interfaces": server.world.interfaces,
        "groups": server.world.groups,
    }


if __name__ == "__main__":
    sys.exit(main())
