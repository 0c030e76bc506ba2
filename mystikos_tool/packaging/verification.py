"""What was proved of a package and what was not, and what somebody expects of one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from mystikos_tool.errors import UserError
from mystikos_tool.formats.sigstruct import Identity
from mystikos_tool.printable import few, printable

# The schema of what to_json returns.
SCHEMA = Path(__file__).with_name("verification.schema.json")

FORMAT = 1


class VerificationError(UserError):
    """A package that can be read, and is not what it says or not what was expected."""


class Expectations(NamedTuple):
    """What a package has to be, where it is not None: digests of 32 bytes, and numbers.

    ``min_security_version`` is the lowest ISVSVN that is accepted; ``no_debug`` refuses an enclave
    that can be debugged.
    """

    mrenclave: bytes | None = None
    mrsigner: bytes | None = None
    product_id: int | None = None
    min_security_version: int | None = None
    no_debug: bool = False

    def check(self, identity: Identity, where: str) -> None:
        """Raise VerificationError, which names all that is different, unless an identity is as expected."""
        wrong = [
            f"{name} is {found.hex()}, expected is {wanted.hex()}"
            for name, found, wanted in (
                ("MRENCLAVE", identity.mrenclave, self.mrenclave),
                ("MRSIGNER", identity.mrsigner, self.mrsigner),
            )
            if wanted is not None and found != wanted
        ]
        if self.product_id is not None and identity.product_id != self.product_id:
            wrong.append(f"the product is {identity.product_id}, expected is {self.product_id}")
        minimum = self.min_security_version
        if minimum is not None and identity.security_version < minimum:
            wrong.append(
                f"the security version is {identity.security_version}, expected is at least {minimum}"
            )
        if self.no_debug and identity.debug:
            wrong.append("debugging is on, expected is off")
        if wrong:
            raise VerificationError(where, "; ".join(wrong), "take the package that was expected")


ANYTHING = Expectations()


class HostProgram(NamedTuple):
    """The program that loads the enclave: its SHA-256 in hexadecimal, before the sections were appended.

    ``known`` says what it equals: "given" or "embedded", the loader that was given or that of the
    embedded runtime; None where it equals neither, or there is nothing to compare it with.
    """

    sha256: str
    known: str | None


@dataclass(frozen=True)
class Verification:
    """What was proved of a package: its identity, and facts; and what was not proved.

    ``identity`` and its fields are measured and signed. ``proved`` and ``unproved`` are sentences
    for people.
    """

    identity: Identity
    host_program: HostProgram
    proved: tuple[str, ...]
    unproved: tuple[str, ...]

    @property
    def mrenclave(self) -> bytes:
        """MRENCLAVE, 32 bytes."""
        return self.identity.mrenclave

    @property
    def mrsigner(self) -> bytes:
        """MRSIGNER, 32 bytes."""
        return self.identity.mrsigner

    @property
    def product_id(self) -> int:
        """ISVPRODID."""
        return self.identity.product_id

    @property
    def security_version(self) -> int:
        """ISVSVN."""
        return self.identity.security_version

    @property
    def debug(self) -> bool:
        """The DEBUG attribute."""
        return self.identity.debug

    def to_json(self) -> str:
        """Return one JSON object as :data:`SCHEMA` describes it; digests are in hexadecimal."""
        document = {
            "format": FORMAT,
            "verified": True,
            "mrenclave": self.mrenclave.hex(),
            "mrsigner": self.mrsigner.hex(),
            "product_id": self.product_id,
            "security_version": self.security_version,
            "debug": self.debug,
            "host_program": self.host_program._asdict(),
            "proved": self.proved,
            "unproved": self.unproved,
        }
        return json.dumps(document, indent=1)

    def to_text(self) -> str:
        """Return lines for people."""
        lines = [
            f"MRENCLAVE {self.mrenclave.hex()}",
            f"MRSIGNER {self.mrsigner.hex()}",
            f"product {self.product_id}, security version {self.security_version},"
            f" debug {'on' if self.debug else 'off'}",
            *(f"proved: {fact}" for fact in self.proved),
            *(f"not proved: {fact}" for fact in self.unproved),
        ]
        return "\n".join(lines)


def facts(
    host_program: HostProgram,
    expected: Expectations,
    trusted_disk: str | None = None,
    *,
    disk: bool,
    others: Sequence[str] | None = None,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what is proved and what is not, once everything that `proof.verify` checks was checked.

    ``trusted_disk`` is what was proved of a disk, ``disk`` says that the root is on one. ``others`` are the
    files of a signed directory that are no part of it; None for a package.
    """
    proved = [
        "SIGSTRUCT is valid, and signed by the key that MRSIGNER is of",
        "MRENCLAVE is that of what the package holds: enclave image, kernel, C runtime, root, configuration,"
        " trusted keys and root hashes",
    ]
    unproved = []
    if others is None:
        proved.append("every byte of the package belongs to a section or to its host program")
    elif others:
        unproved.append(f"what else is in the directory: {few([printable(name) for name in others])}")
    if host_program.known:
        proved.append(f"the host program is the {host_program.known} loader")
    else:
        unproved.append(
            f"what the host program does: it has the SHA-256 {host_program.sha256} and was held to no known"
            " loader (--loader FILE)"
        )
    if expected.mrsigner is None and expected.mrenclave is None:
        unproved.append("who signed it: no signer and no MRENCLAVE was expected (--signer KEY)")
    else:
        proved.append("signer, measurement and versions are as expected")
    unproved.append(
        "what kernel, C runtime and enclave image have outside of their segments, which is not loaded"
    )
    if trusted_disk:
        proved.append(trusted_disk)
    elif disk:
        unproved.append("what is on the disk that is its root (--disk FILE)")
    return tuple(proved), tuple(unproved)


def refusal(error: VerificationError) -> str:
    """Return the JSON object that tells of a package that was not verified."""
    problem = {"where": error.where, "problem": error.problem, "remedy": error.remedy}
    return json.dumps({"format": FORMAT, "verified": False, "error": problem}, indent=1)
