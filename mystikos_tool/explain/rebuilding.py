"""A package made again from the inputs that its provenance names, and held to it byte for byte."""

from __future__ import annotations

import filecmp
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple

from mystikos_tool import config as config_reader
from mystikos_tool import pipeline, proof
from mystikos_tool.config import Config
from mystikos_tool.enclave.measurement import Measurement
from mystikos_tool.errors import UserError
from mystikos_tool.explain import difference, dsse, provenance
from mystikos_tool.explain.difference import Difference
from mystikos_tool.explain.provenance import EMBEDDED, Parameters, Provenance
from mystikos_tool.formats import sigstruct
from mystikos_tool.formats.sigstruct import SIGSTRUCT
from mystikos_tool.io import atomic, lookup
from mystikos_tool.io.atomic import read_input
from mystikos_tool.io.content import Bytes, FileContent
from mystikos_tool.packaging.opened import OpenedPackage
from mystikos_tool.packaging.verification import Expectations, Verification
from mystikos_tool.pipeline import Inputs
from mystikos_tool.printable import few, printable
from mystikos_tool.root import assembly
from mystikos_tool.root import root as roots
from mystikos_tool.root.permissions import permissions
from mystikos_tool.root.root import DiskRoot
from mystikos_tool.root.tree import Tree
from mystikos_tool.signing import throwaway

_MAX_STATEMENT = 1 << 28
_AGAIN = "take it as it was published"


class Rebuilt(NamedTuple):
    """What came of it: ``verification`` where the package is what the inputs give, else ``difference``.

    With a ``verification`` the package equals, byte for byte, what was made again and got the
    package's own signature.
    """

    verification: Verification | None
    difference: Difference | None


class Places:
    """Where the inputs of a statement lie: below ``directory``, or in ``given`` by their roles.

    A role is source, config, runtime, or one of several as pubkey/0, roothash/0 and overlay/0.
    """

    def __init__(self, directory: Path, given: Mapping[str, Path], where: str) -> None:
        self._directory = directory
        self._given = dict(given)
        self._where = where

    def path(self, role: str, name: str) -> Path:
        """Return where an input lies; raise UserError where nothing is, or its name leads out of there."""
        path = self._given.pop(role, None)
        if path is None:
            if Path(name).is_absolute() or ".." in Path(name).parts:
                problem = f"names {role} by {name!r}, which is not below a directory"
                raise UserError(self._where, problem, f"say where it is: --input {role}=PATH")
            path = self._directory / name
        if not os.path.lexists(path):
            problem = f"is missing, and {self._where} names it as {role}"
            raise UserError(str(path), problem, f"put it there, or say where it is: --input {role}=PATH")
        return path

    def check_all_used(self) -> None:
        """Raise UserError for what was given and the statement does not name."""
        for role in self._given:
            raise UserError(f"--input {role}", f"is no input that {self._where} names", "leave it out")


def rebuild(
    package: Path,
    statement: Path,
    *,
    directory: Path,
    places: Mapping[str, Path],
    expected: Expectations,
    signed_by: int | None,
    warn: Callable[[str], object],
) -> Rebuilt:
    """Make a package again of the inputs that its provenance names, and say what it is.

    The inputs lie below ``directory``, or where ``places`` has them, as in `Places`. ``signed_by`` is the
    modulus of who has to have signed the statement; None for nobody in particular: it is then held to
    the package's own signer where it names that one. Every input is held to its digest in the statement
    before anything is made of it.

    Raises UserError for a statement that is damaged or was changed, and for an input that is missing or
    another one; VerificationError for a package that is what the inputs give and not as expected.
    """
    found = OpenedPackage(package)
    stated, signer = _read(statement, found, signed_by)
    with _whole(stated, Places(directory, places, str(statement)), statement, warn) as whole:
        measured = pipeline.measure_unchecked(whole)
        if measured.mrenclave.hex() != stated.mrenclave:
            problem = (
                f"states MRENCLAVE {stated.mrenclave}, and its inputs give {measured.mrenclave.hex()} here"
            )
            raise UserError(str(statement), problem, f"take the version that made it: {stated.builder}")
        with atomic.scratch(Path(tempfile.gettempdir(), package.name)) as scratch:
            again = scratch / package.name
            if not _is_made_again(found, whole, again):
                return Rebuilt(None, _difference(found, whole, measured, again, statement))
        verified = proof.verify(package, expected, whole.runtime.loader)
    sha256 = provenance.sha256_of(FileContent.of(package))
    return Rebuilt(_with_facts(verified, stated, signer, sha256), None)


def _read(path: Path, found: OpenedPackage, signed_by: int | None) -> tuple[Provenance, str | None]:
    """Return a statement, and who is known to have signed it."""
    where = str(path)
    data = read_input(path, "statement", _MAX_STATEMENT)
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise UserError(where, "is no JSON", _AGAIN) from None
    if not dsse.is_envelope(document):
        if signed_by is not None:
            raise UserError(where, "is not signed", "take the signed one, or leave --statement-signer out")
        return Provenance.from_json(data, where), None
    own = int.from_bytes(SIGSTRUCT.get_bytes(found.sigstruct, "modulus"), "little")
    payload, is_signed = dsse.opened(document, own if signed_by is None else signed_by, where)
    if signed_by is not None and not is_signed:
        raise UserError(where, "is not signed by the key that is expected", _AGAIN)
    signer = "the key that is expected" if signed_by is not None else "the package's signer"
    return Provenance.from_json(payload, where), signer if is_signed else None


@contextmanager
def _whole(
    stated: Provenance, places: Places, statement: Path, warn: Callable[[str], object]
) -> Iterator[Inputs]:
    """Yield the inputs that a statement names, its root packed; raise UserError where one is another."""
    asked = stated.parameters
    paths = {role: places.path(role, name) for role, name in _named(asked, stated)}
    places.check_all_used()
    config, source = _config(asked, paths), paths.get("source")
    tree = (
        _tree(source, asked, _numbered(paths, "overlay"), warn) if source and lookup.is_dir(source) else None
    )
    inputs = pipeline.inputs_of(
        config,
        roots.of(source) if source else DiskRoot(),
        _numbered(paths, "pubkey"),
        _numbered(paths, "roothash"),
        paths.get("runtime"),
    )
    beside = Path(tempfile.gettempdir(), "rootfs")
    with pipeline.packed(inputs, tree, beside, str(source)) as whole:
        _check(stated, whole, paths, statement)
        yield whole


def _named(asked: Parameters, stated: Provenance) -> Iterator[tuple[str, str]]:
    """Yield the inputs that have to be there, each by its role and its name."""
    if asked.source is not None and "rootfs" in stated.inputs:
        yield "source", asked.source
    if asked.config is not None:
        yield "config", asked.config
    if asked.runtime != EMBEDDED:
        yield "runtime", asked.runtime
    for role, names in (
        ("pubkey", asked.pubkeys),
        ("roothash", asked.roothashes),
        ("overlay", asked.overlay),
    ):
        yield from ((f"{role}/{number}", name) for number, name in enumerate(names))


def _numbered(paths: Mapping[str, Path], role: str) -> tuple[Path, ...]:
    return tuple(path for name, path in paths.items() if name.startswith(f"{role}/"))


def _config(asked: Parameters, paths: Mapping[str, Path]) -> Config:
    if "config" not in paths:
        return config_reader.of(asked.settings, "the statement's settings")
    changes = config_reader.Changes(asked.settings, "the statement's settings") if asked.settings else None
    return config_reader.load(paths["config"], None, changes)


def _tree(source: Path, asked: Parameters, overlays: tuple[Path, ...], warn: Callable[[str], object]) -> Tree:
    options = assembly.Options(
        exclude=asked.exclude,
        preserve_modes=asked.modes == "preserve",
        chmod=permissions(asked.chmod.items()),
        overlays=overlays,
        strip=asked.strip,
    )
    tree, warnings = assembly.assembled(source, options)
    for warning in warnings:
        warn(warning)
    return tree


def _check(stated: Provenance, whole: Inputs, paths: Mapping[str, Path], statement: Path) -> None:
    """Raise UserError, which names what is another one, unless every input is that of the statement."""
    here = provenance.inputs_of(whole)
    wrong = [name for name in (*here, *stated.inputs) if here.get(name) != stated.inputs.get(name)]
    if not wrong:
        return
    first = wrong[0]
    role = first.partition("/")[0]
    if role == "rootfs":
        files = [name for name in dict.fromkeys(wrong) if name != "rootfs"]
        told = few([_told(name, here, stated) for name in files]) or "the same files in another archive"
        problem = f"is not the root that {statement} names: {told}"
        raise UserError(str(paths.get("source", "the root")), problem, "take the source as it was published")
    where = str(paths.get({"configuration": "config"}.get(role, first), f"the {EMBEDDED} runtime"))
    if role == "runtime":
        where, remedy = str(paths.get("runtime", where)), f"take that of what made it: {stated.builder}"
    else:
        remedy = "take it as it was published"
    raise UserError(where, f"is not what {statement} names: {_told(first, here, stated)}", remedy)


def _told(name: str, here: Mapping[str, provenance.Input], stated: Provenance) -> str:
    shown = printable(name.removeprefix("rootfs/"))
    found, wanted = here.get(name), stated.inputs.get(name)
    if found is None or wanted is None:
        return f"{shown} is {'missing' if found is None else 'not in the statement'}"
    if found.sha256 == wanted.sha256:
        return f"{shown} has the mode {found.mode}, stated is {wanted.mode}"
    return f"{shown} has the SHA-256 {found.sha256}, stated is {wanted.sha256}"


def _is_made_again(found: OpenedPackage, whole: Inputs, target: Path) -> bool:
    """Make the package with the signature that it has, and tell whether it is the same file."""
    image = pipeline.prepare(whole.runtime, whole.config).file(found.sigstruct)
    pipeline.package(whole, Bytes(image), target)
    return filecmp.cmp(found.path, target, shallow=False)


def _difference(
    found: OpenedPackage, whole: Inputs, measured: Measurement, again: Path, statement: Path
) -> Difference:
    """Compare a package with what the inputs give, which has no signature that would count."""
    if measured.mrenclave != sigstruct.identity(found.sigstruct).mrenclave:
        key, day = throwaway.of_user(again.parent), datetime.now(timezone.utc).date()
        image = pipeline.sign(measured, whole.runtime, whole.config, key, day)
        pipeline.package(whole, Bytes(image), again)
    told = difference.compare(found.path, again)
    told.b = replace(told.b, path=f"the inputs of {printable(str(statement))}", mrsigner=None, date=None)
    told.signature = []
    return told


def _with_facts(verified: Verification, stated: Provenance, signer: str | None, sha256: str) -> Verification:
    """Add what is proved by making a package again."""
    proved = [*verified.proved, "it is, byte for byte, what the inputs of the statement give"]
    unproved = list(verified.unproved)
    if signer:
        proved.append(f"the statement is signed by {signer}")
    else:
        unproved.append("who made the statement (--statement-signer KEY)")
    if sha256 != stated.sha256:
        unproved.append(
            f"that this file was published: the statement is of one with the SHA-256 {stated.sha256},"
            " which has another signature of the same enclave"
        )
    return replace(verified, proved=tuple(proved), unproved=tuple(unproved))
