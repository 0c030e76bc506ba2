"""The blocks of a PEM file (RFC 7468): what lies between ``-----BEGIN X-----`` and ``-----END X-----``."""

from __future__ import annotations

import binascii
import re
from typing import NamedTuple

PRIVATE = {b"PRIVATE KEY", b"RSA PRIVATE KEY"}
PKCS1 = {b"RSA PUBLIC KEY"}
PUBLIC = {b"PUBLIC KEY", *PKCS1}
CERTIFICATE = {b"CERTIFICATE", b"TRUSTED CERTIFICATE", b"X509 CERTIFICATE"}

_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9]+(?:[ -][A-Z0-9]+)*)-----.*?-----END \1-----", re.DOTALL)


class Block(NamedTuple):
    """A block: its label, and its text with the lines that begin and end it."""

    label: bytes
    text: bytes

    @property
    def holds_private_key(self) -> bool:
        """Whether it holds a private key, of whatever kind and form."""
        return self.label.endswith(b"PRIVATE KEY")

    def content(self) -> bytes:
        """Return what is in the block, decoded; raise ValueError where it is not base64."""
        return binascii.a2b_base64(b"".join(self.text.split(b"-----")[2].split()))


def blocks(data: bytes) -> list[Block]:
    """Return the blocks of a file; text around them does not count."""
    return [Block(match[1], match[0]) for match in _BLOCK.finditer(data)]
