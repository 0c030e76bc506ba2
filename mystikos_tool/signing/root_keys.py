"""Private keys in a root, which go with the package to everybody who has it.

They are found by their content, in whatever file, in the forms of :mod:`key_forms`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from mystikos_tool.errors import UserError
from mystikos_tool.formats.cpio import Member
from mystikos_tool.formats.sigstruct import KEY_SIZE, mrsigner
from mystikos_tool.io.content import Content
from mystikos_tool.root.archive import Archive
from mystikos_tool.root.root import DiskRoot, Root
from mystikos_tool.signing import key_forms
from mystikos_tool.signing.key_forms import Form

if TYPE_CHECKING:
    from mystikos_tool.signing.signer import Signer

WARN, ERROR, ALLOW = POLICIES = ("warn", "error", "allow")

_CHUNK = 1 << 22
_SHOWN = 10


class RootKey(NamedTuple):
    """A private key in a root: its path there, and MRSIGNER of what it signs.

    MRSIGNER is "" for a key that signs no enclaves, and where that is not to be seen. ``encrypted`` stands
    for a key that needs a passphrase, see `key_forms.encrypted`.
    """

    path: str
    mrsigner: str
    encrypted: str = ""


def of(root: Root) -> list[RootKey]:
    """Return the private keys in an archive; those on a disk, which is in no package, are not looked for."""
    return [] if isinstance(root, DiskRoot) else in_archive(root.index())


def in_archive(archive: Archive) -> list[RootKey]:
    """Return the private keys in an archive, in its order; it is read once, in pieces."""
    members = archive.members  # in the order of their data
    starts = [member.offset for member in members]
    blocks = ((members[bisect_right(starts, at) - 1], block) for at, block in _blocks(archive.content))
    return _found(blocks)


def in_changed(archive: Archive, unchanged: Collection[bytes], before: Iterable[RootKey]) -> list[RootKey]:
    """Return the private keys in an archive, of which only what is not ``unchanged`` is read.

    ``before`` are the keys of the archive that the unchanged paths are from.
    """
    known: dict[str, list[RootKey]] = {}
    for key in before:
        known.setdefault(key.path, []).append(key)
    keys: list[RootKey] = []
    for member in archive.members:
        if member.path not in unchanged:
            keys += _found((member, block) for _, block in _blocks(archive.content_of(member)))
        elif known:
            keys += known.get(_shown(member), ())
    return keys


def _found(blocks: Iterable[tuple[Member, _Block]]) -> list[RootKey]:
    return list(dict.fromkeys(_root_key(member, block) for member, block in blocks))


def _root_key(member: Member, block: _Block) -> RootKey:
    modulus = key_forms.enclave_modulus(block.form, block.data)
    signs = mrsigner(modulus).hex() if modulus else ""
    return RootKey(_shown(member), signs, key_forms.encrypted(block.data))


def _shown(member: Member) -> str:
    return member.path.decode(errors="backslashreplace")


class _Block(NamedTuple):
    """What holds a key, and its form."""

    form: Form
    data: bytes


def _blocks(content: Content) -> Iterator[tuple[int, _Block]]:
    """Yield what holds a private key, and its offset; some twice, where pieces overlap."""
    data = b""
    end = 0
    for chunk in content.chunks(_CHUNK):
        data = data[-key_forms.LONGEST :] + bytes(chunk)
        end += len(chunk)
        for form in key_forms.FORMS:
            if form.mark in data:
                yield from ((end - len(data) + at, _Block(form, block)) for at, block in form.find(data))


def refuse_signer(keys: Sequence[RootKey], modulus: int, where: str, signer: Signer | None = None) -> None:
    """Raise UserError where the key that signs is in the root: who has the package would have it.

    ``signer`` is who signs, where that is known: of one with a passphrase the root may have the file.
    """
    if not keys or modulus.bit_length() != KEY_SIZE * 8:
        return
    from mystikos_tool.signing.pem import PemSigner  # loads a library, and few roots have keys

    own = mrsigner(modulus).hex()
    protected = (signer.encrypted if isinstance(signer, PemSigner) else "") or None
    paths = [key.path for key in keys if key.mrsigner == own or key.encrypted == protected]
    if paths:
        raise UserError(
            where,
            f"holds the key that signs, at /{paths[0]}: everybody who has the package would have it",
            "take it out of the root, and make a new key if a package with it was given away",
        )


def told(keys: Sequence[RootKey], where: str, policy: str) -> list[str]:
    """Return what is to be warned of; raise UserError where private keys are an error."""
    if not keys or policy == ALLOW:
        return []
    paths = list(dict.fromkeys(f"/{key.path}" for key in keys))
    more = len(paths) - _SHOWN
    shown = ", ".join(paths[:_SHOWN]) + (f" and {more:,} more" if more > 0 else "")
    problem = f"holds private keys, which everybody gets who has the package: {shown}"
    if policy == ERROR:
        raise UserError(where, problem, "take them out of the root, or allow them")
    return [f"{where}: {problem}"]
