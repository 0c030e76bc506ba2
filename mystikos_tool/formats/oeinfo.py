"""The ``.oeinfo`` record of an enclave image: 1960 bytes (docs/formats.md, section 4)."""

from __future__ import annotations

from mystikos_tool.formats.record import Field, Record
from mystikos_tool.formats.sigstruct import SIGSTRUCT_SIZE

OEINFO = Record(
    1960,
    (
        Field("size", 0, "I"),
        Field("enclave_type", 4, "I"),
        Field("heap_pages", 8, "Q"),
        Field("stack_pages", 16, "Q"),
        Field("tcs_count", 24, "Q"),
        Field("product_id", 32, "H"),
        Field("security_version", 34, "H"),
        Field("flags", 36, "I"),
        Field("family_id", 40, "16s"),
        Field("extended_product_id", 56, "16s"),
        Field("attributes", 72, "Q"),
        Field("xfrm", 80, "Q"),
        Field("start_address", 88, "Q"),
        Field("oeinfo_rva", 96, "Q"),
        Field("oeinfo_size", 104, "Q"),
        Field("reloc_rva", 112, "Q"),
        Field("reloc_size", 120, "Q"),
        Field("heap_rva", 128, "Q"),
        Field("enclave_size", 136, "Q"),
        Field("sigstruct", 144, f"{SIGSTRUCT_SIZE}s"),
        Field("end_marker", 1952, "Q"),
    ),
)

ENCLAVE_TYPE_SGX = 2
END_MARKER = 0xECECECECECECECEC

FLAG_CAPTURE_PF_GP, FLAG_ZERO_BASE = 1, 2
