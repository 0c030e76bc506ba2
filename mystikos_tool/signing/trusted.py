"""What a package trusts on disks: public keys that sign them, and root hashes."""

from __future__ import annotations

import re
from pathlib import Path

from mystikos_tool.errors import UserError
from mystikos_tool.io.atomic import read_input
from mystikos_tool.root.disk.reader import is_disk, opened
from mystikos_tool.signing.pem_blocks import CERTIFICATE, PKCS1, PUBLIC, Block, blocks

_ROOT_HASH_DIGITS = 64


def load_public_key(path: Path) -> bytes:
    """Return the file of a public key that a package is to trust, unchanged.

    Raises UserError for anything but one RSA public key in PEM; above all for a private key,
    which would become public with the package.
    """
    if is_disk(path):
        problem = "is a disk, which does not hold the public key that it is signed with"
        raise UserError(str(path), problem, "give the public key, or trust the disk by its root hash")
    data = read_input(path, "public key file")
    _check_key(data, _only_block(data, path), str(path))
    return data


def _only_block(data: bytes, path: Path) -> Block:
    where, found = str(path), blocks(data)
    if any(block.holds_private_key for block in found):
        raise UserError(
            where,
            "is a private key, which must not go into a package",
            f"give its public half: openssl pkey -pubout -in {path} -out public.pem",
        )
    if any(block.label in CERTIFICATE for block in found):
        raise UserError(
            where, "is a certificate", f"give its key: openssl x509 -pubkey -noout -in {path} > public.pem"
        )
    if len(found) != 1 or found[0].label not in PUBLIC:
        remedy = "give a file that begins with -----BEGIN PUBLIC KEY-----"
        raise UserError(where, "is not one public key in PEM", remedy)
    if b"\0" in data:
        raise UserError(where, "has a NUL byte in it", "remove what does not belong to the key")
    return found[0]


def _check_key(data: bytes, block: Block, where: str) -> None:
    # Loaded where there is a key to look at: measuring and verifying do without the library.
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    try:
        key, der = serialization.load_pem_public_key(data), block.content()
    except (ValueError, UnsupportedAlgorithm):
        raise UserError(
            where, "the public key in it is damaged", "make it again from the private key"
        ) from None
    if not isinstance(key, rsa.RSAPublicKey):
        raise UserError(where, "is not an RSA key", "give the public half of the key that signs the disks")
    forms = serialization.PublicFormat
    form = forms.PKCS1 if block.label in PKCS1 else forms.SubjectPublicKeyInfo
    if key.public_bytes(serialization.Encoding.DER, form) != der:
        problem = "is encoded as Mystikos' kernel does not read it, as keys for RSA-PSS alone are"
        raise UserError(where, problem, "give that of an ordinary RSA key, as openssl rsa -pubout writes it")


def load_root_hash(path: Path) -> bytes:
    """Return a dm-verity root hash, 32 bytes: that of a disk, or what a file holds as hexadecimal digits.

    White space around the digits is allowed. Raises UserError for anything else. A disk is not held
    against its hash: an enclave that trusts it refuses what another hash would belong to.
    """
    if is_disk(path):
        with opened(path) as disk:
            return disk.fssig.root_hash
    digits = read_input(path, "root hash file").strip()
    if len(digits) != _ROOT_HASH_DIGITS or not re.fullmatch(rb"[0-9A-Fa-f]+", digits):
        raise UserError(
            str(path),
            "is not a root hash, a line of 64 hexadecimal digits",
            "give what veritysetup format shows as Root hash, or the disk",
        )
    return bytes.fromhex(digits.decode("ascii"))
