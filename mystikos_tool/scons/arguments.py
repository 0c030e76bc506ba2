"""What a call in an SConstruct is given, as names and nodes; what cannot be one gets a message.

Wherever a name is taken it may be a string, which is substituted, bytes or a path such as
``pathlib.Path``; wherever several are taken, lists and tuples of them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import SCons.Errors
import SCons.Node
import SCons.Node.Alias
import SCons.Node.FS
import SCons.Node.Python
from SCons.Util import flatten, is_String

from mystikos_tool.scons import blame

# What SCons says of a name that it knows already, and of what it finds on the disk.
_LOOKED_UP = re.compile(r"Tried to lookup (\w+) '(.*)' as a ", re.DOTALL)
_FOUND = re.compile(r"(Directory|File) (.*) found where \w+ expected", re.DOTALL)
_SHOWN = 60  # characters of a value in a message


@dataclass(frozen=True)
class OwnVariables:
    """Sources of a root whose construction variables are those of ``env``: what MystSource returns."""

    source: list[Any]
    env: Any


@dataclass(frozen=True)
class Programs(OwnVariables):
    """Programs that are to come with what they need, in place of sources: what MystClosure returns.

    ``source`` has absolute paths in the root, nodes and mappings; ``sysroot`` is the node of a directory,
    None for this machine.
    """

    sysroot: Any


@dataclass(frozen=True)
class Image(OwnVariables):
    """A container image, in place of a source: what MystImage returns.

    ``source`` has the node of its layout or archive, ``name`` is that of one of several images there. Of
    an image on a registry, ``name`` is its reference, and the node that of the file with its digest.
    """

    name: str
    is_on_registry: bool


def flat(value: Any) -> list[Any]:
    """Return all that a value has that may be a list of lists; a string is one."""
    return [value] if type(value) is str else list(flatten([value]))


def text(value: Any) -> str | None:
    """Return the text of a string, of bytes or of a path; None for anything else."""
    if is_String(value):
        return str(value)
    if isinstance(value, bytes | os.PathLike) and not isinstance(value, SCons.Node.Node):
        return os.fsdecode(value)
    return None


def is_empty(value: Any) -> bool:
    """Tell whether a value is an empty string; what SCons has cannot always be compared with one."""
    return is_String(value) and not value


def is_usable(given: str) -> bool:
    """Tell whether the system can take a text as a name, an argument or a variable."""
    try:
        return b"\0" not in os.fsencode(given)
    except UnicodeEncodeError:
        return False


def wrong(what: str, value: Any, accepted: str) -> SCons.Errors.UserError:
    """Return the error of a value that is not accepted."""
    return SCons.Errors.UserError(f"{what} cannot be {_shown(value)}; give {accepted}")


def name(env: Any, what: str, value: Any, accepted: str = "a name") -> str:
    """Return a name that is given as text, substituted; raise SCons' UserError for anything else."""
    given = text(value)
    if not given or not is_usable(given):
        raise wrong(what, value, accepted)
    return substituted(env, what, given)


def file_name(env: Any, what: str, value: Any, accepted: str = "a name") -> str:
    """Return the name of a file as :func:`name`; raise SCons' UserError for that of a directory, too."""
    given = name(env, what, value, accepted)
    if given.rpartition("/")[2] in ("", ".", ".."):
        raise SCons.Errors.UserError(f"{what} {given} is a directory; name it otherwise")
    return given


def target_name(env: Any, target: Any, builder: str) -> str:
    """Return the name of a call's one target; raise SCons' UserError for what names no file."""
    items = flat(target)
    if len(items) != 1 or items[0] is None or is_empty(items[0]):
        raise SCons.Errors.UserError(f"{builder} makes one file: name its target")
    node = items[0] if isinstance(items[0], SCons.Node.FS.Base) else None
    what = f"{builder}: the target"
    if isinstance(node, SCons.Node.FS.Dir):
        raise SCons.Errors.UserError(f"{what} {node} is a directory; name it otherwise")
    if node:
        return str(node.get_abspath())
    return file_name(env, what, items[0], "a file name or a file node")


def nodes(env: Any, what: str, value: Any, accepted: str) -> list[Any]:
    """Return the nodes of files and directories; raise SCons' UserError for anything else."""
    found: list[Any] = []
    for item in [] if value is None else flat(value):
        given = text(item)
        if given is not None and is_usable(given):
            found += _looked_up(env, what, given)
        elif isinstance(item, SCons.Node.FS.Base):
            found.append(item)
        else:
            raise wrong(what, item, accepted)
    return found


def misplaced(what: str, given: Any, error: TypeError, remedy: str = "give a file") -> SCons.Errors.UserError:
    """Return the error of a name that SCons takes for a file where it is a directory, or the other way.

    ``remedy`` is for a directory.
    """
    found = _LOOKED_UP.search(str(error)) or _FOUND.search(str(error))
    if found is None:
        raise error
    kind, path = found[1], blame.below_top(found[2])
    if kind.endswith(("Dir", "Directory")):
        problem = f"is a directory; {remedy}"
    elif f"/{path}".endswith(f"/{str(given).lstrip('#/')}"):
        problem = "is a file; give a directory"
    else:
        problem = f"lies below {path}, which is a file; correct the name"
    return SCons.Errors.UserError(f"{what} {given} {problem}")


def substituted(env: Any, what: str, given: str) -> str:
    """Return text with its variables replaced; raise SCons' UserError where nothing is left of it."""
    if "$" not in given:
        return given
    result = str(env.subst(given))
    if not result:
        raise SCons.Errors.UserError(
            f"{what} {given} stands for nothing; set what it names, or name it otherwise"
        )
    return result


def _looked_up(env: Any, what: str, given: str) -> list[Any]:
    try:
        substituted(env, what, given)
        found = list(env.arg2nodes(given, env.fs.Entry))
    except TypeError as error:
        raise misplaced(what, given, error) from None
    for node in found:
        if not isinstance(node, SCons.Node.FS.Base):
            raise wrong(what, node, f'what it stands for, or the file or directory as Entry("{given}")')
    return found


def root_sources(env: Any, source: Any, builder: str) -> list[Any] | None:
    """Return what a root is made of: nodes, mappings from names to nodes, and None for what is None."""
    if source is None:
        return None
    what, accepted = f"{builder}: a source", "files, directories and mappings"
    items: list[Any] = []
    for item in flat(source):
        if isinstance(item, Mapping):
            items.append({_place(env, key): _mapped(env, value) for key, value in item.items()})
        elif isinstance(item, OwnVariables):
            items.append(item)
        else:
            items += [None] if item is None else nodes(env, what, item, accepted)
    return items


def _place(env: Any, key: Any) -> str:
    """Return the path in the root that a mapping's key is."""
    accepted = 'a path in the root, as in {"usr/share": "share"}'
    return "" if is_empty(key) else name(env, "the path of a mapping", key, accepted)


def _mapped(env: Any, value: Any) -> list[Any] | None:
    if value is None:
        return None
    return nodes(env, "what a mapping leads to", value, "a file or a directory")


def programs(env: Any, given: Any, builder: str) -> list[Any]:
    """Return programs: absolute paths as strings, nodes of the project's files, and mappings to nodes."""
    items: list[Any] = []
    for item in flat(given):
        if isinstance(item, OwnVariables):
            raise SCons.Errors.UserError(
                f"{builder} takes programs; give other sources of the root beside it, in a list"
            )
        written = text(item)
        path = substituted(env, builder, written) if written and is_usable(written) else ""
        if path.startswith("/"):
            items.append(path)
        else:
            items += root_sources(env, item, builder) or [None]
    return items


def program_arguments(builder: str, value: Any) -> tuple[str, ...]:
    """Return a program's arguments; raise SCons' UserError for what is no list of them."""
    accepted = 'a list of arguments, as in ["red", "blue"]'
    if not isinstance(value, list | tuple):
        raise SCons.Errors.UserError(f"{builder} takes {accepted}, not {_shown(value)}")
    return tuple(_argument(builder, item, accepted) for item in value)


def _argument(builder: str, value: Any, accepted: str) -> str:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    given = str(value) if is_number or isinstance(value, SCons.Node.Node) else text(value)
    if given is None or not is_usable(given):
        raise wrong(f"{builder}: an argument", value, accepted)
    return given


def _shown(value: Any) -> str:
    if isinstance(value, SCons.Node.Alias.Alias):
        return f"the Alias {value}"
    if isinstance(value, SCons.Node.Python.Value):
        return f"the Value {value}"
    shown = str(value) if isinstance(value, SCons.Node.Node) else repr(value)
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"
