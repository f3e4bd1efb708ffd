"""The agent's own options, in the order of the manual page, and the agent's description there. Data only."""

from __future__ import annotations

from .inputs import STATIC_INTERFACES

SHORTDESC = "Fence agent for AWS VPC: isolates an instance by its security groups"
# Paragraphs for the manual page; pcs shows it as one.
LONGDESC = (
    "fence_aws_vpc_net is a network fencing agent for EC2 instances. It isolates a node by changing the security "
    "groups of all its network interfaces, saves the original groups in tags of the instance, and restores them with "
    "the action on. With onfence_poweroff it also requests a stop of the instance. off succeeds only after EC2 "
    "accepted every change and a later read shows every interface isolated.\n\n"
    "The action reboot is the same as off: the node stays isolated until an operator stops it, runs the action on, "
    "and starts it again. The action validate-all with plug checks whether fencing would work, and changes "
    "nothing. Credentials come from the sources of the AWS SDK, such as the role of the instance, from profile, or "
    "from access_key and secret_key.\n\n"
    "Recommended: set secg to a security group without rules, inbound or outbound, and invert_sg_removal=1, so that "
    "an isolated interface keeps only this group. Set untrack_secg to a group that allows all traffic. Set "
    "ignore_instance_state=1 for unattended recovery, and pcmk_off_timeout and pcmk_reboot_timeout to 120.\n\n"
    "A change of groups does not end established connections that EC2 tracks. An isolated node can continue to write "
    "over them until they are idle for the tracking time of the interface: five days by default, 350 seconds on "
    "Nitro v6 instance types. untrack_secg prevents that for TCP and UDP, except for connections that EC2 always "
    "tracks, such as those through NAT gateways. Security groups do not filter EBS volumes: if nodes share "
    "EBS volumes, set require_poweroff, or use power fencing. onfence_poweroff alone is not sufficient, "
    "because off then succeeds when the stop was requested, whether or not the instance stops."
)
VENDOR = "https://aws.amazon.com/vpc/"  # of the device, as with all fence agents
PORT = (
    "Instance ID of the node (recommended), a name that exactly one instance has, or the ID of an attached interface "
    "or volume. A name is a Name tag, private DNS name or primary private IP address (IPv4 or IPv6), or instead a "
    "value of the tag of plug_tag. Separate several by commas"
)


# Options of newer fencing libraries. A cluster may have them in its configuration. If the library is older (4.7.1 of
# Debian 11, 4.10 of RHEL 9.0), the agent defines them with the texts of the library. stonith_status_sleep and
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
    """One option, as the ``fencing`` library describes it. (A plain class: a NamedTuple takes 2 ms to create.)

    Attributes:
        name: its key in the library.
        getopt: its letter, if it has one, and ":" if it takes a value.
        value: the placeholder for the value in the usage text.
        text: what it does, its default, its limits.
        more: type and default, if the library does not find them by itself.
    """

    def __init__(self, name: str, getopt: str, value: str, text: str, **more: str) -> None:
        self.name, self.getopt, self.value, self.text, self.more = name, getopt, value, text, more

    @property
    def long(self) -> str:
        """Its long form on the command line, without the leading hyphens."""
        return self.name if self.name == "boto3_debug" else self.name.replace("_", "-")


_INTERFACE_SG = (
    "Groups that the action on sets on interface {} (in the order of network card and device index). Default: the "
    "groups of the backup. If set for one interface, required for all"
)

OPTIONS = (
    Option(
        "region",
        "r:",
        "region",
        "AWS region. Default: the sources of the AWS SDK, then the region of this machine, which takes an extra "
        "request",
    ),
    Option(
        "access_key",
        "a:",
        "key",
        "Access key ID. Requires secret_key, and excludes profile. Default: the sources of the AWS SDK, such as the "
        "role of the instance",
    ),
    Option(
        "secret_key",
        "s:",
        "key",
        "Secret access key. Required with access_key, and only then. The key is readable in the configuration of the "
        "cluster",
    ),
    Option(
        "secg",
        ":",
        "sg,...",
        "Security groups to remove from every interface, separated by commas; with invert_sg_removal, the only "
        "groups to keep. Required for off and status. off fails if an interface would have no group left",
    ),
    Option(
        "skip_race_check",
        "",
        "",
        "Skip the checks for self-fencing and mutual fencing. Default: check. Without the checks, a node can "
        "isolate itself",
    ),
    Option(
        "invert-sg-removal",
        "",
        "",
        "Keep only the groups of secg on each interface, and remove all others. Recommended, with a group without "
        "rules. Default: remove the groups of secg",
    ),
    Option(
        "unfence-ignore-restore",
        "",
        "",
        "The action on succeeds but restores nothing: the node stays isolated, although the cluster considers it "
        "unfenced. Default: restore",
    ),
    Option(
        "filter",
        ":",
        "key=value",
        "Limit the instances of list, and of the lookup of names: key=value[,value]; separate several filters with "
        "';'. Default: all instances of the region. Does not apply to instance IDs",
    ),
    Option(
        "boto3_debug",
        "b:",
        "bool",
        "Write the debug log of the AWS SDK, without secrets, to /var/log/fence_aws_vpc_boto3.log. The log is large",
        default="False",
    ),
    Option(
        "onfence-poweroff",
        "",
        "",
        "Also request a forced stop of the instance after it is isolated. Default: the instance keeps running. "
        "Memory and instance store are lost. off does not wait for the stop, and a failed stop is a warning: this "
        "does not protect EBS volumes that nodes share, unless require_poweroff is set",
    ),
    Option(
        "ignore-tag-write-failure",
        "",
        "",
        "Isolate even if the original groups cannot be saved in tags. The action on may then have nothing to "
        "restore. Default: fail, and change nothing",
    ),
    Option(
        "ignore-instance-state",
        "",
        "",
        "Isolate the instance in any state. A stopped instance then starts isolated. Default: isolate only a running "
        "one, so that a stopped node cannot be fenced, and its services are not recovered",
    ),
    *(Option(f"interface{n}-sg", ":", "sg,...", _INTERFACE_SG.format(n)) for n in range(STATIC_INTERFACES)),
    Option(
        "untrack_secg",
        ":",
        "sg",
        "Security group that allows everything, in and out: interfaces pass through it on their way to "
        "isolation, so that established connections end too. For settle_time, this opens the node to every host "
        "that can reach its subnet. Default: none, and established connections may continue",
    ),
    Option(
        "skip_os_shutdown",
        ":",
        "bool",
        "With onfence_poweroff: stop the instance without a shutdown of its operating system, if EC2 supports "
        "that. File systems are not unmounted",
        default="false",
    ),
    Option(
        "unfence_poweron",
        "",
        "",
        "The action on also starts a stopped instance after its groups are restored, waits until it runs, and "
        "fails if the start fails. Not with unfence_ignore_restore. Default: the instance stays stopped",
    ),
    Option(
        "require_poweroff",
        "",
        "",
        "With onfence_poweroff: off succeeds only when EC2 shows the instance as stopped or terminated, which also "
        "ends its writes to EBS volumes. off fails if the stop is refused, or is not finished by deadline: set "
        "deadline to 180 or more. Default: off does not wait for the stop",
    ),
    Option(
        "plug_tag",
        ":",
        "key",
        "Key of the tag whose value names an instance, such as Hostname: plug is looked up by this tag instead of "
        "Name tag, private DNS name and private IP address, and list shows its values. Default: none",
    ),
    Option(
        "auto_unfence",
        "",
        "",
        "With onfence_poweroff: monitor restores and starts a node that was fenced and has stopped since, at most 3 "
        "times in 24 hours. Set filter to limit this to the nodes of the cluster. A node with the tag "
        "fence_aws_vpc_net:auto_unfence=no stays stopped. Default: no",
    ),
    Option(
        "profile",
        ":",
        "name",
        "Profile of the AWS configuration files, instead of access_key and secret_key. Default: none. Pacemaker runs "
        "the agent as root, so it is a profile of root. A profile that requires an MFA code fails",
    ),
    Option(
        "endpoint_url",
        ":",
        "url",
        "URL of the EC2 API, such as that of a VPC endpoint. Default: the public endpoint of the region. Not used "
        "for STS, which a profile may require",
    ),
    Option(
        "proxy",
        ":",
        "url",
        "Proxy for the EC2 API, STS and SSO: http(s)://[user:password@]host:port. Not used for the instance metadata "
        "service. Default: none. Fencing then depends on the proxy",
    ),
    Option(
        "api_timeout",
        ":",
        "seconds",
        "Seconds to connect, and to wait for each reply, of one API call. Keep it well below deadline, so that a "
        "call can be repeated",
        type="second",
        default="5",
    ),
    Option(
        "deadline",
        ":",
        "seconds",
        "Seconds after which off or on ends. Keep it below pcmk_off_timeout and pcmk_reboot_timeout of Pacemaker, "
        "which otherwise kills the agent. Actions that only read have 12 seconds",
        type="second",
        default="45",
    ),
    Option(
        "settle_time",
        ":",
        "seconds",
        "Seconds that the network of EC2 may need to apply a change of groups after the API accepted it. off "
        "succeeds no earlier than this after its last change, unless probe_port shows silence before. With "
        "untrack_secg, off waits twice. 0: do not wait",
        type="second",
        default="5",
    ),
    Option(
        "probe_port",
        ":",
        "port",
        "TCP port of the nodes, such as 22, on which this machine checks whether a node is isolated. An address that "
        "answered before the first change must be silent twice in a row, half a second apart; off waits for that "
        "until deadline. If every interface has such an address, off does not wait for the rest of settle_time. The "
        "groups of an isolated interface must not allow this machine to reach the port. With untrack_secg, let a "
        "program listen at the port: otherwise off fails if an address still answered after settle_time. Default: no "
        "check",
        type="integer",
    ),
    Option(
        "metrics_file",
        ":",
        "path",
        "Prometheus text file to update after each operation, for node_exporter: absolute path of a .prom file. "
        "Default: none. A failure to write it is a warning",
    ),
)
