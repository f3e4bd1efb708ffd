"""Every message that an operator can see, in one place and worded alike.

Form: what failed, on which object: why; what to do. Words that make Pacemaker read a result differently
("timed out" and the like) are kept out of all of them, the SDK's own included, by ``logs.sanitize``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, FrozenSet, Iterable, Mapping, Optional, Union

from .errors import ApiError, Category, FenceError

if TYPE_CHECKING:
    from .ec2 import CallContext

HELP = "see --help"
SECRET_SIZE = 30  # characters; no good value of an option of fixed format is so long


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _few(names: Iterable[str], most: int = 8) -> str:
    """A list that may be long."""
    known = sorted(names)
    return ", ".join(known[:most]) + (f" and {len(known) - most} more" if len(known) > most else "")


def _causes(why: Mapping[str, Union[str, FenceError]]) -> str:
    texts = {what: reason if isinstance(reason, str) else reason.text for what, reason in why.items()}
    return "; ".join(f"{what}: {texts[what]}" for what in sorted(texts))


def _short(text: str, most: int = 80) -> str:
    """What an operator typed, safe to show: printable, short, and without what may be a secret in the wrong place."""
    from .logs import hide

    shown = hide("".join(c if c.isprintable() else "?" for c in text))  # before a cut can hide that it is one
    return shown if len(shown) <= most else f"{shown[:most]}… ({len(shown)} characters)"


def _fixed(value: str) -> str:
    """A malformed value of an option of fixed format: a long one may be a secret, however broken or encoded."""
    return _short(value) if len(value) < SECRET_SIZE else f"({len(value)} characters, not shown)"


def _words(text: str, most: int = 400) -> str:
    """What EC2 says, in one line and short, without the encoded message, which only a call to STS can read.

    Cut in the middle: the reason is at the end.
    """
    said = re.split(r"\s*Encoded authorization failure message:", text)[0]
    said = " ".join("".join(c if c.isprintable() else " " for c in said).split())
    return said if len(said) <= most else f"{said[: most // 3]} … {said[-(most - most // 3) :]}"


# --- validation ------------------------------------------------------------------------------------------------


def _invalid(text: str) -> FenceError:
    return FenceError(Category.VALIDATION, text)


def _option(name: str) -> str:
    """The option's name without a word that Pacemaker would misread, nor one that no option has."""
    return re.sub("timeout$", "…", name)


def bad_boolean(name: str, value: str) -> FenceError:
    return _invalid(f"{_option(name)}={_fixed(value)} is neither true nor false; write 1 or 0")


def bad_seconds(name: str, value: str, least: int, most: int) -> FenceError:
    what = name
    if name.endswith("timeout"):
        of = " of one call" if name.startswith("api") else ""
        what = f"the seconds{of} ({_option(name).replace('-', '_')})"
    return _invalid(f"{what}={_fixed(value)}: not a whole number of seconds from {least} to {most}")


def bad_port(name: str, value: str, most: int) -> FenceError:
    return _invalid(f"{name}={_fixed(value)}: not a TCP port, a whole number from 1 to {most}")


def settle_too_long(settle: float, deadline: float, untracks: bool) -> FenceError:
    twice = ", twice with untrack_secg," if untracks else ""
    return _invalid(
        f"settle_time={settle:g}{twice} does not fit into deadline={deadline:g}; lower it, or raise deadline"
    )


def bad_count(name: str, value: str) -> FenceError:
    return _invalid(f"{name}={_fixed(value)}: not a whole number of 0 or more")


def bad_verbosity(value: str) -> str:
    return f"verbose_level={_fixed(value)} is ignored: not a whole number of 0 or more"


def bad_text(name: str) -> FenceError:
    return _invalid(f"{name}: the value is too long or holds control characters; check the configuration")


def bad_input(name: str) -> FenceError:
    return _invalid(f"{name} cannot be read: not UTF-8 text, or longer than an agent's options ever are")


def empty_list(name: str) -> FenceError:
    return _invalid(f"{name} is empty; name at least one, separated by commas")


def empty_elements(name: str) -> str:
    return f"{name} has empty elements; they are ignored"


def empty_separator(name: str) -> FenceError:
    return _invalid(f"{name} is empty; give one character, or leave it out for ','")


def malformed_group(name: str, group: str) -> FenceError:
    return _invalid(f"{name}: {_fixed(group)} is not a security group ID; it looks like sg-0123456789abcdef0")


def malformed_instance(plug: str) -> FenceError:
    return _invalid(f"plug {_fixed(plug)} is not an instance ID; it looks like i-0123456789abcdef0")


def too_many_groups(name: str, count: int, most: int) -> FenceError:
    return _invalid(f"{name} has {count} groups; EC2 allows an interface {most} at most")


def several_untrack() -> FenceError:
    return _invalid("untrack_secg names several groups; give the one that allows everything")


def untrack_in_secg(group: str) -> FenceError:
    return _invalid(
        f"untrack_secg {group} is one of secg too; a group cannot both isolate and let everything through"
    )


def no_plug(action: str) -> FenceError:
    return _invalid(f"{action} needs plug, the instance ID; {HELP}")


def no_secg(action: str) -> FenceError:
    return _invalid(
        f"{action} needs secg, the security groups to remove (or, with invert-sg-removal, to keep); {HELP}"
    )


def half_key_pair(missing: str) -> FenceError:
    return _invalid(
        f"{missing} is missing; give both access-key and secret-key, or neither for the SDK's own sources"
    )


def keys_swapped() -> FenceError:
    return _invalid(
        "access-key looks like a secret access key, or secret-key like an access key ID (neither is shown); an ID of "
        "AWS is 16 or more capital letters and digits, as AKIAIOSFODNN7EXAMPLE: are the two swapped?"
    )


def bad_access_key() -> FenceError:
    return _invalid("access-key holds blanks or other than ASCII characters, or is too long (it is not shown)")


def bad_filter(part: str) -> FenceError:
    return _invalid(f"filter {_short(part)} is not key=value[,value]; separate several with ';'")


def bad_endpoint() -> FenceError:
    return _invalid("endpoint_url is not an http(s)://host[:port][/path] without user, query or fragment")


def bad_proxy() -> FenceError:
    return _invalid(
        "proxy is not an http(s)://host:port, with user:password@ before the host where it asks for them; "
        "ASCII only, and percent-encoded what means something in a URL"
    )


def profile_and_keys() -> FenceError:
    return _invalid("profile and access-key are both set, two sources of credentials; leave one out")


def unknown_action(action: str, known: Iterable[str]) -> FenceError:
    return _invalid(f"action {_fixed(action)} is unknown; one of {', '.join(known)}")


def unused_arguments() -> FenceError:
    """Without them: one may be a secret that was put in the wrong place."""
    return _invalid(f"unused arguments; an option takes its value as --flag=true or --flag=false; {HELP}")


def unknown_option(line: int, guess: Optional[str]) -> str:
    """Without what stands there: it may be a secret that was put in the wrong place."""
    return f"Ignoring unknown option in line {line} of the input" + (f"; is {_option(guess)} meant?" if guess else "")


def unknown_argument(reason: str, guess: Optional[str]) -> FenceError:
    """Likewise."""
    meant = f", is {_option(guess)} meant?" if guess else ""
    return _invalid(f"an option of the command line is {reason}{meant}; {HELP}")


def library_refused(text: str) -> FenceError:
    return _invalid(f"{re.sub('timeout', '…', text)}; {HELP}")


def debug_file(path: str, reason: str) -> FenceError:
    return _invalid(f"cannot write {_short(path)}: {reason}; check its folder")


def no_debug_file(path: str, reason: str) -> str:
    return f"no debug file: cannot write {_short(path)}: {reason}"


def debug_file_warning(path: str, reason: str) -> str:
    return f"no SDK debug log: cannot write {path}: {reason}"


def metrics_not_updated(path: str, reason: str) -> str:
    return f"metrics_file {_short(path)} was not updated: {reason}"


def metrics_not_collected(path: str) -> str:
    return f"metrics_file {_short(path)} does not end with .prom: node_exporter will not read it"


def metrics_dropped(path: str, count: int) -> str:
    return f"metrics_file {_short(path)} had {count} lines that make no sense; they are gone"


def options_valid() -> str:
    return "Success: the options are valid; EC2 was not asked, for want of a plug"


# --- the SDK and the API ---------------------------------------------------------------------------------------


def no_boto3(reason: str) -> FenceError:
    return FenceError(Category.VALIDATION, f"cannot import boto3: {reason}; install python3-boto3")


def broken_boto3(reason: str) -> FenceError:
    text = f"boto3 does not work: {reason}; install python3-boto3 and python3-botocore anew, of the same release"
    return FenceError(Category.VALIDATION, text)


def broken_sdk(purpose: CallContext, call: str, code: str, reason: str) -> ApiError:
    hint = "install python3-boto3 and python3-botocore anew"
    text = f"cannot {purpose.what}: {call}: boto3 does not work: {reason}; {hint}"
    return ApiError(purpose.category, text, call=call, code=code, outcome_unknown=True)


def no_fencing_library(reason: str) -> FenceError:
    text = f"cannot import the fencing library: {reason}; install fence-agents-common"
    return FenceError(Category.VALIDATION, text)


def no_region() -> FenceError:
    return FenceError(
        Category.REGION,
        "no region: neither option, environment, configuration nor IMDS names one; set region",
    )


def malformed_region(region: str) -> FenceError:
    return FenceError(Category.REGION, f"{_fixed(region)} is not a region; set region, e.g. eu-west-1")


def zone_as_region(zone: str, region: str) -> FenceError:
    return FenceError(Category.REGION, f"{_short(zone)} is a zone and not a region; set region={region}")


def bad_region(reason: str) -> FenceError:
    return FenceError(Category.REGION, f"{reason}; set region, e.g. eu-west-1")


def bad_sdk_configuration(reason: str) -> FenceError:
    return FenceError(
        Category.AUTHENTICATION, f"the AWS SDK refuses its configuration: {reason}; check ~/.aws and AWS_*"
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
    text = f"cannot {purpose.what}: this boto3 does not know {operation}"
    return ApiError(purpose.category, text, call=operation, code="UnknownOperation")


def untrusted(purpose: CallContext, call: str, code: str, text: str) -> ApiError:
    hint = "check AWS_CA_BUNDLE, ca_bundle of ~/.aws/config and endpoint_url"
    return ApiError(purpose.category, f"cannot {purpose.what}: {call}: {text}; {hint}", call=call, code=code)


def unknown_host(purpose: CallContext, call: str, code: str, text: str, option: str) -> ApiError:
    return ApiError(
        Category.REGION,
        f"cannot {purpose.what}: {text}: no such host; check {option}",
        call=call,
        code=code,
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
    hint = "check proxy, its user and its password" if status == 407 else "check proxy and endpoint_url"
    outcome = "" if call.startswith("Describe") else "; the outcome is unknown"
    reason = f"cannot {purpose.what}: {call}: {text}{outcome}; {hint}"
    return ApiError(
        purpose.category, reason, call=call, code="ForeignReply", transient=transient, outcome_unknown=True
    )


def no_sts(purpose: CallContext, call: str, text: str, *, transient: bool) -> ApiError:
    reason = f"cannot {purpose.what}: no credentials: {call}: {text}; check the way to STS, and the profile's region"
    return ApiError(Category.AUTHENTICATION, reason, call=call, code="ForeignReply", transient=transient)


def slow_call(purpose: CallContext, call: str, seconds: float) -> ApiError:
    text = f"cannot {purpose.what}: {call}: no complete reply in {seconds:.1f} s"
    return ApiError(purpose.category, text, call=call, code="SlowReply", transient=True, outcome_unknown=True)


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
    hint = f"change the {policy[1] if policy else 'policy'} that denies it: no other policy makes up for that"
    reason = f"cannot {purpose.what}: not permitted ({code}): {said}; {hint}"
    return ApiError(Category.PERMISSION, reason, call=call, code=code)


def not_authenticated(purpose: CallContext, call: str, code: str, text: str) -> ApiError:
    hint = "check the credentials and this machine's clock, and that the account has the region enabled"
    reason = f"cannot {purpose.what}: {call}: {code}: {_words(text)}; {hint}"
    return ApiError(Category.AUTHENTICATION, reason, call=call, code=code)


def not_owned(purpose: CallContext, call: str, code: str, text: str) -> ApiError:
    hint = "an AWS service or another account owns it, and only they can change it: use another fence method"
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


def credentials_stumble(purpose: CallContext, source: str, text: str) -> ApiError:
    reason = f"cannot {purpose.what}: no credentials: {source}: {_words(text)}"
    return ApiError(
        Category.AUTHENTICATION, reason, call="credentials", code="CredentialsUnavailable", transient=True
    )


def credentials_incomplete(purpose: CallContext, source: str, text: str) -> ApiError:
    reason = f"cannot {purpose.what}: no credentials: {source} gives incomplete ones: {text} is missing"
    return ApiError(Category.AUTHENTICATION, reason, call="credentials", code="CredentialsIncomplete")


def metadata_stumbles(purpose: CallContext, source: str, text: str) -> ApiError:
    reason = f"cannot {purpose.what}: {source}: {text}"
    return ApiError(Category.REGION, reason, call="metadata", code="MetadataUnavailable", transient=True)


def slow_credentials(purpose: CallContext, source: str, seconds: float) -> ApiError:
    error = credentials_stumble(purpose, source, f"no complete reply in {seconds:.1f} s")
    error.outcome_unknown = True  # the call goes out when the source answers, though nobody waits for it
    return error


def credentials_expired(purpose: CallContext, source: str) -> ApiError:
    text = f"cannot {purpose.what}: no credentials: {source}: they have expired; check this machine's clock"
    return ApiError(Category.AUTHENTICATION, text, call="credentials", code="ExpiredCredentials")


def program_failed(purpose: CallContext, text: str) -> ApiError:
    reason = f"cannot {purpose.what}: no credentials: {text}; run it by hand, as the user that runs the agent"
    return ApiError(Category.AUTHENTICATION, reason, call="credentials", code="CredentialProcess")


def silent_source(source: str) -> str:
    return f"{source} has not answered"


def no_metadata(text: str, source: str, reason: str) -> str:
    return f"{text}; {source} has none: {reason}"


def mfa_not_supported(purpose: CallContext, call: str, code: str) -> ApiError:
    text = (
        f"cannot {purpose.what}: the credentials need input, as an MFA code, and there is nobody to ask; use a role"
    )
    return ApiError(Category.AUTHENTICATION, text, call=call, code=code)


def proxy_refuses(purpose: CallContext, call: str, code: str, text: str) -> ApiError:
    hint = "check proxy, its user and its password" if text.startswith("407") else "check where proxy leads to"
    reason = f"cannot {purpose.what}: {call}: the proxy refuses: {text}; {hint}"
    return ApiError(purpose.category, reason, call=call, code=code)


def transient_error(purpose: CallContext, call: str, code: str, text: str, *, outcome_unknown: bool) -> ApiError:
    reason = f"cannot {purpose.what}: {call}: {code}: {_words(text)}"
    return ApiError(purpose.category, reason, call=call, code=code, transient=True, outcome_unknown=outcome_unknown)


def refused(purpose: CallContext, call: str, code: str, text: str) -> ApiError:
    return ApiError(purpose.category, f"cannot {purpose.what}: {call}: {code}: {_words(text)}", call=call, code=code)


def no_answer(what: str, seconds: float, last: Optional[str]) -> FenceError:
    reason = f" (last: {last})" if last else ""
    return FenceError(
        Category.DEADLINE,
        f"gave up after {seconds:g} s: {what}{reason}; check the way to the API, then repeat",
    )


def too_many_pages(what: str, pages: int) -> FenceError:
    return FenceError(
        Category.RETRIEVAL, f"cannot {what}: EC2 has more than {pages} pages of them; narrow the list by filter"
    )


# --- instances -------------------------------------------------------------------------------------------------


def unknown_instance(plug: str) -> FenceError:
    return FenceError(Category.INSTANCE, f"no instance {plug} here; check plug, region and credentials")


def no_such_name(plug: str) -> FenceError:
    return FenceError(
        Category.INSTANCE,
        f"no instance has the Name tag, private DNS name or primary private IP {_short(plug)}; "
        "check plug, filter and region",
    )


def ambiguous_name(plug: str, matched: Iterable[str]) -> FenceError:
    return FenceError(
        Category.INSTANCE, f"{_short(plug)} matches several instances: {_list(matched)}; use an ID, or a filter"
    )


def terminated(plug: str) -> FenceError:
    return FenceError(Category.INSTANCE, f"{plug} is terminated: there is nothing to bring back")


def not_running(plug: str, state: str) -> FenceError:
    return FenceError(
        Category.STATE,
        f"{plug} is not running but {state}; set ignore_instance_state to isolate it all the same",
    )


def self_fencing(plug: str) -> FenceError:
    return FenceError(
        Category.SELF_FENCING, f"Self-fencing detected: {plug} is this machine; fence it from another node"
    )


def fenced_fencer(own: str) -> FenceError:
    return FenceError(
        Category.SELF_FENCING,
        f"this machine, {own}, is fenced itself and must not fence others; unfence it first",
    )


def unknown_self() -> str:
    return "cannot tell which instance this machine is: no check for self-fencing and mutual fencing"


# --- what off refuses ------------------------------------------------------------------------------------------


def no_interfaces(plug: str) -> FenceError:
    return FenceError(Category.STATE, f"EC2 shows no network interface of {plug}; nothing can be isolated")


def managed_interface(plug: str, interface: str) -> FenceError:
    return FenceError(
        Category.STATE,
        f"{interface} of {plug} is managed by AWS, which refuses changes; use another fence method",
    )


def unfiltered_interface(plug: str, interface: str, kind: str) -> FenceError:
    return FenceError(
        Category.STATE,
        f"{interface} of {plug} is of type {kind}: its security groups do not filter all that passes through it, "
        "such as branch interfaces of containers; use another fence method",
    )


def interface_without_groups(plug: str, interface: str) -> FenceError:
    return FenceError(
        Category.STATE, f"{interface} of {plug} has no security groups to change; use another fence method"
    )


def nothing_left(plug: str, interface: str, groups: Iterable[str]) -> FenceError:
    return FenceError(
        Category.VALIDATION,
        f"{interface} of {plug} would be left without a group by removing {_list(groups)}; "
        "add a group that isolates, or use invert-sg-removal",
    )


def nothing_to_remove(plug: str) -> FenceError:
    return FenceError(
        Category.VALIDATION,
        f"{plug} has nothing to remove: check secg and invert_sg_removal; nothing was changed",
    )


# --- the record ------------------------------------------------------------------------------------------------


def no_room(plug: str, needed: int, free: int) -> FenceError:
    return FenceError(
        Category.TAG,
        f"{plug} has room for {free} more tags, the backup needs {needed}; delete tags of your own",
    )


def record_unverified(plug: str, outcome: str) -> FenceError:
    return FenceError(
        Category.TAG, f"the backup tags of {plug} were not proven to be there, no read shows them; {outcome}"
    )


def without_record(plug: str, reason: str) -> str:
    return f"{plug}: going on without a backup: {reason}"


def record_written(plug: str, tags: int, time: int) -> str:
    return f"{plug}: {tags} tags written, lastfence={time}"


def claimed(plug: str, time: int) -> str:
    return f"{plug}: not alone at work; record written again, lastfence={time}"


# --- isolating -------------------------------------------------------------------------------------------------


def established_may_survive(plug: str, poweroff: bool) -> str:
    until = " until it has stopped" if poweroff else ""
    return f"{plug}: established connections may survive the change of groups{until}; see the manual"


def groups_set(interface: str, groups: Iterable[str]) -> str:
    return f"{interface}: groups set to {_list(groups)}"


def group_dropped(interface: str, group: str) -> str:
    return f"{interface}: {group} of secg does not exist, or not for its VPC, and is left out"


def no_group_in_vpc(plug: str, interface: str, vpc: str, groups: Iterable[str]) -> FenceError:
    return FenceError(
        Category.VALIDATION,
        f"no group of secg can be used on {interface} of {plug}, in {vpc}: not {_list(groups)}; add one",
    )


def untracking_skipped(plug: str) -> str:
    return f"{plug}: connections are not untracked without a backup in place; established ones may survive"


def not_untracked(plug: str, interfaces: Iterable[str]) -> FenceError:
    return FenceError(
        Category.MODIFICATION,
        f"{plug} is isolated, but no change of {_list(interfaces)} to untrack_secg was accepted: established "
        "connections may survive; run on, then off",
    )


def possibly_tracked(plug: str, addresses: Iterable[str], settle: float) -> FenceError:
    return FenceError(
        Category.MODIFICATION,
        f"{plug} is isolated, but {_list(addresses)} still answered settle_time={settle:g} after that: the network "
        "may never have applied untrack_secg, and established connections may survive; raise settle_time, or let a "
        "program listen at probe_port",
    )


def not_opened_again(plug: str, interfaces: Iterable[str]) -> str:
    return f"{plug}: {_list(interfaces)} isolated already: not opened again to untrack connections"


def appeared(plug: str, interfaces: Iterable[str]) -> str:
    return f"{plug}: {_list(interfaces)} appeared meanwhile; recorded and isolated too"


def not_isolated(plug: str, why: Mapping[str, str]) -> FenceError:
    return FenceError(Category.DEADLINE, f"{plug} was not proven to be isolated in time: {_causes(why)}; repeat off")


def unproven(plug: str, error: FenceError, why: Mapping[str, str]) -> FenceError:
    before = f"; before that: {_causes(why)}" if why else ""
    return FenceError(
        error.category,
        f"{plug} was not proven to be isolated, and what was cut is left so: {error.text}{before}; repeat off",
    )


def observable(plug: str, addresses: Iterable[str], tried: Iterable[str]) -> str:
    known = list(addresses)
    found = f"before isolation {_few(known)} answer" if known else "before isolation no address answers"
    return f"{plug}: {found} at probe_port, of {len(list(tried))}"


def cannot_probe(plug: str, addresses: Iterable[str]) -> str:
    return (
        f"{plug}: it cannot be tried whether {_few(addresses)} answers at probe_port, and settle_time is waited for "
        "instead; check the routes and the firewall of this machine"
    )


def cannot_take_in(plug: str, interface: str) -> FenceError:
    return FenceError(
        Category.PARTIAL,
        f"{interface} of {plug} appeared meanwhile and cannot be isolated: managed, a trunk, or it would have no "
        "group left; the others are left isolated: repeat off",
    )


def left_untracking(plug: str, interfaces: Iterable[str], reason: str) -> str:
    return f"{plug}: {_list(interfaces)} may be left with untrack_secg, open to all: {reason}; run off now"


def originals(plug: str, groups: Mapping[str, FrozenSet[str]]) -> str:
    """What an operator may have to set by hand."""
    return f"{plug}: no read has shown the backup since; original groups: {_had(groups)}"


def _had(groups: Mapping[str, FrozenSet[str]]) -> str:
    return "; ".join(f"{i} had {_list(g)}" for i, g in sorted(groups.items()))


def claim_failed(plug: str, reason: str, originals: Mapping[str, FrozenSet[str]]) -> str:
    groups = _had(originals)
    return f"{plug}: not alone at work, and the record was not written again: {reason}; original groups: {groups}"


def refused_put_back(plug: str, why: Mapping[str, FenceError], category: Category) -> FenceError:
    return FenceError(category, f"{plug} is not isolated: {_causes(why)}; what had been changed was put back")


def refused_left(plug: str, why: Mapping[str, FenceError], cut: Iterable[str], reason: str) -> FenceError:
    names = _list(cut)
    left = f"{names} not put back: " if names else ""
    return FenceError(
        Category.PARTIAL,
        f"{plug} is only partly isolated: {_causes(why)}; {left}{reason}; repeat off",
    )


def refused_all(plug: str, why: Mapping[str, FenceError], category: Category) -> FenceError:
    return FenceError(category, f"{plug} is not isolated: {_causes(why)}; no group was changed")


def stop_failed(plug: str, reason: str) -> str:
    return f"{plug} is isolated but was not stopped: {reason}"


def graceful_stop(plug: str, reason: str) -> str:
    return f"{plug}: skip_os_shutdown is not supported, so it is stopped without it: {reason}"


def stopping(plug: str) -> str:
    return f"{plug}: stop requested"


def already_terminated(plug: str) -> str:
    return f"{plug} is terminated, so it is off"


# --- bringing back ---------------------------------------------------------------------------------------------


def restore_skipped(plug: str) -> str:
    return f"{plug}: unfence-ignore-restore is set: nothing is restored"


def starting(plug: str) -> str:
    return f"{plug}: start requested"


def not_started(plug: str, category: Category, reason: str) -> FenceError:
    return FenceError(category, f"the groups of {plug} are back but it was not started: {reason}; repeat on")


def nothing_to_restore(plug: str) -> str:
    return f"{plug}: no interface is isolated and there is no backup: nothing to restore"


def no_record(plug: str) -> FenceError:
    return FenceError(
        Category.BACKUP,
        f"{plug} is isolated and its tags hold no valid backup; nothing was changed: "
        "give every interface its groups with interfaceN-sg, or set them by hand",
    )


def left_without_record(plug: str, interface: str, groups: Iterable[str]) -> str:
    return f"{plug}: {interface} has no backup and is left with {_list(groups)}"


def detached(plug: str, interface: str, groups: Iterable[str]) -> str:
    return f"{plug}: {interface} of the backup is not attached any more; its groups were {_list(groups)}"


def static_gap(plug: str, missing: Iterable[int], numbering: Mapping[int, str]) -> FenceError:
    names = _list(f"interface{n}-sg" for n in missing)
    shown = ", ".join(f"{n}={i}" for n, i in sorted(numbering.items()))
    return FenceError(Category.VALIDATION, f"{plug}: {names} missing; every interface needs one: {shown}")


def static_isolates(option: str) -> FenceError:
    return FenceError(Category.VALIDATION, f"{option} holds groups that read as isolated under secg; check both")


def static_unused(plug: str, numbers: Iterable[int]) -> str:
    return f"{plug}: no such interface for {_list(f'interface{n}-sg' for n in numbers)}"


def overtaken(plug: str) -> FenceError:
    return FenceError(
        Category.RESTORE,
        f"{plug} was fenced meanwhile, and that wins: what had been opened is isolated again; repeat on to return it",
    )


def overtaken_open(plug: str, interfaces: Iterable[str]) -> FenceError:
    return FenceError(
        Category.RESTORE,
        f"{plug} was fenced meanwhile, but {_list(interfaces)} may be open: NOT isolated again; run off now",
    )


def backup_appeared(plug: str) -> FenceError:
    return FenceError(
        Category.RESTORE,
        f"{plug}: a backup appeared after the first read: the instance is being fenced concurrently, and off takes "
        "precedence; nothing was changed: repeat on",
    )


def cut_without_record(plug: str) -> str:
    return f"{plug}: its interfaces have none of the groups of secg, but there is no backup: nothing to restore"


def not_restored(plug: str, why: Mapping[str, str], category: Category) -> FenceError:
    return FenceError(category, f"{plug} was not wholly restored: {_causes(why)}; the backup is kept: repeat on")


def cleanup_failed(plug: str, reason: str) -> str:
    return f"{plug}: its backup tags were not deleted, which harms nothing: {reason}"


def look_back_failed(plug: str, reason: str, originals: Mapping[str, FrozenSet[str]]) -> str:
    return (
        f"{plug} is restored, but whether an off came in between was not checked: {reason}; "
        f"original groups: {_had(originals)}"
    )


def tags_deleted(plug: str, count: int) -> str:
    return f"{plug}: {count} tags deleted"


# --- monitor ---------------------------------------------------------------------------------------------------


def groups_missing(groups: FrozenSet[str]) -> FenceError:
    return FenceError(
        Category.VALIDATION,
        f"no such security group: {_list(groups)}; check secg and region: fencing would fail",
    )


def groups_unchecked(reason: str) -> str:
    return f"whether the groups of secg exist was not checked: {reason}"


def monitor_without_secg() -> str:
    return "secg is not set: off and status will be refused"


# --- preflight: what follows "level about: " in a line ---------------------------------------------------------


def preflight_failed(plug: str, failed: Iterable[str]) -> FenceError:
    what = list(failed)
    return _invalid(f"fencing {plug} would fail: {_short('; '.join(what), 300)}; see the lines with FAIL")


def preflight_passed(count: int, warnings: int) -> str:
    return f"Success: {count} checks, none failed, {warnings} with a warning; nothing was changed"


def depends_on(what: str) -> str:
    return f"not checked: depends on {what}"


def dry_run_ignored(purpose: CallContext) -> FenceError:
    return FenceError(
        purpose.category,
        f"a dry run to {purpose.what} was not answered as one: it may have been done; check endpoint_url",
    )


def name_found(instance: str) -> str:
    return f"is {instance}"


def identity(account: Optional[str], region: str, own: Optional[str]) -> str:
    known = [f"account {account}"] if account else []
    known += [f"region {region}"] + ([f"this machine is {own}"] if own else [])
    return ", ".join(known)


def not_asked_for_self() -> str:
    return "skip_race_check is set: no check for self-fencing and mutual fencing"


def preflight_of_self() -> str:
    return "this is the machine to be fenced: off is refused here, so run this on another node too"


def without_poweroff() -> str:
    return "has no effect without onfence_poweroff"


def skip_unknown(sdk: str) -> str:
    return f"{sdk} does not know it: the stop waits for the operating system; update boto3"


def no_such_group(options: Iterable[str]) -> str:
    return f"does not exist in this region and account; check {_list(options)}"


def group_found(name: str, vpc: str, options: Iterable[str]) -> str:
    return f"{name}, in {vpc}; for {_list(options)}"


def groups_fit() -> str:
    return "all can be used on its interfaces"


def group_of_no_vpc(group: str) -> str:
    return f"{group} of secg is of another VPC than all interfaces, and is left out; remove it from secg"


def group_of_other_vpc(option: str, group: str, vpc: str) -> str:
    return f"{group} of {option} cannot be used in {vpc}; name one of that VPC, or associate it"


def lets_nothing_through() -> str:
    return "no rules, so nothing is let through"


def lets_through(found: Iterable[str], interfaces: Iterable[str]) -> str:
    on = _list(interfaces)
    return f"still lets through {'; '.join(found)}" + (f" (on {on})" if on else "")


def no_isolation() -> str:
    return "that is no isolation: delete these rules (EC2 gives new groups one for all traffic out)"


def delete_rules() -> str:
    return "delete rules that storage or peers can be reached by"


def remains() -> str:
    return "it stays when secg is removed: nothing in it may reach storage or peers"


def answers(address: str) -> str:
    return f"{address} answers from here: observable"


def answers_though_isolated(address: str) -> str:
    return (
        f"{address} answers from here though its interface is isolated at this moment: off would fail while it does; "
        "check which groups, routes or other machines let that through"
    )


def other_answers(address: str) -> str:
    return f"{address} does not answer from here; another address of its interface does"


def answers_not(address: str, settle: float) -> str:
    return (
        f"{address} does not answer from here, so settle_time ({settle:g} s) holds for its interface; "
        "check probe_port, the groups and the firewall of the node"
    )


def answers_not_now(address: str, state: Optional[str]) -> str:
    why = "its interface is isolated at this moment" if state is None else f"the instance is {state}"
    return f"{address} does not answer from here, as is to be expected: {why}"


def cannot_try(address: str, settle: float) -> str:
    return (
        f"whether {address} answers cannot be tried from here, so settle_time ({settle:g} s) holds for its "
        "interface; check the routes and the firewalls of this machine and of the node"
    )


def still_admits(rules: Iterable[str], addresses: Iterable[str]) -> str:
    return (
        f"the groups that it keeps still let this machine ({_few(addresses)}) in: {_few(rules)}; "
        "off could never succeed: delete these rules, or leave probe_port out"
    )


def perhaps_admits(rules: Iterable[str]) -> str:
    return (
        f"whether the groups that it keeps still let this machine in is not known: {_few(rules)}; "
        "if they do, off can never succeed: delete these rules, or make sure that they do not"
    )


def admits_nothing(addresses: Iterable[str]) -> str:
    return f"the groups that it keeps do not let this machine ({_few(addresses)}) in"


def gone_for_good() -> str:
    return "terminated: it is off for good; put its successor into the configuration"


def is_fenced_now(state: str) -> str:
    return f"{state}, and isolated at this moment; run on, then check again"


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


def would_remove(found: Mapping[str, FrozenSet[str]]) -> str:
    return "would take " + "; ".join(f"{_list(g)} from {i}" for i, g in sorted(found.items()))


def would_survive(poweroff: bool, idle: Mapping[str, Optional[int]]) -> str:
    if poweroff:
        until = "the instance has stopped"
    else:
        longest = None if None in idle.values() or not idle else max(s for s in idle.values() if s is not None)
        until = f"they are idle for {_tracked_for(longest)}"
    return f"those that EC2 tracks survive off until {until}; set untrack_secg to cut them"


def efa_interface(kind: str) -> str:
    return (
        f"of type {kind}: its traffic bypasses the operating system, and AWS does not say whether what is under way "
        "over it ends when its groups change; if storage is reached that way, use another fence method"
    )


def unknown_interface_type(kind: str) -> str:
    return f"of type {kind}, which is not known here: make sure that security groups filter all of its traffic"


def on_outpost() -> str:
    return (
        "on an Outpost: security groups do not filter local network interfaces; if its subnets have them, "
        "use another fence method"
    )


def tag_condition(plug: str, value: Optional[str]) -> str:
    has = "has no tag cluster" if value is None else f"has the tag cluster={_short(value)}"
    asks = "where the policy asks for tags of the instance, as that of doc/setup.md does"
    return f"{plug} {has}; check it first {asks}"


def can_be_stopped() -> str:
    return "no stop protection"


def stop_protected() -> str:
    return (
        "stop protection (disableApiStop) is on: onfence_poweroff isolates the instance but cannot stop it; "
        "turn it off with aws ec2 modify-instance-attribute --no-disable-api-stop"
    )


def protection_unchecked(reason: str) -> str:
    return f"whether stop protection is on was not checked: {reason}"


def instance_store() -> str:
    return "its root is an instance store: EC2 cannot stop it; leave onfence_poweroff out, or use another method"


def spot_instance() -> str:
    return "a Spot instance: EC2 stops only those of a persistent request"


def would_be_cut(group: str, ipv6: bool) -> str:
    families = "IPv4 and IPv6" if ipv6 else "IPv4; no interface has IPv6"
    return (
        f"cut through {group}, which allows everything ({families}); but EC2 always tracks ICMP, and what goes "
        "through load balancers (NLB), NAT gateways, PrivateLink, Network Firewall and the like"
    )


def untracks_not_all(group: str, missing_rules: Iterable[str]) -> str:
    return f"would survive off: {group} does not allow {'; '.join(missing_rules)}; add these rules to it"


def internal(error: str) -> str:
    return f"internal error: {error}; please report it with the debug file"


def no_resources(reason: str) -> str:
    return f"out of memory or of threads: {reason}; raise this machine's limits (ulimit -v, pids), then repeat"


def stdout_failed(reason: str) -> str:
    return f"the answer could not be written to stdout: {reason}; check where stdout leads to"


def stuck(action: str, seconds: float) -> str:
    return (
        f"deadline error: {action} did not end in {seconds:g} s and was ended; "
        "check this machine and the way to the API, then repeat"
    )


def interrupted() -> str:
    return "interrupted; what was begun is completed by repeating off, or undone by on"
