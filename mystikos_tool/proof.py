"""What is proved of a package that is there, and what is made of it without its sources.

    verify              prove what a package is
    state_package       what is to be signed elsewhere, so that its enclave gets another signature
    attach_to_package   the package with that signature
    export_sgxs         its measured stream
    policy              what a relying party holds its enclave to

Each measures the package anew, by the layout that the :mod:`pipeline` has too.
"""

from __future__ import annotations

import hashlib
from datetime import date
from pathlib import Path

from mystikos_tool.enclave import layout, measurement
from mystikos_tool.enclave.layout import Layout
from mystikos_tool.enclave.measurement import Measurement
from mystikos_tool.enclave.mrenclave import hashed_size, write_stream
from mystikos_tool.formats import sigstruct
from mystikos_tool.formats.sigstruct import Identity
from mystikos_tool.io import atomic
from mystikos_tool.io.content import Bytes
from mystikos_tool.packaging import host_program as host_programs
from mystikos_tool.packaging import opened as opened_packages
from mystikos_tool.packaging import policy as policies
from mystikos_tool.packaging import sections
from mystikos_tool.packaging.opened import Opened, OpenedDirectory
from mystikos_tool.packaging.policy import Policy
from mystikos_tool.packaging.verification import (
    ANYTHING,
    Expectations,
    HostProgram,
    Verification,
    VerificationError,
    facts,
)
from mystikos_tool.root import archive
from mystikos_tool.root import root as roots
from mystikos_tool.signing import root_keys
from mystikos_tool.signing.statement import Signed, Statement

_DISTRUST = "do not use the package; make it again"

# Bytes hashed for what a package only describes, as its memory: enough for half a terabyte of it.
_MAX_HASHED = 1 << 34


def verify(
    path: Path,
    expected: Expectations = ANYTHING,
    loader: Path | None = None,
    *,
    embedded: str | None = None,
    disk: Path | None = None,
) -> Verification:
    """Prove what can be proved of a package or a signed directory; return that, and what was not proved.

    SIGSTRUCT is held against EINIT's rules and against what is expected, before anything large is
    read; then the enclave is measured anew. ``loader`` is the host program that the package has to
    have, ``embedded`` the SHA-256 of the embedded runtime's, in hexadecimal. ``disk`` is one that the
    package has to trust, and whose every block is held against its hash tree.

    Raises VerificationError, naming the section, when anything does not fit, and UserError for what
    is neither or cannot be read.
    """
    return _verified(opened_packages.of(path), expected, loader, embedded, disk)


def _verified(
    opened: Opened,
    expected: Expectations,
    loader: Path | None,
    embedded: str | None,
    disk: Path | None = None,
) -> Verification:
    stated = _stated_identity(opened)
    expected.check(stated, str(opened.path))
    if opened.content(sections.CONFIG).read() != opened.config:
        where = opened.where(sections.CONFIG)
        raise VerificationError(where, "is not the configuration in the enclave", _DISTRUST)
    host_program = _host_program(opened, loader, embedded)
    _check_measurement(opened, stated)
    trusted_disk = _trusted_disk(opened, disk) if disk else None
    told = facts(host_program, expected, trusted_disk, disk=opened.is_on_disk, others=opened.others())
    return Verification(stated, host_program, *told)


def _trusted_disk(opened: Opened, disk: Path) -> str:
    from mystikos_tool.packaging import disk_verification

    return disk_verification.check_trusted(opened, disk)


def state_package(path: Path, day: date) -> Statement:
    """Return what is to be signed so that the enclave of a package gets another signature and date.

    The package, or signed directory, is measured anew: what is stated is proved. Raises UserError as
    :func:`verify` does.
    """
    return Statement(sigstruct.prepare(_measured_structure(opened_packages.of(path)), day))


def attach_to_package(path: Path, statement: Statement, signed: Signed, target: Path) -> Identity:
    """Write a package, or a signed directory, with a signature from elsewhere; return its enclave's identity.

    It has the bytes that packaging with the signer itself gives. Raises UserError as :func:`verify` and
    `pipeline.attach` do, and for a root that holds the signer's key; an earlier target is then as it was.
    """
    opened = opened_packages.of(path)
    structure = statement.attached(_measured_structure(opened), signed)
    where = opened.where(sections.ROOTFS)
    root_keys.refuse_signer(_keys_in_root(opened, where), signed.modulus, where)
    opened.write_with_image(Bytes(opened.image.file(structure)), target)
    return sigstruct.identity(structure)


def _keys_in_root(opened: Opened, where: str) -> list[root_keys.RootKey]:
    """Return the private keys in a root; of one on a disk that is not at hand, none."""
    if isinstance(opened, OpenedDirectory):
        return root_keys.of(roots.of(Path(where)))
    if opened.is_on_disk:
        return []
    return root_keys.in_archive(archive.index(opened.content(sections.ROOTFS), where))


def export_sgxs(path: Path, target: Path) -> int:
    """Write the enclave of a package or a signed directory as SGXS; return its size in bytes.

    Its SHA-256 is MRENCLAVE. Raises UserError as :func:`verify` does; an earlier target is then as it was.
    """
    opened = opened_packages.of(path)
    stated = _stated_identity(opened)
    laid_out = lay_out_opened(opened)
    digest = hashlib.sha256()
    with atomic.writing(target) as file:

        def write(piece: bytes | memoryview) -> None:
            digest.update(piece)
            file.write(piece)

        write_stream(laid_out, write)
        _check_mrenclave(opened, digest.digest(), stated)
        return file.tell()


def policy(path: Path, *, any_version: bool = False) -> Policy:
    """Return what a relying party holds the enclave of a package or a signed directory to.

    Raises UserError as :func:`verify` does.
    """
    opened = opened_packages.of(path)
    _verified(opened, ANYTHING, None, None)
    return policies.of(opened.sigstruct, any_version=any_version)


def _measured_structure(opened: Opened) -> bytes:
    """Return the unsigned SIGSTRUCT of a package that was verified."""
    verified = _verified(opened, ANYTHING, None, None)
    return measurement.structure(opened.image, verified.mrenclave)


def _stated_identity(opened: Opened) -> Identity:
    """Return the identity that a package states in a SIGSTRUCT which its signer signed."""
    broken = sigstruct.check(opened.sigstruct)
    if broken:
        raise VerificationError(opened.where(sections.ENCLAVE), f"SIGSTRUCT: {broken}", _DISTRUST)
    return sigstruct.identity(opened.sigstruct)


def _host_program(opened: Opened, loader: Path | None, embedded: str | None) -> HostProgram:
    sha256 = opened.host_program()
    return HostProgram(sha256, host_programs.known_as(sha256, loader, embedded))


def lay_out_opened(opened: Opened) -> Layout:
    """Lay out what a package or a signed directory holds.

    Raises UserError for what cannot be laid out, and VerificationError for an enclave of memory that
    nobody could measure.
    """
    parts = opened.parts()
    laid_out = layout.lay_out(parts)
    if hashed_size(laid_out) - 2 * parts.rootfs.size > _MAX_HASHED:
        problem = f"describes an enclave of {laid_out.loaded_size:,} bytes, too large to be measured"
        raise VerificationError(str(opened.path), problem, _DISTRUST)
    return laid_out


def measure_opened(opened: Opened) -> tuple[Layout, Measurement]:
    """Lay out and measure what a package or a signed directory holds; raise as :func:`lay_out_opened`."""
    laid_out = lay_out_opened(opened)
    return laid_out, measurement.of(opened.image, laid_out)


def _check_measurement(opened: Opened, stated: Identity) -> None:
    _, measured = measure_opened(opened)
    _check_mrenclave(opened, measured.mrenclave, stated)
    if _unsigned_fields(opened.sigstruct) != _unsigned_fields(measured.sigstruct):
        where = opened.where(sections.ENCLAVE)
        raise VerificationError(where, "SIGSTRUCT does not agree with the enclave's record", _DISTRUST)


def _check_mrenclave(opened: Opened, measured: bytes, stated: Identity) -> None:
    if measured != stated.mrenclave:
        problem = f"MRENCLAVE is {measured.hex()}, signed is {stated.mrenclave.hex()}"
        raise VerificationError(str(opened.path), problem, _DISTRUST)


def _unsigned_fields(structure: bytes) -> bytes:
    """Return a SIGSTRUCT without what signing adds."""
    added = ("vendor", "date", "modulus", "signature", "q1", "q2")
    sizes = {"vendor": 0, "date": 0}
    return sigstruct.SIGSTRUCT.patch(
        structure, {name: sizes.get(name, bytes(sigstruct.KEY_SIZE)) for name in added}
    )
