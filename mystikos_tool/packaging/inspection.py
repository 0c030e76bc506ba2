"""What a package says about itself, for people and for programs.

Nothing is checked here but that the package can be read: see `pipeline.verify` for the rest.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from mystikos_tool import pipeline
from mystikos_tool.enclave.image import CONFIG_SECTION, reopen
from mystikos_tool.formats.oeinfo import FLAG_ZERO_BASE, OEINFO
from mystikos_tool.formats.sigstruct import SIGSTRUCT
from mystikos_tool.io.content import Content
from mystikos_tool.packaging import sections

_CHUNK = 1 << 20


def describe(path: Path) -> dict[str, Any]:
    """Return a package's enclave properties, identity, sections and configuration.

    Byte strings are in hexadecimal, the modulus and the signature little-endian as in SIGSTRUCT.
    Raises UserError for what is no package.
    """
    opened = sections.read(path)
    where = f"{path}, section {sections.ENCLAVE}"
    image, structure = reopen(opened.content(sections.ENCLAVE).read(), where)
    record = OEINFO.unpack(image.record)
    identity = pipeline.identity(structure)
    return {
        "product_id": identity.product_id,
        "security_version": identity.security_version,
        "debug": identity.debug,
        "xfrm": record["xfrm"],
        "num_stack_pages": record["stack_pages"],
        "num_heap_pages": record["heap_pages"],
        "num_tcs": record["tcs_count"],
        "zero_base": bool(int(record["flags"]) & FLAG_ZERO_BASE),
        "start_address": record["start_address"],
        "mrenclave": identity.mrenclave.hex(),
        "mrsigner": identity.mrsigner.hex(),
        "date": f"{SIGSTRUCT.get_int(structure, 'date'):08x}",
        "modulus": SIGSTRUCT.get_bytes(structure, "modulus").hex(),
        "signature": SIGSTRUCT.get_bytes(structure, "signature").hex(),
        "sections": {name: _section(opened.content(name)) for name in sections.SECTIONS},
        "config": image.image.section_bytes(CONFIG_SECTION).decode(errors="replace"),
    }


def to_text(description: dict[str, Any]) -> str:
    """Return a description as lines of ``name=value``, the configuration after them."""
    lines = []
    for name, value in description.items():
        if name == "sections":
            lines += [f"{section}={part['size']} bytes" for section, part in value.items()]
        elif name in ("xfrm", "start_address"):
            lines.append(f"{name}={value:#x}")
        elif name not in ("modulus", "config"):
            lines.append(f"{name}={int(value) if isinstance(value, bool) else value}")
    return "\n".join([*lines, "Package configuration:", str(description["config"]).rstrip("\n")])


def _section(content: Content) -> dict[str, Any]:
    digest = hashlib.sha256()
    for chunk in content.chunks(_CHUNK):
        digest.update(chunk)
    return {"size": content.size, "sha256": digest.hexdigest()}
