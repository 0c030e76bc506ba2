"""Private keys in a root, which go with the package to everybody who has it.

They are found by their content, in whatever file, in the forms of :mod:`key_forms`, and in what is
compressed or in a zip archive (:mod:`mystikos_tool.formats.packed`), once deep: what is packed in there is
not looked into. On a disk, which may be large, only files that are no larger than a file with a key is.
"""

from __future__ import annotations

import marshal
import os
import stat
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mystikos_tool import printable
from mystikos_tool.errors import UserError
from mystikos_tool.formats import packed
from mystikos_tool.formats.cpio import Member
from mystikos_tool.io.content import Bytes, Content, FileContent, Window
from mystikos_tool.root.archive import Archive
from mystikos_tool.root.root import DiskRoot, Root
from mystikos_tool.root.tree import Entry
from mystikos_tool.signing import key_forms, mark_worker, rsa_public
from mystikos_tool.signing.key_forms import Form

if TYPE_CHECKING:
    from mystikos_tool.formats.ext2_reader import Member as DiskMember
    from mystikos_tool.signing.signer import Signer

WARN, ERROR, ALLOW = POLICIES = ("warn", "error", "allow")

MOST_UNPACKED = 1 << 22  # bytes of what is packed in one file
LARGEST_ON_DISK = 2 * key_forms.LONGEST

_CHUNK = 1 << 22
_ALONE = 1 << 24  # bytes that are worth a process: they take a tenth of a second
_ITSELF = ""  # the path of what is looked into where that is no root
_SHOWN = 10


class RootKey(NamedTuple):
    """A private key in a root: its path there, and what stands for it as a signer (`rsa_public.identity`).

    ``signer`` is "" for what is no RSA key, and where that is not to be seen. ``encrypted`` stands for
    a key that needs a passphrase, see `key_forms.encrypted`; ``inside`` is its name in the archive that
    ``path`` is.
    """

    path: str
    signer: str
    encrypted: str = ""
    inside: str = ""

    @property
    def shown(self) -> str:
        """What messages call its place."""
        return f"/{self.path} ({self.inside})" if self.inside else f"/{self.path}"


def refuse_signer_in_text(text: bytes, modulus: int, where: str, signer: Signer | None = None) -> None:
    """Raise UserError as :func:`refuse_signer` does for a configuration, which goes into the package too."""
    refuse_signer(_keys_of(_ITSELF, Bytes(text)), modulus, where, signer)


def told_of_text(text: bytes, where: str, policy: str) -> list[str]:
    """Return as :func:`told` what is to be warned of in a configuration."""
    return told(_keys_of(_ITSELF, Bytes(text)), where, policy)


def of(root: Root) -> list[RootKey]:
    """Return the private keys in a root; of a disk that is not at hand, or encrypted, none."""
    if isinstance(root, DiskRoot):
        return on_disk(root.path) if root.path else []
    return in_archive(root.index())


def in_archive(archive: Archive) -> list[RootKey]:
    """Return the private keys in an archive, in its order; it is read once, in pieces."""
    members = archive.members  # in the order of their data
    starts = [member.offset for member in members]
    keys: list[tuple[int, RootKey]] = []
    for at, block in _blocks(archive.content):
        number = bisect_right(starts, at) - 1
        keys.append((number, _root_key(name_of(members[number].path), block)))
    for number in _packed_members(archive):
        member = members[number]
        content = archive.content_of(member)
        keys += [(number, key) for key in _packed_keys(name_of(member.path), content)]
    keys.sort(key=itemgetter(0))
    return list(dict.fromkeys(key for _, key in keys))


def _packed_members(archive: Archive) -> list[int]:
    """Return the numbers of files that are looked into."""
    with archive.content.at_any_offset() as read_at:
        read = Window(read_at).read
        return [
            number
            for number, member in enumerate(archive.members)
            if stat.S_ISREG(member.mode) and packed.is_packed(read(member.offset, packed.LONGEST_MAGIC))
        ]


def in_changed(archive: Archive, unchanged: Collection[bytes], before: Iterable[RootKey]) -> list[RootKey]:
    """Return the private keys in an archive, of which only what is not ``unchanged`` is read.

    ``before`` are the keys of the archive that the unchanged paths are from.
    """
    known = _by_path(before)
    keys: list[RootKey] = []
    for member in archive.members:
        if member.path not in unchanged:
            keys += _keys_of(name_of(member.path), archive.content_of(member))
        elif known:
            keys += known.get(name_of(member.path), ())
    return keys


def on_disk(path: Path) -> list[RootKey]:
    """Return the private keys in the small files of a disk, in the order of their paths.

    Of an encrypted disk there are none: who has it cannot read them. Raises UserError for what is no disk.
    """
    from mystikos_tool.formats import luks
    from mystikos_tool.root.disk.index import DiskIndex

    with path.open("rb") as file:
        if luks.is_header(file.read(len(luks.MAGIC))):
            return []
    disk, keys = DiskIndex(path), list[RootKey]()
    for member in disk.members:
        if _may_hold_keys(member):
            keys += _keys_of(name_of(member.path), Bytes(disk.data(member)))
    return keys


def in_entries(entries: Iterable[Entry], before: Iterable[RootKey] = ()) -> list[RootKey]:
    """Return the private keys that the entries of a tree bring to a disk, with those of ``before``."""
    keys = list(before)
    for entry in entries:
        if _may_hold_keys(entry):
            keys += _keys_of(name_of(entry.path), Bytes(b"".join(entry.chunks())))
    return sorted(keys)


def _may_hold_keys(file: Member | DiskMember | Entry) -> bool:
    return stat.S_ISREG(file.mode) and 0 < file.size <= LARGEST_ON_DISK


def _by_path(keys: Iterable[RootKey]) -> dict[str, list[RootKey]]:
    known: dict[str, list[RootKey]] = {}
    for key in keys:
        known.setdefault(key.path, []).append(key)
    return known


def _keys_of(path: str, content: Content) -> list[RootKey]:
    """Return the keys in a file, as it is and packed."""
    found = [_root_key(path, block) for _, block in _blocks(content)]
    return list(dict.fromkeys([*found, *_packed_keys(path, content)]))


def _packed_keys(path: str, content: Content) -> Iterator[RootKey]:
    for name, pieces in groupby(packed.unpacked(content, MOST_UNPACKED), itemgetter(0)):
        for _, block in _blocks_in(data for _, data in pieces):
            yield _root_key(path, block)._replace(inside=printable.one_line(name))


def _root_key(path: str, block: _Block) -> RootKey:
    modulus = block.form.modulus(block.data)
    return RootKey(path, rsa_public.identity(modulus) if modulus else "", key_forms.encrypted(block.data))


def name_of(path: bytes) -> str:
    """Return what messages call a path."""
    return printable.one_line(os.fsdecode(path))


class _Block(NamedTuple):
    """What holds a key, and its form."""

    form: Form
    data: bytes


def _blocks(content: Content) -> Iterator[tuple[int, _Block]]:
    """Yield what holds a private key, and its offset; some twice, where pieces overlap."""
    if not isinstance(content, FileContent) or content.size < 2 * _ALONE:
        yield from _blocks_in(content.chunks(_CHUNK))
        return
    for offset, size in _marked(content):
        part = FileContent(content.path, size, offset)
        yield from ((offset - content.offset + at, block) for at, block in _blocks_in(part.chunks(size)))


def _marked(content: FileContent) -> list[tuple[int, int]]:
    """Return offset and size of the parts of a large file that may hold keys, each with what is before it.

    They are looked for on all cores.
    """
    from mystikos_tool.io.workers import Worker, shares  # small roots do without

    parts = []
    for start in range(0, content.size, _CHUNK):
        begin = max(start - key_forms.LONGEST, 0)
        parts.append((content.offset + begin, min(start + _CHUNK, content.size) - begin))
    path, marks = os.fsencode(content.path), [form.mark for form in key_forms.FORMS]
    first, *others = shares(parts, _ALONE // _CHUNK)
    searches = [(path, list(share), marks) for share in others]
    started = [Worker(mark_worker.__file__, given=marshal.dumps(search)) for search in searches]
    try:
        found = mark_worker.marked((path, list(first), marks))
        for search, worker in zip(searches, started, strict=True):
            output = worker.output()
            found += mark_worker.marked(search) if output is None else marshal.loads(output)
    finally:
        for worker in started:
            worker.end()
    return found


def _blocks_in(chunks: Iterable[bytes | memoryview]) -> Iterator[tuple[int, _Block]]:
    data = b""
    end = 0
    for chunk in chunks:
        data = data[-key_forms.LONGEST :] + bytes(chunk)
        end += len(chunk)
        for form in key_forms.FORMS:
            if form.mark in data:
                yield from ((end - len(data) + at, _Block(form, block)) for at, block in form.find(data))


def refuse_signer(keys: Sequence[RootKey], modulus: int, where: str, signer: Signer | None = None) -> None:
    """Raise UserError where the key that signs is in the root: who has the package would have it.

    ``signer`` is who signs, where that is known: of one with a passphrase the root may have the file.
    """
    if not keys:
        return
    from mystikos_tool.signing.pem import PemSigner  # loads a library, and few roots have keys

    own = rsa_public.identity(modulus)
    protected = (signer.encrypted if isinstance(signer, PemSigner) else "") or None
    places = [key for key in keys if key.signer == own or key.encrypted == protected]
    if places:
        at = "" if places[0].path == _ITSELF else f", at {places[0].shown}"
        raise UserError(
            where,
            f"holds the key that signs{at}: everybody who has the package would have it",
            "take it out of there, and make a new key if a package with it was given away",
        )


def told_of_disk(entries: Iterable[Entry], where: str, signer: Signer | None, policy: str) -> list[str]:
    """Return what is to be told of private keys that go onto a disk, as `told`; refuse that of its signer."""
    keys = in_entries(entries)
    if signer:
        refuse_signer(keys, signer.modulus, where, signer)
    return told(keys, where, policy)


def told(keys: Sequence[RootKey], where: str, policy: str) -> list[str]:
    """Return what is to be warned of; raise UserError where private keys are an error."""
    if not keys or policy == ALLOW:
        return []
    paths = list(dict.fromkeys(key.shown for key in keys if key.path != _ITSELF))
    shown = printable.few(paths, _SHOWN)
    problem = "holds private keys, which everybody gets who has the package"
    problem += f": {shown}" if shown else ""
    if policy == ERROR:
        raise UserError(where, problem, "take them out, or allow them")
    return [f"{where}: {problem}"]
