"""What Mystikos' kernel needs of a disk that it boots from (docs/disks.md)."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence

from mystikos_tool.errors import UserError
from mystikos_tool.formats.paths import follow
from mystikos_tool.root.disk.nodes import Node, made_directory

_DIRECTORIES = {b"dev": 0o755, b"etc": 0o755, b"proc": 0o755, b"tmp": 0o1777, b"usr/local/etc": 0o755}
_RESOLV_CONF = b"etc/resolv.conf"


def bootable(nodes: Sequence[Node]) -> list[Node]:
    """Return a tree, in the order of its paths, with the directories that the kernel looks for.

    Raises UserError where something else is in their place, and for a link at /etc/resolv.conf
    that leads nowhere: the kernel, which replaces that file, does not start then.
    """
    there = {node.path: node for node in nodes}
    for wanted, mode in _DIRECTORIES.items():
        path = _resolve(there, wanted)
        parts = path.split(b"/") if path else []
        for count in range(1, len(parts) + 1):
            part = b"/".join(parts[:count])
            node = there.setdefault(part, made_directory(part, mode if part == path else 0o755))
            if not stat.S_ISDIR(node.mode):
                problem = f"lies where the kernel needs the directory /{os.fsdecode(part)}"
                raise UserError(node.name, problem, "rename it")
    link = there.get(_RESOLV_CONF)
    if link and stat.S_ISLNK(link.mode) and _resolve(there, _RESOLV_CONF) not in there:
        raise UserError(
            link.name,
            f"leads to {os.fsdecode(link.target)}, which is not in the root, and the kernel would not start",
            "leave it out; the kernel puts the host's in its place",
        )
    return sorted(there.values(), key=lambda node: node.path)


def _resolve(nodes: Mapping[bytes, Node], path: bytes) -> bytes:
    """Return where a path leads inside of the root, whether there is something or not."""
    links: list[Node] = []

    def target(place: bytes) -> bytes | None:
        node = nodes.get(place)
        if node is None or not stat.S_ISLNK(node.mode):
            return None
        links.append(node)
        return node.target

    place = follow(path, b"", lambda above, name: above + b"/" + name if above else name, target)
    if place is None:
        raise UserError(links[-1].name, "is a symbolic link in a circle", "remove it")
    return place
