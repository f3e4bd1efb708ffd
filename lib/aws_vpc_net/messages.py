"""Every message that an operator can see, in one place and in one form.

Form: what failed, on which object: why; what to do. Some words ("timed out" and the like) change how Pacemaker reads
a result. ``logs.sanitize`` removes them from every message, including the texts of the SDK.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, FrozenSet, Iterable, Mapping, Optional, Union

from .errors import ApiError, Category, FenceError

if TYPE_CHECKING:
    from .ec2 import CallContext

HELP = "see --help"
SECRET_SIZE = 30  # characters; a valid value of an option with a fixed format is shorter


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _few(names: Iterable[str], most: int = 8) -> str:
    """A list that may be long."""
    known = sorted(names)
    return ", ".join(known[:most]) + (f" and {len(known) - most} more" if len(known) > most else "")


def _causes(why: Mapping[str, Union[str, FenceError]]) -> str:
    """Each object with its cause, sorted. A cause that names its object is not prefixed with the name again."""
    return "; ".join(_cause(what, reason) for what, reason in sorted(why.items()))


def _cause(what: str, reason: Union[str, FenceError]) -> str:
    text = reason if isinstance(reason, str) else reason.text
    return text if re.search(rf"{re.escape(what)}(?![\w.]|:\w)", text) else f"{what}: {text}"


def _short(text: str, most: int = 80) -> str:
    """Text from an operator, safe to show: printable, short, and without values that may be secrets."""
    from .logs import hide

    shown = hide("".join(c if c.isprintable() else "?" for c in text))  # first: it does not find half a secret
    return shown if len(shown) <= most else f"{shown[:most]}… ({len(shown)} characters)"


def _fixed(value: str) -> str:
    """A malformed value of an option with a fixed format. A long value may be a secret, so it is not shown."""
    return _short(value) if len(value) < SECRET_SIZE else f"({len(value)} characters, not shown)"


def _words(text: str, most: int = 400) -> str:
    """A text of EC2 in one short line, without the encoded message, which only STS can decode.

    A long text is shortened in the middle, because the reason is at the end.
    """
    said = re.split(r"\s*Encoded authorization failure message:", text)[0]
    said = " ".join("".join(c if c.isprintable() else " " for c in said).split())
    return said if len(said) <= most else f"{said[: most // 3]} … {said[-(most - most // 3) :]}"


def all_of(errors: Mapping[str, FenceError]) -> FenceError:
    """One error for the errors of all plugs that failed, in their order. What all have in common is told once."""
    first = next(iter(errors.values()))
    if len({error.text for error in errors.values()}) == 1:
        return first
    return FenceError(first.category, "; ".join(_cause(plug, error) for plug, error in errors.items()))


# --- validation ------------------------------------------------------------------------------------------------


def _invalid(text: str) -> FenceError:
    return FenceError(Category.VALIDATION, text)


def _option(name: str) -> str:
    """The option's name without the word that Pacemaker would misread."""
    return re.sub("timeout$", "…", name)


def bad_boolean(name: str, value: str) -> FenceError:
    return _invalid(f"{_option(name)}={_fixed(value)} is neither true nor false; write 1 or 0")


def bad_seconds(name: str, value: str, least: int, most: int) -> FenceError:
    what = _option(name)
    return _invalid(f"{what}={_fixed(value)} is not a whole number of seconds from {least} to {most}")


def bad_port(name: str, value: str, most: int) -> FenceError:
    return _invalid(f"{name}={_fixed(value)} is not a TCP port; write a whole number from 1 to {most}")


def settle_too_long(settle: float, deadline: float, untracks: bool) -> FenceError:
    twice = " (counted twice with untrack_secg)" if untracks else ""
    return _invalid(
        f"settle_time={settle:g}{twice} does not fit into deadline={deadline:g}; lower settle_time or raise deadline"
    )


def bad_count(name: str, value: str) -> FenceError:
    return _invalid(f"{name}={_fixed(value)} is not a whole number (0 or more)")


def bad_verbosity(value: str) -> str:
    return f"verbose_level={_fixed(value)} is ignored: it is not a whole number (0 or more)"


def bad_text(name: str) -> FenceError:
    return _invalid(f"the value of {name} is too long or contains control characters; correct it")


def bad_input(name: str) -> FenceError:
    return _invalid(f"cannot read {name}: it is not UTF-8 text or is too long; check what passes the options")


def bad_tag_key(name: str, count: int, most: int) -> FenceError:
    return _invalid(f"{name} is not the key of a tag: it has {count} characters; write one of 1 to {most}")


def empty_list(name: str) -> FenceError:
    return _invalid(f"{name} is empty; write one or more values, separated by commas")


def empty_elements(name: str) -> str:
    return f"{name} has empty elements, which are ignored; remove the extra commas"


def empty_separator(name: str) -> FenceError:
    return _invalid(f"{name} is empty; write one character, or omit the option to use ','")


def malformed_group(name: str, group: str) -> FenceError:
    return _invalid(f"{name}: {_fixed(group)} is not a security group ID; write an ID such as sg-0123456789abcdef0")


def malformed_plug(plug: str, kind: str) -> FenceError:
    what = {"eni": "an interface", "vol": "a volume"}.get(kind, "an instance")
    return _invalid(f"plug {_fixed(plug)} is not {what} ID; write an ID such as {kind}-0123456789abcdef0")


def too_many_groups(name: str, count: int, most: int) -> FenceError:
    return _invalid(f"{name} has {count} groups; EC2 allows at most {most} for each interface")


def several_untrack() -> FenceError:
    return _invalid("untrack_secg has several groups; set only the one that allows all traffic")


def requires_poweroff(option: str) -> FenceError:
    return _invalid(f"{option} requires onfence_poweroff; set both or neither")


def untrack_in_secg(group: str) -> FenceError:
    return _invalid(
        f"untrack_secg {group} is also in secg; use two groups: one allows all traffic, the other isolates"
    )


def no_plug(action: str) -> FenceError:
    return _invalid(f"the action {action} requires plug, the instance ID; {HELP}")


def no_secg(action: str) -> FenceError:
    return _invalid(
        f"the action {action} requires secg, the security groups to remove (or to keep, with invert-sg-removal); "
        f"{HELP}"
    )


def half_key_pair(missing: str) -> FenceError:
    return _invalid(
        f"{missing} is missing; set both access-key and secret-key, or neither to use the credentials of the SDK"
    )


def keys_swapped() -> FenceError:
    return _invalid(
        "access-key looks like a secret access key, or secret-key looks like an access key ID (values not shown); "
        "check whether they are swapped: an access key ID has 16 or more capital letters and digits, such as "
        "AKIAIOSFODNN7EXAMPLE"
    )


def bad_access_key() -> FenceError:
    return _invalid(
        "access-key contains blanks or non-ASCII characters, or is too long (value not shown); correct it"
    )


def bad_filter(part: str) -> FenceError:
    return _invalid(f"filter {_short(part)} is not of the form key=value[,value]; separate several filters with ';'")


def repeated_filter(key: str) -> FenceError:
    return _invalid(
        f"filter has the key {_short(key)} twice, and both would have to match; write one filter, with its values "
        "separated by ','"
    )


def bad_endpoint() -> FenceError:
    return _invalid(
        "endpoint_url is not of the form http(s)://host[:port][/path], without user, query or fragment "
        "(value not shown); correct it"
    )


def bad_proxy() -> FenceError:
    return _invalid(
        "proxy is not of the form http(s)://[user:password@]host:port (value not shown); "
        "use ASCII only, and percent-encode special characters"
    )


def profile_and_keys() -> FenceError:
    return _invalid(
        "profile and access-key are both set; remove one, because only one source of credentials can be used"
    )


def unknown_action(action: str, known: Iterable[str]) -> FenceError:
    return _invalid(f"action {_fixed(action)} is unknown; use one of {', '.join(known)}")


def unexpected_arguments() -> FenceError:
    """The arguments are not shown: one may be a secret in the wrong place."""
    return _invalid(f"unexpected arguments; write the value of a flag as --flag=true or --flag=false; {HELP}")


def several_values(name: str) -> FenceError:
    """The values are not shown: they may be secrets."""
    what = _option(name)
    return _invalid(f"{what} has several values; write it once (with '-' and with '_' it is the same option)")


def plug_and_port() -> FenceError:
    why = "plug and port have different values, and neither is the name of the node"
    return _invalid(f"{why}; remove that of the device")


def empty_port() -> FenceError:
    return _invalid("port is empty: the node has no plug; correct pcmk_host_map, without blanks around ':'")


def no_action(line: int) -> FenceError:
    """The default would be off. The line is not shown: it may hold a secret in the wrong place."""
    return _invalid(f"action is not given, and line {line} of the input is an unknown option; correct it")


def help_beside_an_action(option: str) -> FenceError:
    return _invalid(f"{option} is set beside an action, which it would replace; remove it from the device")


def unknown_option(line: int, guess: Optional[str]) -> str:
    """The line is not shown: it may hold a secret in the wrong place."""
    hint = f"; did you mean {_option(guess)}?" if guess else ""
    return f"Ignoring unknown option in line {line} of the input{hint}"


def unknown_argument(reason: str, guess: Optional[str]) -> FenceError:
    """The argument is not shown: it may be a secret in the wrong place."""
    hint = f"did you mean {_option(guess)}? " if guess else ""
    return _invalid(f"an option on the command line is {reason}; {hint}{HELP}")


def library_refused(text: str) -> FenceError:
    return _invalid(f"{re.sub('timeout', '…', text)}; {HELP}")


def debug_file(path: str, reason: str) -> FenceError:
    return _invalid(f"cannot write the debug file {_short(path)}: {reason}; check its folder")


def no_debug_file(path: str, reason: str) -> str:
    return f"cannot write the debug file {_short(path)}: {reason}; continuing without it"


def debug_file_warning(path: str, reason: str) -> str:
    return f"cannot write the SDK debug log {path}: {reason}; continuing without it"


def metrics_not_updated(path: str, reason: str) -> str:
    return f"metrics_file {_short(path)} was not updated: {reason}"


def metrics_not_collected(path: str) -> str:
    return f"metrics_file {_short(path)} does not end with .prom, so node_exporter does not read it; rename it"


def metrics_dropped(path: str, count: int) -> str:
    return f"metrics_file {_short(path)} had {count} invalid lines, which were removed"


def options_valid() -> str:
    return "Success: the options are valid; nothing was checked in EC2, because plug is not set"


# --- the SDK and the API ---------------------------------------------------------------------------------------


def no_boto3(reason: str) -> FenceError:
    return FenceError(Category.VALIDATION, f"cannot import boto3: {reason}; install python3-boto3")


def broken_boto3(reason: str) -> FenceError:
    text = f"boto3 does not work: {reason}; reinstall python3-boto3 and python3-botocore of the same release"
    return FenceError(Category.VALIDATION, text)


def broken_sdk(purpose: CallContext, call: str, code: str, reason: str) -> ApiError:
    hint = "reinstall python3-boto3 and python3-botocore"
    text = f"cannot {purpose.what}: {call}: boto3 does not work: {reason}; {hint}"
    return ApiError(purpose.category, text, call=call, code=code, outcome_unknown=True)


def no_fencing_library(reason: str) -> FenceError:
    text = f"cannot import the fencing library: {reason}; install fence-agents-common"
    return FenceError(Category.VALIDATION, text)


def no_region() -> FenceError:
    return FenceError(
        Category.REGION,
        "no region in the options, the environment, the AWS configuration or the instance metadata; set region",
    )


def malformed_region(region: str) -> FenceError:
    return FenceError(Category.REGION, f"{_fixed(region)} is not a region; set region, e.g. eu-west-1")


def zone_as_region(zone: str, region: str) -> FenceError:
    return FenceError(Category.REGION, f"{_short(zone)} is an availability zone, not a region; set region={region}")


def bad_region(reason: str) -> FenceError:
    return FenceError(Category.REGION, f"{reason}; set region, e.g. eu-west-1")


def bad_sdk_configuration(reason: str) -> FenceError:
    return FenceError(
        Category.AUTHENTICATION, f"the AWS SDK rejects its configuration: {reason}; check ~/.aws and AWS_*"
    )


def sdk_error(
    category: Category, purpose: CallContext, call: str, code: str, text: str, *, outcome_unknown: bool = False
) -> ApiError:
    hint = "; check the credentials" if category is Category.AUTHENTICATION else ""
    return ApiError(
        category,
        f"cannot {purpose.what}: {call}: {text}{hint}",
        call=call,
        code=code,
        outcome_unknown=outcome_unknown,
    )


def sdk_too_old(purpose: CallContext, operation: str) -> ApiError:
    text = f"cannot {purpose.what}: this boto3 does not support {operation}; update boto3"
    return ApiError(purpose.category, text, call=operation, code="UnknownOperation")


def untrusted(purpose: CallContext, call: str, code: str, text: str) -> ApiError:
    hint = "check AWS_CA_BUNDLE, ca_bundle in ~/.aws/config, endpoint_url, and this machine's clock"
    return ApiError(purpose.category, f"cannot {purpose.what}: {call}: {text}; {hint}", call=call, code=code)


def unknown_host(purpose: CallContext, call: str, code: str, text: str, option: str) -> ApiError:
    return ApiError(
        Category.REGION,
        f"cannot {purpose.what}: {text}: no such host; check {option}",
        call=call,
        code=code,
    )


def malformed_address(purpose: CallContext, call: str, code: str, variables: Iterable[str]) -> ApiError:
    names = [*variables, "proxy", "endpoint_url"]
    return ApiError(
        Category.VALIDATION,
        f"cannot {purpose.what}: {call}: the address of the proxy or of the API is malformed (value not shown); "
        f"correct {', '.join(names[:-1])} or {names[-1]}",
        call=call,
        code=code,
        outcome_unknown=True,
    )


def broken_connection(purpose: CallContext, call: str, code: str, text: str) -> ApiError:
    return ApiError(
        purpose.category,
        f"cannot {purpose.what}: {call}: {_words(text)}",
        call=call,
        code=code,
        transient=True,
        outcome_unknown=True,
    )


def foreign_reply(purpose: CallContext, call: str, status: int, text: str, *, transient: bool) -> ApiError:
    hint = "check the user and password in proxy" if status == 407 else "check proxy and endpoint_url"
    outcome = "" if call.startswith("Describe") else "; the outcome is unknown"
    reason = f"cannot {purpose.what}: {call}: {text}{outcome}; {hint}"
    return ApiError(
        purpose.category, reason, call=call, code="ForeignReply", transient=transient, outcome_unknown=True
    )


def no_sts(purpose: CallContext, call: str, text: str, *, transient: bool) -> ApiError:
    hint = "check the network path to STS, and the region of the profile"
    reason = f"cannot {purpose.what}: no credentials: {call}: {text}; {hint}"
    return ApiError(Category.AUTHENTICATION, reason, call=call, code="ForeignReply", transient=transient)


def slow_call(purpose: CallContext, call: str, seconds: float) -> ApiError:
    text = f"cannot {purpose.what}: {call}: no complete reply in {seconds:.1f} s"
    return ApiError(purpose.category, text, call=call, code="SlowReply", transient=True, outcome_unknown=True)


def cut_off(before: ApiError, slow: ApiError, seconds: float) -> ApiError:
    """Of an attempt that the deadline cut off, after another one."""
    text = f"{before.text}; then no complete reply in {seconds:.1f} s"
    return ApiError(before.category, text, call=slow.call, code=slow.code, transient=True, outcome_unknown=True)


def not_permitted(purpose: CallContext, call: str, code: str, text: str) -> ApiError:
    said = _words(text)
    action = re.search(r"not authorized to perform: (\w+:\w+)", said)
    lacking = re.search(r"because no ([\w -]+?(?:policy|boundary)) allows", said, re.I)
    where = f" in the {lacking[1]}" if lacking and lacking[1] != "identity-based policy" else ""
    hint = f"allow {action[1] if action else f'ec2:{call}'}{where}"
    reason = f"cannot {purpose.what}: not permitted ({code}): {said}; {hint}"
    error = ApiError(Category.PERMISSION, reason, call=call, code=code)
    error.denied_by_own_policy = not where
    return error


def denied(purpose: CallContext, call: str, code: str, text: str) -> ApiError:
    said = _words(text)
    policy = re.search(r"explicit deny in an? ([\w -]+?(?:policy|boundary))", said, re.I)
    hint = f"change the {policy[1] if policy else 'policy'} that denies it: no other policy can override it"
    reason = f"cannot {purpose.what}: not permitted ({code}): {said}; {hint}"
    return ApiError(Category.PERMISSION, reason, call=call, code=code)


def not_authenticated(purpose: CallContext, call: str, code: str, text: str) -> ApiError:
    hint = "check the credentials, this machine's clock, and whether the region is enabled in the account"
    reason = f"cannot {purpose.what}: {call}: {code}: {_words(text)}; {hint}"
    return ApiError(Category.AUTHENTICATION, reason, call=call, code=code)


def not_owned(purpose: CallContext, call: str, code: str, text: str) -> ApiError:
    hint = "an AWS service or another account owns it, and only the owner can change it; use another fence method"
    return ApiError(
        purpose.category, f"cannot {purpose.what}: {call}: {code}: {_words(text)}; {hint}", call=call, code=code
    )


def wrong_region(purpose: CallContext, call: str, code: str, text: str) -> ApiError:
    reason = f"cannot {purpose.what}: {call}: {code}: {_words(text)}; check region and endpoint_url"
    return ApiError(Category.REGION, reason, call=call, code=code)


def no_credentials(purpose: CallContext, call: str, code: str, text: str, *, transient: bool) -> ApiError:
    said = f"no credentials: {call}: {code}: {_words(text)}"
    reason = f"cannot {purpose.what}: {said}; check the profile, its role and its keys"
    return ApiError(Category.AUTHENTICATION, reason, call=call, code=code, transient=transient)


def credentials_unavailable(purpose: CallContext, source: str, text: str) -> ApiError:
    reason = f"cannot {purpose.what}: no credentials: {source}: {_words(text)}"
    return ApiError(
        Category.AUTHENTICATION, reason, call="credentials", code="CredentialsUnavailable", transient=True
    )


def credentials_incomplete(purpose: CallContext, source: str, text: str) -> ApiError:
    reason = f"cannot {purpose.what}: no credentials: the reply of {source} is incomplete: {text} is missing"
    return ApiError(Category.AUTHENTICATION, reason, call="credentials", code="CredentialsIncomplete")


def unreadable_credentials(purpose: CallContext, code: str, text: str) -> ApiError:
    reason = (
        f"cannot {purpose.what}: no credentials: the AWS SDK cannot read or use them: {_words(text)}; "
        "check ~/.aws, AWS_*, and the files that they name, such as AWS_WEB_IDENTITY_TOKEN_FILE"
    )
    return ApiError(Category.AUTHENTICATION, reason, call="credentials", code=code)


def metadata_unavailable(purpose: CallContext, source: str, text: str) -> ApiError:
    reason = f"cannot {purpose.what}: {source}: {text}"
    return ApiError(Category.REGION, reason, call="metadata", code="MetadataUnavailable", transient=True)


def slow_credentials(purpose: CallContext, source: str, seconds: float) -> ApiError:
    error = credentials_unavailable(purpose, source, f"no complete reply in {seconds:.1f} s")
    error.outcome_unknown = True  # the call goes out when the source answers, though nobody waits for it
    return error


def credentials_expired(purpose: CallContext, source: str) -> ApiError:
    text = f"cannot {purpose.what}: no credentials: {source}: they have expired; check this machine's clock"
    return ApiError(Category.AUTHENTICATION, text, call="credentials", code="ExpiredCredentials")


def program_failed(purpose: CallContext, text: str) -> ApiError:
    reason = f"cannot {purpose.what}: no credentials: {text}; run it manually as the user that runs the agent"
    return ApiError(Category.AUTHENTICATION, reason, call="credentials", code="CredentialProcess")


def no_reply_of_source(source: str) -> str:
    return f"{source} did not answer"


def no_metadata(text: str, source: str, reason: str) -> str:
    return f"{text}; {source} has no credentials: {reason}"


def mfa_not_supported(purpose: CallContext, call: str, code: str) -> ApiError:
    text = (
        f"cannot {purpose.what}: the credentials require input, such as an MFA code, which an agent cannot get; "
        "use a role"
    )
    return ApiError(Category.AUTHENTICATION, text, call=call, code=code)


def proxy_refuses(purpose: CallContext, call: str, code: str, text: str) -> ApiError:
    hint = "check the user and password in proxy" if text.startswith("407") else "check which hosts it allows"
    reason = f"cannot {purpose.what}: {call}: the proxy refused the connection: {text}; {hint}"
    return ApiError(purpose.category, reason, call=call, code=code)


def transient_error(purpose: CallContext, call: str, code: str, text: str, *, outcome_unknown: bool) -> ApiError:
    reason = f"cannot {purpose.what}: {call}: {code}: {_words(text)}"
    return ApiError(purpose.category, reason, call=call, code=code, transient=True, outcome_unknown=outcome_unknown)


def refused(purpose: CallContext, call: str, code: str, text: str) -> ApiError:
    return ApiError(purpose.category, f"cannot {purpose.what}: {call}: {code}: {_words(text)}", call=call, code=code)


def no_answer(what: str, seconds: float, last: Optional[str], endpoint: str = "the API") -> FenceError:
    reason = f" (last: {last})" if last else ""
    return FenceError(
        Category.DEADLINE,
        f"gave up after {round(seconds, 1):g} s: {what}{reason}; check the network path to {endpoint}, then repeat",
    )


def too_many_pages(what: str, pages: int) -> FenceError:
    return FenceError(
        Category.RETRIEVAL, f"cannot {what}: EC2 has more than {pages} pages; set filter to shorten the list"
    )


# --- instances -------------------------------------------------------------------------------------------------


def unknown_instance(plug: str) -> FenceError:
    return FenceError(
        Category.INSTANCE, f"no instance {plug} in this region and account; check plug, region and credentials"
    )


def no_such_tag(plug: str, key: str) -> FenceError:
    text = f"no instance has {_short(plug)} in its tag {_short(key)}; check plug, plug_tag, filter and region"
    return FenceError(Category.INSTANCE, text)


def no_such_name(plug: str) -> FenceError:
    return FenceError(
        Category.INSTANCE,
        f"no instance has the Name tag, private DNS name or primary private IP {_short(plug)}; "
        "check plug, filter and region",
    )


def not_attached(plug: str) -> FenceError:
    return FenceError(Category.INSTANCE, f"{plug} is attached to no instance; check plug, filter and region")


def lost_names(instance: str, names: Iterable[str]) -> FenceError:
    return FenceError(
        Category.INSTANCE,
        f"{_list(map(_short, names))} named {instance} and now does not; no group was changed; repeat the operation, "
        "or use an instance ID",
    )


def another_node(node: str, matched: Iterable[str], plugs: Iterable[str]) -> FenceError:
    return FenceError(
        Category.INSTANCE,
        f"the plug {_list(plugs)} is not the node {_short(node)}, which is {_list(matched)}; set pcmk_host_list or "
        "pcmk_host_map",
    )


def ambiguous_name(plug: str, matched: Iterable[str]) -> FenceError:
    return FenceError(
        Category.INSTANCE,
        f"{_short(plug)} matches several instances: {_list(matched)}; use an instance ID, or set filter",
    )


def terminated(plug: str) -> FenceError:
    return FenceError(
        Category.INSTANCE, f"{plug} is terminated and cannot be restored; replace it in the cluster configuration"
    )


def not_running(plug: str, state: str) -> FenceError:
    return FenceError(
        Category.STATE,
        f"{plug} is not running but {state}; set ignore_instance_state to isolate it anyway",
    )


def self_fencing(plug: str) -> FenceError:
    return FenceError(
        Category.SELF_FENCING, f"Self-fencing detected: {plug} is this machine; fence it from another node"
    )


def fenced_fencer(own: str) -> FenceError:
    return FenceError(
        Category.SELF_FENCING,
        f"this machine, {own}, is fenced and must not fence other nodes; return it to service first",
    )


def unknown_self() -> str:
    return "cannot determine which instance this machine is; self-fencing and mutual fencing are not checked"


# --- what off refuses ------------------------------------------------------------------------------------------


def no_interfaces(plug: str) -> FenceError:
    return FenceError(Category.STATE, f"EC2 shows no network interface of {plug}; nothing can be isolated")


def managed_interface(plug: str, interface: str) -> FenceError:
    return FenceError(
        Category.STATE,
        f"{interface} of {plug} is managed by AWS and cannot be changed; use another fence method",
    )


def unfiltered_interface(plug: str, interface: str, kind: str) -> FenceError:
    return FenceError(
        Category.STATE,
        f"{interface} of {plug} is of type {kind}: its security groups do not filter all of its traffic, such as "
        "that of containers on branch interfaces; use another fence method",
    )


def interface_without_groups(plug: str, interface: str) -> FenceError:
    return FenceError(
        Category.STATE,
        f"{interface} of {plug} has no security groups, so it cannot be isolated; use another fence method",
    )


def nothing_left(plug: str, interface: str, groups: Iterable[str]) -> FenceError:
    return FenceError(
        Category.VALIDATION,
        f"{interface} of {plug} would have no group left without {_list(groups)}; "
        "add a group that isolates to the interface, or set invert-sg-removal",
    )


def nothing_to_remove(plug: str) -> FenceError:
    return FenceError(
        Category.VALIDATION,
        f"{plug} has nothing to remove: no interface has a group of secg; nothing was changed; check secg and "
        "invert_sg_removal",
    )


# --- the backup ------------------------------------------------------------------------------------------------


def no_room(plug: str, needed: int, free: int) -> FenceError:
    return FenceError(
        Category.TAG,
        f"the backup of {plug} needs {needed} tags, but EC2 allows only {free} more; delete unneeded tags",
    )


def backup_unverified(plug: str, outcome: str) -> FenceError:
    return FenceError(Category.TAG, f"the backup of {plug} could not be verified: no read shows its tags; {outcome}")


def without_backup(plug: str, reason: str) -> str:
    return f"{plug}: continuing without a backup: {reason}"


def backup_written(plug: str, tags: int, time: int) -> str:
    return f"{plug}: backup written to {tags} tags, lastfence={time}"


def backup_rewritten(plug: str, time: int) -> str:
    return f"{plug}: concurrent fencing detected; backup rewritten, lastfence={time}"


# --- isolating -------------------------------------------------------------------------------------------------


def established_may_survive(plug: str, poweroff: bool) -> str:
    until = " until it has stopped" if poweroff else ""
    return f"{plug}: established connections may survive the change of groups{until}; set untrack_secg to end them"


def groups_set(interface: str, groups: Iterable[str]) -> str:
    return f"{interface}: groups set to {_list(groups)}"


def group_dropped(interface: str, group: str) -> str:
    return (
        f"{interface}: {group} of secg does not exist or belongs to another VPC; it is ignored; if no node needs it, "
        "remove it from secg"
    )


def no_isolation_group(plug: str, groups: Iterable[str]) -> FenceError:
    return FenceError(
        Category.VALIDATION,
        f"{plug} cannot be isolated: no group of secg ({_list(groups)}) exists; create one and set it in secg",
    )


def no_group_in_vpc(plug: str, interface: str, vpc: str, groups: Iterable[str]) -> FenceError:
    return FenceError(
        Category.VALIDATION,
        f"no group of secg ({_list(groups)}) can be used on {interface} of {plug}; add a group of {vpc}",
    )


def untracking_skipped(plug: str) -> str:
    return f"{plug}: untrack_secg is not used, because there is no backup; established connections may survive"


def not_untracked(plug: str, interfaces: Iterable[str]) -> FenceError:
    return FenceError(
        Category.MODIFICATION,
        f"{plug} is isolated, but EC2 accepted no change of {_list(interfaces)} to untrack_secg: established "
        "connections may survive; stop the instance",
    )


def possibly_tracked(plug: str, addresses: Iterable[str], settle: float) -> FenceError:
    return FenceError(
        Category.MODIFICATION,
        f"{plug} is isolated, but {_list(addresses)} still answered {settle:g} s (settle_time) later: the network "
        "may not have applied untrack_secg, and established connections may survive; stop the instance, then raise "
        "settle_time, or let a program listen at probe_port",
    )


def not_opened_again(plug: str, interfaces: Iterable[str]) -> str:
    return f"{plug}: {_list(interfaces)} already isolated; untrack_secg is not set again"


def appeared(plug: str, interfaces: Iterable[str]) -> str:
    return f"{plug}: {_list(interfaces)} appeared during off; to be isolated too"


def appeared_without_backup(plug: str, interfaces: Iterable[str]) -> FenceError:
    return FenceError(
        Category.PARTIAL,
        f"{_list(interfaces)} of {plug} appeared during off without a backup, and no interfaceN-sg is set for it: "
        "it is not isolated; the other interfaces stay isolated; set interfaceN-sg or permit CreateTags, then repeat "
        "off",
    )


def not_isolated(plug: str, why: Mapping[str, str]) -> FenceError:
    return FenceError(Category.DEADLINE, f"cannot verify in time that {plug} is isolated: {_causes(why)}; repeat off")


def not_passed_through() -> str:
    """Of an interface whose isolation was accepted."""
    return "EC2 accepted no change to untrack_secg"


def isolation_unverified(plug: str, error: FenceError, why: Mapping[str, str]) -> FenceError:
    before = f"; earlier: {_causes(why)}" if why else ""
    return FenceError(
        error.category,
        f"cannot verify that {plug} is isolated: {error.text}{before}; isolated interfaces stay isolated; repeat off",
    )


def observable(plug: str, addresses: Iterable[str], tried: Iterable[str]) -> str:
    known = list(addresses)
    names = f": {_few(known)}" if known else ""
    return f"{plug}: {len(known)} of {len(list(tried))} addresses answer at probe_port before isolation{names}"


def cannot_probe(plug: str, addresses: Iterable[str]) -> str:
    return (
        f"{plug}: cannot probe {_few(addresses)} at probe_port; off waits for settle_time if no other address of the "
        "interface answers; check the routes and the firewalls of this machine and of the node"
    )


def cannot_isolate_new_interface(plug: str, interface: str) -> FenceError:
    return FenceError(
        Category.PARTIAL,
        f"{interface} of {plug} appeared during off and cannot be isolated: it is managed or a trunk, or would have "
        "no group left; the other interfaces stay isolated; detach it, then repeat off",
    )


def left_untracking(plug: str, interfaces: Iterable[str], reason: str) -> str:
    return f"{plug}: {_list(interfaces)} may still have untrack_secg, which allows all traffic: {reason}; run off now"


def originals(plug: str, groups: Mapping[str, FrozenSet[str]]) -> str:
    """Groups that an operator may have to set manually."""
    return f"{plug}: no later read shows the backup; save the original groups: {_had(groups)}"


def _had(groups: Mapping[str, FrozenSet[str]]) -> str:
    return "; ".join(f"{i} had {_list(g)}" for i, g in sorted(groups.items()))


def backup_not_rewritten(plug: str, reason: str, originals: Mapping[str, FrozenSet[str]]) -> str:
    groups = _had(originals)
    return (
        f"{plug}: concurrent fencing detected, but the backup was not rewritten: {reason}; "
        f"save the original groups: {groups}"
    )


def refused_rolled_back(plug: str, why: Mapping[str, FenceError], category: Category) -> FenceError:
    return FenceError(category, f"{plug} is not isolated: {_causes(why)}; the changes were rolled back")


def partly_isolated(plug: str, why: Mapping[str, FenceError], cut: Iterable[str], reason: str) -> FenceError:
    names = _list(cut)
    left = f"{names} not rolled back: " if names else ""
    return FenceError(
        Category.PARTIAL,
        f"{plug} is not completely isolated: {_causes(why)}; {left}{reason}; correct the cause and repeat off",
    )


def refused_all(plug: str, why: Mapping[str, FenceError], category: Category) -> FenceError:
    return FenceError(category, f"{plug} is not isolated: {_causes(why)}; no group was changed")


def stop_failed(plug: str, reason: str) -> str:
    return f"{plug} is isolated but was not stopped: {reason}"


def not_stopped(plug: str, category: Category, reason: str) -> FenceError:
    return FenceError(category, f"{plug} is isolated but was not stopped, which require_poweroff requires: {reason}")


def stop_not_finished(state: str, seconds: float) -> str:
    return f"{showed(state)} when deadline={seconds:g} was over; raise deadline"


def start_not_finished(state: str, seconds: float) -> str:
    key = "; if its volumes are encrypted, allow kms:CreateGrant for their key" if state == "stopped" else ""
    return f"{showed(state or 'missing')} when deadline={seconds:g} was over{key}"


def showed(state: str) -> str:
    return f"EC2 showed it as {state}"


def graceful_stop(plug: str, reason: str) -> str:
    return f"{plug}: cannot stop it with SkipOsShutdown, so the stop waits for the operating system: {reason}"


def stopping(plug: str) -> str:
    return f"{plug}: stop requested"


def already_terminated(plug: str) -> str:
    why = "if another instance has replaced it, that one was not isolated: check pcmk_host_map"
    return f"{plug} is terminated, so it is off; {why}"


def terminated_meanwhile(plug: str) -> str:
    return f"{plug} was terminated meanwhile, so it is off"


# --- restoring ------------------------------------------------------------------------------------------------


def restore_skipped(plug: str) -> str:
    return f"{plug}: unfence-ignore-restore is set; nothing is restored"


def start_skipped(plug: str) -> str:
    return (
        f"{plug}: unfence_poweron has no effect with unfence-ignore-restore, because a start comes after the "
        "restore; remove one"
    )


def starting(plug: str) -> str:
    return f"{plug}: start requested"


def not_started(plug: str, category: Category, reason: str) -> FenceError:
    return FenceError(category, f"the groups of {plug} are restored, but it was not started: {reason}; repeat on")


def not_started_fenced(plug: str, state: str) -> FenceError:
    start = "" if state in ("pending", "running") else ": it was not started"
    return FenceError(Category.RESTORE, f"{plug} was fenced concurrently; off takes precedence{start}; repeat on")


def nothing_to_restore(plug: str) -> str:
    return f"{plug}: no interface is isolated and there is no backup; nothing to restore"


def no_backup(plug: str) -> FenceError:
    return FenceError(
        Category.BACKUP,
        f"{plug} is isolated and its tags hold no valid backup; nothing was changed; "
        "set interfaceN-sg for every interface, or set the groups in EC2",
    )


def left_without_backup(plug: str, interface: str, groups: Iterable[str]) -> str:
    return f"{plug}: {interface} has no backup and keeps {_list(groups)}; check its groups"


def restored_as_fenced(plug: str, interface: str, groups: Iterable[str]) -> str:
    return (
        f"{plug}: {interface} gets {_list(groups)} back, which it had when its backup was written, and which off "
        "sets; check its groups"
    )


def other_backup(plug: str, interface: str, other: Iterable[str], restored: Iterable[str]) -> str:
    return (
        f"{plug}: {interface} gets {_list(restored)} back; another backup of it holds {_list(other)}, and is deleted "
        "with it; check its groups"
    )


def unreadable_tags(plug: str, interfaces: Iterable[str], keys: Iterable[str]) -> str:
    return (
        f"{plug}: {_list(interfaces)} is isolated already, and the tags {_few(keys)} cannot be read: they may "
        "hold its original groups, and are kept"
    )


def unreadable_backup(plug: str, interfaces: Iterable[str], keys: Iterable[str]) -> FenceError:
    return FenceError(
        Category.BACKUP,
        f"{plug}: {_list(interfaces)} is still isolated, and the tags {_few(keys)} cannot be read: they may "
        "hold its original groups; no tag was deleted; set its groups by hand, then delete these tags and repeat on",
    )


def secg_needed(plug: str, interfaces: Iterable[str]) -> FenceError:
    return FenceError(
        Category.BACKUP,
        f"{plug}: the backup of {_list(interfaces)} is older than lastfence, and counts only if the interface is "
        "isolated, which secg tells; nothing was changed; set secg and invert_sg_removal as for off, then repeat on",
    )


def detached(plug: str, interface: str, groups: Iterable[str]) -> str:
    return f"{plug}: {interface} of the backup is no longer attached; its original groups are {_list(groups)}"


def static_gap(plug: str, missing: Iterable[int], numbering: Mapping[int, str]) -> FenceError:
    names = _list(f"interface{n}-sg" for n in missing)
    shown = ", ".join(f"{n}={i}" for n, i in sorted(numbering.items()))
    return FenceError(
        Category.VALIDATION, f"{plug}: {names} missing; set it for every interface or for none: {shown}"
    )


def static_isolates(option: str) -> FenceError:
    return FenceError(
        Category.VALIDATION, f"the groups of {option} count as isolated under secg; correct one of them"
    )


def static_unused(plug: str, numbers: Iterable[int]) -> str:
    return f"{plug}: no interface for {_list(f'interface{n}-sg' for n in numbers)}; remove it"


def fenced_concurrently(plug: str) -> FenceError:
    return FenceError(
        Category.RESTORE,
        f"{plug} was fenced concurrently; off takes precedence: the restored interfaces read isolated again; "
        "repeat on to restore it",
    )


def still_open(plug: str, interfaces: Iterable[str]) -> FenceError:
    return FenceError(
        Category.RESTORE,
        f"{plug} was fenced concurrently, but {_list(interfaces)} may be open: NOT isolated again; run off now",
    )


def backup_appeared(plug: str) -> FenceError:
    return FenceError(
        Category.RESTORE,
        f"{plug}: a backup appeared after the first read: the instance is being fenced concurrently, and off takes "
        "precedence; nothing was changed; repeat on",
    )


def isolated_without_backup(plug: str) -> str:
    return (
        f"{plug}: its interfaces have none of the groups of secg, but there is no backup; nothing to restore; "
        "check its groups"
    )


def not_restored(plug: str, why: Mapping[str, str], category: Category) -> FenceError:
    """A repetition sets the same groups, which does not help if one was deleted."""
    is_gone = any("InvalidGroup.NotFound" in reason for reason in why.values())
    advice = "set interfaceN-sg for every interface, and repeat on" if is_gone else "repeat on"
    return FenceError(category, f"{plug} was not completely restored: {_causes(why)}; the backup is kept; {advice}")


def cleanup_failed(plug: str, reason: str) -> str:
    return f"{plug} is restored, but its backup tags were not deleted: {reason}; repeat on"


def off_not_excluded(plug: str, reason: str, originals: Mapping[str, FrozenSet[str]]) -> str:
    return (
        f"{plug} is restored, but a concurrent off could not be excluded: {reason}; "
        f"check its status; save the original groups: {_had(originals)}"
    )


def tags_deleted(plug: str, count: int) -> str:
    return f"{plug}: backup deleted, {count} tags"


# --- monitor ---------------------------------------------------------------------------------------------------


def groups_missing(groups: FrozenSet[str]) -> FenceError:
    return FenceError(
        Category.VALIDATION,
        f"no such security group: {_list(groups)}; fencing would fail; check secg, untrack_secg and region",
    )


def groups_unchecked(reason: str) -> str:
    return f"cannot check whether the groups of secg exist: {reason}"


def filter_refused(reason: str) -> str:
    return f"EC2 refuses filter, so list and the lookup of names fail: {reason}; correct filter"


def monitor_without_secg() -> str:
    return "secg is not set, so off and status will fail; set secg"


# --- auto_unfence ----------------------------------------------------------------------------------------------


def auto_unfence_without_restore() -> FenceError:
    return _invalid("auto_unfence and unfence-ignore-restore are both set, and exclude each other; remove one")


def bringing_back(plug: str, count: int, most: int) -> str:
    return f"{plug}: fenced and stopped; auto_unfence brings it back ({count} of at most {most} times in 24 hours)"


def brought_back(plug: str) -> str:
    return f"{plug}: brought back by auto_unfence"


def not_brought_back(plug: str, reason: str) -> str:
    """Without the advice of ``on``: to repeat it would end the return, and leave the instance stopped."""
    said = re.sub("; repeat on( to restore it)?$", "", reason)
    return f"{plug} was not brought back by auto_unfence: {said}"


def stays_stopped(plug: str, most: int) -> str:
    return (
        f"{plug} stays stopped: auto_unfence brought it back {most} times within 24 hours; find out why it is "
        "fenced, then run on and start it"
    )


def no_room_for_return(plug: str) -> str:
    return f"{plug} is not brought back by auto_unfence, because it has no room for another tag; delete a tag"


def runs_isolated(plug: str) -> str:
    return (
        f"{plug} is not brought back by auto_unfence, because it runs, isolated: it was not stopped, or somebody has "
        "started it; stop it"
    )


def hibernated(plug: str) -> str:
    return (
        f"{plug} is not brought back by auto_unfence, because it was hibernated, and its memory would continue; "
        "start it isolated, then stop it without hibernation"
    )


def hibernated_not_restored(plug: str) -> FenceError:
    return FenceError(
        Category.STATE,
        f"{plug} was hibernated, and a start (unfence_poweron) would continue its memory; nothing was changed; start "
        "it isolated, then stop it without hibernation; repeat on",
    )


def hibernated_since() -> str:
    return (
        "it was hibernated, and its memory would continue; run off, start it isolated, then stop it without "
        "hibernation"
    )


def return_search_failed(reason: str) -> str:
    return f"cannot look for instances that auto_unfence may bring back: {reason}"


def return_search_incomplete(pages: int) -> str:
    return f"auto_unfence looked at the first {pages} pages of instances only; set filter"


def too_late_for_return(seconds: float) -> str:
    return (
        f"too late for auto_unfence: too little is left of the {seconds:g} s of monitor, so no node is brought back; "
        "check how fast EC2's API answers"
    )


def auto_unfence_without_filter() -> str:
    return (
        "filter is not set, so monitor may also bring back, or warn of, nodes of other clusters that use the same "
        "secg; set filter, such as filter=tag:cluster=NAME"
    )


def filter_excludes_stopped(key: str) -> str:
    return f"filter excludes stopped instances, so monitor never brings a node back; remove {key} from it"


def filter_does_not_match(plug: str) -> str:
    return f"filter does not match {plug}, so monitor never brings it back; correct filter, or tags of the instance"


def cannot_bring_back(reason: str) -> str:
    return f"fencing works, but auto_unfence cannot bring a node back: {reason}"


# --- preflight: the text after "level about: " in a line ---------------------------------------------------------


def preflight_failed(plug: str, failed: Iterable[str]) -> FenceError:
    what = list(failed)
    return _invalid(f"fencing {plug} would fail: {_short('; '.join(what), 300)}; see the lines with FAIL")


def preflight_passed(count: int, warnings: int) -> str:
    return f"Success: {count} checks, none failed, {warnings} with warnings; nothing was changed"


def depends_on(what: str) -> str:
    return f"not checked: depends on {what}"


def dry_run_ignored(purpose: CallContext) -> FenceError:
    return FenceError(
        purpose.category,
        f"the reply to a dry run is not that of a dry run: EC2 may have executed it ({purpose.what}); "
        "check endpoint_url",
    )


def name_found(instance: str) -> str:
    return f"is {instance}"


def identity(account: Optional[str], region: str, own: Optional[str]) -> str:
    known = [f"account {account}"] if account else []
    known += [f"region {region}"] + ([f"this machine is {own}"] if own else [])
    return ", ".join(known)


def race_check_skipped() -> str:
    return "skip_race_check is set; self-fencing and mutual fencing are not checked"


def preflight_of_self() -> str:
    return "this machine is the instance to fence, so off is refused here; run the check on another node too"


def without_poweroff() -> str:
    return "has no effect without onfence_poweroff"


def without_restore() -> str:
    return "has no effect with unfence-ignore-restore: on starts an instance only after it has restored its groups"


def short_for_poweroff(seconds: float, least: float) -> str:
    return (
        f"deadline={seconds:g} includes the stop, which can take minutes; set deadline={least:g} or more, and "
        "Pacemaker's limits of off and reboot above it"
    )


def no_such_group(options: Iterable[str]) -> str:
    return f"does not exist in this region and account; check {_list(options)}"


def group_would_be_dropped() -> str:
    return (
        "does not exist in this region and account; off isolates with the other groups of secg, but monitor fails; "
        "remove it from secg"
    )


def group_found(name: str, vpc: str, options: Iterable[str]) -> str:
    return f"{name}, in {vpc}; for {_list(options)}"


def groups_fit() -> str:
    return "each interface can use its groups"


def group_of_no_vpc() -> str:
    return "belongs to a VPC of no interface, and is ignored; if no node is in that VPC, remove it from secg"


def group_of_other_vpc(option: str, group: str, vpc: str) -> str:
    return f"{group} of {option} cannot be used in {vpc}; use a group of that VPC, or associate it with the VPC"


def association_unknown(groups: Iterable[str], vpc: str) -> str:
    return (
        f"{_list(groups)}: of another VPC, and can be used only if associated with {vpc}, which could not be looked "
        "up; check the association"
    )


def lets_nothing_through() -> str:
    return "no rules, so it allows no traffic"


def lets_through(found: Iterable[str], interfaces: Iterable[str]) -> str:
    on = _list(interfaces)
    return f"still allows {'; '.join(found)}" + (f" (on {on})" if on else "")


def no_isolation() -> str:
    return "this does not isolate: delete these rules (EC2 adds a rule for all outbound traffic to new groups)"


def delete_rules() -> str:
    return "delete rules that allow traffic to storage or peers"


def remains() -> str:
    return "it stays when secg is removed, so it must not allow traffic to storage or peers"


def answers(address: str) -> str:
    return f"{address} answers at probe_port"


def answers_though_isolated(address: str) -> str:
    return (
        f"{address} answers at probe_port although its interface is isolated, and off fails as long as it does; "
        "check which groups, routes or other machines allow that"
    )


def other_address_answers(address: str) -> str:
    return f"{address} does not answer at probe_port, but another address of its interface does"


def address_silent(address: str, settle: float) -> str:
    return (
        f"{address} does not answer at probe_port, so off waits for settle_time ({settle:g} s); "
        "check probe_port, the groups and the firewall of the node"
    )


def silence_expected(address: str, state: Optional[str]) -> str:
    why = "its interface is isolated" if state is None else f"the instance is {state}"
    return f"{address} does not answer at probe_port, as expected: {why}"


def cannot_probe_address(address: str, settle: float) -> str:
    return (
        f"cannot probe {address} at probe_port, so off waits for settle_time ({settle:g} s); "
        "check the routes and the firewalls of this machine and of the node"
    )


def cannot_probe_other_answers(address: str) -> str:
    return (
        f"cannot probe {address} at probe_port, but another address of its interface answers; "
        "check the routes and the firewalls of this machine and of the node"
    )


def probe_allowed(rules: Iterable[str], addresses: Iterable[str]) -> str:
    return (
        f"after isolation, its groups still allow this machine ({_few(addresses)}) to reach probe_port: "
        f"{_few(rules)}; off would always fail: delete these rules, or remove probe_port"
    )


def probe_possibly_allowed(rules: Iterable[str]) -> str:
    return (
        f"cannot determine whether, after isolation, its groups still allow this machine to reach probe_port: "
        f"{_few(rules)}; if they do, off would always fail: delete these rules, or make sure that they do not"
    )


def probe_not_allowed(addresses: Iterable[str]) -> str:
    return f"after isolation, its groups do not allow this machine ({_few(addresses)}) to reach probe_port"


def gone_for_good() -> str:
    return "terminated, and cannot be restored; replace it in the cluster configuration"


def is_fenced_now(state: str) -> str:
    return f"{state}, and isolated now; return it to service, then check again"


def _tracked_for(seconds: Optional[int]) -> str:
    return "EC2's default (five days; 350 s on Nitro v6 types)" if seconds is None else f"{seconds} s"


def interface_found(number: int, vpc: str, groups: Iterable[str], seconds: Optional[int]) -> str:
    return f"number {number}, in {vpc}, with {_list(groups)}; tracks idle TCP connections for {_tracked_for(seconds)}"


def permitted(count: int) -> str:
    return f"allowed ({count} dry runs)" if count > 1 else "allowed (dry run)"


def refusals(texts: Iterable[str], count: int) -> str:
    found = list(texts)
    return found[0] + (f" ({len(found)} of {count} dry runs)" if count > 1 else "")


def room(needed: int, free: int) -> str:
    return f"the backup takes {needed} tags, {free} are free"


def room_for_backup_only(needed: int, free: int) -> str:
    return (
        f"the backup takes {needed} tags, {free} are free, and auto_unfence needs one more to bring the node back; "
        "delete unneeded tags"
    )


def tags_unreadable(keys: Iterable[str]) -> str:
    return (
        f"{_few(keys)} cannot be read, and may hold original groups: on may not restore them, and auto_unfence "
        "leaves the node alone; check its groups, then delete these tags"
    )


def would_remove(found: Mapping[str, FrozenSet[str]]) -> str:
    return "would remove " + "; ".join(f"{_list(g)} from {i}" for i, g in sorted(found.items()))


def would_survive(poweroff: bool, idle: Mapping[str, Optional[int]]) -> str:
    if poweroff:
        until = "the instance has stopped"
    else:
        longest = None if None in idle.values() or not idle else max(s for s in idle.values() if s is not None)
        until = f"they are idle for {_tracked_for(longest)}"
    return f"those that EC2 tracks survive off until {until}; set untrack_secg to end them"


def is_open() -> str:
    return "has only untrack_secg, which allows all traffic, as an interrupted off leaves it; run off now"


def efa_interface(kind: str) -> str:
    return (
        f"of type {kind}: its traffic bypasses the operating system, and AWS does not document whether traffic in "
        "progress ends when its groups change; if storage is reached through it, use another fence method"
    )


def unknown_interface_type(kind: str) -> str:
    return f"of type {kind}, which this agent does not know; make sure that security groups filter all of its traffic"


def on_outpost() -> str:
    return (
        "on an Outpost: security groups do not filter local network interfaces; if its subnets have them, "
        "use another fence method"
    )


def tag_condition(plug: str, value: Optional[str]) -> str:
    has = "has no tag cluster" if value is None else f"has the tag cluster={_short(value)}"
    return f"{plug} {has}; if the IAM policy depends on tags of the instance, as in doc/setup.md, check it first"


def can_be_stopped() -> str:
    return "stop protection is off"


def stop_protected() -> str:
    return (
        "stop protection (disableApiStop) is on: onfence_poweroff isolates the instance but cannot stop it; "
        "turn it off with aws ec2 modify-instance-attribute --no-disable-api-stop"
    )


def protection_unchecked(reason: str) -> str:
    return f"cannot check whether stop protection is on: {reason}"


def instance_store() -> str:
    return (
        "its root volume is an instance store, so EC2 cannot stop it; unset onfence_poweroff, or use another method"
    )


def spot_instance() -> str:
    return "a Spot instance: EC2 can stop it only if its request is persistent"


def would_be_untracked(group: str, ipv6: bool) -> str:
    families = "IPv4 and IPv6" if ipv6 else "IPv4; no interface has IPv6"
    return (
        f"those of TCP and UDP end with {group}, which allows all traffic ({families}), unless EC2 always tracks "
        "them, as through load balancers (NLB), NAT gateways, PrivateLink, Network Firewall and similar services"
    )


def untracks_not_all(group: str, missing_rules: Iterable[str]) -> str:
    return f"would survive off: {group} does not allow {'; '.join(missing_rules)}; add these rules to it"


def internal(error: str) -> str:
    return f"internal error: {error}; please report it with the debug file"


def no_resources(reason: str) -> str:
    return f"out of memory or threads: {reason}; raise the limits of this machine (ulimit -v, pids), then repeat"


def stdout_failed(reason: str) -> str:
    return f"cannot write the answer to stdout: {reason}; check the disk or program behind stdout"


def stuck(action: str, seconds: float) -> str:
    return (
        f"deadline error: {action} did not finish within {round(seconds, 1):g} s and was terminated; "
        "check this machine and the network path to the API, then repeat"
    )


def interrupted(action: str) -> str:
    """Of an action that changes nothing, or of one that may have changed something; ``monitor`` with auto_unfence."""
    advice = {
        "off": "repeat off to complete it, or run on to undo it",
        "on": "repeat on to complete it, or run off to isolate the instance again",
        "auto_unfence": "the next monitor completes what auto_unfence has begun",
    }
    return f"interrupted; {advice.get(action, 'nothing was changed')}"
