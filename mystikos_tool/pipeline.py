"""The stages of a build, each from files to one file: root file system, measurement, image, package.

Builders and command line run these and nothing below them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timezone
from pathlib import Path
from typing import NamedTuple

from mystikos_tool import config as config_reader
from mystikos_tool.config import Config
from mystikos_tool.enclave import image as enclave_image
from mystikos_tool.enclave import layout, measurement
from mystikos_tool.enclave.image import CONFIG_SECTION, EnclaveImage, reopen
from mystikos_tool.enclave.measurement import Measurement
from mystikos_tool.errors import UserError
from mystikos_tool.formats import elf, sigstruct
from mystikos_tool.io import atomic, progress
from mystikos_tool.io.content import Bytes, Content, FileContent
from mystikos_tool.package import sections
from mystikos_tool.package.partial import Draft
from mystikos_tool.root import archive
from mystikos_tool.root.check import check
from mystikos_tool.root.root import Root
from mystikos_tool.root.source import DirectorySource
from mystikos_tool.root.tree import Tree
from mystikos_tool.runtime import Runtime
from mystikos_tool.signing import keys

_DISTRUST = "do not use the package; make it again"

_MAX_IMAGE = 1 << 30


class Inputs(NamedTuple):
    """What an enclave is made of, beside the loader and the key.

    Where the root is a disk, ``pubkeys`` (PEM files) or ``roothashes`` (files with 64 hexadecimal
    digits) make it trusted.
    """

    runtime: Runtime
    config: Config
    root: Root
    pubkeys: Sequence[Path] = ()
    roothashes: Sequence[Path] = ()

    def pubkeys_content(self) -> bytes:
        """Every trusted public key, each followed by a NUL."""
        return b"".join(keys.load_public_pem(path) + b"\0" for path in self.pubkeys)

    def roothashes_content(self) -> bytes:
        """Every trusted root hash, 32 bytes each."""
        return b"".join(keys.load_root_hash(path) for path in self.roothashes)


def pack(directory: Path, target: Path, *, preserve_modes: bool = False) -> Tree:
    """Pack an application directory into an archive and return what went into it.

    Raises UserError as :class:`DirectorySource` and :func:`archive.write` do.
    """
    tree = DirectorySource(directory, preserve_modes=preserve_modes).tree()
    archive.write(tree, target)
    return tree


def draft(inputs: Inputs, target: Path) -> Draft:
    """Begin a package whose enclave is still to be measured and signed.

    Raises UserError as :func:`prepare` and :func:`sections.write` do.
    """
    unsigned = Bytes(prepare(inputs.runtime, inputs.config).file())
    return Draft(inputs.runtime.loader, _package_parts(inputs, unsigned), target)


def measure(inputs: Inputs, begun: Draft | None = None) -> Measurement:
    """Lay the enclave out and measure it; the package that was begun with the same inputs gets its root.

    Raises UserError where the configuration does not fit the root file system or the runtime.
    """
    trusts_disks = bool(inputs.pubkeys or inputs.roothashes)
    check(inputs.root, inputs.config, trusts_disks=trusts_disks)
    prepared = prepare(inputs.runtime, inputs.config)
    parts = layout.Parts(
        enclave=prepared,
        kernel=_image(inputs.runtime.kernel),
        crt=_image(inputs.runtime.crt),
        rootfs=begun.rootfs if begun else inputs.root.content(),
        pubkeys=inputs.pubkeys_content(),
        roothashes=inputs.roothashes_content(),
        config=inputs.config.data,
        memory_size=inputs.config.memory_size,
    )
    with progress.bar("measuring", parts.rootfs.size):
        return measurement.of(prepared, layout.lay_out(parts))


def prepare(runtime: Runtime, config: Config) -> EnclaveImage:
    """Return the runtime's enclave image with the configuration in it, not yet signed."""
    return enclave_image.prepare(_read(runtime.enclave), str(runtime.enclave), config)


def sign(
    measured: Measurement, runtime: Runtime, config: Config, signer: sigstruct.Signer, day: date
) -> bytes:
    """Return the signed enclave image.

    Raises UserError when runtime or configuration are not those that were measured.
    """
    prepared = prepare(runtime, config)
    if measurement.image_digest(prepared) != measured.image_sha256:
        raise UserError(
            str(runtime.enclave),
            f"is not what was measured with {config.name}",
            "measure again with this runtime and configuration",
        )
    structure = sigstruct.sign(measured.sigstruct, signer, day)
    broken = sigstruct.check(structure)
    if broken:
        raise UserError("the signer", f"gave a SIGSTRUCT whose {broken}", "sign with the key it names")
    return prepared.file(structure)


def signing_day(epoch: str | None) -> date:
    """Return the date for a SIGSTRUCT: that of SOURCE_DATE_EPOCH, or today's; both in UTC.

    Raises UserError when ``epoch`` is no number of seconds since 1970 within SIGSTRUCT's years.
    """
    if not epoch:
        return datetime.now(timezone.utc).date()
    try:
        return datetime.fromtimestamp(int(epoch), timezone.utc).date()
    except (ValueError, OverflowError, OSError) as error:
        raise UserError(
            "SOURCE_DATE_EPOCH",
            f"{epoch!r} is no time in seconds since 1970",
            "set it to a number or unset it",
        ) from error


def assemble(inputs: Inputs, image: Path, target: Path, begun: Draft | None = None) -> int:
    """Write the package of a signed enclave image, or finish what was begun; return its size in bytes."""
    loader, parts = inputs.runtime.loader, _package_parts(inputs, FileContent.of(image))
    if begun and begun.is_whole(loader, parts):
        return begun.finish(parts.enclave)
    with progress.bar("packaging", parts.rootfs.size):
        return sections.write(loader, parts, target)


def _package_parts(inputs: Inputs, image: Content) -> sections.Parts:
    return sections.Parts(
        enclave=image,
        crt=FileContent.of(inputs.runtime.crt),
        kernel=FileContent.of(inputs.runtime.kernel),
        rootfs=inputs.root.content(),
        pubkeys=Bytes(inputs.pubkeys_content()),
        roothashes=Bytes(inputs.roothashes_content()),
        config=Bytes(inputs.config.data),
    )


def _image(path: Path) -> elf.Image:
    return elf.parse(_read(path), str(path))


def _read(path: Path) -> bytes:
    return atomic.read_input(path, "runtime file", _MAX_IMAGE)


def verify(path: Path) -> Identity:
    """Measure a package anew and hold its SIGSTRUCT against EINIT's rules and the measurement.

    Raises UserError, naming the section, when anything does not fit.
    """
    opened = sections.read(path)
    where = f"{path}, section {sections.ENCLAVE}"
    image, structure = reopen(opened.content(sections.ENCLAVE).read(), where)
    broken = sigstruct.check(structure)
    if broken:
        raise UserError(where, f"SIGSTRUCT: {broken}", _DISTRUST)
    config = opened.content(sections.CONFIG).read()
    if config != image.image.section_bytes(CONFIG_SECTION):
        raise UserError(
            f"{path}, section {sections.CONFIG}", "is not the configuration in the enclave", _DISTRUST
        )
    parts = layout.Parts(
        enclave=image,
        kernel=elf.parse(opened.content(sections.KERNEL).read(), f"{path}, section {sections.KERNEL}"),
        crt=elf.parse(opened.content(sections.CRT).read(), f"{path}, section {sections.CRT}"),
        rootfs=opened.content(sections.ROOTFS),
        pubkeys=opened.content(sections.PUBKEYS).read(),
        roothashes=opened.content(sections.ROOTHASHES).read(),
        config=config,
        memory_size=config_reader.memory_size_of(config, f"{path}, section {sections.CONFIG}"),
    )
    measured = measurement.of(image, layout.lay_out(parts))
    stated = identity(structure)
    if measured.mrenclave != stated.mrenclave:
        raise UserError(
            str(path),
            f"MRENCLAVE is {measured.mrenclave.hex()}, signed is {stated.mrenclave.hex()}",
            _DISTRUST,
        )
    if _unsigned_fields(structure) != _unsigned_fields(measured.sigstruct):
        raise UserError(where, "SIGSTRUCT does not agree with the enclave's record", _DISTRUST)
    return stated


def _unsigned_fields(structure: bytes) -> bytes:
    """Return a SIGSTRUCT without what signing adds."""
    added = ("vendor", "date", "modulus", "signature", "q1", "q2")
    sizes = {"vendor": 0, "date": 0}
    return sigstruct.SIGSTRUCT.patch(
        structure, {name: sizes.get(name, bytes(sigstruct.KEY_SIZE)) for name in added}
    )


class Identity(NamedTuple):
    """Who a package is to those who attest it."""

    mrenclave: bytes
    mrsigner: bytes
    product_id: int
    security_version: int
    debug: bool


def identity(structure: bytes) -> Identity:
    """Return the identity that a SIGSTRUCT states."""
    fields = sigstruct.SIGSTRUCT.unpack(structure)
    return Identity(
        mrenclave=bytes(fields["mrenclave"]),
        mrsigner=sigstruct.mrsigner(structure),
        product_id=int(fields["product_id"]),
        security_version=int(fields["security_version"]),
        debug=bool(int(fields["attributes"]) & sigstruct.ATTRIBUTE_DEBUG),
    )
