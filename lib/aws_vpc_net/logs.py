"""LoggingManager: syslog, stderr, debug file and the SDK's debug log; each line once, clean, without secrets."""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
import warnings
from functools import cache
from typing import Any, List, Mapping, Optional, Tuple

from .outputs import BackgroundHandler, StreamWriter, open_log

FORMAT = "%(asctime)-15s %(levelname)s: %(message)s"
BOTO3_LOG = "/var/log/fence_aws_vpc_boto3.log"
BOTO3_LOG_VARIABLE = "FENCE_AWS_VPC_NET_BOTO3_LOG"  # another file, for tests
SDK = ("boto3", "botocore", "urllib3", "s3transfer")
STANDARD = {"/dev/stdout": 1, "/dev/stderr": 2}  # links, and yet no file that others need
OWN = ("fence_aws_vpc_net", "aws_vpc_net")

# Pacemaker reads these words on an agent's stderr as another result than "failed".
_READ_BY_PACEMAKER = (
    (r"(?i)timed[\s-]*out", "took too long"),
    (r"(?i)time(?=out)", "time-"),
    (r"(?i)\bun(supported|recogni[sz]ed) action\b", "unknown action"),
)
# A name before a secret (header, parameter, XML element, JSON key, option).
_NAMES = (
    r"(?:x-)?(?:amz|aws)[-_](?:ec2[-_]metadata[-_]token|security[-_]token|signature|sso[-_]bearer[-_]token)"
    r"|signature|samlassertion|clientsecret|passwd|password|passphrase"
    r"|[a-z_-]{0,40}secret[a-z_-]{0,40}key|(?:aws_?)?(?:session|security|identity|webidentity|access|refresh|id)_?token"
    r"|\btoken"
)
# What stands around a value, also where it was quoted or encoded once more: as repr, JSON, XML or in a URL.
_QUOTE = r"(?:\\[nrt]|[\\'\"\s]|&quot;|&#39;|%22|%5c)*"
_BETWEEN = rf"(?:{_QUOTE}(?:[:=>]|%3[ade]|&gt;){_QUOTE}(?:b['\"])?|['\"]\s*,\s*b?['\"])"
_VALUE = r"(?:(?<!\\)\\*/|(?!&quot;|&lt;|%3c|%26|%22)[^'\"&\s,)}<\\])+"
# Words of prose after "token:" or "Basic" are shorter, or have small letters only.
_NO_WORD = r"(?=[^'\"\s,\\]{8})(?=[^'\"\s,\\]*(?-i:[A-Z0-9=/+]))"
_PROSE = rf":\s+(?!b?['\"\\&]|{_NO_WORD})"
_SECRETS = (
    rf"(?i)(\b(?:bearer|basic|negotiate)(?:\s|%20|\+)+){_NO_WORD}[^'\"\s,\\]+",
    rf"(?i)((?:{_NAMES}|authorization)(?!{_PROSE}){_BETWEEN}){_VALUE}",
    # A part of a proxy's password that holds a /.
    r"(could not be cast to integer value as )\S+",
    r"(Failed to parse: ['\"]?[^\s:'\"]{0,99}:)[^\s'\"]+",
    r"(://[^/\s:@'\"]{0,99}:)[^\s'\"]{1,300}(?=@)",
    r"(://)[^/\s:@'\"]{1,300}(?=@)",
    r"(?i)(%3a%2f%2f)[^\s'\"&]{1,300}(?=%40)",
    # What should be an access key ID and is none: the two keys are swapped.
    r"((?i:credential(?:=|%3d)))(?![A-Z0-9]{16,128}(?:/|%2F))[^\s,]{1,200}?(?=(?:/|%2F)\d{8}(?:/|%2F))",
)
MOST_CHARACTERS = 1 << 17  # of a line
KEY_LENGTH = 40  # of AWS's secret access keys; session tokens are longer
SECRET_LENGTH = 36  # some of it may be lost in pasting
MOST_ODD = 5  # in so many characters; one key of some thousands has no more
_ODD = r"(?<![a-z])[a-z](?![a-z])|(?<![A-Z])[A-Z](?![A-Za-z])|[0-9](?=[A-Za-z])|[A-Z](?=[A-Z][a-z])|\+"

_known: Tuple[str, ...] = ()  # secrets, in every form in which they may turn up; the longest first
_adding = threading.Lock()


def sdk_log() -> str:
    """The path of the SDK's debug log."""
    return os.environ.get(BOTO3_LOG_VARIABLE, BOTO3_LOG)


def register_secrets(*secrets: Optional[str]) -> None:
    """From now on show none of these, nor what quoting and encoding make of them; what is very short is no secret."""
    import base64
    import json
    from html import escape
    from urllib.parse import quote, quote_plus

    global _known  # noqa: PLW0603 - replaced as a whole, since threads read it
    forms = set()
    for secret in secrets:
        if secret and len(secret) > 3:
            data = secret.encode(errors="surrogateescape")  # what the environment holds may be no text
            forms |= {secret, quote(data), quote(data, safe=""), quote_plus(data)}
            forms |= {quote(data, safe="!$&'()*+,;=:%"), escape(secret, quote=False)}  # the first is urllib3's
            if len(secret) >= 16:
                forms.add(secret.lower())  # as a host name, say
            forms |= {repr(secret)[1:-1], json.dumps(secret)[1:-1], base64.b64encode(data).decode()}
    with _adding:
        if not forms <= set(_known):
            _known = tuple(sorted(forms | set(_known), key=len, reverse=True))


def proxy_secrets(environment: Mapping[str, str]) -> List[str]:
    """The passwords in the addresses of proxies, also where they hold what ends an address, as ``/`` does."""
    secrets: List[str] = []
    for name, value in environment.items():
        if name.lower() in ("http_proxy", "https_proxy", "all_proxy") and "@" in value:
            from urllib.parse import unquote

            userinfo = value.partition("://")[2] or value
            userinfo = userinfo.rpartition("@")[0]
            password = userinfo.partition(":")[2]
            for text in (userinfo, password) if password else (userinfo,):
                secrets += [text, unquote(text)]
            secrets += re.split(r"[/?#@:'\"\\\s]+", f"{password} {unquote(password)}")  # what errors may cut out
    return secrets


@cache
def _patterns() -> List[Tuple[re.Pattern[str], str]]:
    """What to replace, and by what; made when first needed, as it takes some milliseconds."""
    pairs = [*((secret, r"\1***") for secret in _SECRETS), *_READ_BY_PACEMAKER]
    return [(re.compile(pattern), word) for pattern, word in pairs]


def hide(text: str) -> str:
    """The text without secrets that are known, and without what looks like one: a key in the wrong place."""
    for secret in _known:
        text = text.replace(secret, "***")
    if len(text) < SECRET_LENGTH:
        return text
    run = rf"[A-Za-z0-9/+%\\]{{{SECRET_LENGTH},}}={{0,2}}"
    return re.sub(run, lambda match: "***" if _holds_secret(match[0]) else match[0], text)


def _holds_secret(run: str) -> bool:
    """Also where ``/`` and ``+`` are encoded, as in a URL or in JSON."""
    if "%" in run:
        from urllib.parse import unquote

        run = unquote(unquote(run))
    if "\\" in run:
        run = re.sub(r"\\u002[bB]", "+", re.sub(r"(?<!\\)\\+(?:/|u002[fF])", "/", run))
    return any(map(like_secret, re.findall(rf"[A-Za-z0-9/+]{{{SECRET_LENGTH},}}", run)))


def like_secret(run: str) -> bool:
    """Do these characters of base64 look random, unlike words, paths, IDs and hashes?

    What words have seldom, and random characters at every turn, is counted: a small letter that stands alone, a
    capital that begins no word, a digit before a letter, capitals that run into a word, a ``+``.
    """
    kept = re.sub(r"[0-9a-f]{12,}|(?<![^/])[A-Z0-9]{12,}(?![^/])", " ", run)  # hashes and IDs
    if len(kept.replace(" ", "")) < SECRET_LENGTH or not (re.search("[A-Z]", kept) and re.search("[a-z]", kept)):
        return False
    odd = [match.start() for match in re.finditer(_ODD, kept)]
    pairs = zip(odd, odd[MOST_ODD:])
    return any(last - first < KEY_LENGTH and kept.count("/", first, last) < 5 for first, last in pairs)


def sanitize(text: str) -> str:
    """One line without control characters, secrets, or words that Pacemaker would take for another result."""
    text = hide(text)
    text = "".join(c if c.isprintable() else " " for c in text.strip())
    for pattern, word in _patterns():
        text = pattern.sub(word, text)
    return text


def _shortened(text: str) -> str:
    """At most MOST_CHARACTERS of a line. To search a list of thousands of instances for secrets takes many seconds,
    in which no other thread runs.

    It is cut where no secret is cut in two, of which a part would not be recognized.
    """
    if len(text) <= MOST_CHARACTERS:
        return text
    for secret in _known:
        text = text.replace(secret, "***")
    end = max(text.rfind(border, 0, MOST_CHARACTERS) for border in " <")
    return f"{text[: max(0, end)]} ... {len(text) - max(0, end)} more characters"


class _SanitizingFormatter(logging.Formatter):
    """Formats a record as one sanitized line, tracebacks included."""

    def format(self, record: logging.LogRecord) -> str:
        return sanitize(_shortened(super().format(record)))


class LoggingManager:
    """Owns the root logger's handlers.

    The ``fencing`` library adds its own handlers in two places, so lines would appear twice, and some before there
    is a handler. So all messages are buffered until ``configure``, and then logged once.
    """

    def __init__(self, syslog: logging.Handler) -> None:
        self._syslog = BackgroundHandler(syslog)
        self._held: List[logging.LogRecord] = []
        self._root = logging.getLogger()
        self._root.addFilter(self._hold)
        _demote_libraries()
        self._configured = False

    def _hold(self, record: logging.LogRecord) -> bool:
        self._held.append(record)
        return False

    def take_errors(self) -> List[str]:
        """Remove the buffered errors, and return them: the caller reports them."""
        errors = [r for r in self._held if r.levelno >= logging.ERROR]
        self._held = [r for r in self._held if r.levelno < logging.ERROR]
        return [r.getMessage().strip() for r in errors]

    def take(self, start: str) -> int:
        """Remove the buffered messages that begin like this; returns their number."""
        kept = [r for r in self._held if not r.getMessage().strip().startswith(start)]
        taken, self._held = len(self._held) - len(kept), kept
        return taken

    def configure(self, verbose: int = 0, quiet: bool = False, debug_file: Optional[str] = None) -> None:
        """Install the final handlers in place of all others, and log the buffered messages.

        Args:
            verbose: stderr shows 0 warnings and errors, 1 also every step and the summary, 2 everything.

        Raises:
            OSError: the debug file cannot be written. The other handlers are installed.
        """
        self._root.removeFilter(self._hold)
        self._root.handlers[:] = []
        self._configured = True
        logging.raiseExceptions = False  # a full disk under the debug file must not end in tracebacks
        level = logging.DEBUG if verbose > 1 else logging.INFO
        standard = STANDARD.get(debug_file or "")
        shares_stderr = standard == 2 and not quiet  # then one handler writes both, and each line once
        self._add(self._syslog, "%(message)s", level)
        if not quiet:
            stderr = BackgroundHandler(StreamWriter(sys.stderr))
            stderr.name = "stderr"
            self._add(stderr, FORMAT, logging.DEBUG if shares_stderr else (logging.WARNING, level)[verbose > 0])
        self._root.setLevel(level)
        for name in SDK:
            logging.getLogger(name).propagate = False
            logging.getLogger(name).addHandler(logging.NullHandler())
        try:
            if debug_file:
                if not shares_stderr:
                    self._add(open_log(debug_file) if standard is None else _again(standard), FORMAT, logging.DEBUG)
                self._root.setLevel(logging.DEBUG)
        finally:
            held, self._held = self._held, []
            for record in held:
                self._root.handle(record)

    def ensure_configured(self) -> None:
        """With the defaults, if something failed before the options were known."""
        if not self._configured:
            self.configure()

    def debug_sdk(self) -> None:
        """Send the SDK's debug messages to their own file.

        Raises:
            OSError: it cannot be written.
        """
        handler = open_log(sdk_log())
        handler.setFormatter(_SanitizingFormatter(FORMAT))
        for name in SDK:
            logger = logging.getLogger(name)
            logger.setLevel(logging.DEBUG)
            logger.addHandler(handler)

    def _add(self, handler: logging.Handler, form: str, level: int) -> None:
        handler.setFormatter(_SanitizingFormatter(form))
        handler.setLevel(level)
        self._root.addHandler(handler)


def _again(descriptor: int) -> logging.Handler:
    """A handler that writes to what is open already: a link in /dev leads to it."""
    return BackgroundHandler(StreamWriter(os.fdopen(os.dup(descriptor), "a", encoding="utf-8")))


def _demote_libraries() -> None:
    """Messages of libraries other than ``fencing`` are logged at DEBUG, whatever their level."""
    made = logging.getLogRecordFactory()

    def make(*given: Any, **more: Any) -> logging.LogRecord:
        record = made(*given, **more)
        name = record.module if record.name == "root" else record.name.partition(".")[0]
        own = record.pathname == getattr(sys.modules["__main__"], "__file__", None)  # whatever its name
        if record.levelno > logging.DEBUG and not own and name not in ("fencing", *OWN, *SDK):
            record.levelno, record.levelname = logging.DEBUG, "DEBUG"
        return record

    logging.setLogRecordFactory(make)


def show_warnings(earlier: List[Tuple[Any, ...]]) -> None:
    """From now on, messages that Python writes to stderr itself are logged at DEBUG, after the earlier ones.

    These are warnings, and exceptions that cannot be caught: in a thread, in a finalizer.
    """
    log = logging.getLogger("python")

    def warn(message: Any, category: Any, filename: str, lineno: int, *_more: Any, **_named: Any) -> None:
        log.debug("%s line %s: %s: %s", filename, lineno, getattr(category, "__name__", category), message)

    hook = sys.unraisablehook

    def note(what: Any) -> None:
        hook(what)
        log.debug("%s: %r", what.err_msg or "ignored", what.exc_value)

    warnings.showwarning = warn
    sys.unraisablehook = note
    threading.excepthook = lambda what: log.debug("in a thread: %r", what.exc_value)
    for what in earlier:
        warn(*what)
