"""LUKS1: the header of an encrypted disk, its key slots, and AES-XTS (docs/disks.md).

The source is the LUKS1 on-disk format specification, version 1.2.3 (Clemens Fruhwirth). Mystikos
takes the master key itself; a key slot, where a passphrase is wanted, serves cryptsetup.
"""

from __future__ import annotations

import hashlib
import hmac
import uuid as uuids
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mystikos_tool.errors import UserError
from mystikos_tool.formats.record import Field, Record
from mystikos_tool.io.atomic import read_input

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers import Cipher, modes

SECTOR = 512
KEY_SIZE = 64
PAYLOAD_SECTOR = 4096
PAYLOAD_OFFSET = PAYLOAD_SECTOR * SECTOR
SLOTS = 8
STRIPES = 4000
MAGIC = b"LUKS\xba\xbe"
MIN_PASSPHRASE, MAX_PASSPHRASE = 14, 512

_DIGEST_SIZE = 20
_SALT_SIZE = 32
_FIRST_SLOT_SECTOR = 8
_SLOT_SECTORS = 504
_SLOT_ACTIVE, _SLOT_FREE = 0x00AC71F3, 0x0000DEAD

# The master key is random: nothing is gained by stretching it. A passphrase is stretched as OWASP's
# cheat sheet on password storage asks for PBKDF2-HMAC-SHA256, and more.
_MASTER_ITERATIONS = 1000
PASSPHRASE_ITERATIONS = 1_000_000
_MAX_ITERATIONS = 10_000_000

_FIXED: dict[str, int | bytes] = {
    "magic": MAGIC,
    "version": 1,
    "cipher": b"aes",
    "mode": b"xts-plain64",
    "hash": b"sha256",
    "payload_sector": PAYLOAD_SECTOR,
    "key_size": KEY_SIZE,
}

HEADER = Record(
    592,
    (
        Field("magic", 0, "6s"),
        Field("version", 6, "H"),
        Field("cipher", 8, "32s", filled=True),
        Field("mode", 40, "32s", filled=True),
        Field("hash", 72, "32s", filled=True),
        Field("payload_sector", 104, "I"),
        Field("key_size", 108, "I"),
        Field("digest", 112, "20s"),
        Field("digest_salt", 132, "32s"),
        Field("digest_iterations", 164, "I"),
        Field("uuid", 168, "40s", filled=True),
        Field("slots", 208, "384s"),
    ),
    ">",
)

SLOT = Record(
    48,
    (
        Field("state", 0, "I"),
        Field("iterations", 4, "I"),
        Field("salt", 8, "32s"),
        Field("sector", 40, "I"),
        Field("stripes", 44, "I"),
    ),
    ">",
)


class Encryption(NamedTuple):
    """How a disk is encrypted: the master key of 64 bytes, and a passphrase for cryptsetup if wanted."""

    key: bytes
    passphrase: bytes | None = None
    iterations: int = PASSPHRASE_ITERATIONS

    def __repr__(self) -> str:
        return "Encryption()"

    def derive(self, purpose: str, size: int) -> bytes:
        """Return bytes that follow from the master key and tell nothing of it (as RFC 5869 expands)."""
        info = b"mystikos-tool disk: " + purpose.encode()
        blocks = [b""]
        # A counter of 4 bytes instead of 1, for key slots need more than 255 blocks.
        for counter in range(1, -(-size // 32) + 1):
            blocks.append(hmac.digest(self.key, blocks[-1] + info + counter.to_bytes(4, "big"), "sha256"))
        return b"".join(blocks)[:size]


def header(encryption: Encryption, identity: bytes) -> bytes:
    """Return all before the payload: header, key slots and their material, 2 MiB.

    Salts and the filling of the key slot follow from the master key and ``identity``, by which
    disks of one key differ; so the same disk has the same header.
    """
    label = identity.hex()
    salt = encryption.derive(f"digest salt {label}", _SALT_SIZE)
    slots = [_free_slot(number) for number in range(SLOTS)]
    material = b""
    if encryption.passphrase is not None:
        slots[0], material = _active_slot(encryption, label)
    packed = HEADER.pack(
        {
            **_FIXED,
            "digest": hashlib.pbkdf2_hmac("sha256", encryption.key, salt, _MASTER_ITERATIONS, _DIGEST_SIZE),
            "digest_salt": salt,
            "digest_iterations": _MASTER_ITERATIONS,
            "uuid": str(uuids.UUID(bytes=encryption.derive(f"uuid {label}", 16), version=4)).encode(),
            "slots": b"".join(SLOT.pack(slot) for slot in slots),
        }
    )
    before = packed.ljust(_FIRST_SLOT_SECTOR * SECTOR, b"\0")
    return (before + material).ljust(PAYLOAD_OFFSET, b"\0")


def _free_slot(number: int) -> dict[str, int | bytes]:
    return {
        "state": _SLOT_FREE,
        "sector": _FIRST_SLOT_SECTOR + number * _SLOT_SECTORS,
        "stripes": STRIPES,
    }


def _active_slot(encryption: Encryption, label: str) -> tuple[dict[str, int | bytes], bytes]:
    """Return the first slot and its material: the master key, split and encrypted by the passphrase."""
    salt = encryption.derive(f"slot salt {label}", _SALT_SIZE)
    random = encryption.derive(f"slot filling {label}", (STRIPES - 1) * KEY_SIZE)
    slot = {
        **_free_slot(0),
        "state": _SLOT_ACTIVE,
        "iterations": encryption.iterations,
        "salt": salt,
    }
    stripes = split(encryption.key, random)
    return slot, encrypt(_slot_key(encryption.passphrase or b"", slot), stripes, 0)


def _slot_key(passphrase: bytes, slot: dict[str, int | bytes]) -> bytes:
    return hashlib.pbkdf2_hmac(
        "sha256",
        passphrase,
        bytes(slot["salt"]),
        int(slot["iterations"]),
        KEY_SIZE,
    )


def split(key: bytes, random: bytes) -> bytes:
    """Split a key into stripes of its size, of which all are needed; ``random`` has all but the last."""
    last = bytes(len(key))
    for at in range(0, len(random), len(key)):
        last = _diffuse(_xor(last, random[at : at + len(key)]))
    return random + _xor(last, key)


def _diffuse(data: bytes) -> bytes:
    """Spread each bit over a block of the hash: SHA-256 of number and block, block by block."""
    pieces = (data[at : at + 32] for at in range(0, len(data), 32))
    return b"".join(
        hashlib.sha256(number.to_bytes(4, "big") + piece).digest()[: len(piece)]
        for number, piece in enumerate(pieces)
    )


def _xor(first: bytes, second: bytes) -> bytes:
    return (int.from_bytes(first, "big") ^ int.from_bytes(second, "big")).to_bytes(len(first), "big")


def encrypt(key: bytes, data: bytes, sector: int) -> bytes:
    """Encrypt whole sectors of 512 bytes, the first of which has the number ``sector``."""
    return _crypt(lambda cipher: cipher.encryptor().update, key, data, sector)


def decrypt(key: bytes, data: bytes, sector: int) -> bytes:
    """Undo `encrypt`."""
    return _crypt(lambda cipher: cipher.decryptor().update, key, data, sector)


def _crypt(
    update: Callable[[Cipher[modes.XTS]], Callable[[bytes | memoryview], bytes]],
    key: bytes,
    data: bytes,
    sector: int,
) -> bytes:
    # Loaded where something is encrypted: measuring does without the library.
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    algorithm, view = algorithms.AES(key), memoryview(data)
    pieces = []
    for at in range(0, len(data), SECTOR):
        tweak = (sector + at // SECTOR).to_bytes(16, "little")
        pieces.append(update(Cipher(algorithm, modes.XTS(tweak)))(view[at : at + SECTOR]))
    return b"".join(pieces)


def load_key(path: Path) -> bytes:
    """Return the master key in a file, 64 bytes; raise UserError for what is none."""
    key = read_input(path, "key file")
    if len(key) != KEY_SIZE:
        raise UserError(
            str(path),
            f"has {len(key)} bytes, and a master key has {KEY_SIZE}",
            f"make one: head -c {KEY_SIZE} /dev/urandom > FILE",
        )
    if key[: KEY_SIZE // 2] == key[KEY_SIZE // 2 :]:
        raise UserError(str(path), "has two equal halves, which XTS refuses", "make a random one")
    return key


def is_header(start: bytes) -> bool:
    """Tell whether what begins like this is a LUKS disk."""
    return start.startswith(MAGIC)


def check_key(start: bytes, key: bytes, where: str) -> None:
    """Raise UserError unless a header is one that Mystikos reads, and of this master key."""
    fields = HEADER.unpack(start[: HEADER.size].ljust(HEADER.size, b"\0"))
    if any(bytes(_padded(fields[name])) != bytes(_padded(value)) for name, value in _FIXED.items()):
        raise UserError(where, "is not encrypted as Mystikos reads it", "make it with 'mystikos-tool mkext2'")
    iterations = int(fields["digest_iterations"])
    if not 0 < iterations <= _MAX_ITERATIONS:
        raise UserError(where, f"its header asks for {iterations} iterations", "do not trust this disk")
    digest = hashlib.pbkdf2_hmac("sha256", key, bytes(fields["digest_salt"]), iterations, _DIGEST_SIZE)
    if not hmac.compare_digest(digest, bytes(fields["digest"])):
        raise UserError(where, "is encrypted with another key", "give the key file it was made with")


def _padded(value: int | bytes) -> bytes:
    return str(value).encode() if isinstance(value, int) else value.rstrip(b"\0")
