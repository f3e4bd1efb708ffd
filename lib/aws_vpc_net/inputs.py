"""What arrives on the command line or on stdin, looked at before the ``fencing`` library does.

The library drops a boolean that it cannot read with a mere warning, refuses ``--flag=false``, and takes the word
after a flag for nothing: each of these would do the opposite of what an operator wrote. Pure; and as it is needed
for the documentation too, it imports next to nothing.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import Dict, Iterable, Iterator, List, Mapping, Optional, Tuple

from . import messages
from .errors import FenceError

TRUE = ("1", "yes", "on", "true")
FALSE = ("0", "no", "off", "false")
SECONDS = ("delay", "login-timeout", "power-timeout", "power-wait", "shell-timeout", "stonith-status-sleep")
PACEMAKER = ("nodename", "nodeid")  # Pacemaker passes them beside the plug; nodeid if DLM requests the fencing
STATIC_INTERFACES = 16
QUERY_DEADLINE = 12.0  # for the actions that change nothing
STDIN_LIMIT = 1 << 20  # bytes; Pacemaker sends a few hundred


def decode_stdin(data: bytes) -> str:
    """The text of stdin, without white space around names and values.

    The library does not know ``action = status``, and would run its default action, ``off``.

    Raises:
        FenceError: it is none, or longer than options ever are.
    """
    try:
        text = data.decode("utf-8-sig")  # a byte order mark would hide the first option
    except UnicodeDecodeError as error:
        raise messages.bad_input("stdin") from error
    if len(data) > STDIN_LIMIT or "\0" in text:
        raise messages.bad_input("stdin")
    lines = (line.partition("=") for line in text.split("\n"))  # as the library does
    return "\n".join("".join(part.strip() for part in line) for line in lines)


def check_stdin(text: str, booleans: Iterable[str]) -> None:
    """Every boolean on stdin can be read as one; names with ``-`` or ``_``, values as the library reads them.

    Raises:
        FenceError: naming the first that cannot.
    """
    known = {name.replace("-", "_") for name in booleans}
    for line in text.split("\n"):
        name, equals, value = line.strip().partition("=")
        value = _unquoted(value)
        if name.replace("-", "_") in known and not (equals and value.lower() in TRUE + FALSE):
            raise messages.bad_boolean(name, value)


def _unquoted(value: str) -> str:
    """As the library reads it."""
    return re.sub(r'^"(.*)"$', r"\1", value)


def check_repeated(text: str, names: Iterable[str], booleans: Iterable[str]) -> None:
    """No option of these names has several values on stdin, where the library takes the last.

    A cluster may hold an option in both spellings, and Pacemaker passes its options in any order.

    Raises:
        FenceError: naming the first that has.
    """
    checked, flags = ({name.replace("-", "_") for name in some} for some in (names, booleans))
    known: Dict[str, object] = {}
    for line in text.split("\n"):
        name, _, written = line.partition("=")
        key, value = name.replace("-", "_"), _unquoted(written)
        meaning: object = boolean(name, value) if key in flags else value
        if key in checked and known.setdefault(key, meaning) != meaning:
            raise messages.several_values(name)


def choose_plug(text: str) -> str:
    """stdin with one of ``plug`` and ``port``, which are one option; each line keeps its number.

    Pacemaker passes the node as one of them, also if the device has the other. If it knows no plug of the node, it
    passes the name of the node: then that of the device is meant. An empty one names none; but an empty port is
    Pacemaker's, where pcmk_host_map has a blank after the colon, and that of the device may be another node.

    Raises:
        FenceError: they may mean two instances.
    """
    lines = [line.partition("=") for line in text.split("\n")]
    given = {name: _unquoted(value) for name, _, value in lines if name in ("plug", "port", "nodename")}
    plug, port = given.get("plug"), given.get("port")
    if plug is None or port is None or plug == port:
        return text
    if not port and given.get("nodename"):
        raise messages.empty_port()
    node = given.get("nodename") if plug and port else ""
    if node not in (plug, port):
        raise messages.plug_and_port()
    return without(text, ("plug" if plug == node else "port",))


def nodename(text: str) -> Optional[str]:
    """The name of the node that Pacemaker passes beside its plug.

    To validate a device (``stonith_admin --validate``, pcs's agent validation) it has no target, and passes an
    invented one, ``node1``, also as the plug. No other caller passes it with ``validate-all``.
    """
    lines = [line.strip().partition("=") for line in text.split("\n")]
    return next((value for name, _, value in lines if name == "nodename"), None)


def unknown_lines(text: str, names: Iterable[str]) -> List[Tuple[int, Optional[str]]]:
    """The lines of stdin whose option is none of these: their number, and which option may be meant."""
    known = {name.replace("-", "_"): name for name in names}
    result = []
    for number, line in enumerate(text.split("\n"), 1):
        name = line.strip().partition("=")[0].replace("-", "_")
        if line.strip() and name[:1] != "#" and name not in known and name not in PACEMAKER:
            result.append((number, closest(name, known)))
    return result


def without(text: str, names: Iterable[str]) -> str:
    """stdin without these, which the library knows but cannot read; every line keeps its number."""
    dropped = set(names)
    lines = [(line.strip().partition("=")[0].replace("-", "_"), line) for line in text.split("\n")]
    return "\n".join("" if name in dropped else line for name, line in lines)


def verbosity(value: object) -> Optional[int]:
    """A level of verbosity; None if it is none."""
    text = str(value).strip()
    return int(text) if re.fullmatch(r"[0-9]{1,4}", text) else None


def closest(name: str, known: Iterable[str]) -> Optional[str]:
    """The known name that looks most like this one, if any does."""
    from difflib import get_close_matches

    similar = get_close_matches(name[:64].strip(), list(known), 1, 0.75)
    return similar[0] if similar else None


def refusal(text: str, options: Iterable[str]) -> FenceError:
    """The error of the library, without an argument that is not an option of this agent: it may be a secret."""
    match = re.fullmatch(
        r"Parse error: option (.*?) (not recognized|not a unique prefix|requires argument|must not have an argument)",
        text,
        re.DOTALL,
    )
    known = [f"--{name}" for name in options]
    if not match or match[1] in known or re.fullmatch(r"-\w", match[1]):
        return messages.library_refused(text)
    return messages.unknown_argument(match[2], closest(match[1], known))


def boolean(name: str, value: object) -> bool:
    """A boolean as the ``fencing`` library hands it over; a bare flag of the command line is ""."""
    text = str(value).strip().lower()
    if text in FALSE:
        return False
    if text in TRUE or text == "":
        return True
    raise messages.bad_boolean(name, str(value))


def _full(name: str, options: Iterable[str]) -> Optional[str]:
    """The option of this name, which may be abbreviated if only one begins so."""
    wanted = name.replace("-", "_")
    by_name = {option.replace("-", "_"): option for option in options}
    matches = [option for known, option in by_name.items() if wanted and known.startswith(wanted)]
    return by_name.get(wanted) or (matches[0] if len(matches) == 1 else None)


def arguments(
    given: List[str], options: Mapping[str, bool], letters: Mapping[str, str], single: Iterable[str] = ()
) -> List[str]:
    """The command line as the library can read it: ``--a_b`` as ``--a-b``, ``--flag=true`` as ``--flag``.

    Args:
        given: the arguments without the program's name.
        options: long option -> is it a boolean.
        letters: short option -> long option.
        single: those that mean something else with each value: the library takes the last, or any for a boolean.

    Raises:
        FenceError: a boolean's value cannot be read, or there are several values of a ``single`` option.
    """
    result: List[str] = []
    values: Dict[str, str] = {}
    checked = {name.replace("_", "-") for name in single}
    words = iter(given)
    for word in words:
        if word == "--":
            result += [word, *words]
            break
        read = _long if word.startswith("--") else _short
        written, name, value = read(word, words, options, letters)
        result += written
        if name in checked and values.setdefault(name, value) != value:
            raise messages.several_values(name)
    return result


_Read = Tuple[List[str], str, str]  # what the library is to read, and the option and its value, if it has one


def _long(word: str, words: Iterator[str], options: Mapping[str, bool], _letters: Mapping[str, str]) -> _Read:
    """A long option; its value may be the next word, whatever that looks like."""
    name, equals, value = word[2:].partition("=")
    known = _full(name, options)
    if known is None:
        return [word], "", ""
    if options[known]:
        if equals and value.lower() not in TRUE + FALSE:
            raise messages.bad_boolean(known, value)
        wanted = not equals or value.lower() in TRUE
        return [f"--{known}"] if wanted else [], known, str(wanted)
    if equals:
        return [f"--{known}={value}"], known, value
    rest = list(islice(words, 1))
    return [f"--{known}", *rest], known, "".join(rest)


def _short(word: str, words: Iterator[str], options: Mapping[str, bool], letters: Mapping[str, str]) -> _Read:
    """Short options, of which the last may have a value: ``-vn node1``, ``-vnnode1``."""
    for index, letter in enumerate(word[1:] if word.startswith("-") else "", 2):
        known = letters.get(letter)
        if known is None:
            break
        if not options[known]:
            rest = [] if word[index:] else list(islice(words, 1))
            return [word, *rest], known, word[index:] or "".join(rest)
    return [word], "", ""
