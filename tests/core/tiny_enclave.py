"""Small enclaves, for the tool and for the model alike."""

from __future__ import annotations

from dataclasses import dataclass

import model
import tiny_elf

from mystikos_tool.config import Config
from mystikos_tool.enclave import layout
from mystikos_tool.enclave.image import EnclaveImage, prepare
from mystikos_tool.formats import elf
from mystikos_tool.io.content import Bytes

CONFIG = Config("/bin/app", memory_size=2 * 4096, data=b"{}")


@dataclass(frozen=True)
class TinyEnclave:
    """The files of a runtime and what is packaged with them; the defaults are as small as can be."""

    image: bytes = tiny_elf.enclave(tiny_elf.oeinfo())
    kernel: bytes = tiny_elf.build()
    crt: bytes = tiny_elf.build()
    rootfs: bytes = b"root"
    pubkeys: bytes = b""
    roothashes: bytes = b""
    config: Config = CONFIG

    def prepared(self) -> EnclaveImage:
        return prepare(elf.Image(self.image, "mystenc.so"), self.config)

    def parts(self) -> layout.Parts:
        return layout.Parts(
            enclave=self.prepared(),
            kernel=elf.Image(self.kernel, "kernel"),
            crt=elf.Image(self.crt, "crt"),
            rootfs=Bytes(self.rootfs),
            pubkeys=self.pubkeys,
            roothashes=self.roothashes,
            config=self.config.data,
            memory_size=self.config.memory_size,
        )

    def laid_out(self) -> layout.Layout:
        return layout.lay_out(self.parts())

    def modelled_input(self) -> model.Enclave:
        config = self.config
        return model.Enclave(
            self.image,
            self.kernel,
            self.crt,
            self.rootfs,
            self.pubkeys,
            self.roothashes,
            config.data,
            config.memory_size,
            config.debug,
            config.product_id,
            config.security_version,
            config.create_zero_base_enclave,
            config.enclave_start_address,
        )

    def modelled(self) -> model.Laid:
        return model.lay_out(self.modelled_input())


def pages(laid_out: layout.Layout) -> list[model.Page]:
    """The tool's page stream, page by page."""
    result = []
    for run in laid_out.runs:
        content = run.content.read().ljust(run.pages * 4096, bytes([run.fill]))
        assert len(content) == run.pages * 4096
        result += [
            model.Page(run.offset + at, run.flags, content[at : at + 4096], run.measured)
            for at in range(0, len(content), 4096)
        ]
    return result
