"""What the reference packager recorded, value by value, through the stages that builds go through."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from reference_cases import ARCHIVES, CASES, DATA, SIGNING_DAY, Case

from mystikos_tool import pipeline, proof
from mystikos_tool.enclave.measurement import Measurement
from mystikos_tool.errors import UserError
from mystikos_tool.formats import elf, sigstruct
from mystikos_tool.io.content import FileContent
from mystikos_tool.packaging import sections
from mystikos_tool.root.archive import extract, read
from mystikos_tool.signing import pem

ACCEPTED = [name for name, case in CASES.items() if not case.rejected]
REJECTED = [name for name, case in CASES.items() if case.rejected]


@dataclass(frozen=True)
class Built:
    case: Case
    measurement: Measurement
    image: Path
    package: Path

    @property
    def oeinfo(self) -> bytes:
        return elf.Image(self.image.read_bytes(), str(self.image)).section_bytes(".oeinfo")

    @property
    def sigstruct(self) -> bytes:
        return self.oeinfo[144 : 144 + 1808]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Built]:
    """Build a case as a build does, the measurement going through its file; each one once."""
    done: dict[str, Built] = {}

    def built(name: str) -> Built:
        if name not in done:
            case, directory = CASES[name], tmp_path_factory.mktemp(name)
            inputs = case.inputs
            measured = Measurement.from_json(pipeline.measure(inputs).to_json(), name)
            signer = pem.load(case.key)
            image, target = directory / "mystenc.so", directory / inputs.config.application_name
            image.write_bytes(pipeline.sign(measured, inputs.runtime, inputs.config, signer, SIGNING_DAY))
            pipeline.package(inputs, FileContent.of(image), target)
            done[name] = Built(case, measured, image, target)
        return done[name]

    return built


def test_all_thirteen_cases_are_here() -> None:
    assert (len(ACCEPTED), REJECTED) == (12, ["a-ext2-untrusted"])


@pytest.mark.parametrize("name", ACCEPTED)
def test_mrenclave_is_the_recorded_one(build: Callable[[str], Built], name: str) -> None:
    built = build(name)
    assert built.measurement.mrenclave.hex() == built.case.expected["mrenclave"]


@pytest.mark.parametrize("name", ACCEPTED)
def test_mrsigner_is_the_recorded_one(build: Callable[[str], Built], name: str) -> None:
    built = build(name)
    assert sigstruct.identity(built.sigstruct).mrsigner.hex() == built.case.expected["mrsigner"]


@pytest.mark.parametrize("name", ACCEPTED)
def test_all_bytes_of_sigstruct_are_the_recorded_ones(build: Callable[[str], Built], name: str) -> None:
    built = build(name)
    assert len(built.sigstruct) == 1808
    assert built.sigstruct.hex() == built.case.expected["sigstruct"]


@pytest.mark.parametrize("name", ACCEPTED)
def test_the_signed_record_is_the_recorded_one(build: Callable[[str], Built], name: str) -> None:
    built = build(name)
    assert hashlib.sha256(built.oeinfo).hexdigest() == built.case.expected["oeinfo_sha256"]


@pytest.mark.parametrize("name", ACCEPTED)
def test_every_section_of_the_package_is_the_recorded_one(build: Callable[[str], Built], name: str) -> None:
    built = build(name)
    opened = sections.read(built.package)
    contents = {section: opened.content(section).read() for section in sections.SECTIONS}
    assert {
        section: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for section, data in contents.items()
    } == built.case.expected["sections"]


@pytest.mark.parametrize("name", ACCEPTED)
def test_the_package_is_the_recorded_one(build: Callable[[str], Built], name: str) -> None:
    built = build(name)
    digest = hashlib.sha256(built.package.read_bytes()).hexdigest()
    assert digest == built.case.expected["package_on_program_sha256"]


@pytest.mark.parametrize("name", ACCEPTED)
def test_the_package_verifies_and_states_its_identity(build: Callable[[str], Built], name: str) -> None:
    built = build(name)
    config = built.case.inputs.config
    identity = proof.verify(built.package)
    assert (identity.mrenclave.hex(), identity.mrsigner.hex()) == (
        built.case.expected["mrenclave"],
        built.case.expected["mrsigner"],
    )
    assert (identity.product_id, identity.security_version, identity.debug) == (
        config.product_id,
        config.security_version,
        config.debug,
    )


@pytest.mark.parametrize("name", REJECTED)
def test_what_the_reference_rejected_is_rejected(name: str) -> None:
    with pytest.raises(UserError, match="give a public key or a root hash"):
        pipeline.measure(CASES[name].inputs)


# The archives: ours hold the same entries, in an order and with modes that do not depend on the machine.


def entries(path: Path) -> dict[bytes, tuple[int, bytes]]:
    """Mode and data of each member, the ``empty`` directory aside, which version control drops."""
    archive = read(path)
    return {
        member.path: (member.mode, archive.data(member))
        for member in archive.members
        if member.path != b"empty"
    }


def appdir(name: str, directory: Path) -> Path:
    """A copy of a recorded appdir with the modes that its recorded archive has."""
    archive = read(ARCHIVES / f"{name}.cpio")
    extract(archive, directory)
    for member in archive.members:
        source = DATA / "appdirs" / name / os.fsdecode(member.path)
        if stat.S_ISREG(member.mode):
            (directory / os.fsdecode(member.path)).write_bytes(source.read_bytes())
    return directory


@pytest.mark.parametrize("name", ["hello", "pages"])
def test_the_archive_of_a_recorded_appdir_has_the_recorded_entries(tmp_path: Path, name: str) -> None:
    pipeline.pack(DATA / "appdirs" / name, tmp_path / "ours.cpio")
    ours, theirs = entries(tmp_path / "ours.cpio"), entries(ARCHIVES / f"{name}.cpio")
    assert list(ours) == sorted(theirs)
    for path, (mode, data) in theirs.items():
        assert ours[path][1] == data
        assert stat.S_IFMT(ours[path][0]) == stat.S_IFMT(mode)
        assert bool(ours[path][0] & stat.S_IXUSR) == bool(mode & stat.S_IXUSR)


@pytest.mark.parametrize("name", ["hello", "pages"])
def test_with_modes_kept_the_archive_is_the_recorded_one_but_for_the_order(tmp_path: Path, name: str) -> None:
    source = appdir(name, tmp_path / "appdir")
    pipeline.pack(source, tmp_path / "ours.cpio", preserve_modes=True)
    ours, theirs = (sorted(pieces(path)) for path in (tmp_path / "ours.cpio", ARCHIVES / f"{name}.cpio"))
    assert ours == theirs
    assert (tmp_path / "ours.cpio").stat().st_size == (ARCHIVES / f"{name}.cpio").stat().st_size


def pieces(path: Path) -> list[bytes]:
    """The archive cut in front of every header, so that no byte is left out of the comparison."""
    data = path.read_bytes()
    starts = [0]
    for member in read(path).members:
        header = member.offset - (110 + len(member.path) + 1 + 3) // 4 * 4
        starts.append(header)
    starts.append(data.index(b"TRAILER!!!") - 110)
    return [data[start:end] for start, end in zip(starts, [*starts[1:], len(data)], strict=True)]
