"""What a package says about itself, as typed data, and that as text and as JSON.

That the package can be read is all that is checked here; `proof.verify` checks the rest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from mystikos_tool.formats import sigstruct
from mystikos_tool.formats.oeinfo import FLAG_ZERO_BASE, OEINFO
from mystikos_tool.formats.sigstruct import SIGSTRUCT, Identity
from mystikos_tool.io.content import Content, sha256
from mystikos_tool.packaging import opened, sections
from mystikos_tool.packaging.opened import Opened

_CHUNK = 1 << 20


class Section(NamedTuple):
    """A section's size in bytes and its SHA-256 in hexadecimal."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Inspection:
    """What a package says about itself: identity, enclave properties, signature, sections, configuration.

    ``date`` has the eight digits of SIGSTRUCT; ``modulus`` and ``signature`` have 384 bytes,
    little-endian as there. ``config`` is the text in the enclave, with U+FFFD for what is not UTF-8.
    """

    identity: Identity
    xfrm: int
    num_stack_pages: int
    num_heap_pages: int
    num_tcs: int
    zero_base: bool
    start_address: int
    date: str
    modulus: bytes
    signature: bytes
    sections: Mapping[str, Section]
    config: str

    def to_json(self) -> str:
        """Return one JSON object; bytes are in hexadecimal."""
        facts = self._facts() | {
            "modulus": self.modulus.hex(),
            "signature": self.signature.hex(),
            "sections": {name: section._asdict() for name, section in self.sections.items()},
            "config": self.config,
        }
        return json.dumps(facts, indent=1)

    def to_text(self) -> str:
        """Return lines of ``name=value``, those of the reference in its form, and the configuration."""
        facts = self._facts() | {
            "debug": int(self.identity.debug),
            "xfrm": _as_printf(self.xfrm),
            "zero_base": int(self.zero_base),
            "start_address": f"{self.start_address:#x}",
            "signature": self.signature.hex(),
            **{name: f"{section.size} bytes" for name, section in self.sections.items()},
        }
        lines = [f"{name}={value}" for name, value in facts.items()]
        return "\n".join([*lines, "Package configuration:", self.config.rstrip("\n")])

    def _facts(self) -> dict[str, object]:
        """Return what both renderings begin with, by the reference's names where it has one."""
        return {
            "product_id": self.identity.product_id,
            "security_version": self.identity.security_version,
            "debug": self.identity.debug,
            "xfrm": self.xfrm,
            "num_stack_pages": self.num_stack_pages,
            "num_heap_pages": self.num_heap_pages,
            "num_tcs": self.num_tcs,
            "zero_base": self.zero_base,
            "start_address": self.start_address,
            "mrenclave": self.identity.mrenclave.hex(),
            "mrsigner": self.identity.mrsigner.hex(),
            "date": self.date,
        }


def inspect(path: Path) -> Inspection:
    """Return what the package at ``path`` says about itself, or a signed directory.

    Raises UserError for what is neither.
    """
    return of(opened.of(path))


def of(package: Opened) -> Inspection:
    """Return what an opened package says about itself."""
    record, structure = OEINFO.unpack(package.record), package.sigstruct
    return Inspection(
        identity=sigstruct.identity(structure),
        xfrm=int(record["xfrm"]),
        num_stack_pages=int(record["stack_pages"]),
        num_heap_pages=int(record["heap_pages"]),
        num_tcs=int(record["tcs_count"]),
        zero_base=bool(int(record["flags"]) & FLAG_ZERO_BASE),
        start_address=int(record["start_address"]),
        date=f"{SIGSTRUCT.get_int(structure, 'date'):08x}",
        modulus=SIGSTRUCT.get_bytes(structure, "modulus"),
        signature=SIGSTRUCT.get_bytes(structure, "signature"),
        sections={name: _section(package.content(name)) for name in sections.SECTIONS},
        config=package.config.decode(errors="replace"),
    )


def _as_printf(number: int) -> str:
    """Return what the reference prints, by C's ``%#016x``: 16 characters, which only 0 has no 0x in."""
    return f"{number:#016x}" if number else f"{number:016x}"


def _section(content: Content) -> Section:
    return Section(content.size, sha256(content.chunks(_CHUNK)).hex())
