"""Read JSON with ``//`` comments, keeping where in the file each key and value stands.

The dialect (docs/formats.md, section 3) is RFC 8259 with two additions: ``//`` starts a comment
up to the end of the line wherever white space may stand, and a comma may follow the last member.

Reading also notes what is well-formed here but not to the reader of an installed Mystikos: it skips
comments only in some places, and only a limited number in a row, and it takes few escapes.
"""

from __future__ import annotations

import bisect
import json
import re
from collections.abc import Mapping
from typing import NamedTuple, NoReturn

from mystikos_tool.errors import UserError

MAX_SIZE = 1 << 20  # bytes; reading takes about a microsecond for each
MAX_VALUES = 1 << 16
MAX_DEPTH = 32

_SPACE = re.compile(r"[ \t\n\r]*")
_COMMENT = re.compile(r"//[^\n\r]*")
_GAP = re.compile(r"(?:[ \t\n\r]|//[^\n\r]*)*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_STRING_BODY = re.compile(r'"(?:[^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u[0-9A-Fa-f]{4})*')
_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|.)")
_WORD = re.compile(r"[A-Za-z_]+|.", re.DOTALL)
_LINE_END = re.compile(r"\r\n|\n|\r")
# Stands for the offset of what is not in the text.
_GIVEN = -1
_LITERALS = {"true": True, "false": False, "null": None}
_MAX_DIGITS = 20  # more than any 64-bit integer has

# How many comments in a row the installed reader skips, by the place they stand in.
_COMMENTS_SKIPPED = {"top": 1, "colon": 1, "value": 1, "after member": 0, "element": 2, "after element": 1}


class Member(NamedTuple):
    """A key of an object and its value; ``start`` is the offset of the key's opening quote."""

    key: str
    start: int
    node: Node


class Node(NamedTuple):
    """A value and the offset of its first character.

    An array is a list of nodes, an object a tuple of members in the order of the file, with
    repeated keys kept; the rest are ``None``, ``bool``, ``int``, ``float`` and ``str``.
    """

    start: int
    value: bool | int | float | str | list[Node] | tuple[Member, ...] | None


class Note(NamedTuple):
    """Something at ``start`` that is accepted here but is better changed.

    ``unreadable`` says that an installed Mystikos cannot read the text with it, or reads another content.
    """

    start: int
    problem: str
    remedy: str
    unreadable: bool = False


class Document(NamedTuple):
    """A file's value, with the means to say where in the file something stands.

    ``given`` is what messages call the values that are not in the file, see :func:`changed`.
    """

    name: str
    text: str
    root: Node
    notes: tuple[Note, ...]
    lines: list[int]
    given: str = ""

    def place(self, offset: int) -> str:
        """``name:line:column`` of a character offset, both counted from 1."""
        return self.given if offset == _GIVEN else _place(self.name, self.lines, offset)

    def line(self, offset: int) -> str:
        """``line 7``, the line of a character offset, counted from 1."""
        return self.given if offset == _GIVEN else f"line {bisect.bisect_right(self.lines, offset)}"


def read(data: bytes, name: str) -> Document:
    """Read one JSON value; ``name`` is what messages call the file.

    Raises UserError with line and column when ``data`` is not UTF-8 or not JSON of this dialect,
    and for strings that no C string can hold (U+0000) or UTF-8 cannot (half a surrogate pair). The
    time grows with the size, which is at most MAX_SIZE bytes and MAX_VALUES values.
    """
    if len(data) > MAX_SIZE:
        raise UserError(name, f"is larger than {MAX_SIZE:,} bytes", "write a smaller one")
    text = _decode(data, name)
    reader = _Reader(text, name)
    root = reader.document()
    return Document(name, text, root, tuple(reader.notes), reader.lines)


def empty(name: str) -> Document:
    """Return the document of an object without members that no file has."""
    return Document(name, "", Node(_GIVEN, ()), (), [0], name)


def changed(document: Document, members: Mapping[str, object], given: str) -> Document:
    """Return an object with other members: a value replaces one or is added, None takes one away.

    What is added comes last, in the order of the keys. ``given`` is what messages call the place that
    the members are from. Raises UserError for what is no JSON, within the limits of :func:`read`.
    """
    root = document.root.value
    if not isinstance(root, tuple):
        return document
    added = (_given(key, members[key], given) for key in sorted(members) if members[key] is not None)
    replaced = {member.key: member for member in added}
    result: list[Member] = []
    for member in root:
        if member.key not in members:
            result.append(member)
        elif member.key in replaced:
            result.append(replaced.pop(member.key))
    whole = Node(document.root.start, (*result, *replaced.values()))
    return document._replace(root=whole, notes=(), given=given)


def _given(key: str, value: object, where: str) -> Member:
    """Return a value as a member that is in no file."""
    try:
        root = read(json.dumps({key: value}, sort_keys=True, allow_nan=False).encode(), where).root.value
    except (TypeError, ValueError, RecursionError) as error:
        problem = f"cannot be written as JSON: {error}"
        raise UserError(f"{where}: {key}", problem, "give text, numbers, lists and dictionaries") from error
    except UserError as error:
        raise UserError(f"{where}: {key}", error.problem, error.remedy) from error
    assert isinstance(root, tuple)  # noqa: S101
    return _moved(root[0])


def _moved(member: Member) -> Member:
    """Return a member as none of a file."""
    return Member(member.key, _GIVEN, _without_place(member.node))


def _without_place(node: Node) -> Node:
    if isinstance(node.value, list):
        return Node(_GIVEN, [_without_place(element) for element in node.value])
    if isinstance(node.value, tuple):
        return Node(_GIVEN, tuple(map(_moved, node.value)))
    return Node(_GIVEN, node.value)


def _decode(data: bytes, name: str) -> str:
    if data.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        raise UserError(f"{name}:1:1", "begins with a byte order mark", "save it as UTF-8 without one")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8")
        raise UserError(
            _place(name, _line_starts(before), len(before)),
            f"the byte 0x{data[error.start]:02x} is not UTF-8",
            "save the file as UTF-8",
        ) from None


def _line_starts(text: str) -> list[int]:
    return [0, *(match.end() for match in _LINE_END.finditer(text))]


def _place(name: str, lines: list[int], offset: int) -> str:
    line = bisect.bisect_right(lines, offset)
    return f"{name}:{line}:{offset - lines[line - 1] + 1}"


class _Reader:
    """Recursive descent over the text; ``at`` is the offset of the next character."""

    def __init__(self, text: str, name: str) -> None:
        self.text = text
        self.name = name
        self.lines = _line_starts(text)
        self.at = 0
        self.values = 0
        self.notes: list[Note] = []

    def document(self) -> Node:
        self.gap("top")
        if self.at == len(self.text):
            problem = "the file has only comments" if self.text.strip() else "the file is empty"
            self.fail(self.at, problem, 'write an object, as in { "ApplicationPath": "/bin/app" }')
        root = self.value(0)
        self.at = _end(_GAP, self.text, self.at)
        if self.at < len(self.text):
            self.fail(
                self.at, f"{self.found()} after the end of the object", "remove what follows the object"
            )
        return root

    def value(self, depth: int) -> Node:
        if depth > MAX_DEPTH:
            self.fail(self.at, f"nested deeper than {MAX_DEPTH} levels", "remove levels")
        self.values += 1
        if self.values > MAX_VALUES:
            self.fail(self.at, f"more than {MAX_VALUES:,} values", "remove values")
        start = self.at
        first = self.text[start : start + 1]
        if first == "{":
            return Node(start, self.object(depth))
        if first == "[":
            return Node(start, self.array(depth))
        if first == '"':
            return Node(start, self.string())
        if number := _NUMBER.match(self.text, start):
            return Node(start, self.number(number))
        word = _WORD.match(self.text, start)
        if word and word.group() in _LITERALS:
            self.at = word.end()
            return Node(start, _LITERALS[word.group()])
        return self.expected("a value", "write a string, a number, true, false, null, a list or an object")

    def object(self, depth: int) -> tuple[Member, ...]:
        members: list[Member] = []
        self.at += 1
        while True:
            comma = self.at - 1
            self.gap("member")
            if self.take("}"):
                self.trailing_comma(comma)
                return tuple(members)
            members.append(self.member(depth))
            self.gap("after member")
            if self.take("}"):
                return tuple(members)
            if not self.take(","):
                self.expected("a comma or }", "separate members by commas and end the object with }")

    def member(self, depth: int) -> Member:
        start = self.at
        if self.text[start : start + 1] != '"':
            self.expected("a key in double quotes", 'write members as "Key": value')
        key = self.string()
        self.gap("colon")
        if not self.take(":"):
            self.expected("a colon after the key", 'write members as "Key": value')
        self.gap("value")
        return Member(key, start, self.value(depth + 1))

    def array(self, depth: int) -> list[Node]:
        nodes: list[Node] = []
        self.at += 1
        while True:
            comma = self.at - 1
            self.gap("element")
            if self.take("]"):
                self.trailing_comma(comma)
                return nodes
            nodes.append(self.value(depth + 1))
            self.gap("after element")
            if self.take("]"):
                return nodes
            if not self.take(","):
                self.expected("a comma or ]", "separate elements by commas and end the list with ]")

    def number(self, match: re.Match[str]) -> int | float:
        lexeme = match.group()
        follows = self.text[match.end() : match.end() + 1]
        if follows.isalnum() or follows in {".", "+", "-", "_"}:
            self.fail(match.start(), "this is not a JSON number", "write a plain decimal number")
        if len(lexeme) > _MAX_DIGITS:
            self.fail(match.start(), f"a number of {len(lexeme)} characters", "write a smaller number")
        self.at = match.end()
        return float(lexeme) if match.group(1) or match.group(2) else int(lexeme)

    def string(self) -> str:
        start = self.at
        end = _end(_STRING_BODY, self.text, start)
        if self.text[end : end + 1] != '"':
            self.string_fault(start, end)
        self.at = end + 1
        lexeme = self.text[start : self.at]
        if "\\" not in lexeme:
            return lexeme[1:-1]
        value: str = json.loads(lexeme)
        if "\0" in value:
            self.fail(start, "a string with a NUL in it (\\u0000)", "remove the NUL")
        if any("\ud800" <= char <= "\udfff" for char in value):
            self.fail(start, "a string with half of a surrogate pair in it", "write the character itself")
        for escape in _ESCAPE.finditer(lexeme):
            # The installed reader stores \u0080 to \u00ff as one byte and refuses those above.
            unit = int(escape.group(1) or "0", 16)
            if unit > 0x7F:
                reads = "cannot read" if unit > 0xFF else "misreads"
                problem = f"an installed Mystikos {reads} the escape {escape.group()}"
                self.note(start + escape.start(), problem, "write the character itself", unit > 0xFF)
        return value

    def string_fault(self, start: int, end: int) -> NoReturn:
        fault = self.text[end : end + 1]
        if fault == "\\":
            self.fail(end, f"{self.text[end : end + 2]} is no escape sequence", "write \\\\ for a backslash")
        if fault in {"", "\n", "\r"}:
            self.fail(start, "the string does not end on its line", 'close it with a "')
        escape = json.dumps(fault)[1:-1]
        self.fail(end, f"control character U+{ord(fault):04X} in a string", f"write {escape} for it")

    def take(self, char: str) -> bool:
        if self.text[self.at : self.at + 1] != char:
            return False
        self.at += 1
        return True

    def gap(self, place: str) -> None:
        """Go past white space and comments; note comments that an installed Mystikos trips over."""
        start, self.at = self.at, _end(_GAP, self.text, self.at)
        gap = self.text[start : self.at]
        if "//" not in gap:
            return
        if place == "member":
            fault = _misread(gap)
            problem = "an installed Mystikos takes a part of this comment for content"
            remedy = 'remove the " and } from it'
        else:
            skipped = _COMMENTS_SKIPPED[place]
            if self.text[self.at : self.at + 1] == "]":
                skipped = min(skipped, 1)
            comments = list(_COMMENT.finditer(gap))
            fault = comments[skipped].start() if len(comments) > skipped else None
            problem = "an installed Mystikos cannot read a comment here"
            remedy = "move it to the line before a key"
        if fault is not None:
            self.note(start + fault, problem, remedy, unreadable=True)

    def trailing_comma(self, offset: int) -> None:
        """Note a comma at ``offset``, where the opening bracket stands if nothing came before."""
        if self.text[offset] == ",":
            self.note(offset, "a comma after the last member", "remove it")

    def note(self, start: int, problem: str, remedy: str, unreadable: bool = False) -> None:
        self.notes.append(Note(start, problem, remedy, unreadable))

    def found(self) -> str:
        word = _WORD.match(self.text, self.at)
        return f"found {json.dumps(word.group()[:40], ensure_ascii=False)}" if word else "the file ends"

    def expected(self, what: str, remedy: str) -> NoReturn:
        self.fail(self.at, f"expected {what}, {self.found()}", remedy)

    def fail(self, offset: int, problem: str, remedy: str) -> NoReturn:
        raise UserError(_place(self.name, self.lines, offset), problem, remedy)


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return match.end() if match else at


def _misread(gap: str) -> int | None:
    """Offset of the first character of ``gap`` that an installed Mystikos takes for a key or a brace.

    Before a key it skips one comment at a time and after each drops one character, whatever it
    is, unless that is a quote or a closing brace: of two comments in a row it reads into the second.
    """
    at = 0
    while True:
        at = _end(_SPACE, gap, at)
        at = _end(_COMMENT, gap, at)
        at = _end(_SPACE, gap, at)
        if at >= len(gap):
            return None
        if gap[at] in '"}':
            return at
        at += 1
