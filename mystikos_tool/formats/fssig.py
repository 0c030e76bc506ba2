"""FSSIG: the last 4096 bytes of a disk: where its hash tree is and who signed it (docs/disks.md)."""

from __future__ import annotations

import hashlib
from typing import NamedTuple, Protocol

from mystikos_tool.errors import UserError
from mystikos_tool.formats import pkcs1
from mystikos_tool.formats.record import Field, Record

SIZE = 4096
MAGIC = 0xF55198A153624D38
MAX_SIGNATURE = 1024
_VERSION = 1
_BLOCK = 4096

FSSIG = Record(
    SIZE,
    (
        Field("magic", 0, "Q"),
        Field("version", 8, "Q"),
        Field("hash_offset", 16, "Q"),
        Field("root_hash", 24, "32s"),
        Field("signer", 56, "32s"),
        Field("signature", 88, "1024s", filled=True),
        Field("signature_size", 1112, "Q"),
    ),
)


class Signer(Protocol):
    """An RSA key of any size up to 8192 bits and any exponent, wherever it is kept."""

    @property
    def modulus(self) -> int:
        """The public modulus."""

    @property
    def exponent(self) -> int:
        """The public exponent."""

    def sign(self, digest: bytes) -> bytes:
        """Return the PKCS#1 v1.5 signature of a SHA-256 digest, which is not hashed again; big-endian."""


class Fssig(NamedTuple):
    """What an FSSIG says; ``signer`` is 32 zeros and ``signature`` empty where nobody signed."""

    hash_offset: int
    root_hash: bytes
    signer: bytes = bytes(32)
    signature: bytes = b""


def signer_of(modulus: int) -> bytes:
    """Return what names a key: SHA-256 of its modulus, big-endian without leading zeros."""
    return hashlib.sha256(modulus.to_bytes(_bytes_of(modulus), "big")).digest()


def build(hash_offset: int, root_hash: bytes, signer: Signer | None = None) -> bytes:
    """Return the 4096 bytes, signed if there is a signer.

    Raises UserError for a key of more than 8192 bits and for a signature that is not the signer's.
    """
    signed = Fssig(hash_offset, root_hash)
    if signer:
        if _bytes_of(signer.modulus) > MAX_SIGNATURE:
            raise UserError("the signer", "has a key of more than 8192 bits", "sign with a shorter key")
        signature = signer.sign(root_hash)
        signed = signed._replace(signer=signer_of(signer.modulus), signature=signature)
        if not verify(signed, signer.modulus, signer.exponent):
            raise UserError(
                "the signer", "gave a signature that is not its key's", "sign with the key it names"
            )
    return FSSIG.pack(
        {
            "magic": MAGIC,
            "version": _VERSION,
            **signed._asdict(),
            "signature_size": len(signed.signature),
        }
    )


def is_one(start: bytes) -> bool:
    """Tell whether bytes are the magic number that an FSSIG begins with."""
    return start == MAGIC.to_bytes(8, "little")


def parse(block: bytes, size: int, where: str) -> Fssig:
    """Read the last 4096 bytes of a disk of ``size`` bytes; raise UserError for what the kernel refuses."""
    remedy = "make it with 'mystikos-tool mkext2'"
    if len(block) != SIZE or FSSIG.get_int(block, "magic") != MAGIC:
        raise UserError(where, "has no FSSIG in its last 4096 bytes", remedy)
    fields = FSSIG.unpack(block)
    offset, length = int(fields["hash_offset"]), int(fields["signature_size"])
    if fields["version"] != _VERSION:
        raise UserError(where, f"its FSSIG has the version {int(fields['version'])}", remedy)
    if offset % _BLOCK or not 0 < offset < size:
        raise UserError(where, f"its FSSIG names {offset} as offset of the hash tree", remedy)
    if length > MAX_SIGNATURE:
        raise UserError(where, f"its FSSIG has a signature of {length} bytes", remedy)
    return Fssig(
        offset, bytes(fields["root_hash"]), bytes(fields["signer"]), bytes(fields["signature"])[:length]
    )


def verify(fssig: Fssig, modulus: int, exponent: int) -> bool:
    """Tell whether the holder of an RSA key signed the root hash."""
    return fssig.signer == signer_of(modulus) and pkcs1.verifies(
        fssig.signature, fssig.root_hash, modulus, exponent
    )


def _bytes_of(modulus: int) -> int:
    return -(-modulus.bit_length() // 8)
