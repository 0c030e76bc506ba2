"""The result of measuring an enclave, for its signer: a JSON document that holds no secret.

It carries MRENCLAVE, the unsigned SIGSTRUCT, the layout for people to read, and the digest of the enclave
image that was measured, so that no other one is ever signed in its name.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from mystikos_tool.enclave.image import EnclaveImage
from mystikos_tool.enclave.layout import Layout
from mystikos_tool.enclave.mrenclave import mrenclave
from mystikos_tool.errors import UserError
from mystikos_tool.formats import kinds, sigstruct
from mystikos_tool.formats.oeinfo import OEINFO
from mystikos_tool.formats.sigstruct import ATTRIBUTE_DEBUG, SIGSTRUCT_SIZE

_FORMAT = 1
_DESCRIBED = ("size", "loaded_size", "base", "image_size", "heap_rva", "regions")


class Measurement(NamedTuple):
    """An enclave's MRENCLAVE, 32 bytes, its SIGSTRUCT, 1808 bytes, and its file's SHA-256, both unsigned."""

    mrenclave: bytes
    sigstruct: bytes
    image_sha256: str
    layout: dict[str, Any]

    def to_json(self) -> bytes:
        """Return the measurement as JSON, the same bytes for the same measurement."""
        document = {"format": _FORMAT, **self._asdict()}
        return json.dumps(document, indent=1, default=bytes.hex).encode() + b"\n"

    @classmethod
    def from_json(cls, data: bytes, where: str) -> Measurement:
        """Read a measurement; raise UserError for anything else."""
        try:
            document = json.loads(data)
            if document["format"] != _FORMAT:
                raise ValueError
            measured, structure = (bytes.fromhex(document[name]) for name in ("mrenclave", "sigstruct"))
            measurement = cls(measured, structure, str(document["image_sha256"]), dict(document["layout"]))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            is_one = kinds.kind(data) == kinds.MEASUREMENT
            problem = "is no measurement of this version" if is_one else kinds.instead_of(data, "measurement")
            raise UserError(where, problem, "measure again") from error
        if len(measurement.mrenclave) != 32 or len(measurement.sigstruct) != SIGSTRUCT_SIZE:
            raise UserError(where, "is a damaged measurement", "measure again")
        return measurement


def of(enclave: EnclaveImage, layout: Layout, measured: bytes = b"") -> Measurement:
    """Measure an enclave that has been laid out; ``measured`` is its MRENCLAVE where that is known."""
    measured = measured or mrenclave(layout)
    values = layout._asdict() | {"regions": [region._asdict() for region in layout.regions]}
    described = {name: values[name] for name in _DESCRIBED}
    return Measurement(measured, structure(enclave, measured), enclave.sha256, described)


def structure(enclave: EnclaveImage, measured: bytes) -> bytes:
    """Return the unsigned SIGSTRUCT of an enclave image whose MRENCLAVE was ``measured``."""
    record = enclave.record
    return sigstruct.unsigned(
        measured,
        debug=bool(OEINFO.get_int(record, "attributes") & ATTRIBUTE_DEBUG),
        product_id=OEINFO.get_int(record, "product_id"),
        security_version=OEINFO.get_int(record, "security_version"),
        capture_pf_gp=enclave.capture_pf_gp,
    )
