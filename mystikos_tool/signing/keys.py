"""Keys: who signs an enclave, and what a package trusts on disks.

    key = load_key(Path("private.pem"))
    key.sign(message)     # 384 bytes, big-endian

SGX fixes the key (SDM volume 3D, "Enclave Signature Structure"): RSA, 3072 bits, public
exponent 3. Private halves stay inside of the cryptography library's objects and are never shown.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from mystikos_tool.errors import UserError
from mystikos_tool.formats.sigstruct import EXPONENT, KEY_SIZE
from mystikos_tool.io.atomic import read_input

KEY_BITS = KEY_SIZE * 8

_KEYGEN = "make a key with: mystikos-tool keygen FILE"
_ROOT_HASH_DIGITS = 64
_NO_TMPFILE = {errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT}

_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)
_PRIVATE = {b"PRIVATE KEY", b"RSA PRIVATE KEY"}
_PUBLIC = {b"PUBLIC KEY", b"RSA PUBLIC KEY"}
_CERTIFICATE = {b"CERTIFICATE", b"TRUSTED CERTIFICATE", b"X509 CERTIFICATE"}

_ENCRYPTED = ("is encrypted", "give a decrypted copy: openssl pkey -in {path} -out FILE")
_NOT_RSA = ("is not an RSA key", _KEYGEN)
_DAMAGED = ("is a damaged private key", f"restore the file, or {_KEYGEN}")
_NOT_PRIVATE = {
    b"ENCRYPTED PRIVATE KEY": _ENCRYPTED,
    b"EC PRIVATE KEY": _NOT_RSA,
    b"DSA PRIVATE KEY": _NOT_RSA,
    b"OPENSSH PRIVATE KEY": ("is in OpenSSH's own form", "convert it: ssh-keygen -p -m PEM -f {path}"),
    **dict.fromkeys(_PUBLIC, ("holds only a public key", "give the private key")),
    **dict.fromkeys(_CERTIFICATE, ("holds a certificate, not a private key", "give the private key")),
}


@dataclass(frozen=True)
class SigningKey:
    """An RSA-3072 private key with public exponent 3; signs as `sigstruct.Signer` asks."""

    _key: rsa.RSAPrivateKey = field(repr=False)

    @property
    def modulus(self) -> int:
        """The public modulus, 3072 bits."""
        return self._key.public_key().public_numbers().n

    @property
    def mrsigner(self) -> bytes:
        """MRSIGNER of what this key signs: SHA-256 of the little-endian modulus, 32 bytes."""
        return hashlib.sha256(self.modulus.to_bytes(KEY_BITS // 8, "little")).digest()

    def sign(self, message: bytes) -> bytes:
        """Return the PKCS#1 v1.5 SHA-256 signature of ``message``: 384 bytes, big-endian."""
        return self._key.sign(message, padding.PKCS1v15(), hashes.SHA256())


def load_key(path: Path) -> SigningKey:
    """Read a private key in PEM, PKCS#8 or PKCS#1.

    Raises UserError for a file that is missing, unreadable, not PEM, encrypted, damaged, holds
    no private key, or a key that SGX does not take.
    """
    data = read_input(path, "key file")
    blocks = {match[1]: match[0] for match in _BLOCK.finditer(data)}
    block = next((blocks[label] for label in blocks if label in _PRIVATE), None)
    if block is None:
        raise _refused(path, _why_no_private_key(data, blocks))
    if b"ENCRYPTED" in block:  # the Proc-Type header of the traditional form
        raise _refused(path, _ENCRYPTED)
    try:
        # The library's own check proves both primes, which takes longer than a whole build; a key
        # that is wrong in them is found out by the check of every signature.
        key = serialization.load_pem_private_key(block, password=None, unsafe_skip_rsa_key_validation=True)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise _refused(path, _DAMAGED) from None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise _refused(path, _NOT_RSA)
    exponent = key.public_key().public_numbers().e
    if key.key_size != KEY_BITS:
        raise _refused(path, (f"is an RSA key of {key.key_size} bits, and SGX takes only 3072", _KEYGEN))
    if exponent != EXPONENT:
        raise _refused(path, (f"is an RSA key with exponent {exponent}, and SGX takes only 3", _KEYGEN))
    if not _is_consistent(key.private_numbers()):
        raise _refused(path, _DAMAGED)
    return SigningKey(key)


def _is_consistent(key: rsa.RSAPrivateNumbers) -> bool:
    """Whether a private key's numbers belong together."""
    p, q, d, public = key.p, key.q, key.d, key.public_numbers
    return p * q == public.n and (d * public.e - 1) % (p - 1) == 0 and (d * public.e - 1) % (q - 1) == 0


def _why_no_private_key(data: bytes, blocks: Iterable[bytes]) -> tuple[str, str]:
    for label, reason in _NOT_PRIVATE.items():
        if label in blocks:
            return reason
    if b"PRIVATE KEY-----" in data:
        return _DAMAGED
    if data.startswith(b"\x30\x82"):
        return "is not PEM but DER", "convert it: openssl pkey -inform DER -in {path} -out FILE"
    return "is not PEM: it has no -----BEGIN PRIVATE KEY-----", f"give a private key, or {_KEYGEN}"


def _refused(path: Path, reason: tuple[str, str]) -> UserError:
    return UserError(str(path), reason[0], reason[1].format(path=path))


def generate_key(path: Path) -> SigningKey:
    """Make a key that `load_key` takes, in a new file of mode 0600, PKCS#8 in PEM.

    Raises UserError when there is a file of that name, which stays as it is, or when none can
    be made there.
    """
    taken = UserError(str(path), "is there already, and no key is overwritten", "choose another name")
    if os.path.lexists(path):
        raise taken
    key = rsa.generate_private_key(public_exponent=EXPONENT, key_size=KEY_BITS)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        _write_new(path, pem)
    except FileExistsError:
        raise taken from None
    except OSError as error:
        raise _not_written(path, error) from None
    return SigningKey(key)


def _write_new(path: Path, data: bytes) -> None:
    """Make a file of mode 0600 that was not there, whole or not at all.

    It has no name until it is whole: a killed process leaves no part of a key anywhere.
    """
    try:
        descriptor = os.open(path.parent, os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            # Only with src_dir_fd does Python follow the link, as open(2) asks for with O_TMPFILE.
            os.link(f"/proc/self/fd/{descriptor}", path, src_dir_fd=descriptor)
    except OSError as error:
        if error.errno not in _NO_TMPFILE:
            raise
        _write_new_by_name(path, data)


def _write_new_by_name(path: Path, data: bytes) -> None:
    """Do the same where there are no files without a name or no /proc to give them one."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
    except OSError:
        path.unlink()
        raise


def _not_written(path: Path, error: OSError) -> UserError:
    reason = (error.strerror or str(error)).lower()
    return UserError(str(path), f"cannot be written: {reason}", "choose another place for the key")


def load_public_pem(path: Path) -> bytes:
    """Return the file of a public key that a package is to trust, unchanged.

    Raises UserError for anything but one RSA public key in PEM; above all for a private key,
    which would become public with the package.
    """
    where = str(path)
    data = read_input(path, "public key file")
    labels = [match[1] for match in _BLOCK.finditer(data)]
    if any(label.endswith(b"PRIVATE KEY") for label in labels):
        raise UserError(
            where,
            "is a private key, which must not go into a package",
            f"give its public half: openssl pkey -pubout -in {path} -out public.pem",
        )
    if any(label in _CERTIFICATE for label in labels):
        raise UserError(
            where, "is a certificate", f"give its key: openssl x509 -pubkey -noout -in {path} > public.pem"
        )
    if len(labels) != 1 or labels[0] not in _PUBLIC:
        remedy = "give a file that begins with -----BEGIN PUBLIC KEY-----"
        raise UserError(where, "is not one public key in PEM", remedy)
    if b"\0" in data:
        raise UserError(where, "has a NUL byte in it", "remove what does not belong to the key")
    try:
        key = serialization.load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        raise UserError(
            where, "the public key in it is damaged", "make it again from the private key"
        ) from None
    if not isinstance(key, rsa.RSAPublicKey):
        raise UserError(where, "is not an RSA key", "give the public half of the key that signs the disks")
    return data


def load_root_hash(path: Path) -> bytes:
    """Return the 32 bytes of a dm-verity root hash that a file holds as hexadecimal digits.

    White space around the digits is allowed. Raises UserError for anything else.
    """
    digits = read_input(path, "root hash file").strip()
    if len(digits) != _ROOT_HASH_DIGITS or not re.fullmatch(rb"[0-9A-Fa-f]+", digits):
        raise UserError(
            str(path),
            "is not a root hash, a line of 64 hexadecimal digits",
            "give what veritysetup format shows as Root hash",
        )
    return bytes.fromhex(digits.decode("ascii"))
