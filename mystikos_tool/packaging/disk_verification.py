"""What is proved of a disk: that it is what its root hash says, and who trusts it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mystikos_tool.errors import UserError
from mystikos_tool.packaging import sections
from mystikos_tool.packaging.opened import Opened
from mystikos_tool.packaging.verification import FORMAT, VerificationError
from mystikos_tool.root.disk import reader
from mystikos_tool.root.disk.reader import DiskFile
from mystikos_tool.signing import disk_trust, trusted

_ANOTHER = "take the disk that was expected"


@dataclass(frozen=True)
class DiskVerification:
    """What was proved of a disk.

    ``signer`` is the SHA-256 of the modulus that its FSSIG names, None for nobody. ``proved`` and
    ``unproved`` are sentences for people.
    """

    root_hash: bytes
    signer: bytes | None
    proved: tuple[str, ...]
    unproved: tuple[str, ...]

    def to_json(self) -> str:
        """Return one JSON object; digests are in hexadecimal."""
        document = {
            "format": FORMAT,
            "verified": True,
            "root_hash": self.root_hash.hex(),
            "signer": self.signer.hex() if self.signer else None,
            "proved": self.proved,
            "unproved": self.unproved,
        }
        return json.dumps(document, indent=1)

    def to_text(self) -> str:
        """Return lines for people."""
        lines = [
            f"root hash {self.root_hash.hex()}",
            f"signer {self.signer.hex() if self.signer else 'none'}",
            *(f"proved: {fact}" for fact in self.proved),
            *(f"not proved: {fact}" for fact in self.unproved),
        ]
        return "\n".join(lines)


def verify(path: Path, *, pubkeys: Sequence[Path] = (), root_hash: bytes | None = None) -> DiskVerification:
    """Hold every block of a disk against its root hash, and that against what is expected.

    ``pubkeys`` are PEM files of which one has to have signed the disk. Raises VerificationError for a
    disk that is not whole or another one, and UserError for what is none.
    """
    keys = b"".join(trusted.load_public_key(key) + b"\0" for key in pubkeys)
    with _whole(path) as disk:
        found = disk.fssig
        proved = ["every block of the data, and the hash tree, is what the root hash says"]
        unproved = []
        if root_hash is not None and found.root_hash != root_hash:
            problem = f"the root hash is {found.root_hash.hex()}, expected is {root_hash.hex()}"
            raise VerificationError(str(path), problem, _ANOTHER)
        if pubkeys and not disk_trust.trusted_by(found, keys, b""):
            raise VerificationError(str(path), "is signed by none of the keys that are given", _ANOTHER)
        if root_hash is not None:
            proved.append("the root hash is the one that was expected")
        if pubkeys:
            proved.append("the root hash is signed by a key that was given")
        if not (pubkeys or root_hash):
            unproved.append("whose disk it is: no key and no root hash was expected (--signer, --roothash)")
        return DiskVerification(
            found.root_hash, found.signer if found.signature else None, tuple(proved), tuple(unproved)
        )


def check_trusted(package: Opened, path: Path) -> str:
    """Hold a disk against its root hash and against a package that is to trust it; return what is proved.

    Raises VerificationError for a disk that is not whole, and for one that the package does not trust.
    """
    keys = package.content(sections.PUBKEYS).read()
    hashes = package.content(sections.ROOTHASHES).read()
    with _whole(path) as disk:
        by = disk_trust.trusted_by(disk.fssig, keys, hashes)
    if by is None:
        problem = f"is trusted by no public key and no root hash of {package.path}"
        raise VerificationError(str(path), problem, _ANOTHER)
    return f"the disk {path} is trusted by a {by} of the package, and every block of it is what its hash says"


@contextmanager
def _whole(path: Path) -> Iterator[DiskFile]:
    with reader.opened(path) as disk:
        try:
            disk.check()
        except UserError as error:
            raise VerificationError(error.where, error.problem, error.remedy) from None
        yield disk
