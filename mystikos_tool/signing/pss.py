"""Keys that are restricted to RSA-PSS (RFC 4055, 1.2), as ``openssl genpkey -algorithm RSA-PSS`` makes them.

Enclaves and disks are signed with PKCS#1 v1.5, for which OpenSSL takes no such key, nor does what Mystikos
reads keys with. The cryptography library takes it for any key of RSA, so that it is told by its DER.
"""

from __future__ import annotations

import hashlib
import re

PROBLEM = "is an RSA key that is restricted to RSA-PSS, and enclaves and disks are signed with PKCS#1 v1.5"

_ALGORITHM = rb"(?s)\x30(.)\x06\x09" + re.escape(bytes.fromhex("2a864886f70d01010a"))
_BIT_STRING, _OCTET_STRING = b"\x03", b"\x04"  # they hold a public key, and a private one

# PBES2 of PBKDF2 and AES in CBC (RFC 8018, A.2, A.4 and B.2.5), as OpenSSL encrypts by itself.
_PBES2 = (
    rb"(?s)\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x05\x0c\x30.\x04.(?P<salt>.{8,64}?)\x02.(?P<rounds>.{1,4}?)"
    rb"(?:\x02\x01.)?(?:\x30\x0c\x06\x08\x2a\x86\x48\x86\xf7\x0d\x02(?P<hash>[\x07-\x0b])\x05\x00)?"
    rb"\x30\x1d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x01(?P<cipher>[\x02\x16\x2a])\x04\x10(?P<vector>.{16})"
    rb"\x04\x82..(?P<beginning>.{128})"
)
_KEY_SIZES = {b"\x02": 16, b"\x16": 24, b"\x2a": 32}
_HASHES = {
    None: "sha1",
    b"\x07": "sha1",
    b"\x08": "sha224",
    b"\x09": "sha256",
    b"\x0a": "sha384",
    b"\x0b": "sha512",
}


def is_restricted(der: bytes) -> bool:
    """Tell it of a public key, a private one in PKCS#8, and the TBSCertificate of a certificate."""
    ends = [match.start() + 2 + match[1][0] for match in re.finditer(_ALGORITHM, der)]
    return any(der[end : end + 1] in {_BIT_STRING, _OCTET_STRING} for end in ends)


def is_restricted_in(encrypted: bytes, passphrase: bytes) -> bool:
    """Tell it of an encrypted private key in PKCS#8, which this passphrase decrypts.

    False where it is not encrypted as OpenSSL does it by itself, and cannot be seen.
    """
    found = re.search(_PBES2, encrypted)
    if not found:
        return False
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes  # few keys are encrypted

    rounds, size = int.from_bytes(found["rounds"], "big"), _KEY_SIZES[found["cipher"]]
    key = hashlib.pbkdf2_hmac(_HASHES[found["hash"]], passphrase, found["salt"], rounds, size)
    return is_restricted(
        Cipher(algorithms.AES(key), modes.CBC(found["vector"])).decryptor().update(found["beginning"])
    )
