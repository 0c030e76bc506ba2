"""What somebody elsewhere is to sign: a SIGSTRUCT with its date, as JSON that people can read too.

Everything in it follows from the 256 bytes that the signature covers, and is held to them when it is
read: a statement says what is signed or is refused.
"""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import NamedTuple

from mystikos_tool.errors import UserError
from mystikos_tool.formats import pkcs1, sigstruct
from mystikos_tool.formats.sigstruct import SIGSTRUCT
from mystikos_tool.io.atomic import read_input
from mystikos_tool.signing import rsa_public

_FORMAT = 1
_SIGN = "the digest, as RSASSA-PKCS1-v1_5 with SHA-256, by an RSA key of 3072 bits with exponent 3"
_AGAIN = "take the statement as it was made, or make it again"


class Signed(NamedTuple):
    """A signature over a statement's digest, big-endian, and the modulus of the key that it is by.

    ``where`` names it in messages.
    """

    modulus: int
    signature: bytes
    where: str

    @classmethod
    def read(cls, path: Path, public_key: Path) -> Signed:
        """Read a signature, raw, and the public key or certificate of who made it, in PEM.

        Raises UserError for a key that SGX does not take and for what has not a signature's size.
        """
        key = rsa_public.for_enclave(public_key)
        signature = read_input(path, "signature")
        if len(signature) != sigstruct.KEY_SIZE:
            problem = f"has {len(signature):,} bytes, and a signature has {sigstruct.KEY_SIZE}"
            raise UserError(str(path), problem, "give it raw, as it is before base64 or hexadecimal digits")
        return cls(key.modulus, signature, str(path))

    @classmethod
    def of(cls, structure: bytes, modulus: int, where: str) -> Signed:
        """Return the signature in a SIGSTRUCT, not yet verified, as one by the key of ``modulus``."""
        return cls(modulus, SIGSTRUCT.get_bytes(structure, "signature")[::-1], where)


class Statement(NamedTuple):
    """A SIGSTRUCT that is complete but for key and signature: 1808 bytes."""

    structure: bytes

    @property
    def digest(self) -> bytes:
        """What is to be signed: 32 bytes, the SHA-256 of the 256 bytes that the signature covers."""
        return sigstruct.digest(self.structure)

    @property
    def day(self) -> date:
        """The date in it."""
        return date.fromisoformat(_iso(SIGSTRUCT.get_int(self.structure, "date")))

    def to_json(self) -> bytes:
        """Return one JSON object; digests and bytes are in hexadecimal."""
        return json.dumps(self._document(), indent=1).encode() + b"\n"

    def to_text(self) -> str:
        """Return lines for people."""
        return "\n".join(f"{name:16} {_shown(value)}" for name, value in self._document().items())

    def attached(self, structure: bytes, signed: Signed) -> bytes:
        """Return a signed SIGSTRUCT of the enclave that ``structure`` is of.

        Raises UserError where this states another enclave, and for a signature over something else.
        """
        stated = sigstruct.prepare(structure, self.day)
        if stated != self.structure:
            names = SIGSTRUCT.different(stated, self.structure)
            problem = f"is of another enclave: it differs in {', '.join(names) or 'a reserved field'}"
            raise UserError("the statement", problem, "attach to what the statement was made of")
        if not pkcs1.verifies(signed.signature, self.digest, signed.modulus, sigstruct.EXPONENT):
            problem = f"is no signature over the statement of {self.day.isoformat()} by the key that is given"
            raise UserError(signed.where, problem, "sign the digest of this statement with that key")
        return sigstruct.attach(stated, signed.modulus, signed.signature, signed.where)

    def _document(self) -> dict[str, object]:
        stated = sigstruct.identity(self.structure)
        fields = SIGSTRUCT.unpack(self.structure)
        numbers = ("attributes", "attributes_mask", "xfrm", "xfrm_mask", "miscselect", "miscmask")
        return {
            "format": _FORMAT,
            "sign": _SIGN,
            "date": _iso(int(fields["date"])),
            "mrenclave": stated.mrenclave.hex(),
            "product_id": stated.product_id,
            "security_version": stated.security_version,
            "debug": stated.debug,
            **{name: f"{int(fields[name]):#x}" for name in numbers},
            "signed_data": sigstruct.signed_bytes(self.structure).hex(),
            "digest": self.digest.hex(),
        }

    @classmethod
    def from_json(cls, data: bytes, where: str) -> Statement:
        """Read a statement; raise UserError for what is none, or says something else than is signed."""
        try:
            document = json.loads(data)
            signed = bytes.fromhex(document["signed_data"])
            if document["format"] != _FORMAT:
                raise ValueError
            statement = cls(sigstruct.of_signed_bytes(signed))
            expected = statement._document()
            statement.day  # noqa: B018 that it is one is part of the form
        except (ValueError, KeyError, TypeError, RecursionError):
            raise UserError(where, "is no statement of what is to be signed", _AGAIN) from None
        wrong = [name for name in {**expected, **document} if document.get(name) != expected.get(name)]
        if wrong:
            problem = f"was edited: {', '.join(map(repr, wrong))} is not what the signature covers"
            raise UserError(where, problem, _AGAIN)
        return statement


def _iso(number: int) -> str:
    digits = f"{number:08x}"
    return f"{digits[:4]}-{digits[4:6]}-{digits[6:]}"


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
