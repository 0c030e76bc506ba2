"""A package, or a signed directory, opened once, for those who verify it and those who show it."""

from __future__ import annotations

from pathlib import Path

from mystikos_tool import config as config_reader
from mystikos_tool.enclave import layout
from mystikos_tool.enclave.image import CONFIG_SECTION, reopen
from mystikos_tool.formats import elf
from mystikos_tool.io import lookup
from mystikos_tool.io.content import Content, FileContent
from mystikos_tool.packaging import host_program, sections, signed_directory
from mystikos_tool.packaging.sections import Package
from mystikos_tool.packaging.signed_directory import SignedDirectory
from mystikos_tool.root.root import DiskRoot
from mystikos_tool.runtime import LOADER


class Opened:
    """What was measured and signed. That it can be read is all that is checked of it.

    ``content`` returns a section's content, read when it is used, ``where`` its place for messages.
    ``image`` is the enclave image as it was before it was signed, ``sigstruct`` the 1808 bytes of
    its SIGSTRUCT. Raises UserError for an enclave image that could not have been signed.
    """

    def __init__(self, path: Path, holder: Package | SignedDirectory) -> None:
        self.path = path
        self.content, self.where = holder.content, holder.where
        self.image, self.sigstruct = reopen(
            self.content(sections.ENCLAVE).read(), self.where(sections.ENCLAVE)
        )

    @property
    def record(self) -> bytes:
        """The record of the enclave image, 1960 bytes, without the SIGSTRUCT in it."""
        return self.image.record

    @property
    def config(self) -> bytes:
        """The configuration in the enclave image, which the one beside it should equal."""
        return self.image.image.section_bytes(CONFIG_SECTION)

    def host_program(self) -> str:
        """Return the SHA-256 of the host program in hexadecimal; raise UserError where it cannot be read."""
        raise NotImplementedError

    def write_with_image(self, image: Content, target: Path) -> None:
        """Write it to ``target``, with another enclave image of the same size in the place of its own.

        Raises UserError where that cannot be; an earlier target is then as it was.
        """
        raise NotImplementedError

    def others(self) -> list[str] | None:
        """Return the paths of files that are no part of it; None where there can be none."""
        raise NotImplementedError

    @property
    def is_on_disk(self) -> bool:
        """Whether the root is on a disk: a page of zeros stands for it."""
        content, disk = self.content(sections.ROOTFS), DiskRoot().content()
        return content.size == disk.size and content.read() == disk.read()

    def elf(self, name: str) -> elf.Image:
        """Return the ELF image in a section; raise UserError where it holds none."""
        return elf.Image(self.content(name).read(), self.where(name))

    def parts(self) -> layout.Parts:
        """Return what the enclave is made of; raise UserError where a section holds something else."""
        return layout.Parts(
            enclave=self.image,
            kernel=self.elf(sections.KERNEL),
            crt=self.elf(sections.CRT),
            rootfs=self.content(sections.ROOTFS),
            pubkeys=self.content(sections.PUBKEYS).read(),
            roothashes=self.content(sections.ROOTHASHES).read(),
            config=self.config,
            memory_size=config_reader.memory_size_of(self.config, self.where(sections.CONFIG)),
        )


class OpenedPackage(Opened):
    """A package; ``sections`` has the places of its sections. Raises UserError for what is none."""

    def __init__(self, path: Path) -> None:
        self.sections = sections.read(path)
        super().__init__(path, self.sections)

    def host_program(self) -> str:
        """Return the SHA-256 of the loader that the sections were appended to, in hexadecimal."""
        return host_program.digest(self.sections)

    def write_with_image(self, image: Content, target: Path) -> None:
        """Write a package; see `sections.write_with_image`."""
        sections.write_with_image(self.sections, image, target)

    def others(self) -> None:
        """Return None: each byte of a file with a host program in it belongs to that or to a section."""
        return


class OpenedDirectory(Opened):
    """A signed directory. Raises UserError for what is none."""

    def __init__(self, path: Path) -> None:
        signed_directory.check(path)
        super().__init__(path, SignedDirectory(path))

    def host_program(self) -> str:
        """Return the SHA-256 of the loader's file, in hexadecimal."""
        return host_program.digest_of_file(self.path / LOADER)

    def write_with_image(self, image: Content, target: Path) -> None:
        """Write a signed directory, which may be this one; see `signed_directory.write`."""
        contents = {name: self.content(name) for name in sections.SECTIONS}
        contents |= {
            sections.ENCLAVE: image,
            sections.ROOTFS: FileContent.of(Path(self.where(sections.ROOTFS))),
        }
        signed_directory.write(self.path / LOADER, sections.Parts(*contents.values()), target)

    def others(self) -> list[str]:
        """Return the paths in the directory of what else is there."""
        return [str(path.relative_to(self.path)) for path in signed_directory.others(self.path)]


def of(path: Path) -> Opened:
    """Open a package, or a signed directory; raise UserError for what is neither."""
    return OpenedDirectory(path) if lookup.is_dir(path) else OpenedPackage(path)
