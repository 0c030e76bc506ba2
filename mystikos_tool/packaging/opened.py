"""A package opened for reading, once, for those who verify it and those who show it."""

from __future__ import annotations

from pathlib import Path

from mystikos_tool.enclave.image import CONFIG_SECTION, reopen
from mystikos_tool.formats import elf
from mystikos_tool.io.content import Content
from mystikos_tool.packaging import sections


class OpenedPackage:
    """What is in a package. That it can be read is all that is checked of it.

    ``image`` is its enclave image as it was before it was signed, ``sigstruct`` the 1808 bytes of
    its SIGSTRUCT, ``sections`` the places of its sections. Raises UserError for what is no package,
    and for an enclave image that could not have been signed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sections = sections.read(path)
        data = self.content(sections.ENCLAVE).read()
        self.image, self.sigstruct = reopen(data, self.where(sections.ENCLAVE))

    @property
    def record(self) -> bytes:
        """The record of the enclave image, 1960 bytes, without the SIGSTRUCT in it."""
        return self.image.record

    @property
    def config(self) -> bytes:
        """The configuration in the enclave image, which the one beside it should equal."""
        return self.image.image.section_bytes(CONFIG_SECTION)

    def where(self, name: str) -> str:
        """Return a section's place for messages."""
        return f"{self.path}, section {name}"

    def content(self, name: str) -> Content:
        """Return a section's content, read when it is used."""
        return self.sections.content(name)

    def elf(self, name: str) -> elf.Image:
        """Return the ELF image in a section; raise UserError where it holds none."""
        return elf.parse(self.content(name).read(), self.where(name))
