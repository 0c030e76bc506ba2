"""The stages of a build: pack, measure, sign, package; and all of them as one, :func:`build`.

    pack      application directory                      → archive, the root file system
    measure   root, configuration, runtime               → measurement
    sign      measurement, signer                        → signed enclave image
    package   signed enclave image and all of the above  → package

Library, command line and builders run these and nothing below them; :mod:`proof` goes the other way.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime, timezone
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mystikos_tool.config import Config
from mystikos_tool.enclave import image as enclave_image
from mystikos_tool.enclave import layout, measurement
from mystikos_tool.enclave.image import EnclaveImage
from mystikos_tool.enclave.layout import Layout
from mystikos_tool.enclave.measurement import Measurement
from mystikos_tool.errors import UserError
from mystikos_tool.formats import elf, sigstruct
from mystikos_tool.formats.sigstruct import Identity
from mystikos_tool.io import atomic, lookup, progress
from mystikos_tool.io.content import Bytes, Content, FileContent, Readable
from mystikos_tool.packaging import sections, signed_directory
from mystikos_tool.root import archive, assembly, checkout_path, leftovers
from mystikos_tool.root.requirements import check
from mystikos_tool.root.root import ArchiveRoot, DiskRoot, Root
from mystikos_tool.root.tree import Tree, boot_fault
from mystikos_tool.runtime import Runtime, yet_to_compile
from mystikos_tool.runtime import image as image_of
from mystikos_tool.signing import enclave_key, root_keys
from mystikos_tool.signing.signer import Signer

if TYPE_CHECKING:
    from mystikos_tool.signing.statement import Signed, Statement

_LAST_EPOCH = 253_402_300_799  # 9999-12-31T23:59:59Z


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
        if not self.pubkeys:
            return b""
        from mystikos_tool.signing import trusted

        return b"".join(trusted.load_public_key(path) + b"\0" for path in self.pubkeys)

    def roothashes_content(self) -> bytes:
        """Every trusted root hash, 32 bytes each."""
        if not self.roothashes:
            return b""
        from mystikos_tool.signing import trusted

        return b"".join(trusted.load_root_hash(path) for path in self.roothashes)


class Planned(NamedTuple):
    """What `build` is given beside its inputs; without a signer the enclave is measured only."""

    tree: Tree | None
    root: str
    signer: Signer | None = None
    secrets: str = root_keys.WARN


def inputs_of(
    config: Config,
    root: Root,
    pubkeys: Sequence[Path],
    roothashes: Sequence[Path],
    runtime: Path | None,
    planned: Planned | None = None,
) -> Inputs:
    """Return what an enclave is made of; ``runtime`` is as in `Runtime.chosen`.

    An embedded one may have to be compiled. Raises UserError before that where a key, a root hash or an
    archive cannot be read, and for what `build` refuses of what is ``planned``. A root that is a directory is
    one that is yet to be packed.
    """
    if isinstance(root, ArchiveRoot) and not lookup.is_dir(root.path):
        root = ArchiveRoot(root.path, root.index())
    if pubkeys or roothashes:
        _check_trusted(pubkeys, roothashes)
    if planned and runtime is None and (place := yet_to_compile()):
        _check_plan(planned, Inputs(place, config, root, pubkeys, roothashes))
    return Inputs(Runtime.chosen(runtime), config, root, pubkeys, roothashes)


def _check_plan(planned: Planned, inputs: Inputs) -> None:
    """Raise UserError for what `build` refuses with the embedded runtime, which is not there yet."""
    import tempfile  # a runtime is compiled once

    with packed(inputs, planned.tree, Path(tempfile.gettempdir(), "rootfs"), planned.root) as whole:
        if planned.signer:
            _check_keys(whole, planned.root, planned.signer, planned.secrets)
        _doubts(whole, embedded=True)


def _check_trusted(pubkeys: Sequence[Path], roothashes: Sequence[Path]) -> None:
    """Raise UserError for a key or a root hash that cannot be read; a pipe is left for who needs it."""
    from mystikos_tool.signing import trusted

    for paths, load in ((pubkeys, trusted.load_public_key), (roothashes, trusted.load_root_hash)):
        for path in paths:
            if not lookup.is_fifo(path):
                load(path)


def build(
    inputs: Inputs,
    signer: Signer,
    day: date,
    target: Path,
    *,
    tree: Tree | None = None,
    root: str = "the root",
    parents: bool = False,
    secrets: str = root_keys.WARN,
    checkout: str = "",
    warn: Callable[[str], object] | None = None,
) -> Measurement:
    """Run every stage and write the package of an enclave; return its measurement.

    With a ``tree``, that is packed and is the root file system; messages call it ``root``, as the
    directory that was given. With ``parents``, directories
    above ``target`` are made where they are missing; ``warn`` is as in `measure`. ``secrets`` says
    what private keys in the root are: "warn", for one call of ``warn``, "error" or "allow". ``checkout``
    is a directory whose path in a program that is packed is to be warned of. Raises
    UserError as the stages do, and for a root that holds the signer's key; an earlier target is then
    as it was.
    """
    sections.check_name(target)
    with packed(inputs, tree, target, root) as whole:
        warnings = _check_keys(whole, root, signer, secrets)
        if tree and checkout and isinstance(whole.root, ArchiveRoot):
            files = checkout_path.found(whole.root.index(), (), checkout)
            warnings += checkout_path.told(files, root, checkout, "strip it with --strip")
        if warn:
            for warning in warnings:
                warn(warning)
        measured, image = _measure_and_sign(whole, signer, day, warn)
        if parents:
            atomic.make_directory(target.parent)
        package(whole, image, target)
    return measured


@contextmanager
def packed(inputs: Inputs, tree: Tree | None, beside: Path, root: str = "the root") -> Iterator[Inputs]:
    """Yield the inputs with the archive of a tree as their root, or as they are without a tree.

    The archive lies on the disk of ``beside`` until the end; messages call it ``root``.
    """
    if tree is None:
        yield inputs
        return
    with atomic.scratch(beside) as directory:
        path = directory / "rootfs"
        whole = archive.write(tree, path)._replace(where=root)
        yield inputs._replace(root=ArchiveRoot(path, whole))


def build_directory(
    inputs: Inputs,
    rootfs: Path,
    signer: Signer,
    day: date,
    target: Path,
    warn: Callable[[str], object] | None = None,
) -> Measurement:
    """Run every stage and write what a package has in it as the files of a signed directory.

    ``rootfs`` is copied as it is, archive or ext2 disk; ``warn`` is as in `measure`. Raises UserError
    as the stages do; earlier files of the directory are then as they were.
    """
    for warning in _check_keys(inputs, str(rootfs), signer, root_keys.WARN):
        if warn:
            warn(warning)
    measured, image = _measure_and_sign(inputs, signer, day, warn)
    parts = package_parts(inputs, image)._replace(rootfs=FileContent.of(rootfs))
    signed_directory.write(inputs.runtime.loader, parts, target)
    return measured


def _check_keys(inputs: Inputs, root: str, signer: Signer, secrets: str) -> list[str]:
    """Return what is to be told of private keys in what is packed; raise UserError as `build` does."""
    keys, config = root_keys.of(inputs.root), inputs.config
    root_keys.refuse_signer(keys, signer.modulus, root, signer)
    return [*root_keys.told(keys, root, secrets), *root_keys.told_of_text(config.data, config.name, secrets)]


def _measure_and_sign(
    inputs: Inputs, signer: Signer, day: date, warn: Callable[[str], object] | None
) -> tuple[Measurement, Content]:
    measured = measure(inputs, warn=warn)
    image, structure = signed(measured, inputs.runtime, inputs.config, signer, day)
    return measured, Bytes(*image.pieces(structure))


def pack(
    directory: Path, target: Path, *, exclude: tuple[str, ...] = (), preserve_modes: bool = False
) -> Tree:
    """Pack an application directory into an archive and return what went into it.

    Raises UserError as :func:`assembly.assembled` and :func:`archive.write` do.
    """
    options = assembly.Options(exclude=exclude, preserve_modes=preserve_modes)
    tree = assembly.assembled(directory, options).tree
    archive.write(tree, target)
    return tree


def warnings_of(tree: Tree, directory: Path, *, archive: bool = True) -> list[str]:
    """Return what the user should know of the tree of ``directory`` before it becomes a root."""
    left_out = "is left out; a root file system holds no devices and FIFOs"
    too_long = tree.too_long_to_boot if archive else []
    return [
        *(f"{directory / path}: {left_out}" for path in tree.left_out),
        *(f"{directory / path}: {boot_fault(path)}" for path in too_long),
        *leftovers_of(tree, directory),
    ]


def leftovers_of(tree: Tree, directory: Path) -> list[str]:
    """Return what in the tree of ``directory`` is hardly meant for a root, with what keeps it out."""
    return leftovers.told(tree.paths, str(directory), leftovers.WARN, _keep_out)


def _keep_out(patterns: Sequence[str]) -> str:
    return "exclude " + ", ".join(f'"{pattern}"' for pattern in patterns)


def measure(
    inputs: Inputs, rootfs: Readable | None = None, warn: Callable[[str], object] | None = None
) -> Measurement:
    """Lay the enclave out and measure it; ``rootfs`` is the root's content where it is at hand.

    What may keep the package from starting goes to ``warn``. Raises UserError for what certainly
    does: where the configuration does not fit the root file system or the runtime.
    """
    check_start(inputs, warn)
    return measure_unchecked(inputs, rootfs)


def check_start(inputs: Inputs, warn: Callable[[str], object] | None = None) -> None:
    """Tell ``warn`` what may keep a package from starting; raise UserError for what certainly does."""
    for warning in _doubts(inputs, embedded=inputs.runtime.is_embedded):
        if warn:
            warn(warning)


def _doubts(inputs: Inputs, *, embedded: bool) -> list[str]:
    """Return what may keep a package from starting; raise UserError for what certainly does."""
    trusts_disks = bool(inputs.pubkeys or inputs.roothashes)
    doubts = check(inputs.root, inputs.config, trusts_disks=trusts_disks, embedded=embedded)
    return [*doubts, *_distrust(inputs)]


def _distrust(inputs: Inputs) -> list[str]:
    """Return what is to be told of a root's disk that the enclave does not trust; raise where it refuses."""
    index = inputs.root.index() if isinstance(inputs.root, DiskRoot) else None
    if index is None:
        return []
    from mystikos_tool.signing import disk_trust

    trusts = inputs.pubkeys_content(), inputs.roothashes_content()
    told = disk_trust.check_trusted(index.fssig, *trusts, index.where, debug=inputs.config.debug)
    return [told] if told else []


def measure_unchecked(inputs: Inputs, rootfs: Readable | None = None) -> Measurement:
    """Measure an enclave as :func:`measure` does, whether it could start or not."""
    root = rootfs or inputs.root.content()
    with progress.bar("measuring", root.size):
        return measurement.of(prepare(inputs.runtime, inputs.config), lay_out(inputs, root))


def measure_resuming(
    inputs: Inputs, rootfs: Readable | None, earlier: tuple[bytes, ...], unchanged: int
) -> tuple[Measurement, tuple[bytes, ...]]:
    """Measure as :func:`measure_unchecked`; go on behind the ``unchanged`` bytes that a root begins with.

    They are as they were when what was returned beside the ``earlier`` measurement was.
    """
    from mystikos_tool.enclave import resuming
    from mystikos_tool.io import sha256

    if not sha256.is_available():
        return measure_unchecked(inputs, rootfs), ()
    root, enclave = rootfs or inputs.root.content(), prepare(inputs.runtime, inputs.config)
    with progress.bar("measuring", root.size):
        laid_out = lay_out(inputs, root)
        measured, states = resuming.mrenclave(laid_out, root, resuming.States(*earlier), unchanged)
        return measurement.of(enclave, laid_out, measured), states


def lay_out(inputs: Inputs, rootfs: Readable | None = None) -> Layout:
    """Lay an enclave out; ``rootfs`` is as in :func:`measure`. Raises UserError as :func:`layout.lay_out`."""
    return layout.lay_out(
        layout.Parts(
            enclave=prepare(inputs.runtime, inputs.config),
            kernel=image_of(inputs.runtime.kernel),
            crt=image_of(inputs.runtime.crt),
            rootfs=rootfs or inputs.root.content(),
            pubkeys=inputs.pubkeys_content(),
            roothashes=inputs.roothashes_content(),
            config=inputs.config.data,
            memory_size=inputs.config.memory_size,
        )
    )


def prepare(runtime: Runtime, config: Config) -> EnclaveImage:
    """Return the runtime's enclave image with the configuration in it, not yet signed."""
    return _prepared(image_of(runtime.enclave), config, config.data)


@lru_cache(maxsize=2)  # the apps of a build share runtime and configuration, and so do their stages
def _prepared(image: elf.Image, config: Config, _: bytes) -> EnclaveImage:
    # Equal configurations may have other bytes.
    return enclave_image.prepare(image, config)


def sign(measured: Measurement, runtime: Runtime, config: Config, signer: Signer, day: date) -> bytes:
    """Return the signed enclave image; raise UserError as :func:`signed` does."""
    image, structure = signed(measured, runtime, config, signer, day)
    return image.file(structure)


def signed(
    measured: Measurement, runtime: Runtime, config: Config, signer: Signer, day: date
) -> tuple[EnclaveImage, bytes]:
    """Return an enclave image, and the SIGSTRUCT that signs it.

    Raises UserError as :func:`state` does, for a configuration that holds the key, and when the signer
    gives no signature that holds.
    """
    root_keys.refuse_signer_in_text(config.data, signer.modulus, config.name, signer)
    prepared, structure = _proved(measured, runtime, config)
    return prepared, enclave_key.sign(structure, signer, day)


def state(measured: Measurement, runtime: Runtime, config: Config, day: date) -> Statement:
    """Return what is to be signed of an enclave that was measured, for somebody elsewhere.

    All of the measurement but MRENCLAVE follows from runtime and configuration, and is held to
    them: whoever could change a measurement's file would otherwise choose what the key signs.

    Raises UserError when runtime or configuration are not those that were measured, and when the
    measurement says something else.
    """
    from mystikos_tool.signing.statement import Statement  # few sign elsewhere

    return Statement(sigstruct.prepare(_proved(measured, runtime, config)[1], day))


def attach(
    measured: Measurement, runtime: Runtime, config: Config, statement: Statement, signed: Signed
) -> bytes:
    """Return the signed enclave image of what was stated and signed elsewhere.

    Raises UserError as :func:`state` does, for a statement of another enclave, and for a signature
    that is not the key's over the statement.
    """
    prepared, structure = _proved(measured, runtime, config)
    return prepared.file(statement.attached(structure, signed))


def _proved(measured: Measurement, runtime: Runtime, config: Config) -> tuple[EnclaveImage, bytes]:
    """Return the image that was measured, and the unsigned SIGSTRUCT; raise UserError as `state` does."""
    prepared = prepare(runtime, config)
    if prepared.sha256 != measured.image_sha256:
        raise UserError(
            str(runtime.enclave),
            f"is not what was measured with {config.name}",
            "measure again with this runtime and configuration",
        )
    structure = measurement.structure(prepared, measured.mrenclave)
    if measured.sigstruct != structure:
        changed = (
            ", ".join(sigstruct.SIGSTRUCT.different(measured.sigstruct, structure)) or "a reserved field"
        )
        raise UserError(
            "the measurement",
            f"is not what measuring with {config.name} gives: its SIGSTRUCT differs in {changed}",
            "find out who changed it, and measure again",
        )
    return prepared, structure


def identity(image: Path) -> Identity:
    """Return the identity that a signed enclave image states, unchecked.

    Raises UserError for an image that could not have been signed, and for what cannot be read.
    """
    _, structure = enclave_image.reopen(FileContent.of(image).read(), str(image))
    return sigstruct.identity(structure)


def signing_day(epoch: str | None) -> date:
    """Return the date for a SIGSTRUCT: that of SOURCE_DATE_EPOCH, or today's; both in UTC.

    ``epoch`` is a number of seconds since 1970 in decimal digits and nothing else, as its specification
    (reproducible-builds.org) has it. Raises UserError for anything else and for years beyond 9999,
    which SIGSTRUCT has no room for.
    """
    if not epoch:
        return datetime.now(timezone.utc).date()
    if not re.fullmatch("[0-9]{1,12}", epoch) or int(epoch) > _LAST_EPOCH:
        problem = f"{epoch!r} is not a time in seconds since 1970, of the years to 9999"
        raise UserError("SOURCE_DATE_EPOCH", problem, "set it to a number or unset it")
    return datetime.fromtimestamp(int(epoch), timezone.utc).date()


def package(inputs: Inputs, image: Content, target: Path) -> int:
    """Write the package of a signed enclave image; return its size in bytes.

    Raises UserError as :func:`sections.write` does.
    """
    parts = package_parts(inputs, image)
    with progress.bar("packaging", parts.rootfs.size):
        return sections.write(inputs.runtime.loader, parts, target)


def unsigned_image(inputs: Inputs) -> Content:
    """Return the enclave image's file as it is before it is signed."""
    return Bytes(prepare(inputs.runtime, inputs.config).file())


def package_parts(inputs: Inputs, image: Content) -> sections.Parts:
    """Return the contents of a package's sections; what is measured of the runtime is in memory already."""
    return sections.Parts(
        enclave=image,
        crt=Bytes(image_of(inputs.runtime.crt).data),
        kernel=Bytes(image_of(inputs.runtime.kernel).data),
        rootfs=inputs.root.content(),
        pubkeys=Bytes(inputs.pubkeys_content()),
        roothashes=Bytes(inputs.roothashes_content()),
        config=Bytes(inputs.config.data),
    )


def place_of_root(inputs: Inputs, size: int) -> tuple[int, int]:
    """Return where a root of ``size`` bytes, which need not be there, begins in a package, and its size."""
    image = prepare(inputs.runtime, inputs.config).file(bytes(sigstruct.SIGSTRUCT.size))
    parts = package_parts(inputs._replace(root=DiskRoot()), Bytes(image))
    parts = parts._replace(rootfs=FileContent(Path(), size))  # nobody reads it
    placed = sections.pieces(inputs.runtime.loader, parts)
    return next(place for place, piece in placed if piece is parts.rootfs), placed[-1][0]
