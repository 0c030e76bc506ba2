"""Disks as inspect, verify and diff show them: identity, trust, files, and whose a block is."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from disks import DATA
from tiny_runtime import inputs

import mystikos_tool
from mystikos_tool import UserError, VerificationError
from mystikos_tool.cli import main
from mystikos_tool.explain import disks
from mystikos_tool.explain.disks import SCHEMA, DiskDifference, DiskReport
from mystikos_tool.formats import ext2, fssig
from mystikos_tool.packaging.disk_verification import DiskVerification
from mystikos_tool.root.disk import reader
from mystikos_tool.signing.disk_trust import BY_HASH, BY_KEY, trusted_by

KEYS = DATA / "p2-names-signed"
PUBLIC = KEYS / "rsa2048.pub"
OTHER = DATA / "p3-sparse-signed-e3" / "rsa3072e3.pub"
LARGE = bytes(range(256)) * 80


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "tree"
    (root / "lib").mkdir(parents=True)
    (root / "lib/large").write_bytes(LARGE)
    (root / "lib/small").write_bytes(b"small")
    (root / "lib/link").symlink_to("small")
    return root


def make(tree: Path, name: str, **options: Any) -> Path:
    target = tree.parent / name
    mystikos_tool.disk(target, tree, room=0, key=str(KEYS / "rsa2048.pem"), **options)
    return target


def validated(found: DiskReport | DiskDifference | DiskVerification) -> dict[str, Any]:
    document = json.loads(found.to_json())
    jsonschema.validate(document, json.loads(SCHEMA.read_text()))
    return dict(document)


def patch(path: Path, content: bytes) -> int:
    """Change a byte of a file's content on a disk; return the offset."""
    data = bytearray(path.read_bytes())
    at = data.index(content)
    data[at] ^= 1
    path.write_bytes(data)
    return at


def test_a_disk_shows_its_identity_and_its_files(tree: Path) -> None:
    made = make(tree, "app.disk")
    found = disks.report(made)
    shown = {file["path"]: file for file in validated(found)["files"]}
    assert shown["lib/large"]["size"] == len(LARGE)
    assert shown["lib/link"]["target"] == "small"
    assert (shown["tmp"]["mode"], shown["tmp"]["owner"]) == ("1777", "0:0")
    assert found.identity.root_hash == mystikos_tool.verify_disk(made).root_hash.hex()
    assert f"signer {found.identity.signer}" in found.to_text()
    assert "lib/link -> small" in found.to_text()


def test_of_an_encrypted_disk_the_identity_is_shown(tree: Path) -> None:
    (tree.parent / "key").write_bytes(bytes(range(64)))
    made = make(tree, "app.disk", encrypt="key")
    assert validated(disks.report(made))["files"] is None
    assert "encrypted" in disks.report(made).to_text()
    difference = disks.compare(made, make(tree, "other.disk"))
    assert validated(difference)["files"] is None
    assert "encrypted" in {change.name for change in difference.identity}


def test_a_disk_is_verified_by_its_signer_and_its_root_hash(tree: Path) -> None:
    made = make(tree, "app.disk")
    root_hash = mystikos_tool.verify_disk(made).root_hash
    proved = mystikos_tool.verify_disk(made, signer=PUBLIC, roothash=root_hash.hex())
    assert validated(proved)["unproved"] == []
    assert "whose disk it is" in mystikos_tool.verify_disk(made).to_text()
    with pytest.raises(VerificationError, match="signed by none of the keys"):
        mystikos_tool.verify_disk(made, signer=OTHER)
    with pytest.raises(VerificationError, match=f"the root hash is {root_hash.hex()}, expected"):
        mystikos_tool.verify_disk(made, roothash=bytes(32))


def test_a_damaged_disk_names_the_file_that_is_damaged(tree: Path) -> None:
    made = make(tree, "app.disk")
    at = patch(made, LARGE[:5000]) // 4096 * 4096
    with pytest.raises(VerificationError, match=f"app.disk, offset {at}, in /lib/large: is not what"):
        mystikos_tool.verify_disk(made)


def test_a_damaged_inode_is_no_file_s(tree: Path) -> None:
    made = make(tree, "app.disk")
    with made.open("r+b") as file:
        file.seek(3 * 4096)  # the inode bitmap
        file.write(b"x")
    with pytest.raises(VerificationError, match="in what belongs to no file: maps, inodes, bitmaps"):
        mystikos_tool.verify_disk(made)


def test_a_package_proves_which_disk_it_trusts(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = inputs(tree.parent)
    disk, package = make(tree, "app.disk"), tree.parent / "app"
    key = DATA.parent / "keys" / "key-a.pem"
    trusts: list[dict[str, list[Path]]] = [{"pubkeys": [PUBLIC]}, {"roothashes": [disk]}]
    for given, by in zip(trusts, ("public key", "root hash"), strict=True):
        mystikos_tool.package(package, "appdir", config=made.config, key=key, runtime="runtime", **given)
        verified = mystikos_tool.verify(package, disk=disk)
        assert f"the disk {disk} is trusted by a {by} of the package" in verified.to_text()
    assert main(["inspect", str(package)]) == 0
    shown = capsys.readouterr().out
    assert f"trusted on disks\n  root hash {mystikos_tool.verify_disk(disk).root_hash.hex()}" in shown
    (tree / "lib/small").write_bytes(b"other")
    with pytest.raises(VerificationError, match="is trusted by no public key and no root hash of"):
        mystikos_tool.verify(package, disk=make(tree, "other.disk"))


def set_inode(disk: Path, path: str, **values: int | bytes) -> None:
    """Write over fields of a file's inode; all disks here have one group."""
    with reader.opened(disk) as opened:
        found = opened.filesystem()
        member = found.entry(path)
        assert member
        table = ext2.GROUP.get_int(found.block(1), "inode_table")
    at = table * 4096 + (member.inode - 1) * ext2.INODE_SIZE
    with disk.open("r+b") as file:
        file.seek(at)
        inode = ext2.INODE.patch(file.read(ext2.INODE_SIZE), values)
        file.seek(at)
        file.write(inode)


def test_a_file_that_is_terabytes_of_holes_costs_no_time(tree: Path) -> None:
    made, other = make(tree, "a.disk"), make(tree, "b.disk")
    for disk in (made, other):
        set_inode(disk, "lib/small", size_high=700)
    set_inode(other, "lib/large", blocks=bytes(60))
    started = time.monotonic()
    shown = {file["path"]: file for file in validated(disks.report(made))["files"]}
    assert shown["lib/small"]["sha256"] is None
    assert shown["lib/large"]["sha256"]
    (change,) = disks.compare(made, other).files or ()
    assert (change.path, change.changes) == ("lib/large", ("content",))
    assert time.monotonic() - started < 5


def test_files_that_share_their_blocks_are_refused_before_they_cost_much(tree: Path) -> None:
    (tree / "first").write_bytes(b"x" * 4096 * 200)
    for number in range(9):
        (tree / f"shares{number}").write_bytes(b"x")
    made = make(tree, "app.disk")
    with reader.opened(made) as opened:
        found = opened.filesystem()
        member = found.entry("first")
        assert member
        shared = found.inode(member.inode)["blocks"]
    for number in range(9):
        set_inode(made, f"shares{number}", blocks=shared, size=4096 * 200)
    with pytest.raises(UserError, match="have more blocks together than the disk"):
        disks.report(made)


def test_two_disks_are_compared_file_by_file_and_block_by_block(tree: Path) -> None:
    a = make(tree, "a.disk")
    assert validated(disks.compare(a, make(tree, "same.disk")))["same"]
    (tree / "lib/large").write_bytes(LARGE[:5000] + b"!" + LARGE[5001:])
    (tree / "lib/small").chmod(0o755)
    found = disks.compare(a, make(tree, "b.disk"))
    document = validated(found)
    assert not document["same"]
    assert {change["path"]: change["changes"] for change in document["files"]} == {
        "lib/large": ["content"],
        "lib/small": ["mode"],
    }
    assert "/lib/large" in {block["a"] for block in document["blocks"]}
    assert "* lib/small: mode 0644 in A, 0755 in B" in found.to_text()
    (tree / "lib/small").unlink()
    found = disks.compare(a, make(tree, "c.disk"))
    assert "- lib/small: only in A" in found.to_text()


def test_disks_of_the_same_files_and_another_signer_are_not_the_same(tree: Path) -> None:
    a, b = make(tree, "a.disk"), tree.parent / "b.disk"
    mystikos_tool.disk(b, tree, room=0)
    found = disks.compare(a, b)
    assert not found.same
    assert [change.name for change in found.identity] == ["signer"]
    assert (found.changed_files, found.changed_blocks) == (0, 0)


def test_the_command_line_knows_disks(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = str(make(tree, "a.disk")), str(tree.parent / "b.disk")
    shutil.copy(a, b)
    assert main(["inspect", a, "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["identity"]["block_size"] == 4096
    assert main(["diff", a, b]) == 0
    patch(Path(b), LARGE[:5000])
    assert main(["diff", a, b]) == 1
    assert "* lib/large: content" in capsys.readouterr().out
    assert main(["verify", a, "--signer", str(PUBLIC)]) == 0
    assert "a.disk: verified" in capsys.readouterr().out
    assert main(["verify", b, "--format", "json"]) == 1
    assert "in /lib/large" in json.loads(capsys.readouterr().out)["error"]["where"]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["inspect", "a.disk", "--format", "html"], "of a disk there is no html"),
        (["diff", "a.disk", "tree"], "compare disks with disks"),
        (["diff", "a.disk", "a.disk", "--exclude", "x"], "--exclude"),
        (["verify", "a.disk", "--no-debug"], "--no-debug: is expected of packages"),
        (["verify", "a.disk", "--roothash", "12"], "is no digest"),
    ],
)
def test_what_means_nothing_for_a_disk_is_refused(
    tree: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], problem: str
) -> None:
    make(tree, "a.disk")
    assert main(arguments) == 2
    assert problem in capsys.readouterr().err


def test_trust_is_decided_as_the_kernel_decides_it(tree: Path) -> None:
    with reader.opened(make(tree, "a.disk")) as disk:
        found = disk.fssig
    key = PUBLIC.read_bytes() + b"\0"
    assert trusted_by(found, b"no key\0" + key, b"") == BY_KEY
    assert trusted_by(found, b"no key\0", b"") is None
    assert trusted_by(found, b"", bytes(32) + found.root_hash) == BY_HASH
    assert trusted_by(found, b"", found.root_hash + b"cut") is None  # a cut list makes all hashes void
    assert trusted_by(fssig.Fssig(4096, os.urandom(32)), key, b"") is None


def test_what_has_no_fssig_is_no_disk(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(8192))
    with pytest.raises(UserError, match="no FSSIG"):
        disks.report(tmp_path / "file")


def bytes_read() -> int:
    """How many bytes this process has read."""
    return int(Path("/proc/self/io").read_text().split()[1])


def test_what_is_a_hole_in_both_disks_is_not_read_to_compare_them(tree: Path) -> None:
    one, other = tree.parent / "one.disk", tree.parent / "other.disk"
    mystikos_tool.disk(one, tree, size=256 << 20)
    (tree / "lib/small").write_bytes(b"other")
    mystikos_tool.disk(other, tree, size=256 << 20)
    before = bytes_read()
    found = disks.compare(one, other)
    assert bytes_read() - before < 32 << 20
    assert [change.path for change in found.files or ()] == ["lib/small"]
    with other.open("r+b") as file:  # what was a hole
        file.seek(200 << 20)
        file.write(b"content")
    assert disks.compare(one, other).changed_blocks == found.changed_blocks + 1


def test_a_disk_that_is_cut_while_it_is_read_is_told(tree: Path) -> None:
    made = make(tree, "app.disk")
    whole = made.read_bytes()
    for size in (0, 4096, len(whole) // 2, len(whole) - 8192):
        made.write_bytes(whole)
        with reader.opened(made) as disk:
            files = disk.filesystem()
            os.truncate(made, size)
            with pytest.raises(UserError, match=r"was cut while it was read|its hash tree does not lead"):
                disk.check()
            with contextlib.suppress(UserError):
                assert disk.wrong_blocks()
            if size <= 4096:
                with pytest.raises(UserError, match="lies behind the end"):
                    assert files.members


def test_a_file_that_cannot_be_read_is_told() -> None:
    with pytest.raises(UserError, match="/proc/self/mem: cannot be read: input/output error"):
        disks.report(Path("/proc/self/mem"))
    assert not reader.is_disk(Path("/proc/self/mem"))


@pytest.mark.parametrize("verb", ["check", "inspect", "verify", "fssig", "run"])
@pytest.mark.parametrize("kind", ["FIFO", "link to itself", "directory"])
def test_what_is_no_file_is_not_waited_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str, kind: str
) -> None:
    path = tmp_path / "disk"
    make: dict[str, Callable[[], object]] = {
        "FIFO": lambda: os.mkfifo(path),
        "link to itself": lambda: path.symlink_to(path),
        "directory": path.mkdir,
    }
    make[kind]()
    words = [verb, str(path), *(["/bin/program"] if verb == "run" else [])]
    assert main(words) != 0
    assert str(path) in capsys.readouterr().err
