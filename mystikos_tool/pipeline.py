"""The stages of a build, each from files to one file: root file system, measurement, image, package.

Builders and command line run these and nothing below them.
"""

from __future__ import annotations

import stat
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
from mystikos_tool.formats import cpio, elf, sigstruct
from mystikos_tool.io import atomic, progress
from mystikos_tool.io.content import Bytes, Content, FileContent, Readable
from mystikos_tool.io.pages import PAGE
from mystikos_tool.package import sections
from mystikos_tool.root.tree import Tree, scan
from mystikos_tool.runtime import Runtime
from mystikos_tool.signing import keys

_DISTRUST = "do not use the package; make it again"

# In place of an archive when the root is an ext2 disk (docs/formats.md, section 1).
_NO_ARCHIVE = Bytes(bytes(PAGE))
_MAX_IMAGE = 1 << 30


class Inputs(NamedTuple):
    """What an enclave is made of, beside the loader and the key.

    ``rootfs`` is None where the root is an ext2 disk, which ``pubkeys`` (PEM files) or
    ``roothashes`` (files with 64 hexadecimal digits) then make trusted. ``archive`` says what is
    in ``rootfs`` where that is known already.
    """

    runtime: Runtime
    config: Config
    rootfs: Path | None
    pubkeys: Sequence[Path] = ()
    roothashes: Sequence[Path] = ()
    archive: cpio.Archive | None = None

    def root_content(self) -> Content:
        """The root file system's bytes."""
        return _NO_ARCHIVE if self.rootfs is None else FileContent.of(self.rootfs)

    def pubkeys_content(self) -> bytes:
        """Every trusted public key, each followed by a NUL."""
        return b"".join(keys.load_public_pem(path) + b"\0" for path in self.pubkeys)

    def roothashes_content(self) -> bytes:
        """Every trusted root hash, 32 bytes each."""
        return b"".join(keys.load_root_hash(path) for path in self.roothashes)


def pack(directory: Path, target: Path, *, preserve_modes: bool = False) -> Tree:
    """Pack an application directory into an archive and return what went into it.

    Raises UserError as :func:`scan` and :func:`cpio.write` do.
    """
    tree = scan(directory, preserve_modes=preserve_modes)
    with progress.bar("packing", tree.size):
        cpio.write(tree, target)
    return tree


def measure(inputs: Inputs, rootfs: Readable | None = None) -> Measurement:
    """Lay the enclave out and measure it; ``rootfs`` is the root's content where it is at hand.

    Raises UserError where the configuration does not fit the root file system or the runtime.
    """
    _check_root(inputs)
    prepared = prepare(inputs.runtime, inputs.config)
    parts = layout.Parts(
        enclave=prepared,
        kernel=_image(inputs.runtime.kernel),
        crt=_image(inputs.runtime.crt),
        rootfs=rootfs or inputs.root_content(),
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
    if prepared.digest().hex() != measured.image_sha256:
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


def assemble(inputs: Inputs, image: Path, target: Path) -> int:
    """Write the package of a signed enclave image; return its size in bytes."""
    parts = package_parts(inputs, FileContent.of(image))
    with progress.bar("packaging", parts.rootfs.size):
        return sections.write(inputs.runtime.loader, parts, target)


def unsigned_image(inputs: Inputs) -> Content:
    """Return the enclave image's file as it is before it is signed."""
    return Bytes(prepare(inputs.runtime, inputs.config).file())


def package_parts(inputs: Inputs, image: Content) -> sections.Parts:
    """Return the contents of a package's sections."""
    return sections.Parts(
        enclave=image,
        crt=FileContent.of(inputs.runtime.crt),
        kernel=FileContent.of(inputs.runtime.kernel),
        rootfs=inputs.root_content(),
        pubkeys=Bytes(inputs.pubkeys_content()),
        roothashes=Bytes(inputs.roothashes_content()),
        config=Bytes(inputs.config.data),
    )


def _image(path: Path) -> elf.Image:
    return elf.parse(_read(path), str(path))


def _read(path: Path) -> bytes:
    return atomic.read_input(path, "runtime file", _MAX_IMAGE)


def _check_root(inputs: Inputs) -> None:
    """Hold the configuration against the root file system that it is packaged with."""
    config = inputs.config
    if inputs.rootfs is None:
        if not (config.debug or inputs.pubkeys or inputs.roothashes):
            raise UserError(
                config.name,
                "an ext2 root would be mounted unchecked in an enclave without Debug",
                "give a public key or a root hash that makes the disk trusted",
            )
        return
    archive = inputs.archive or cpio.read(inputs.rootfs)
    member = archive.find(config.application_path)
    where, path = config.where("ApplicationPath"), config.application_path
    if member is None:
        raise _not_found(where, path, archive)
    if not stat.S_ISREG(member.mode):
        raise UserError(where, f"{path} is no file in {inputs.rootfs}", "name the program to start")
    if not member.mode & 0o111:
        raise UserError(where, f"{path} is not executable in {inputs.rootfs}", "chmod +x it in the appdir")
    for number, mount in enumerate(config.mounts):
        found = archive.find(mount.target)
        if found is None or not stat.S_ISDIR(found.mode):
            raise UserError(
                config.where(f"Mount[{number}].Target"),
                f"{mount.target} is no directory in {inputs.rootfs}",
                "create it in the appdir",
            )


def _not_found(where: str, path: str, archive: cpio.Archive) -> UserError:
    link = archive.entry(path)
    if link is not None and stat.S_ISLNK(link.mode):
        target = archive.data(link).decode(errors="replace")
        return UserError(
            where,
            f"{path} is a symbolic link to {target}, which is not in {archive.path}",
            "put what it points to into the appdir",
        )
    return UserError(where, f"{path} is not in {archive.path}", _nearest(archive, path))


def _nearest(archive: cpio.Archive, path: str) -> str:
    """Point to a program of the same name, or nearly of the same path, if the root has one."""
    import difflib  # needed for this message only

    programs = [
        "/" + member.path.decode(errors="replace")
        for member in archive.members
        if stat.S_ISREG(member.mode) and member.mode & 0o111
    ]
    name = path.rsplit("/", 1)[-1]
    near = [program for program in programs if program.rsplit("/", 1)[-1] == name]
    near += difflib.get_close_matches(path, programs, 1)
    return f"did you mean {near[0]}?" if near else "put the program into the appdir or correct the path"


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
