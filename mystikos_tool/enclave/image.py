"""The enclave image: ``mystenc.so`` with configuration and record in it (docs/formats.md, section 4)."""

from __future__ import annotations

import hashlib
from functools import cached_property

from mystikos_tool.config import Config
from mystikos_tool.errors import UserError
from mystikos_tool.formats import elf, oeinfo
from mystikos_tool.formats.oeinfo import FLAG_CAPTURE_PF_GP, FLAG_ZERO_BASE, OEINFO
from mystikos_tool.formats.sigstruct import ATTRIBUTE_DEBUG, ATTRIBUTE_KSS, ATTRIBUTE_MODE64BIT, SIGSTRUCT
from mystikos_tool.io.pages import PAGE

CONFIG_SECTION = ".mystconfig"
DEFAULT_START_ADDRESS = 0x100000000

_UNSIGNED = bytes(SIGSTRUCT.size)
_OEINFO_SECTION = ".oeinfo"
_REMEDY = "take mystenc.so from a Mystikos runtime"
_REQUIRED_SYMBOLS = ("_enclave_rva", "_reloc_rva", "_reloc_size")
_ATTRIBUTES = ATTRIBUTE_DEBUG | ATTRIBUTE_MODE64BIT | ATTRIBUTE_KSS
_REFUSED_TAGS = (
    (elf.DT_RPATH, "has DT_RPATH, which the signer refuses", "link it without -rpath"),
    (elf.DT_RUNPATH, "has DT_RUNPATH, which the signer refuses", "link it without -rpath"),
    (elf.DT_NEEDED, "needs a shared library, which a package has no place for", "link it statically"),
)
# What the enclave image and its kernel apply alike.
RELOCATIONS = frozenset({elf.R_X86_64_RELATIVE, elf.R_X86_64_TPOFF64, elf.R_X86_64_GLOB_DAT, elf.R_X86_64_64})
_RELOCATIONS = RELOCATIONS | {elf.R_X86_64_JUMP_SLOT}


class EnclaveImage:
    """The image to be measured and signed: as a file, with its record and its relocation region."""

    def __init__(self, image: elf.Image, record: bytes, relocations: bytes) -> None:
        self.image = image
        self.record = record
        self.relocations = relocations

    @property
    def capture_pf_gp(self) -> bool:
        """Whether #PF and #GP are reported to the enclave (MISCSELECT.EXINFO)."""
        return bool(OEINFO.get_int(self.record, "flags") & FLAG_CAPTURE_PF_GP)

    def file(self, sigstruct: bytes = _UNSIGNED) -> bytes:
        """Return the image's file with ``sigstruct`` in its record."""
        return b"".join(self.pieces(sigstruct))

    @cached_property
    def sha256(self) -> str:
        """The SHA-256 of the file before it is signed, in hexadecimal."""
        return self.digest(_UNSIGNED)

    def digest(self, sigstruct: bytes) -> str:
        """Return the SHA-256 of :meth:`file` in hexadecimal; what is before the record is hashed once."""
        digest = self._begun.copy()
        for piece in self.pieces(sigstruct)[1:]:
            digest.update(piece)
        return digest.hexdigest()

    @cached_property
    def _begun(self) -> hashlib._Hash:
        return hashlib.sha256(self.pieces(_UNSIGNED)[0])

    def pieces(self, sigstruct: bytes) -> tuple[memoryview, bytes, memoryview]:
        """Return the file in parts: what is before the record, the record, and what is behind it."""
        data, start = memoryview(self.image.data), self.image.section(_OEINFO_SECTION).offset
        record = OEINFO.patch(self.record, {"sigstruct": sigstruct})
        return data[:start], record, data[start + OEINFO.size :]


def prepare(original: elf.Image, config: Config) -> EnclaveImage:
    """Put a configuration into an image, set its record; raise UserError for what the reference refuses."""
    record = _check(original)
    pieces = elf.with_sections(original, [(CONFIG_SECTION, len(config.data))])
    file = b"".join(config.data if isinstance(piece, int) else piece for piece in pieces)
    image = elf.Image(file, original.where)
    return EnclaveImage(image, _set(record, config, image.where), _relocations(image))


def reopen(data: bytes, where: str) -> tuple[EnclaveImage, bytes]:
    """Return image and SIGSTRUCT of a signed file; raise UserError for one that could not be signed."""
    image = elf.Image(data, where)
    record = _check(image)
    unsigned = OEINFO.patch(record, {"sigstruct": _UNSIGNED})
    return EnclaveImage(image, unsigned, _relocations(image)), OEINFO.get_bytes(record, "sigstruct")


def _relocations(image: elf.Image) -> bytes:
    return elf.relocations(image, (".rela.dyn", ".rela.plt"), _RELOCATIONS)


def _check(image: elf.Image) -> bytes:
    """Return an image's record, 1960 bytes; raise UserError where the reference would refuse the image."""
    elf.check_loadable(image)
    if not image.in_order:
        raise UserError(image.where, "its PT_LOADs are not in order of their addresses", elf.AS_LINKED)
    if image.type != elf.ET_DYN:
        raise UserError(image.where, "is no shared object or PIE", _REMEDY)
    for tag, problem, remedy in _REFUSED_TAGS:
        if tag in image.dynamic_tags:
            raise UserError(image.where, problem, remedy)
    if not 0 < image.entry < image.size:
        raise UserError(image.where, "has no entry point in its segments", _REMEDY)
    if any(not load.flags & (elf.PF_R | elf.PF_W | elf.PF_X) for load in image.loads):
        raise UserError(image.where, "has a PT_LOAD without permissions", _REMEDY)
    return _record(image)


def _record(image: elf.Image) -> bytes:
    section = image.section(_OEINFO_SECTION)
    record = image.section_bytes(_OEINFO_SECTION)[: OEINFO.size]
    where = f"{image.where}, section {_OEINFO_SECTION}"
    if len(record) < OEINFO.size:
        raise UserError(where, f"has {len(record)} bytes, not {OEINFO.size}", _REMEDY)
    if not any(_holds(load, section) for load in image.loads):
        raise UserError(where, "lies in no PT_LOAD", _REMEDY)
    expected = {"size": OEINFO.size, "enclave_type": oeinfo.ENCLAVE_TYPE_SGX, "end_marker": oeinfo.END_MARKER}
    if any(OEINFO.get_int(record, name) != value for name, value in expected.items()):
        raise UserError(where, "holds no record of an SGX enclave", _REMEDY)
    attributes = OEINFO.get_int(record, "attributes")
    if not attributes & ATTRIBUTE_MODE64BIT or attributes & ~_ATTRIBUTES:
        raise UserError(where, f"asks for the attributes {attributes:#x}, which no signer accepts", _REMEDY)
    return record


def _holds(load: elf.Segment, section: elf.Section) -> bool:
    """Whether a segment brings a section to where its header says."""
    start = section.address - load.address
    return 0 <= start <= load.file_size - section.size and load.offset + start == section.offset


def _set(record: bytes, config: Config, where: str) -> bytes:
    flags = OEINFO.get_int(record, "flags") & FLAG_ZERO_BASE
    zero_base, address = config.create_zero_base_enclave, config.enclave_start_address
    if zero_base and not flags and address is None:
        problem = (
            "is built without a zero base, and CreateZeroBaseEnclave asks for one without a start address"
        )
        raise UserError(where, problem, f'add "EnclaveStartAddress": {DEFAULT_START_ADDRESS}')
    if zero_base is not None:
        flags = FLAG_ZERO_BASE if zero_base else 0
    values: dict[str, int | bytes] = {
        "product_id": config.product_id,
        "security_version": config.security_version,
        "attributes": ATTRIBUTE_MODE64BIT | (ATTRIBUTE_DEBUG if config.debug else 0),
        "family_id": bytes(16),
        "extended_product_id": bytes(16),
        "flags": flags | FLAG_CAPTURE_PF_GP,
        "sigstruct": _UNSIGNED,
    }
    if flags & FLAG_ZERO_BASE:
        values["start_address"] = DEFAULT_START_ADDRESS if address is None else address
    return OEINFO.patch(record, values)


def patches_in_memory(enclave: EnclaveImage, *, heap_rva: int, enclave_size: int) -> list[tuple[int, bytes]]:
    """Return what memory has in place of the image's file, its record and symbols filled in, by address."""
    image = enclave.image
    section = image.section(_OEINFO_SECTION)
    # Only the record in memory has these.
    fields = {
        "oeinfo_rva": section.address,
        "oeinfo_size": OEINFO.size,
        "reloc_rva": image.size,
        "reloc_size": len(enclave.relocations),
        "heap_rva": heap_rva,
        "enclave_size": enclave_size,
    }
    patches = [(section.address, OEINFO.patch(enclave.record, fields))]
    symbols = dict(reversed(image.dynamic_symbols))  # of several of a name the first one counts
    for name, value in _symbol_values(enclave, symbols.get("_enclave_rva", 0)).items():
        if name in symbols:
            if symbols[name] + 8 > image.size:
                raise UserError(image.where, f"its symbol {name} lies outside of its segments", _REMEDY)
            patches.append((symbols[name], value.to_bytes(8, "little")))
        elif name in _REQUIRED_SYMBOLS:
            raise UserError(image.where, f"does not export the symbol {name}", _REMEDY)
    return patches


def _symbol_values(enclave: EnclaveImage, enclave_rva: int) -> dict[str, int]:
    image = enclave.image
    values = {
        "_enclave_rva": enclave_rva,
        "_reloc_rva": image.size,
        "_reloc_size": len(enclave.relocations),
        "_td_from_tcs_offset": image.tls_size + 4 * PAGE,
    }
    for section in image.thread_data:
        name = section.name.replace(".", "_")
        values |= {f"{name}_size": section.size, f"{name}_align": section.align}
        if name == "_tdata":
            values["_tdata_rva"] = section.address
    return values
