#!@PYTHON@ -tt
"""fence_aws_vpc_net: isolate an EC2 instance by the security groups of its network interfaces.

This file reads the options, runs one operation of aws_vpc_net, and exits. The exit codes are those of the fencing
library: 0 success, 1 failure, 2 status OFF.
"""

from __future__ import annotations

import time

STARTED = time.monotonic()

import os
import sys
import warnings

SPARE = 10 << 20  # bytes; never used, and released for the last message
_spare: Any = None  # memory that is released for the last message
_WORDS = ("timed out", "timeout", "unsupported action", "unrecognised action", "unrecognized action")
_INSTEAD = ("took too long", "time-out", "unknown action", "unknown action", "unknown action")


def _plain(text: str) -> str:
    """One line without the words that Pacemaker reads as another result, before ``logs.sanitize`` can be had."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split()).encode(errors="backslashreplace")
    for word, other in zip(_WORDS, _INSTEAD):
        while (at := line.lower().find(word.encode())) >= 0:
            line = line[:at] + other.encode() + line[at + len(word) :]
    return line.decode()


def _end(kind: Any, error: Any, _trace: Any) -> NoReturn:
    """Report an uncaught error in one line, such as a lack of memory during the imports."""
    global _spare  # noqa: PLW0603
    _spare = None
    line = b"ERROR: the agent ran out of memory\n"
    try:
        from _signal import alarm  # type: ignore[import-not-found]

        alarm(2)  # ends the process if the line cannot be written
        line = _plain(f"ERROR: the agent cannot run: {kind.__name__}: {error}").encode() + b"\n"
    finally:
        try:
            os.write(2, line)
        finally:
            os._exit(1)


sys.excepthook = _end
_spare = bytes(SPARE)

# Warnings neither end the agent nor reach stderr, whatever PYTHONWARNINGS says. They are collected for the log.
_warned: List[Tuple[Any, ...]] = []
warnings.resetwarnings()
warnings.showwarning = lambda *what: _warned.append(what)
sys.unraisablehook = lambda _what: None

# After the folders of PYTHONPATH. The boto3 of the distribution comes before one for fence agents only.
sys.path.extend(p for p in ("@AWSVPCNETDIR@", "@FENCEAGENTSLIBDIR@", "@BOTO3DIR@") if p)

for descriptor in (0, 1, 2):  # a closed one would be reused by the next file or connection
    try:
        os.fstat(descriptor)
    except OSError:
        os.open(os.devnull, os.O_RDWR)

import contextlib
import signal
import threading
from typing import TYPE_CHECKING, Any, Dict, Iterable, List, NoReturn, Optional, Tuple

try:
    from aws_vpc_net import inputs, messages, outputs
except ImportError as error:
    sys.exit(_plain(f"ERROR: the agent is not installed completely: {error}"))

threading.excepthook = lambda _what: None  # until the log is set up

WATCHDOG_SECONDS = 1.0  # after the deadline; the operation itself ends earlier
ALARM_SECONDS = 0.8  # after the watchdog, in case its thread does not run
ANSWER_SECONDS = 0.5  # for writing an answer that the exit code contains too
AGAIN_SECONDS = 0.01  # until an interrupt that Python has dropped comes again
EXIT_SECONDS = 4.0  # after which the kernel ends the process, if every other limit has failed

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_told_by_code = False  # is the exit code the whole result, whether or not stdout can be written?


class Timer(threading.Timer):
    """Follows the monotonic clock.

    The base class waits for a lock: up to Python 3.10 until a time of day, which comes at once if the clock is set
    forwards.
    """

    def run(self) -> None:
        time.sleep(max(0.0, self.interval))
        if not self.finished.is_set():
            self.function(*self.args, **self.kwargs)


_timers: List[Timer] = []
_interruptible = signal.getsignal(signal.SIGINT) is signal.default_int_handler
if _interruptible:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback, until main can report the interrupt in one line


def watch(action: str, seconds: float) -> None:
    """End the process after this time, even in a call that cannot be interrupted. Replaces an earlier watch.

    Ending it is safe at any point. Staying is not.
    """

    def expire() -> None:
        try:
            outputs.say_last(f"ERROR: {messages.stuck(action, seconds)}")
        finally:
            end_programs()
            os._exit(1)

    unwatch()
    timer = Timer(seconds + WATCHDOG_SECONDS - (time.monotonic() - STARTED), expire)
    timer.daemon = True
    limit = max(0.1, timer.interval)
    signal.setitimer(signal.ITIMER_REAL, limit + ALARM_SECONDS)  # silently
    try:
        timer.start()
    except outputs.NO_THREAD:  # then the kernel ends the process
        signal.setitimer(signal.ITIMER_REAL, limit)
        return
    _timers.append(timer)


def end_programs() -> None:
    """End a credential_process that has not finished. It must not outlive the agent."""
    module = sys.modules.get("aws_vpc_net.credential_process")
    try:
        if module is not None:
            module.end_all()
    except Exception:  # noqa: BLE001 - the agent ends, whatever else fails
        pass


def interrupt(_number: int, _frame: Any) -> None:
    """End after Ctrl-C or a signal: open interfaces are isolated first. A second signal has no effect."""
    ignore_signals()
    raise KeyboardInterrupt


def interrupt_again(what: Any) -> None:
    """If Python has dropped an interrupt, as it drops any exception in a finalizer or a weak reference's callback.

    A moment later, as this runs there too.
    """
    if isinstance(what.exc_value, KeyboardInterrupt):
        signal.signal(signal.SIGTERM, interrupt)
        again = Timer(AGAIN_SECONDS, os.kill, (os.getpid(), signal.SIGTERM))
        again.daemon = True
        with contextlib.suppress(*outputs.NO_THREAD):  # then the operation goes on
            again.start()


sys.unraisablehook = interrupt_again


def ignore_signals() -> None:
    """From now on no signal changes the result."""
    for number in ENDING:
        if number == signal.SIGINT or signal.getsignal(number) is interrupt:
            signal.signal(number, signal.SIG_IGN)


def unwatch() -> None:
    """End the watch: the next steps are not limited in time."""
    signal.setitimer(signal.ITIMER_REAL, 0)
    while _timers:
        _timers.pop().cancel()


def no_resources(error: BaseException) -> bool:
    """Is the cause a lack of memory or of threads? Python and the library loader word it in several ways."""
    words = ("new thread", "map segment", "allocate", "without setting an exception", "without exception set")
    return isinstance(error, MemoryError) or any(word in str(error) for word in words)


def end(text: str) -> NoReturn:
    """Exit with this line, before the log is set up."""
    global _spare  # noqa: PLW0603
    _spare = None
    outputs.say_last(_plain(f"ERROR: {text}"))
    os._exit(1)


watch("loading the modules", inputs.QUERY_DEADLINE)  # the modules may be on a disk that hangs

import io
import logging
import re

try:
    from fencing import (
        SyslogLibHandler,
        all_opt,
        check_input,
        fence_action,
        process_input,
        run_delay,
        show_docs,
    )
except (Exception, SystemExit) as error:  # noqa: BLE001 - any defect of the library
    reason = f"{type(error).__name__}: {error}"
    end(messages.no_resources(reason) if no_resources(error) else str(messages.no_fencing_library(reason)))

try:
    from aws_vpc_net.errors import FenceError
    from aws_vpc_net.logs import LoggingManager, proxy_secrets, register_secrets, sanitize, sdk_log, show_warnings
    from aws_vpc_net.options import LIBRARY_OPTIONS, LONGDESC, OPTIONS, PORT, SHORTDESC, VENDOR
except ImportError as error:  # for example, modules of an older release are installed
    end(f"the agent is not installed completely: {error}")

logging.lastResort = logging.NullHandler()  # no library writes to stderr before the log is set up

# Other modules are imported where they are used: start-up is most of the time of a run, and metadata needs few.
if TYPE_CHECKING:
    from aws_vpc_net.context import Context
    from aws_vpc_net.ec2 import Stats
    from aws_vpc_net.runner import Runner
    from aws_vpc_net.settings import Settings

VERSION = "@VERSION@"
SECRET_VARIABLES = (
    *("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN"),
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
)
PLUG = ("plug", "port")  # the names of one option
NODE = "--nodename"  # not an option of the library
REPORTING = ("boto3_debug", "metrics_file")  # several values of these change nothing about fencing
DOCUMENTATION = ("metadata", "meta-data", "manpage")
NO_OPTIONS = ("agent", "no_password")  # of the library, without a meaning for operators
REFUSED = "the fencing library refused the options"

log = logging.getLogger("fence_aws_vpc_net")


# --- options ---------------------------------------------------------------------------------------------------


def define_new_opts() -> List[str]:
    """Add the options of the agent to those of the library. Returns the names of all accepted options."""
    all_opt["port"].update(help=f"{'-n, --plug=[id]':<30} {PORT}", shortdesc=PORT)
    for order, option in enumerate(OPTIONS, 2):
        short = f"-{option.getopt[0]}, " if option.getopt not in ("", ":") else ""
        usage = f"{short}--{option.long}{f'=[{option.value}]' if option.value else ''}"
        all_opt[option.name] = {
            "getopt": option.getopt,
            "longopt": option.long,
            "help": f"{usage:<30} {option.text}",
            "shortdesc": option.text,
            "required": "0",
            "order": order,
            **option.more,
        }
    older = [name for name in LIBRARY_OPTIONS if name not in all_opt]
    all_opt.update({name: {"required": "0", **LIBRARY_OPTIONS[name]} for name in older})
    return ["port", "no_password", *(option.name for option in OPTIONS), *older]


def _known_options(names: List[str]) -> Tuple[Dict[str, bool], Dict[str, str]]:
    """Long option -> is it a boolean; short option -> long option; including the options of every fence agent."""
    general = [
        "quiet",
        "verbose",
        "verbose_level",
        "debug",
        "version",
        "help",
        "action",
        "plug_separator",
        "separator",
    ]
    known = [all_opt[n] for n in [*names, *general] if "longopt" in all_opt[n]]
    seconds = [all_opt[n.replace("-", "_")] for n in (*inputs.SECONDS, "retry-on", "disable-timeout")]
    known += seconds
    letters = {o["getopt"][0]: o["longopt"] for o in known if o["getopt"] not in ("", ":")}
    return {o["longopt"]: not o["getopt"].endswith(":") for o in known}, letters


def read_input(names: List[str], logs: LoggingManager) -> Dict[str, Any]:
    """Let the library read the options from the command line, or from stdin as Pacemaker passes them.

    Raises:
        FenceError: an invalid boolean, input that is not text, or an option that the library refuses.
    """
    options, letters = _known_options(names)
    booleans = [name for name, is_boolean in options.items() if is_boolean]
    given = len(sys.argv) > 1
    data = b"" if given else read_stdin(inputs.STDIN_LIMIT + 1)
    watch("reading the options", inputs.QUERY_DEADLINE)
    text = ""
    if given:
        sys.argv[1:] = inputs.arguments(sys.argv[1:], options, letters, _single()) or ["--"]
    else:
        text = _checked_stdin(data, booleans)
        sys.stdin = io.StringIO(inputs.without(text, NO_OPTIONS))
    try:
        values: Dict[str, Any] = process_input(names)
    except SystemExit:
        errors = logs.take_errors()
        raise inputs.refusal(errors[0] if errors else REFUSED, options) from None
    if not given and logs.take("Parse error: Ignoring unknown option"):
        known = [*names, *NO_OPTIONS, *(all_opt[n].get("longopt", n) for n in names)]
        unknown = inputs.unknown_lines(text, known)
        if "--action" not in values and unknown:
            raise messages.no_action(unknown[0][0])
        for line, guess in unknown:
            logging.warning(messages.unknown_option(line, guess))  # buffered until the log is set up
    node = inputs.nodename(text)
    if node is not None:
        values[NODE] = node
    if str(values.get("--action")).lower() == "validate-all" and values.get("--plug") == node:
        values.pop("--plug", None)
    return values


def _single() -> List[str]:
    """The options that must not have several values."""
    return ["action", *PLUG, *(o.name for o in OPTIONS if o.name not in REPORTING)]


def _checked_stdin(data: bytes, booleans: List[str]) -> str:
    """The text of stdin, with one value for each option.

    Raises:
        FenceError: an invalid boolean, several values of an option, or input that is not text.
    """
    text = inputs.decode_stdin(data)
    inputs.check_stdin(text, booleans)
    inputs.check_repeated(text, _single(), booleans)
    return inputs.choose_plug(text)


def read_stdin(most: int) -> bytes:
    """The content of stdin. A slow writer is allowed: the time for reading does not count."""
    global STARTED  # noqa: PLW0603 - the start of all time limits
    unwatch()
    began = time.monotonic()
    data = sys.stdin.buffer.read(most) if sys.stdin else b""
    STARTED += time.monotonic() - began
    return data


def check_options(names: List[str], options: Dict[str, Any], chosen: Settings) -> Dict[str, Any]:
    """Apply the checks and defaults of the library. It refuses nothing, because the agent has checked before."""
    given = {k: v for k, v in options.items() if k not in ("--debug-file", NODE)}
    given["--action"] = chosen.action
    if inputs.verbosity(given.get("--verbose-level", 0)) is None:
        given["--verbose-level"] = "1" if "--verbose" in given else "0"
    given["--plug-separator"] = ","  # every library version supports it; instance IDs contain no comma
    given["--plug"] = ",".join(chosen.plugs)
    checked: Dict[str, Any] = check_input(names, given, other_conditions=True)
    if not chosen.plugs:
        del checked["--plug"]
    return checked


# --- the operation ---------------------------------------------------------------------------------------------


class Watchdog:
    """The time limit of the process, in seconds from its start, without the library's wait after each plug."""

    def __init__(self, action: str, seconds: float, wait: float) -> None:
        self.action, self.seconds, self.wait = action, seconds + wait, wait
        self._begun = False
        watch(action, self.seconds)

    def next_plug(self) -> None:
        """Extend the limit by the wait of the library after the previous plug."""
        if self._begun:
            self.seconds += self.wait
            watch(self.action, self.seconds)
        self._begun = True


class FenceAWSVPCNet:
    """The callbacks of the library, which asks for the status before each action.

    For ``off`` and ``on`` the status callback returns the opposite of the wanted state, so that the library never
    skips the action: reads may be stale, and an interrupted action must be completed. For ``off`` the callback also
    checks the reasons to refuse. Only ``status`` gets the real status.
    """

    def __init__(self, context: Context, watchdog: Watchdog, returns: Dict[str, str]) -> None:
        self.context = context
        self._watchdog = watchdog
        self._plugs = list(context.settings.plugs)
        self._runs: List[Runner] = []
        self._ended = False
        self._off: Dict[str, bool] = {}
        self._returns = returns  # what monitor has brought back, or has not: instance ID -> result

    def get_power_status(self, _connection: Any, options: Dict[str, Any]) -> str:
        """ "on" or "off"."""
        action = options["--action"]
        if action == "on":
            return "off"
        if action == "off":
            from aws_vpc_net import actions

            if not self._runs:
                self._runs = actions.prepare_off(self.context, self._plugs)
            return "on"
        from aws_vpc_net import queries

        if not self._off:
            self._off = queries.status(self.context, self._plugs)
        return "off" if self._off[options["--plug"]] else "on"

    def set_power_status(self, _connection: Any, options: Dict[str, Any]) -> bool:
        """At the first plug, fence or unfence all; True, or an exception that names each that failed."""
        self._watchdog.next_plug()
        if not self._ended:
            from aws_vpc_net import actions

            if options["--action"] == "off":
                actions.fence(self.context, self._runs)
            else:
                actions.restore(self.context, self._plugs)
        self._ended = True
        return True

    def get_nodes_list(self, _connection: Any, options: Dict[str, Any]) -> Dict[str, Tuple[str, str]]:
        """The list of instances; for monitor, an empty list after the check that fencing would work."""
        from aws_vpc_net import queries

        if options.get("--original-action") == "monitor":
            plugs = queries.monitor(self.context)
            if self.context.settings.power.auto_unfence:
                self._bring_back(plugs)
            return {}
        return queries.listed(self.context)

    def _bring_back(self, plugs: List[str]) -> None:
        """Nothing about it fails the monitor, not even that its module cannot be imported: fencing works."""
        try:
            from aws_vpc_net import auto_unfence

            auto_unfence.bring_back(self.context, plugs, self._returns)
        except Exception as error:  # noqa: BLE001 - any defect of it: fencing works all the same
            log.warning(messages.internal(f"auto_unfence: {type(error).__name__}: {error}"))

    def run(self, options: Dict[str, Any]) -> int:
        """The exit code."""
        code: int = (
            fence_action(None, options, None, self.get_power_status, self.get_nodes_list, None, self.set_power_status)
            or 0
        )
        return code


COUNTED = ("api_calls", "retries", "throttles", "interfaces_changed", "tags_written", "chunks")


def _summary(chosen: Settings, stats: Stats, result: str) -> str:
    counts: Dict[str, Any] = {name: getattr(stats, name) for name in COUNTED}
    if stats.network_seconds is not None:
        counts["network_seconds"] = f"{stats.network_seconds:.2f}"
    fields = {
        "action": chosen.action,
        "plug": re.sub(r"[\s=]", "_", ",".join(chosen.plugs)) or "-",
        "result": result,
        "seconds": f"{time.monotonic() - STARTED:.2f}",
        **counts,
        "version": VERSION,
    }
    return "summary " + " ".join(f"{k}={v}" for k, v in fields.items())


def _tell_metrics(
    chosen: Settings,
    stats: Stats,
    result: str,
    ends: float,
    names: Iterable[str] = (),
    returns: Optional[Dict[str, str]] = None,
) -> None:
    """Update the metrics before the watchdog expires, which would turn a success into a failure."""
    path = chosen.reporting.metrics_file
    if not path or chosen.preflight:
        return
    from aws_vpc_net import metrics

    error = sys.exc_info()[1]
    category = error.category if isinstance(error, FenceError) else None
    seconds = time.monotonic() - STARTED
    given = tuple(name for name in names if name not in chosen.plugs)
    plugs = tuple(chosen.plugs)
    run = metrics.Run(chosen.action, result, category, seconds, stats, VERSION, plugs, given, returns or {})
    warning = metrics.update(path, run, ends + WATCHDOG_SECONDS / 2 - seconds)
    if warning:
        log.warning(warning)


def _tell_refused(options: Dict[str, Any]) -> None:
    """Count a run with refused options as a failure, if its metrics_file can be read from the options."""
    from aws_vpc_net import settings

    refused = settings.of_refused(options)
    if not refused.reporting.metrics_file:
        return
    from aws_vpc_net import metrics
    from aws_vpc_net.ec2 import Stats

    if refused.action in metrics.ACTIONS:
        _tell_metrics(refused, Stats(), "failed", inputs.QUERY_DEADLINE)


def _delay(options: Dict[str, Any]) -> float:
    """Let the library wait for ``delay``; returns the seconds that it took."""
    began = time.monotonic()
    try:
        run_delay(options)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(messages.interrupted("")) from None
    return time.monotonic() - began


def _operate(options: Dict[str, Any], chosen: Settings) -> int:
    from aws_vpc_net.context import create_context
    from aws_vpc_net.deadline import Deadline
    from aws_vpc_net.ec2 import Stats

    if chosen.reporting.metrics_file:  # now: a failed import must not spoil a later success
        from aws_vpc_net import metrics  # noqa: F401
    stats = Stats()
    names: Dict[str, str] = {}
    returns: Dict[str, str] = {}
    result = "failed"
    wait = int(options["--power-wait"]) if chosen.is_mutating else 0  # the library's, after each plug
    watchdog = Watchdog(chosen.action, chosen.seconds + int(options["--delay"]), 0)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, interrupt)
    try:
        delay = _delay(options)
        watchdog = Watchdog(chosen.action, chosen.seconds + delay, wait)
        context = create_context(chosen, Deadline(chosen.seconds, STARTED + delay), stats)
        if chosen.needs_name_lookup:
            from dataclasses import replace

            from aws_vpc_net import queries

            names = queries.resolve(context)
            chosen = replace(chosen, plugs=tuple(dict.fromkeys(names.values())))
            context = replace(context, settings=chosen)
            options["--plug"] = ",".join(chosen.plugs)
        agent = FenceAWSVPCNet(context, watchdog, returns)
        code = _preflight(context, names) if chosen.preflight else agent.run(options)
        ignore_signals()  # the result is decided
        result = {0: "ok", 2: "off"}.get(code, "failed")
        return code
    finally:
        log.info(_summary(chosen, stats, result))
        _tell_metrics(chosen, stats, result, watchdog.seconds, names, returns)


def _preflight(context: Context, names: Dict[str, str]) -> int:
    """Print one line per check to stdout."""
    from aws_vpc_net import preflight
    from aws_vpc_net.target_checks import WARN

    results = preflight.run(context, names)
    for result in results:
        print(sanitize(str(result)))
    preflight.conclude(context, results)
    print(messages.preflight_passed(len(results), sum(r.level == WARN for r in results)))
    return 0


# --- main ------------------------------------------------------------------------------------------------------


def _settings(logs: LoggingManager, options: Dict[str, Any]) -> Settings:
    """The settings of the options; registers their secrets."""
    from aws_vpc_net import settings

    if logs.take("Unused arguments"):
        raise messages.unexpected_arguments()
    register_secrets(options.get("--secret-key"), *(os.environ.get(name) for name in SECRET_VARIABLES))
    for text in (options.get("--access-key"), os.environ.get("AWS_ACCESS_KEY_ID")):
        if text and not settings.is_key_id(text):  # it may be swapped with the secret
            register_secrets(text)
    chosen = settings.parse(options, f"fence_aws_vpc_net/{VERSION}")
    register_secrets(*chosen.access.secrets)
    return chosen


def _verbosity(options: Dict[str, Any]) -> int:
    level = inputs.verbosity(options.get("--verbose-level", 0)) or 0
    return max(1, level) if inputs.boolean("verbose", options.get("--verbose", "0")) else level


def _configure_logging(logs: LoggingManager, options: Dict[str, Any], chosen: Settings) -> None:
    path = options.get("--debug-file")
    quiet = inputs.boolean("quiet", options.get("--quiet", "0"))
    try:
        logs.configure(_verbosity(options), quiet, path)
    except OSError as error:
        reason = error.strerror or str(error)
        if chosen.action == "validate-all":  # it checks the configuration; other actions continue without the file
            raise messages.debug_file(str(path), reason) from error
        log.warning(messages.no_debug_file(str(path), reason))
    show_warnings(_warned)
    for warning in chosen.reporting.warnings:
        log.warning(warning)
    if chosen.reporting.boto3_debug:
        try:
            logs.debug_sdk()
        except OSError as error:
            log.warning(messages.debug_file_warning(sdk_log(), error.strerror or str(error)))


def _asks_for_documentation(options: Dict[str, Any]) -> Optional[str]:
    for flag in ("--help", "--version"):
        if inputs.boolean(flag, options.get(flag, "0")):
            return flag
    action = str(options.get("--action", "")).lower()
    return action if action in DOCUMENTATION else None


def _hides_an_action(options: Dict[str, Any]) -> bool:
    """Is it stdin with an action, or with the plug of one? Shown help would end it with the exit code of a success,
    and Pacemaker would take the node for fenced: the library offers ``help`` and ``version`` as options of a device.
    """
    action = str(options.get("--action", "")).lower()
    return len(sys.argv) == 1 and action not in DOCUMENTATION and ("--action" in options or "--plug" in options)


def _show(wanted: str, names: List[str], options: Dict[str, Any]) -> int:
    if wanted == "--version":
        print(VERSION)
        return 0
    shown = {k: v for k, v in options.items() if k not in ("--help", "--version")}
    shown.update({"--help": ""} if wanted == "--help" else {"--action": wanted})
    show_docs(
        check_input(names, shown, other_conditions=True),
        {"shortdesc": SHORTDESC, "longdesc": LONGDESC, "vendorurl": VENDOR},
    )
    return 0


def _run(logs: LoggingManager) -> int:
    names = define_new_opts()
    options = read_input(names, logs)
    wanted = _asks_for_documentation(options)
    if wanted and not _hides_an_action(options):
        return _show(wanted, names, options)
    try:
        if wanted:
            raise messages.help_beside_an_action(wanted[len("--") :])
        chosen = _settings(logs, options)
        checked = check_options(names, options, chosen)
    except (FenceError, SystemExit):
        _tell_refused(options)
        raise
    _configure_logging(logs, options, chosen)
    global _told_by_code  # noqa: PLW0603
    _told_by_code = chosen.is_mutating or chosen.action in ("status", "monitor")
    if chosen.action == "validate-all" and not chosen.preflight:
        print(messages.options_valid())
        return 0
    try:
        return _operate(checked, chosen)
    except KeyboardInterrupt as error:
        returns = chosen.action == "monitor" and chosen.power.auto_unfence
        text = messages.interrupted("auto_unfence" if returns else chosen.action)
        raise KeyboardInterrupt(str(error) or text) from None


def main(logs: LoggingManager) -> int:
    """Run the agent; returns the exit code. Every failure is reported in one line that an operator can act on."""
    register_secrets(*proxy_secrets(os.environ))
    try:
        if _interruptible:
            signal.signal(signal.SIGINT, interrupt)
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # a name that it cannot encode does not end a list
        sys.stdout = io.StringIO()  # written at the exit
        return _run(logs)
    except FenceError as error:
        text = str(error)
    except SystemExit as error:  # the library refuses an option, or ends after documentation
        if error.code in (0, None):
            return 0
        errors = [e for e in logs.take_errors() if not e.startswith("Please use")]
        text = str(messages.library_refused(errors[0] if errors else REFUSED))
    except KeyboardInterrupt as error:
        text = str(error) or messages.interrupted("")  # in the operation, or before it
    except Exception as error:  # noqa: BLE001 - a bug must not end in a traceback, nor in another exit code
        text = _unexpected(error)
    global _spare  # noqa: PLW0603
    _spare = None
    logs.ensure_configured()
    log.error(text)
    return 1


def _unexpected(error: Exception) -> str:
    """The message for an unexpected error."""
    reason = f"{type(error).__name__}: {error}"
    if no_resources(error):
        return messages.no_resources(reason)
    import traceback

    log.debug(traceback.format_exc())
    return messages.internal(reason)


def exit_now(code: int, logs: LoggingManager) -> NoReturn:
    """Exit without waiting for threads in an abandoned call, or for readers of the output."""
    outcome = code if _told_by_code else code or 1  # until the answer is written
    try:
        ignore_signals()
        if _told_by_code:
            unwatch()  # a success stays one if nobody reads the answer; the rest has its own time limits
            signal.setitimer(signal.ITIMER_REAL, EXIT_SECONDS)
            writer = outputs.write_answer(sys.__stdout__, _answer())
            outputs.BackgroundHandler.drain()
            if writer:
                writer.join(ANSWER_SECONDS)
        else:
            failure = _write_answer()
            if failure is None:
                outcome = code
            elif failure and code == 0:  # or else an error was reported already
                logs.ensure_configured()  # documentation is shown without
                log.error(messages.stdout_failed(failure))
            outputs.BackgroundHandler.drain()
    finally:
        end_programs()
        os._exit(outcome)


def _answer() -> str:
    return sys.stdout.getvalue() if isinstance(sys.stdout, io.StringIO) else ""


def _write_answer() -> Optional[str]:
    """Why the answer cannot be written to stdout; "" if its reader has closed it, as with ``| head``."""
    global _spare  # noqa: PLW0603
    stream = sys.__stdout__
    try:
        if stream is None:
            return "it is closed"
        stream.write(_answer())
        stream.flush()
    except BrokenPipeError:
        return ""
    except OSError as error:
        return error.strerror or str(error)
    except MemoryError:
        _spare = None
        return "out of memory"
    return None


if __name__ == "__main__":
    MANAGER = LoggingManager(SyslogLibHandler())
    exit_now(main(MANAGER), MANAGER)
