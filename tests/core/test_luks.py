"""LUKS1: headers that cryptsetup opens, and sectors that others decrypt."""

from __future__ import annotations

import hashlib
import uuid
from pathlib import Path

import pytest
from disks import RECORDED, filesystem, run

from mystikos_tool.errors import UserError
from mystikos_tool.formats import luks
from mystikos_tool.formats.luks import HEADER, KEY_SIZE, PAYLOAD_OFFSET, SLOT, STRIPES, Encryption
from mystikos_tool.root.disk.writer import encryption as encryption_of

DISK = next(disk for disk in RECORDED if disk.case["luks"])
KEY = (DISK.directory / "luks-master.bin").read_bytes()
PASSPHRASE = b"fourteen bytes and more"


def with_passphrase(identity: bytes = b"disk") -> bytes:
    return luks.header(Encryption(KEY, PASSPHRASE, iterations=1000), identity)


def test_a_recorded_disk_is_decrypted_and_encrypted_again_to_the_same_bytes() -> None:
    encrypted = DISK.image[PAYLOAD_OFFSET : DISK.case["fssig"]["hash_offset"]]
    plain = luks.decrypt(KEY, encrypted, 0)
    assert {b"/" + member.path for member in filesystem(plain).members} - {b"/lost+found"} == set(DISK.tree)
    assert luks.encrypt(KEY, plain, 0) == encrypted


def test_each_sector_is_encrypted_by_its_number_from_the_start_of_the_payload() -> None:
    data = bytes(3 * 512)
    whole = luks.encrypt(KEY, data, 7)
    assert whole == b"".join(luks.encrypt(KEY, bytes(512), number) for number in (7, 8, 9))
    assert len({whole[at : at + 512] for at in range(0, len(whole), 512)}) == 3


def test_the_header_has_the_layout_of_the_recorded_disk() -> None:
    ours, theirs = (HEADER.unpack(data[: HEADER.size]) for data in (with_passphrase(), DISK.image))
    for name in ("magic", "version", "cipher", "mode", "hash", "payload_sector", "key_size"):
        assert ours[name] == theirs[name], name
    assert len(with_passphrase()) == PAYLOAD_OFFSET
    slots = bytes(ours["slots"]), bytes(theirs["slots"])
    for number in range(luks.SLOTS):
        our, their = (SLOT.unpack(part[number * SLOT.size :][: SLOT.size]) for part in slots)
        assert our["sector"] == their["sector"] == 8 + 504 * number
        assert our["stripes"] == their["stripes"] == STRIPES


def test_the_digest_proves_the_master_key() -> None:
    luks.check_key(DISK.image, KEY, "disk")
    luks.check_key(luks.header(Encryption(KEY), b""), KEY, "disk")
    with pytest.raises(UserError, match="encrypted with another key"):
        luks.check_key(DISK.image, KEY[::-1], "disk")


@pytest.mark.parametrize("field", ["version", "cipher", "mode", "hash", "payload_sector", "key_size"])
def test_a_header_of_another_kind_is_refused(field: str) -> None:
    value: int | bytes = b"other" if field in ("cipher", "mode", "hash") else 3
    with pytest.raises(UserError, match="not encrypted as Mystikos"):
        luks.check_key(HEADER.patch(with_passphrase()[: HEADER.size], {field: value}), KEY, "disk")


def test_a_header_does_not_make_its_reader_work_for_long() -> None:
    header = HEADER.patch(with_passphrase()[: HEADER.size], {"digest_iterations": 0xFFFFFFFF})
    with pytest.raises(UserError, match="4294967295 iterations"):
        luks.check_key(header, KEY, "disk")


def test_without_a_passphrase_no_slot_is_open_and_nothing_of_the_key_is_there() -> None:
    header = luks.header(Encryption(KEY), b"disk")
    slots = HEADER.get_bytes(header[: HEADER.size], "slots")
    states = {SLOT.get_int(slots[at : at + SLOT.size], "state") for at in range(0, len(slots), SLOT.size)}
    assert states == {0x0000DEAD}
    assert not any(header[HEADER.size :])


def merged(stripes: bytes) -> bytes:
    """The key of stripes, from the description of the anti-forensic splitter."""
    state = bytes(KEY_SIZE)
    for at in range(0, len(stripes) - KEY_SIZE, KEY_SIZE):
        mixed = bytes(a ^ b for a, b in zip(state, stripes[at : at + KEY_SIZE], strict=True))
        state = b"".join(
            hashlib.sha256(bytes([0, 0, 0, number]) + mixed[32 * number : 32 * number + 32]).digest()
            for number in range(2)
        )
    return bytes(a ^ b for a, b in zip(state, stripes[-KEY_SIZE:], strict=True))


def test_the_passphrase_leads_through_its_slot_to_the_master_key() -> None:
    header = with_passphrase()
    slot = SLOT.unpack(HEADER.get_bytes(header[: HEADER.size], "slots")[: SLOT.size])
    key = hashlib.pbkdf2_hmac("sha256", PASSPHRASE, bytes(slot["salt"]), int(slot["iterations"]), KEY_SIZE)
    material = header[8 * 512 : 8 * 512 + STRIPES * KEY_SIZE]
    assert merged(luks.decrypt(key, material, 0)) == KEY


def test_headers_are_the_same_for_the_same_disk_and_differ_for_another() -> None:
    assert with_passphrase() == with_passphrase()
    first, second = (HEADER.unpack(with_passphrase(name)[: HEADER.size]) for name in (b"a", b"b"))
    assert all(first[name] != second[name] for name in ("uuid", "digest_salt", "digest", "slots"))
    assert uuid.UUID(bytes(first["uuid"]).rstrip(b"\0").decode()).version == 4


def test_the_key_does_not_show_itself() -> None:
    assert repr(Encryption(KEY, PASSPHRASE)) == "Encryption()"


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk"
    path.write_bytes(with_passphrase() + luks.encrypt(KEY, b"payload " * 512, 0))
    return path


def test_cryptsetup_opens_it_with_the_passphrase_and_with_the_master_key(disk: Path, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(KEY)
    dump = run("cryptsetup", "luksDump", disk)
    assert "xts-plain64" in dump
    assert "Key Slot 0: ENABLED" in dump
    run("cryptsetup", "open", "--test-passphrase", "--key-file=-", disk, stdin=PASSPHRASE)
    run("cryptsetup", "open", "--test-passphrase", f"--master-key-file={tmp_path / 'key'}", disk)


def test_qemu_decrypts_it(disk: Path, tmp_path: Path) -> None:
    secret = f"secret,id=passphrase,data={PASSPHRASE.decode()}"
    source = f"driver=luks,key-secret=passphrase,file.filename={disk}"
    plain = tmp_path / "plain"
    run("qemu-img", "convert", "--object", secret, "--image-opts", source, "-O", "raw", plain)
    assert plain.read_bytes() == b"payload " * 512


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_bytes(KEY)
    return path


@pytest.mark.parametrize(
    "passphrase",
    [
        b"just 14 bytes.",
        b"x" * 512,
        b"\xff\xfe is not UTF-8",
        b" spaces, \ttabs and \x7f ",
        "zwölf Größen".encode(),
    ],
    ids=["14 bytes", "512 bytes", "not UTF-8", "spaces", "UTF-8"],
)
def test_cryptsetup_opens_a_disk_with_every_passphrase_that_is_taken(
    tmp_path: Path, key_file: Path, passphrase: bytes
) -> None:
    encryption = encryption_of(key_file, passphrase)._replace(iterations=1000)
    disk = tmp_path / "disk"
    disk.write_bytes(luks.header(encryption, b"disk") + bytes(512))
    for way in (["--key-file=-"], []):  # as it is, and as it is typed
        run("cryptsetup", "open", "--test-passphrase", *way, disk, stdin=passphrase)
    with pytest.raises(AssertionError, match="No key available with this passphrase"):
        run("cryptsetup", "open", "--test-passphrase", "--key-file=-", disk, stdin=passphrase + b"x")


@pytest.mark.parametrize(
    ("passphrase", "problem"),
    [
        (b"", "fewer than 14"),
        (b"13 characters", "fewer than 14"),
        (b"x" * 513, "more than 512"),
        (b"several lines\nof it", "several lines or a NUL"),
        (b"a NUL in\0 the middle", "several lines or a NUL"),
    ],
)
def test_a_passphrase_that_nobody_could_type_is_refused(
    key_file: Path, passphrase: bytes, problem: str
) -> None:
    with pytest.raises(UserError, match=problem):
        encryption_of(key_file, passphrase)


def test_a_damaged_header_is_refused_or_of_this_key() -> None:
    whole = bytearray(with_passphrase()[: HEADER.size])
    for at in range(208):  # where the key slots begin
        for value in (0, whole[at] ^ 0x81, 0xFF):
            damaged = whole[:at] + bytes([value]) + whole[at + 1 :]
            if 10_000 < int.from_bytes(damaged[164:168], "big") <= 10_000_000:
                continue  # iterations that are done
            try:
                luks.check_key(bytes(damaged), KEY, "disk")
            except UserError:
                assert damaged != whole
    for size in range(0, 168, 7):
        with pytest.raises(UserError):
            luks.check_key(bytes(whole[:size]), KEY, "disk")


def test_key_slots_that_others_change_do_not_count(disk: Path) -> None:
    run("cryptsetup", "luksKillSlot", "--batch-mode", disk, "0")
    changed = disk.read_bytes()
    assert changed != with_passphrase() + changed[PAYLOAD_OFFSET:]
    luks.check_key(changed, KEY, "disk")
    overlapping = SLOT.pack(
        {"state": 0x00AC71F3, "iterations": 0xFFFFFFFF, "sector": 0, "stripes": 0xFFFFFFFF}
    )
    luks.check_key(HEADER.patch(changed[: HEADER.size], {"slots": overlapping * 8}), KEY, "disk")
