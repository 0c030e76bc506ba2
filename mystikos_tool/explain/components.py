"""The packages that a root file system tells of: those of dpkg, apk, Python and npm."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from email.parser import HeaderParser
from itertools import islice

from mystikos_tool.formats.cpio import Member
from mystikos_tool.printable import printable
from mystikos_tool.root.archive import Archive

# Components that are told of, and bytes that are read of a database and of one package's own file.
MAX_COMPONENTS = 50_000
_MAX_DATABASE = 1 << 26
_MAX_METADATA = 1 << 20

_DPKG = re.compile(rb"var/lib/dpkg/(?:status|status\.d/[^/]+)")
_APK = re.compile(rb"(?:usr/)?lib/apk/db/installed")
_PYTHON = re.compile(rb"(?:.*/)?[^/]+\.(?:dist-info/METADATA|egg-info/PKG-INFO|egg-info)")
_NPM = re.compile(rb"(?:.*/)?node_modules/(?:@[^/]+/)?[^/]+/package\.json")
_SYSTEMS = (b"etc/os-release", b"usr/lib/os-release")


@dataclass(frozen=True, order=True)
class Component:
    """A package that is in a root, as its package manager calls it.

    ``kind`` is the type of its package URL: "deb", "apk", "pypi" or "npm"; ``namespace`` is the
    distribution, or the scope of npm. ``source`` is the file that tells of it.
    """

    kind: str
    namespace: str | None
    name: str
    version: str
    architecture: str | None
    license: str | None
    source: str


def components(root: Archive) -> list[Component]:
    """Return what a root tells of its packages, each once, in order; what cannot be read is left out."""
    return sorted(set(islice(_found(root), MAX_COMPONENTS)), key=_key)


def _key(component: Component) -> tuple[str, ...]:
    return tuple(str(value) for value in vars(component).values())


def _found(root: Archive) -> Iterator[Component]:
    system = _system(root)
    for member in root.members:
        source = printable(member.path)
        if _DPKG.fullmatch(member.path):
            yield from _dpkg(_read(root, member, _MAX_DATABASE), system or "debian", source)
        elif _APK.fullmatch(member.path):
            yield from _apk(_read(root, member, _MAX_DATABASE), system or "alpine", source)
        elif _PYTHON.fullmatch(member.path):
            yield from _python(_read(root, member, _MAX_METADATA), source)
        elif _NPM.fullmatch(member.path):
            yield from _npm(_read(root, member, _MAX_METADATA), source)


def _read(root: Archive, member: Member, limit: int) -> str:
    """Return a text that is not larger than it may be, else nothing."""
    return root.data(member).decode(errors="replace") if member.size <= limit else ""


def _system(root: Archive) -> str | None:
    """Return the ID of os-release, such as "debian"."""
    for path in _SYSTEMS:
        member = root.by_path.get(path)
        text = _read(root, member, _MAX_METADATA) if member else ""
        if found := re.search(r'^ID="?([a-z0-9._-]+)"?\s*$', text, re.MULTILINE):
            return found[1]
    return None


def _dpkg(text: str, system: str, source: str) -> Iterator[Component]:
    for paragraph in re.split(r"\n\s*\n", text):
        fields = dict(re.findall(r"^([A-Za-z-]+): *(.*)$", paragraph, re.MULTILINE))
        # A file of status.d, in an image without dpkg, has no state.
        if "installed" in fields.get("Status", "installed").split():
            values = fields.get("Package"), fields.get("Version"), fields.get("Architecture"), None
            yield from _component("deb", system, source, *values)


def _apk(text: str, system: str, source: str) -> Iterator[Component]:
    for paragraph in text.split("\n\n"):
        fields = dict(re.findall(r"^([PVAL]):(.*)$", paragraph, re.MULTILINE))
        values = (fields.get(letter) for letter in "PVAL")
        yield from _component("apk", system, source, *values)


def _python(text: str, source: str) -> Iterator[Component]:
    fields = HeaderParser().parsestr(text, headersonly=True)
    name = re.sub(r"[-_.]+", "-", str(fields["Name"] or "")).lower()  # as PyPI compares names
    license_ = fields["License-Expression"] or fields["License"]
    shown = str(license_).splitlines()[0] if license_ and str(license_).strip() else None
    yield from _component("pypi", None, source, name, str(fields["Version"] or ""), None, shown)


def _npm(text: str, source: str) -> Iterator[Component]:
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        return
    if not isinstance(fields, dict):
        return
    name, version, license_ = (fields.get(key) for key in ("name", "version", "license"))
    if isinstance(name, str) and isinstance(version, str):
        scope, _, own = name.rpartition("/")
        shown = license_ if isinstance(license_, str) else None
        yield from _component("npm", scope or None, source, own, version, None, shown)


def _component(
    kind: str,
    namespace: str | None,
    source: str,
    name: str | None,
    version: str | None,
    architecture: str | None,
    license_: str | None,
) -> Iterator[Component]:
    """Yield a component where its name and version are told: of blanks and slashes a URL keeps nothing."""
    if name and version and all(any(map(str.isalnum, text)) for text in (name, version)):
        yield Component(
            kind,
            namespace and printable(namespace),
            printable(name),
            printable(version),
            architecture and printable(architecture),
            license_ and printable(license_),
            source,
        )
