"""The options, checked and typed. Pure: nothing is looked up, so it also serves ``validate-all`` offline."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field, replace
from typing import Dict, FrozenSet, Iterable, List, Mapping, Optional, Tuple
from urllib.parse import unquote, urlsplit

from . import logs, messages
from .core.isolation import isolating_options
from .core.model import IsolationSpec
from .errors import FenceError
from .inputs import QUERY_DEADLINE, SECONDS, STATIC_INTERFACES, boolean, verbosity

ACTIONS = (
    "on",
    "off",
    "reboot",
    "status",
    "list",
    "list-status",
    "monitor",
    "metadata",
    "manpage",
    "validate-all",
)
MOST_GROUPS = 16  # per interface, the highest quota
MOST_SECONDS = 86400
MOST_PORT = 65535
MOST_TEXT = 4096  # characters of a value
MOST_KEY = 128  # characters of a tag key

Filters = Tuple[Tuple[str, Tuple[str, ...]], ...]

_GROUP = re.compile(r"sg-(?:[0-9a-f]{8}|[0-9a-f]{17})")
_INSTANCE = re.compile(r"i-(?:[0-9a-f]{8}|[0-9a-f]{17})")
_REGION = re.compile(r"[a-z]{2,5}(?:-[a-z]+)+-[0-9]+")
# An Availability Zone, a Local Zone (us-west-2-lax-1a) or a Wavelength Zone; its region.
_ZONE = re.compile(rf"({_REGION.pattern})(?:[a-z]|-[a-z0-9-]+)")
_ID = re.compile(r"(?:i|eni|vol)-(?:[0-9a-f]{8}|[0-9a-f]{17})")
# What the SDK takes for a host, beside an IPv6 address.
_HOST = re.compile(r"(?=.{1,255}$)(?:(?!-)[a-zA-Z0-9-]{1,63}(?<!-)\.)*(?!-)[a-zA-Z0-9-]{1,63}(?<!-)\.?")
LIKE_ID = re.compile(r"(i|eni|vol)-[0-9a-fA-F]*")


@dataclass(frozen=True)
class Access:
    """How EC2 is reached, and as whom."""

    region: Optional[str] = None
    access_key: Optional[str] = None
    secret_key: Optional[str] = field(default=None, repr=False)
    profile: Optional[str] = None
    endpoint_url: Optional[str] = None
    proxy: Optional[str] = field(default=None, repr=False)
    user_agent: str = ""  # by which CloudTrail shows calls of this agent

    @property
    def secrets(self) -> Tuple[str, ...]:
        """What must never be shown, in the forms that it takes on its way."""
        return tuple(s for s in (self.secret_key, *(userinfo_forms(self.proxy) if self.proxy else ())) if s)


@dataclass(frozen=True)
class Lookup:
    """How instances are found by name, and listed: within these filters; by this tag instead of the usual names.

    The node is the one that Pacemaker names, if that is not the plug."""

    filters: Filters = ()
    tag: Optional[str] = None
    node: Optional[str] = None


@dataclass(frozen=True)
class Timing:
    """How long things may take, in seconds: to connect or to reply, the whole operation, groups to take effect;
    and the port at which to look whether they did."""

    api_seconds: float = 5.0
    deadline: float = 45.0
    settle_seconds: float = 5.0
    probe_port: Optional[int] = None


@dataclass(frozen=True)
class Overrides:
    """Checks and steps that are left out."""

    skip_race_check: bool = False
    unfence_ignore_restore: bool = False
    ignore_instance_state: bool = False


@dataclass(frozen=True)
class Power:
    """Whether the instance is stopped and started too."""

    onfence_poweroff: bool = False
    skip_os_shutdown: bool = False
    unfence_poweron: bool = False
    require_poweroff: bool = False
    auto_unfence: bool = False


@dataclass(frozen=True)
class Reporting:
    """Logs and metrics; the warnings are about the options themselves."""

    boto3_debug: bool = False
    metrics_file: Optional[str] = None
    warnings: Tuple[str, ...] = ()


@dataclass(frozen=True)
class Settings:
    """The settings of one run."""

    action: str
    plugs: Tuple[str, ...] = ()
    spec: IsolationSpec = IsolationSpec()
    static: Mapping[int, FrozenSet[str]] = field(default_factory=dict)
    lookup: Lookup = Lookup()
    access: Access = Access()
    timing: Timing = Timing()
    overrides: Overrides = Overrides()
    power: Power = Power()
    reporting: Reporting = Reporting()

    @property
    def is_mutating(self) -> bool:
        """Does the action change anything?"""
        return self.action in ("on", "off")

    @property
    def filters(self) -> Filters:
        """Within which instances are looked up and listed."""
        return self.lookup.filters

    @property
    def preflight(self) -> bool:
        """Is it ``validate-all`` of instances? Otherwise it is offline."""
        return self.action == "validate-all" and bool(self.plugs)

    @property
    def needs_name_lookup(self) -> bool:
        """Is there a plug that is no ID, and an action that has to know which instance it is?"""
        is_no_op = self.action == "on" and self.overrides.unfence_ignore_restore
        needed = self.is_mutating or self.action in ("status", "list", "list-status") or self.preflight
        return needed and not is_no_op and any(not is_instance_id(p) for p in self.plugs)

    @property
    def seconds(self) -> float:
        """The whole operation's time."""
        return self.timing.deadline if self.is_mutating else min(self.timing.deadline, QUERY_DEADLINE)


def seconds(name: str, value: object, least: int) -> int:
    """A whole number of seconds."""
    text = str(value).strip()
    if not re.fullmatch(r"[0-9]{1,9}", text) or not least <= int(text) <= MOST_SECONDS:
        raise messages.bad_seconds(name, text, least, MOST_SECONDS)
    return int(text)


def _clean(name: str, text: str) -> str:
    """A value, or an item of a list, without the white space around it; other control characters are refused."""
    text = text.strip()
    if any(not c.isprintable() for c in text) or len(text) > MOST_TEXT:
        raise messages.bad_text(name)
    return text


class _Parser:
    """Collects warnings on the way; the first error is raised."""

    def __init__(self, options: Mapping[str, object]) -> None:
        self.options = options
        self.warnings: List[str] = []

    def text(self, name: str) -> Optional[str]:
        value = self.options.get(f"--{name}")
        return None if value is None else _clean(name, str(value)) or None

    def flag(self, name: str) -> bool:
        return f"--{name}" in self.options and boolean(name, self.options[f"--{name}"])

    def parts(self, name: str, text: str, separator: str) -> Tuple[str, ...]:
        """What the separators divide, which is not looked at."""
        if len(text) > MOST_TEXT:
            raise messages.bad_text(name)
        parts = [p.strip() for p in text.split(separator)]
        if not any(parts):
            raise messages.empty_list(name)
        if not all(parts):
            self.warnings.append(messages.empty_elements(name))
        return tuple(dict.fromkeys(p for p in parts if p))

    def items(self, name: str, text: str, separator: str = ",") -> Tuple[str, ...]:
        return tuple(_clean(name, p) for p in self.parts(name, text, separator))

    def groups(self, name: str) -> Tuple[str, ...]:
        if f"--{name}" not in self.options:
            return ()
        groups = self.items(name, str(self.options[f"--{name}"]))
        for group in groups:
            if not _GROUP.fullmatch(group):
                raise messages.malformed_group(name, group)
        return groups

    def action(self) -> str:
        action = str(self.options.get("--action", "reboot")).lower()
        if action not in ACTIONS:
            raise messages.unknown_action(str(self.options["--action"]), ACTIONS)
        return "off" if action == "reboot" else action  # the node stays isolated until "on"

    def secg(self, action: str) -> Tuple[str, ...]:
        secg = self.groups("secg")
        if self.flag("invert-sg-removal") and len(secg) > MOST_GROUPS:
            raise messages.too_many_groups("secg with invert-sg-removal", len(secg), MOST_GROUPS)
        if not secg and action in ("off", "status", "validate-all"):
            raise messages.no_secg(action)
        return secg

    def credentials(self) -> Access:
        """Keys or a profile; the rest of it is not looked at."""
        access, secret = self.text("access-key"), self.text("secret-key")
        if (access is None) != (secret is None):
            raise messages.half_key_pair("secret-key" if secret is None else "access-key")
        if access and not re.fullmatch(r"[!-~]{1,256}", access):
            raise messages.bad_access_key()
        if access and secret and (is_secret_key(access) or re.fullmatch(r"A[KS]IA[A-Z0-9]{12,28}", secret)):
            raise messages.keys_swapped()
        profile = self.text("profile")
        if profile and access:
            raise messages.profile_and_keys()
        return Access(access_key=access, secret_key=secret, profile=profile)

    def static(self) -> Dict[int, FrozenSet[str]]:
        static = {n: self.groups(f"interface{n}-sg") for n in range(STATIC_INTERFACES)}
        for n, groups in static.items():
            if len(groups) > MOST_GROUPS:
                raise messages.too_many_groups(f"interface{n}-sg", len(groups), MOST_GROUPS)
        return {n: frozenset(groups) for n, groups in static.items() if groups}

    def untrack(self, secg: Tuple[str, ...]) -> Optional[str]:
        groups = self.groups("untrack-secg")
        if len(groups) > 1:
            raise messages.several_untrack()
        if groups and groups[0] in secg:
            raise messages.untrack_in_secg(groups[0])
        return groups[0] if groups else None

    def plugs(self) -> Tuple[str, ...]:
        separator = str(self.options.get("--plug-separator", ","))
        if not separator:
            raise messages.empty_separator("plug-separator")
        if "--plug" not in self.options:
            return ()
        return self.items("plug", str(self.options["--plug"]), separator)

    def boolean_of_value(self, name: str) -> bool:
        """Of an option that takes a value, unlike a flag."""
        if f"--{name}" not in self.options:
            return False
        shown, text = name.replace("-", "_"), self.text(name)
        if text is None:
            raise messages.bad_boolean(shown, "")
        return boolean(shown, text)

    def overrides_and_power(self) -> Tuple[Overrides, Power]:
        skip_race_check, ignore_restore = self.flag("skip-race-check"), self.flag("unfence-ignore-restore")
        power = Power(
            onfence_poweroff=self.flag("onfence-poweroff"),
            skip_os_shutdown=self.boolean_of_value("skip-os-shutdown"),
            unfence_poweron=self.flag("unfence-poweron"),
            require_poweroff=self.flag("require-poweroff"),
            auto_unfence=self.flag("auto-unfence"),
        )
        for option in ("require_poweroff", "auto_unfence"):
            if getattr(power, option) and not power.onfence_poweroff:
                raise messages.requires_poweroff(option)
        if power.auto_unfence and ignore_restore:
            raise messages.auto_unfence_without_restore()
        return Overrides(skip_race_check, ignore_restore, self.flag("ignore-instance-state")), power

    def timing(self, action: str) -> Timing:
        return Timing(
            api_seconds=float(seconds("api-timeout", self.options.get("--api-timeout", "5"), 1)),
            deadline=_deadline(self.options),
            settle_seconds=self.settle_time(action),
            probe_port=self.probe_port(),
        )

    def probe_port(self) -> Optional[int]:
        if "--probe-port" not in self.options:
            return None
        text = self.text("probe-port") or ""
        if not (re.fullmatch(r"[0-9]{1,5}", text) and 1 <= int(text) <= MOST_PORT):
            raise messages.bad_port("probe_port", text, MOST_PORT)
        return int(text)

    def settle_time(self, action: str) -> float:
        """Seconds, which must fit into the deadline with the reserve and the calls; twice if ``off`` untracks."""
        settle = float(seconds("settle-time", self.options.get("--settle-time", "5"), 0))
        deadline, untracks = _deadline(self.options), "--untrack-secg" in self.options
        if settle * (1 + untracks) >= 0.8 * deadline - 1:
            error = messages.settle_too_long(settle, deadline, untracks)
            if action in ("off", "validate-all"):
                raise error
            if action == "monitor":
                self.warnings.append(error.text)
        return settle

    def metrics(self) -> Optional[str]:
        """An absolute path, or a warning: no value of it may keep a node from being fenced."""
        try:
            path = self.text("metrics-file")
        except FenceError as error:
            self.warnings.append(error.text)
            return None
        if path and (not path.startswith("/") or path.endswith("/")):
            self.warnings.append(messages.metrics_not_updated(path, "it is not the absolute path of a file"))
            return None
        if path and not path.endswith(".prom"):
            self.warnings.append(messages.metrics_not_collected(path))
        return path

    def reporting(self) -> Reporting:
        """The last that is parsed: it takes the warnings that have been collected."""
        return Reporting(
            boto3_debug=self.boolean_of_value("boto3_debug"),
            metrics_file=self.metrics(),
            warnings=tuple(self.warnings),
        )

    def plug_tag(self) -> Optional[str]:
        """A tag key, also one of AWS's own: it is only read."""
        key = self.text("plug-tag") or ""
        if "--plug-tag" not in self.options:
            return None
        if not 1 <= len(key) <= MOST_KEY:
            raise messages.bad_tag_key("plug_tag", len(key), MOST_KEY)
        return key

    def node(self, plugs: Tuple[str, ...]) -> Optional[str]:
        node = str(self.options.get("--nodename", "")).strip()
        return node if node and node not in plugs else None

    def filters(self) -> Filters:
        if "--filter" not in self.options:
            return ()
        filters: Dict[str, Tuple[str, ...]] = {}
        for part in self.parts("filter", str(self.options["--filter"]), ";"):
            name, equals, value = part.partition("=")
            key = _clean("filter", name)
            if not key or not equals or not value.strip():
                raise messages.bad_filter(part)
            if key in filters:
                raise messages.repeated_filter(key)
            filters[key] = self.items("filter", value)
        return tuple(filters.items())


def is_instance_id(plug: str) -> bool:
    """Is it an instance ID, and not a name?"""
    return bool(_INSTANCE.fullmatch(plug))


def is_key_id(text: str) -> bool:
    """May it be an access key ID, also one of a cloud that is not AWS? A secret access key is none."""
    return bool(re.fullmatch(r"[\w.~:@-]{1,256}", text, re.ASCII)) and not is_secret_key(text)


def is_secret_key(text: str) -> bool:
    """Does it look like a secret access key of AWS, some characters more or fewer?"""
    return bool(re.fullmatch(r"[A-Za-z0-9/+]{36,44}={0,2}", text)) and logs.like_secret(text)


def _check_plugs(action: str, plugs: Iterable[str]) -> None:
    given = list(plugs)
    if action in ("on", "off", "status") and not given:
        raise messages.no_plug(action)
    for plug in given:
        like = LIKE_ID.fullmatch(plug)
        if like and not _ID.fullmatch(plug):
            raise messages.malformed_plug(plug, like[1])
        if len(plug) > 255:
            raise messages.bad_text("plug")


def _check_library_options(options: Mapping[str, object]) -> None:
    """Check values that the library would accept with a warning, fail on, or refuse with its own text."""
    for name in SECONDS:
        seconds(name, options.get(f"--{name}", "0"), 0)
    count = str(options.get("--retry-on", "0")).strip()
    if not re.fullmatch(r"[0-9]{1,4}", count):
        raise messages.bad_count("retry-on", count)
    if "--disable-timeout" in options:
        boolean("disable-timeout", options["--disable-timeout"])
    if options.get("--separator") == "":
        raise messages.empty_separator("separator")


def parse(options: Mapping[str, object], user_agent: str = "") -> Settings:
    """The settings of the library's options dictionary, whose keys are ``--long-option``.

    Raises:
        FenceError: of category validation, naming the option and what it should be.
    """
    p = _Parser(options)  # the order decides which error is raised
    action = p.action()
    _check_library_options(options)
    level = str(options.get("--verbose-level", "0"))
    if verbosity(level) is None:  # no level of it may keep a node from being fenced
        p.warnings.append(messages.bad_verbosity(level))
    plugs = p.plugs()
    _check_plugs(action, plugs)
    secg = p.secg(action)
    credentials = p.credentials()
    static = p.static()
    spec = IsolationSpec(secg, p.flag("invert-sg-removal"), p.untrack(secg), p.flag("ignore-tag-write-failure"))
    access = replace(
        credentials,
        region=_region(p.text("region")),
        endpoint_url=_endpoint(p.text("endpoint-url")),
        proxy=_proxy(p.text("proxy")),
        user_agent=user_agent,
    )
    if action == "on" or (action == "validate-all" and not plugs):  # the preflight tells it with all else
        _check_static(static, spec)
    overrides, power = p.overrides_and_power()
    return Settings(
        action=action,
        plugs=plugs,
        spec=spec,
        static=static,
        lookup=Lookup(p.filters(), p.plug_tag(), p.node(plugs)),
        access=access,
        timing=p.timing(action),
        overrides=overrides,
        power=power,
        reporting=p.reporting(),
    )


def _check_static(static: Mapping[int, FrozenSet[str]], spec: IsolationSpec) -> None:
    """What is wrong with these, however many interfaces there are; no reason not to fence."""
    isolating = isolating_options(static, static, spec) if spec.keep_only else []
    if isolating:
        raise messages.static_isolates(f"interface{isolating[0]}-sg")


def of_refused(options: Mapping[str, object]) -> Settings:
    """What counts a run whose options are refused: action, plugs as they were given, and metrics_file."""
    action = str(options.get("--action", "reboot")).lower()
    separator = str(options.get("--plug-separator") or ",")
    plugs = tuple(plug.strip() for plug in str(options.get("--plug", "")).split(separator) if plug.strip())
    reporting = Reporting(metrics_file=_Parser(options).metrics())
    return Settings("off" if action == "reboot" else action, plugs, reporting=reporting)


def _deadline(options: Mapping[str, object]) -> float:
    return float(seconds("deadline", options.get("--deadline", "45"), 2))


def _region(region: Optional[str]) -> Optional[str]:
    if region is not None and not re.fullmatch(r"[A-Za-z0-9-]{1,32}", region):
        raise messages.malformed_region(region)
    return None if region is None else region_of(region)


def region_of(name: str) -> str:
    """The region of this name, written as AWS writes it: signatures depend on that. Any source may hold capitals.

    Raises:
        FenceError: of category region: it is the name of a zone.
    """
    lower = name.lower()
    if _REGION.fullmatch(lower):
        return lower
    zone = _ZONE.fullmatch(lower)
    if zone:
        raise messages.zone_as_region(name, zone[1])
    return name


def _endpoint(url: Optional[str]) -> Optional[str]:
    if url is None:
        return None
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        good = parts.scheme in ("http", "https") and (":" in host or _HOST.fullmatch(host)) and parts.port != 0
    except ValueError:
        good = False
    if not good or not re.fullmatch(r"[^\s?#@]+", url):
        raise messages.bad_endpoint()
    return url


def _proxy(url: Optional[str]) -> Optional[str]:
    """With or without user:password, percent-encoded where they hold what has a meaning in a URL."""
    if url is None:
        return None
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and parts.path in ("", "/")
    except ValueError:
        good = False
    # The SDK sends no others than ASCII characters to a proxy.
    if not good or not re.fullmatch(r"[a-z]+://[!-~]+", url) or not re.fullmatch(r"[ -~]*", unquote(url)):
        raise messages.bad_proxy()
    if re.search(r"[?#\\]", url) or url.count("@") > 1:
        raise messages.bad_proxy()
    return url


def userinfo_forms(url: str) -> Tuple[str, ...]:
    """The credentials in a URL: user:password and password, as written, decoded, and as HTTP's Basic sends them."""
    userinfo, at, _ = urlsplit(url).netloc.rpartition("@")
    if not at:
        return ()
    written = (userinfo, userinfo.partition(":")[2])
    decoded = tuple(unquote(part) for part in written)
    return tuple(dict.fromkeys((*written, *decoded, base64.b64encode(decoded[0].encode()).decode())))
