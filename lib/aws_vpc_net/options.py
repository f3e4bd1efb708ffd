"""The agent's own options, in the order of the manual page, and what it says of itself there. Data only."""

from __future__ import annotations

from .inputs import STATIC_INTERFACES

SHORTDESC = "Fence agent for AWS VPC: isolates an instance by its security groups"
# Paragraphs for the manual page; pcs shows it as one.
LONGDESC = (
    "fence_aws_vpc_net is a network fencing agent for instances on AWS. It cuts a node off by changing the "
    "security groups of all its network interfaces, remembers the original groups in tags of the instance, and "
    "brings them back with the action on. With onfence_poweroff it also requests a stop of the instance. It reports "
    "success only when EC2 accepted every change and a later read shows every interface isolated.\n\n"
    "The action reboot means off: the node stays cut off until somebody stops it, runs the action on, and starts it "
    "again. "
    "The action validate-all with the ID of an instance checks whether fencing it would work, and changes nothing. "
    "Credentials come from the SDK's own sources, such as the instance's role, from profile, or from access_key "
    "and secret_key.\n\n"
    "Recommended: secg names a security group without any rules, inbound or outbound, and invert_sg_removal=1 "
    "makes it the only one that a fenced interface keeps. Set ignore_instance_state=1 for unattended recovery, and "
    "pcmk_off_timeout and pcmk_reboot_timeout to 120.\n\n"
    "Changing groups does not end established connections that EC2 tracks: a fenced node may go on writing over "
    "them, and they end only when idle: after five days by default, 350 seconds on Nitro v6 instance types, or what "
    "the connection tracking of the interface says. untrack_secg prevents that. Security groups do not filter EBS "
    "volumes: where nodes share such volumes, use power fencing. onfence_poweroff is not enough there, since off "
    "succeeds when the stop was requested, whether or not the instance stops."
)
VENDOR = "https://github.com/ClusterLabs/fence-agents/"
PORT = (
    "Instance ID of the node; or its Name tag, private DNS name or primary private IP, which must match "
    "exactly one instance; or several, comma-separated. An ID is safest."
)


# Options of newer fencing libraries. A cluster's configuration may hold them, so where the library is older (4.7.1 of
# Debian 11, 4.10 of RHEL 9.0) the agent brings them along, with the library's own texts. stonith_status_sleep and
# disable_timeout have no effect on this agent with any library.
LIBRARY_OPTIONS = {
    "plug_separator": {
        "getopt": ":",
        "longopt": "plug-separator",
        "help": "--plug-separator=[char]        Separator for plug parameter when specifying more than 1 plug",
        "default": ",",
        "order": 100,
    },
    "verbose_level": {
        "getopt": ":",
        "longopt": "verbose-level",
        "type": "integer",
        "help": "--verbose-level                Level of debugging detail in output. Defaults to the number of "
        "--verbose flags specified on the command line, or to 1 if verbose=1 in a stonith device configuration "
        "(i.e., on stdin).",
        "order": 52,
    },
    "stonith_status_sleep": {
        "getopt": ":",
        "longopt": "stonith-status-sleep",
        "type": "second",
        "help": "--stonith-status-sleep=[seconds]   Sleep X seconds between status calls during a STONITH action",
        "default": "1",
        "order": 200,
    },
    "disable_timeout": {
        "getopt": ":",
        "longopt": "disable-timeout",
        "help": "--disable-timeout=[true/false]     Disable timeout (true/false) "
        "(default: true when run from Pacemaker 2.0+)",
        "order": 200,
    },
    "quiet": {
        "getopt": "q",
        "longopt": "quiet",
        "help": "-q, --quiet                    Disable logging to stderr. Does not affect --verbose or --debug-file "
        "or logging to syslog.",
        "order": 50,
    },
}


class Option:
    """One option, as the ``fencing`` library describes it. (A plain class: a NamedTuple takes 2 ms to make.)

    Attributes:
        name: its key in the library.
        getopt: its letter, if it has one, and ":" if it takes a value.
        value: the placeholder for the value in the usage text.
        text: what it does, its default, its catch.
        more: type and default, where the library does not find them by itself.
    """

    def __init__(self, name: str, getopt: str, value: str, text: str, **more: str) -> None:
        self.name, self.getopt, self.value, self.text, self.more = name, getopt, value, text, more

    @property
    def long(self) -> str:
        """Its long form on the command line, without the hyphens before it."""
        return self.name if self.name == "boto3_debug" else self.name.replace("_", "-")


_INTERFACE_SG = (
    "Groups to set on interface {} (by network card, device index) with the action on. Default: those in "
    "tags. Every interface needs one, if one is given"
)

OPTIONS = (
    Option(
        "region",
        "r:",
        "region",
        "AWS region. Default: the SDK's own sources, then this machine's region, which takes time to ask for",
    ),
    Option(
        "access_key",
        "a:",
        "key",
        "Access key ID; needs secret_key, excludes profile. Default: the SDK's own sources, e.g. the instance's role",
    ),
    Option(
        "secret_key",
        "s:",
        "key",
        "Secret access key; needed if, and only if, access_key is given. Whoever reads the cluster's "
        "configuration reads it",
    ),
    Option(
        "secg",
        ":",
        "sg,...",
        "Security groups to remove from every interface, comma-separated; with invert_sg_removal the only ones "
        "to keep. Required for off and status. An interface that removal would leave without a group makes off "
        "fail",
    ),
    Option(
        "skip_race_check",
        "",
        "",
        "Do not check for self-fencing and mutual fencing. Default: check. A node may then cut itself off",
    ),
    Option(
        "invert-sg-removal",
        "",
        "",
        "Keep only the groups of secg on the interfaces, remove all others. Default: remove those of secg. "
        "Recommended, with a group without rules",
    ),
    Option(
        "unfence-ignore-restore",
        "",
        "",
        "The action on succeeds and restores nothing: the node stays isolated though the cluster takes it for "
        "unfenced. Default: restore",
    ),
    Option(
        "filter",
        ":",
        "key=value",
        "Instances to list, and to look names up among: key=value[,value]; several with ';'. Default: all of the "
        "region. An instance ID is not looked up, so it is not limited by this",
    ),
    Option(
        "boto3_debug",
        "b:",
        "bool",
        "Write the AWS SDK's debug log, without secrets, to /var/log/fence_aws_vpc_boto3.log. It is long",
        default="False",
    ),
    Option(
        "onfence-poweroff",
        "",
        "",
        "Also request a stop of the instance, by force, after it is isolated. Default: it keeps running. Memory and "
        "instance store are lost. off does not wait for the stop, and one that fails is a warning: it does not "
        "protect EBS volumes that nodes share",
    ),
    Option(
        "ignore-tag-write-failure",
        "",
        "",
        "Isolate even where the original groups cannot be saved in tags: on may then have nothing to restore. "
        "Default: fail, with nothing changed",
    ),
    Option(
        "ignore-instance-state",
        "",
        "",
        "Fence whatever state EC2 says the instance is in. Default: only running ones, so that a node that was "
        "stopped cannot be fenced, and its services are not recovered. A stopped one starts isolated",
    ),
    *(Option(f"interface{n}-sg", ":", "sg,...", _INTERFACE_SG.format(n)) for n in range(STATIC_INTERFACES)),
    Option(
        "untrack_secg",
        ":",
        "sg",
        "Security group that allows everything, in and out: interfaces pass through it on their way to "
        "isolation, so that established connections are cut too. Default: none, and they may live on. It opens "
        "the node to everybody for settle_time",
    ),
    Option(
        "skip_os_shutdown",
        ":",
        "bool",
        "With onfence_poweroff: stop the instance without waiting for its operating system, where EC2 and boto3 "
        "support that. Its file systems are not unmounted",
        default="false",
    ),
    Option(
        "unfence_poweron",
        "",
        "",
        "The action on also starts a stopped instance, after its groups are back, and fails if that fails. "
        "Default: it stays stopped",
    ),
    Option(
        "profile",
        ":",
        "name",
        "Profile of the shared AWS configuration, instead of access_key and secret_key. Default: none. Pacemaker "
        "runs the agent as root: it is root's. One that asks for an MFA code fails",
    ),
    Option(
        "endpoint_url",
        ":",
        "url",
        "URL of the EC2 API, e.g. of a VPC endpoint. Default: the region's own. It is not used for STS, which a "
        "profile may need",
    ),
    Option(
        "proxy",
        ":",
        "url",
        "http(s)://[user:password@]host:port of a proxy for the EC2 API, and for STS and SSO; not for the "
        "instance metadata service. Default: none. Fencing then depends on it",
    ),
    Option(
        "api_timeout",
        ":",
        "seconds",
        "Seconds to connect, and for each reply, of one API call. Keep it well below deadline, so that a call "
        "can be repeated",
        type="second",
        default="5",
    ),
    Option(
        "deadline",
        ":",
        "seconds",
        "Seconds for a whole off or on, after which the agent ends by itself; keep it below Pacemaker's "
        "pcmk_off_timeout and pcmk_reboot_timeout, or it is killed (12 seconds for the actions that only read)",
        type="second",
        default="45",
    ),
    Option(
        "settle_time",
        ":",
        "seconds",
        "Seconds that the network of EC2 may take to follow a change of groups, which the API accepts before: off "
        "succeeds no earlier than this after its last change, and with untrack_secg stays as long on that group. "
        "0: do not wait",
        type="second",
        default="5",
    ),
    Option(
        "probe_port",
        ":",
        "port",
        "TCP port of the nodes, e.g. 22, at which this machine looks for itself whether a node is cut off. An "
        "address that answered before the first change must be silent twice in a row, half a second apart; until "
        "then off waits, up to deadline. Where every interface has such an address, that ends settle_time early. The "
        "groups that a fenced interface keeps must not let this machine reach the port. Default: do not look",
        type="integer",
    ),
    Option(
        "metrics_file",
        ":",
        "path",
        "Prometheus textfile to update after each operation, for node_exporter: absolute path of a .prom file. "
        "Default: none. If it cannot be written, that is a warning",
    ),
)
