"""Private keys in PEM files: they sign enclaves, and are made here.

SGX fixes what an enclave's key is (SDM volume 3D, "Enclave Signature Structure"): RSA, 3072 bits,
public exponent 3. Private halves stay inside of the cryptography library's objects and are never
shown.
"""

from __future__ import annotations

import base64
import binascii
import errno
import os
import re
from collections.abc import Collection
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa, utils

from mystikos_tool.errors import UserError, reason_of
from mystikos_tool.formats.sigstruct import EXPONENT, KEY_SIZE
from mystikos_tool.io.atomic import read_input
from mystikos_tool.signing import pss, rsa_public, secret
from mystikos_tool.signing.pem_blocks import CERTIFICATE, PRIVATE, PUBLIC, Block, blocks
from mystikos_tool.signing.rsa_public import KnowsPublicKey, RsaPublicKey

KEY_BITS = KEY_SIZE * 8

_KEYGEN = "make a key with: mystikos-tool keygen FILE"
_ENCRYPTED = b"ENCRYPTED PRIVATE KEY"
_PKCS8 = {b"PRIVATE KEY", _ENCRYPTED}
_NO_TMPFILE = {errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT}

_NAME_PASSPHRASE = "say where its passphrase is: file:{path}?passphrase=SOURCE, a SOURCE being " + secret.WAYS
_NOT_DECRYPTED = (
    "cannot be decrypted: the passphrase is another one, or the file is damaged",
    "correct the source of its passphrase",
)
_PASSPHRASE = "the passphrase"  # noqa: S105 its name
_NOT_RSA = ("is not an RSA key", _KEYGEN)
_DAMAGED = ("is a damaged private key", f"restore the file, or {_KEYGEN}")
_RESTRICTED = (pss.PROBLEM, _KEYGEN)
_MORE_PRIMES = ("is an RSA key of more than two primes, which cannot be used here", _KEYGEN)
_NOT_PRIVATE = {
    b"EC PRIVATE KEY": _NOT_RSA,
    b"DSA PRIVATE KEY": _NOT_RSA,
    b"RSA-PSS PRIVATE KEY": _RESTRICTED,
    b"OPENSSH PRIVATE KEY": ("is in OpenSSH's own form", "convert it: ssh-keygen -p -m PEM -f {path}"),
    **dict.fromkeys(PUBLIC, ("holds only a public key", "give the private key")),
    **dict.fromkeys(CERTIFICATE, ("holds a certificate, not a private key", "give the private key")),
}

# In DER: a sequence whose version is 3, and another sequence (RFC 7292, 4); of PKCS#8 it is 0 or 1.
_PKCS12 = rb"(?s)\x30(?:\x80|\x82..)\x02\x01\x03\x30"

# In DER: a version of 1, of keys with more than two primes (RFC 8017, A.1.2), and a long modulus.
_VERSION_OF_MORE_PRIMES = b"\x02\x01\x01\x02\x82"
_LONGEST_WAY_TO_VERSION = 48  # bytes; PKCS#8 puts its own version and an algorithm in front


class PemSigner(KnowsPublicKey):
    """A key from a PEM file; it signs as `signer.Signer` asks."""

    def __init__(self, key: rsa.RSAPrivateKey, encrypted: str = "") -> None:
        """Sign with ``key``; ``encrypted`` is as `key_forms.encrypted` has it."""
        self.encrypted = encrypted
        self._private = key
        numbers = key.public_key().public_numbers()
        self._key = RsaPublicKey(numbers.n, numbers.e)

    def sign(self, digest: bytes) -> bytes:
        """Return the PKCS#1 v1.5 signature over a SHA-256 digest, big-endian, as long as the modulus."""
        return self._private.sign(digest, padding.PKCS1v15(), utils.Prehashed(hashes.SHA256()))


def load(path: Path, passphrase: str | None = None) -> PemSigner:
    """Read the private key of a PEM file, PKCS#8 or PKCS#1, that signs enclaves.

    ``passphrase`` says where that of an encrypted one is, as :mod:`secret` has it. Raises UserError
    as :func:`load_rsa` does, and for a key that SGX does not take.
    """
    signer = load_rsa(path, passphrase)
    rsa_public.check_for_enclave(signer.modulus, signer.exponent, str(path), _KEYGEN)
    return signer


def load_rsa(path: Path, passphrase: str | None = None) -> PemSigner:
    """Read the private key of a PEM file, of any size and exponent, as one that signs disks may be.

    Raises UserError for a file that is missing, unreadable, not PEM or damaged, for one that holds no
    private RSA key or several, and where its passphrase is not to be had or is another one.
    """
    block = _private_block(path)
    secret_bytes = _passphrase(block, path, passphrase)
    try:
        # The library's own check proves both primes, which takes longer than a whole build; a key
        # that is wrong in them is found out by the check of every signature.
        key = serialization.load_pem_private_key(
            block.text, password=secret_bytes, unsafe_skip_rsa_key_validation=True
        )
    except (ValueError, TypeError, UnsupportedAlgorithm):
        if secret_bytes is not None:
            secret.forget(_PASSPHRASE, str(path))
            raise _refused(path, _NOT_DECRYPTED) from None
        raise _refused(path, _MORE_PRIMES if _has_more_primes(block) else _DAMAGED) from None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise _refused(path, _NOT_RSA)
    if not _is_consistent(key.private_numbers()):
        raise _refused(path, _DAMAGED)
    _check_unrestricted(block, secret_bytes, path)
    if secret_bytes is None:
        return PemSigner(key)
    from mystikos_tool.signing import key_forms  # most keys are not encrypted

    return PemSigner(key, key_forms.encrypted(block.text))


def _passphrase(block: Block, path: Path, source: str | None) -> bytes | None:
    """Return the passphrase of an encrypted key; None for one that is not."""
    # The header of the traditional form is Proc-Type: 4,ENCRYPTED.
    if b"ENCRYPTED" in block.text:
        return secret.read(source, _PASSPHRASE, str(path), _NAME_PASSPHRASE.format(path=path))
    if source is not None:
        raise _refused(path, ("is not encrypted, and a passphrase is named for it", "leave ?passphrase= out"))
    return None


def _private_block(path: Path) -> Block:
    """Return the one block of a file that holds a private key."""
    data = read_input(path, "key file")
    found = blocks(data)
    private = [block for block in found if block.holds_private_key]
    if len(private) > 1:
        reason = (f"holds {len(private)} private keys", "leave only the one in it that is to sign")
        raise _refused(path, reason)
    if not private or private[0].label not in PRIVATE | {_ENCRYPTED}:
        raise _refused(path, _why_no_private_key(data, [block.label for block in found]))
    return private[0]


def _has_more_primes(block: Block) -> bool:
    try:
        der = base64.b64decode(b"".join(block.text.splitlines()[1:-1]))
    except binascii.Error:
        return False
    return _VERSION_OF_MORE_PRIMES in der[:_LONGEST_WAY_TO_VERSION]


def _check_unrestricted(block: Block, passphrase: bytes | None, path: Path) -> None:
    """Raise UserError for a key that was read and is not for PKCS#1 v1.5."""
    if block.label not in _PKCS8:
        return
    try:
        der = block.content()
    except ValueError:  # what the library passes over
        raise _refused(path, _DAMAGED) from None
    if pss.is_restricted_in(der, passphrase) if passphrase is not None else pss.is_restricted(der):
        raise _refused(path, _RESTRICTED)


def _is_consistent(key: rsa.RSAPrivateNumbers) -> bool:
    """Whether a private key's numbers belong together."""
    p, q, d, public = key.p, key.q, key.d, key.public_numbers
    return p * q == public.n and (d * public.e - 1) % (p - 1) == 0 and (d * public.e - 1) % (q - 1) == 0


def _why_no_private_key(data: bytes, labels: Collection[bytes]) -> tuple[str, str]:
    for label, reason in _NOT_PRIVATE.items():
        if label in labels:
            return reason
    if b"PRIVATE KEY-----" in data:
        return _DAMAGED
    if re.match(_PKCS12, data):
        return "is PKCS#12, not PEM", "convert it: openssl pkcs12 -in {path} -nocerts -noenc -out FILE"
    if data.startswith(b"\x30\x82"):
        return "is not PEM but DER", "convert it: openssl pkey -inform DER -in {path} -out FILE"
    return "is not PEM: it has no -----BEGIN PRIVATE KEY-----", f"give a private key, or {_KEYGEN}"


def _refused(path: Path, reason: tuple[str, str]) -> UserError:
    return UserError(str(path), reason[0], reason[1].format(path=path))


def generate(path: Path) -> PemSigner:
    """Make a key that `load` takes, in a new file of mode 0600, PKCS#8 in PEM.

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
    return PemSigner(key)


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
    return UserError(str(path), f"cannot be written: {reason_of(error)}", "choose another place for the key")
