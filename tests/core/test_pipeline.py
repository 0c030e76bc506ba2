from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from datetime import date, datetime, timezone
from pathlib import Path

import pytest
import tiny_elf
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_cases import DATA
from tiny_runtime import DAY, build, inputs, key, root_path

from mystikos_tool import config, pipeline, proof
from mystikos_tool.config import Config
from mystikos_tool.enclave.image import reopen
from mystikos_tool.enclave.measurement import Measurement
from mystikos_tool.errors import UserError
from mystikos_tool.formats import elf, kinds, program, sigstruct
from mystikos_tool.formats.oeinfo import OEINFO
from mystikos_tool.io.content import Bytes
from mystikos_tool.packaging import sections
from mystikos_tool.pipeline import Inputs
from mystikos_tool.root.archive import read
from mystikos_tool.root.root import DiskRoot
from mystikos_tool.runtime import Runtime
from mystikos_tool.signing import enclave_key


def told(call: Callable[[], object]) -> str:
    with pytest.raises(UserError) as error:
        call()
    return str(error.value)


@pytest.fixture
def made(tmp_path: Path) -> Inputs:
    return inputs(tmp_path)


# The root file system and the configuration


def with_root(given: Inputs, change: Callable[[Path], object], **keys: object) -> Inputs:
    """Change the appdir, pack it anew and read the configuration anew."""
    archive = root_path(given)
    directory = archive.parent
    change(directory / "appdir")
    archive.unlink()
    pipeline.pack(directory / "appdir", archive)
    members = {"version": "0.1", "MemorySize": "64k", "ApplicationPath": "/bin/app"}
    members |= {"MainStackSize": "32k", **keys}
    members = {key: value for key, value in members.items() if value is not None}
    (directory / "config.json").write_text(json.dumps(members))
    return given._replace(config=config.load(directory / "config.json"))


def test_a_program_that_is_not_in_the_root_is_told_with_its_place(tmp_path: Path, made: Inputs) -> None:
    missing = with_root(made, lambda root: None, ApplicationPath="/bin/other")
    assert told(lambda: pipeline.measure(missing)) == (
        f"{tmp_path}/config.json:1:60: ApplicationPath: /bin/other is not in {tmp_path}/root.cpio;"
        " put the program into the appdir or correct the path"
    )


@pytest.mark.parametrize("path", ["/usr/bin/app", "/bin/ap", "/bin/App"])
def test_a_program_of_the_same_name_elsewhere_or_nearly_the_same_path_is_pointed_to(
    made: Inputs, path: str
) -> None:
    missing = with_root(made, lambda root: None, ApplicationPath=path)
    assert told(lambda: pipeline.measure(missing)).endswith("; did you mean /bin/app?")


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("/bin", "/bin is no file"),
        ("/bin/data", "/bin/data is not executable"),
        ("/bin/app/x", "/bin/app/x is not in"),
        ("/bin/loop", "/bin/loop is a symbolic link to loop, which is not in"),
        ("/bin/dangling", "/bin/dangling is a symbolic link to /no/where, which is not in"),
        ("/bin/up", "/bin/up is no file"),
    ],
)
def test_a_program_that_cannot_be_started_is_told(made: Inputs, path: str, problem: str) -> None:
    def change(root: Path) -> None:
        (root / "bin" / "data").write_bytes(b"")
        (root / "bin" / "loop").symlink_to("loop")
        (root / "bin" / "dangling").symlink_to("/no/where")
        (root / "bin" / "up").symlink_to("../../../..")

    message = told(lambda: pipeline.measure(with_root(made, change, ApplicationPath=path)))
    assert f"ApplicationPath: {problem}" in message


@pytest.mark.parametrize(
    "path", ["/bin/app", "/sbin/app", "/bin/link", "/bin/absolute", "/bin/far", "//bin/./app"]
)
def test_links_lead_to_the_program_within_the_root(made: Inputs, path: str) -> None:
    def change(root: Path) -> None:
        (root / "sbin").symlink_to("bin")
        (root / "bin" / "link").symlink_to("app")
        (root / "bin" / "absolute").symlink_to("/sbin/link")
        (root / "bin" / "far").symlink_to("../../../../bin/absolute")

    assert pipeline.measure(with_root(made, change, ApplicationPath=path)).mrenclave


def test_a_link_to_a_program_of_this_machine_does_not_lead_there(made: Inputs) -> None:
    outside = with_root(
        made, lambda root: (root / "bin" / "sh").symlink_to("/bin/sh"), ApplicationPath="/bin/sh"
    )
    assert "/bin/sh is a symbolic link to /bin/sh, which is not in" in told(lambda: pipeline.measure(outside))


def with_mounts(given: Inputs, *targets: str) -> Inputs:
    mounts = [{"Target": target, "Type": "hostfs"} for target in targets]
    return with_root(given, lambda root: (root / "link").symlink_to("mnt"), Mount=mounts)


@pytest.mark.parametrize("target", ["/mnt", "/link", "/bin/", "/missing", "/new/dir"])
def test_a_mount_needs_a_directory_or_nothing_in_its_place(made: Inputs, target: str) -> None:
    assert pipeline.measure(with_mounts(made, target)).mrenclave


def warned(given: Inputs) -> list[str]:
    """What may keep a package from starting."""
    warnings: list[str] = []
    assert pipeline.measure(given, warn=warnings.append)
    return warnings


LONGEST = "/" + "a" * 255


@pytest.mark.parametrize("target", ["/missing", "/missing/below", "/mnt/below", "/link/below", LONGEST])
def test_a_target_of_a_mount_that_is_not_in_the_root_is_made_and_told(
    tmp_path: Path, made: Inputs, target: str
) -> None:
    (warning,) = warned(with_mounts(made, target))
    assert warning.endswith(
        f"Mount[0].Target: {target} is not in {tmp_path}/root.cpio and is made at the start, with mode 0777;"
        " create it in the appdir to choose its mode"
    )


def test_a_target_within_another_mount_is_nothing_of_the_root(made: Inputs) -> None:
    assert warned(with_mounts(made, "/mnt", "/mnt/below")) == []


@pytest.mark.parametrize("targets", [["/mnt/below", "/mnt"], ["/bin", "/mnt/below"]])
def test_a_target_within_a_later_mount_or_beside_an_earlier_one_is_told(
    made: Inputs, targets: list[str]
) -> None:
    told_last = warned(with_mounts(made, *targets))[-1]
    assert f"Target: /mnt/below is not in {root_path(made)} and is made" in told_last


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("/bin/app", "/bin/app is no directory in"),
        ("/bin/app/below", "/bin/app is no directory in"),
        ("/dangling", "/dangling is a symbolic link in"),
        ("/dangling/below", "/dangling is a symbolic link in"),
        (f"/mnt/{'a' * 256}", "has more than 255 bytes"),
    ],
)
def test_a_mount_on_what_is_no_directory_and_cannot_become_one_is_told_with_its_number(
    made: Inputs, target: str, problem: str
) -> None:
    mounts = [{"Target": one, "Type": "hostfs"} for one in ("/mnt", target)]
    given = with_root(made, lambda root: (root / "dangling").symlink_to("no/where"), Mount=mounts)
    message = told(lambda: pipeline.measure(given))
    assert "Mount[1].Target: " in message
    assert problem in message
    assert message.endswith("; create it in the appdir")


@pytest.mark.parametrize(
    ("targets", "number", "problem"),
    [
        (["/mnt", "//"], 1, "Mystikos mounts / itself, and starts with no other mount there"),
        (["/proc/"], 0, "Mystikos mounts /proc itself"),
        (["/dev"], 0, "Mystikos mounts /dev itself"),
        (["/dev/./shm"], 0, "Mystikos mounts /dev/shm itself"),
        ([f"/m{number}" for number in range(6)], 4, "Mystikos starts with no more than 4 mounts"),
    ],
)
def test_mounts_with_which_mystikos_never_starts_are_refused_or_told(
    made: Inputs, targets: list[str], number: int, problem: str
) -> None:
    given = with_mounts(made, *targets)
    for one in (given, given._replace(root=DiskRoot())):
        assert f"Mount[{number}].Target: {problem}" in told(lambda one=one: pipeline.measure(one))  # type: ignore[misc]


@pytest.mark.parametrize(
    ("targets", "problem"),
    [
        (["/dev/shm/"], "Mystikos mounts /dev/shm itself"),
        ([f"/m{number}" for number in range(6)], "Mystikos starts with no more than 4 mounts"),
    ],
)
def test_mounts_with_which_the_embedded_runtime_alone_starts_are_told(
    made: Inputs, targets: list[str], problem: str
) -> None:
    mounts = [{"Target": target, "Type": "hostfs"} for target in targets]
    given = with_embedded(with_root(made, lambda root: None, Mount=mounts))
    for one in (given, given._replace(root=DiskRoot())):
        (warning,) = [line for line in warned(one) if "starts with the embedded runtime only" in line]
        assert problem in warning


def test_as_many_mounts_as_mystikos_has_room_for_are_accepted(made: Inputs) -> None:
    assert warned(with_mounts(made, "/mnt", "/mnt/1", "/mnt/2", "/mnt/3")) == []


@pytest.mark.parametrize("path", ["/data/bin/app", "/mnt/app"])
def test_a_program_inside_of_a_mount_is_accepted_and_told(made: Inputs, path: str) -> None:
    target = path.split("/")[1]
    mounts = [{"Target": f"/{target}/", "Type": "hostfs"}]
    warnings = warned(with_root(made, lambda root: None, ApplicationPath=path, Mount=mounts))
    assert (
        f"ApplicationPath: {path} lies in the mount /{target}/, so that nothing is known of it" in warnings[0]
    )


# What the program needs to start


def as_embedded(given: Inputs) -> Inputs:
    """The same with the kernel of the embedded runtime, as far as it is known by."""
    given.runtime.kernel.write_bytes(given.runtime.kernel.read_bytes() + b"--myst-mount")
    return given


LINKER, LIBRARY = "/lib/ld.so.1", "libx.so.1"
DYNAMIC = tiny_elf.program(interpreter=LINKER, needed=[LIBRARY])
STATIC = tiny_elf.program()
EXECUTABLES = {
    "dynamic": DYNAMIC,
    "static": STATIC,
    "at a fixed address": tiny_elf.program(interpreter=LINKER, kind=2),
    "for another machine": tiny_elf.patched(STATIC, 18, "H", 183),
    "cut off": STATIC[:70],
    "cut off in what is loaded": STATIC[:-1],
    "script": b"#! /bin/interp -x\n",
    "script with line ends of Windows": b"#!/bin/interp\r\n",
    "script with line ends of Windows and an argument": b"#!/bin/interp -x\r\n",
    "script of an empty line": b"#!\n/bin/sh",
    "text": b"text",
    "empty": b"",
    "needs a musl": tiny_elf.program(interpreter="/lib/ld-musl-x86_64.so.1", needed=["libc.so", "libm.so.6"]),
    "needs itself in its own directory": tiny_elf.program(
        interpreter=LINKER, needed=[LIBRARY], search=["/no/where:$ORIGIN/../own"]
    ),
}
NO_LINKER = f"its interpreter {LINKER} is not in the root"
NO_LIBRARY = f"the library {LIBRARY}, which /bin/app needs, is not in the root"
WINDOWS = "its first line ends with a carriage return, which goes to the interpreter"
NEITHER = "it is neither an x86-64 ELF program nor a script that begins with #!"


def with_program(given: Inputs, kind: str, *files: str, content: bytes = STATIC, **keys: object) -> Inputs:
    def change(root: Path) -> None:
        (root / "bin" / "app").write_bytes(EXECUTABLES[kind])
        for name in files:
            path = root / name.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            path.chmod(0o755)

    return with_root(given, change, **keys)


@pytest.mark.parametrize(
    ("kind", "files"),
    [
        ("dynamic", [LINKER, f"/lib/{LIBRARY}"]),
        ("dynamic", [LINKER, f"/usr/lib/x86_64-linux-gnu/{LIBRARY}"]),
        ("needs itself in its own directory", [LINKER, f"/own/{LIBRARY}"]),
        ("needs a musl", ["/lib/ld-musl-x86_64.so.1"]),
    ],
)
def test_a_program_that_has_what_it_needs_is_packaged_for_the_embedded_runtime_without_a_word(
    made: Inputs, kind: str, files: list[str]
) -> None:
    assert warned(as_embedded(with_program(made, kind, *files))) == []


@pytest.mark.parametrize(
    ("kind", "files", "problem"),
    [
        ("static", [], "/bin/app is statically linked"),
        ("at a fixed address", [LINKER], "/bin/app is not position-independent"),
        ("script", ["/bin/interp"], "/bin/interp is statically linked"),
    ],
)
def test_a_program_that_starts_in_the_embedded_runtime_only_is_packaged_with_a_warning(
    made: Inputs, kind: str, files: list[str], problem: str
) -> None:
    (warning,) = warned(as_embedded(with_program(made, kind, *files)))
    assert f"ApplicationPath: /bin/app starts with the embedded runtime only: {problem}" in warning


@pytest.mark.parametrize(
    ("kind", "files", "problem"),
    [
        ("dynamic", [f"/lib/{LIBRARY}"], NO_LINKER),
        ("dynamic", [LINKER], NO_LIBRARY),
        ("at a fixed address", [], NO_LINKER),
        ("script", [], "its interpreter /bin/interp is not in the root"),
        ("script with line ends of Windows", ["/bin/interp"], WINDOWS),
        ("script of an empty line", [], NEITHER),
        ("for another machine", [], NEITHER),
        ("cut off", [], NEITHER),
        ("cut off in what is loaded", [], "/bin/app ends before what it loads of itself does"),
        ("text", [], NEITHER),
        ("empty", [], NEITHER),
    ],
)
def test_a_program_that_can_never_start_in_the_embedded_runtime_is_refused(
    made: Inputs, kind: str, files: list[str], problem: str
) -> None:
    message = told(lambda: pipeline.measure(as_embedded(with_program(made, kind, *files))))
    assert f"ApplicationPath: /bin/app does not start: {problem}" in message


@pytest.mark.parametrize(
    ("kind", "files", "problem"),
    [
        ("static", [], "/bin/app is statically linked, and an installed Mystikos starts no such program"),
        ("at a fixed address", [LINKER], "/bin/app is not position-independent, and an installed Mystikos"),
        ("dynamic", [LINKER], NO_LIBRARY),
    ],
)
def test_a_program_that_an_installed_mystikos_never_starts_is_refused(
    made: Inputs, kind: str, files: list[str], problem: str
) -> None:
    message = told(lambda: pipeline.measure(with_program(made, kind, *files)))
    assert f"ApplicationPath: /bin/app does not start under Mystikos: {problem}" in message


@pytest.mark.parametrize(
    ("kind", "files", "problem"),
    [
        ("dynamic", [f"/lib/{LIBRARY}"], NO_LINKER),
        ("needs a musl", [], "its interpreter /lib/ld-musl-x86_64.so.1 is not in the root"),
        ("script", [], "its interpreter /bin/interp is not in the root"),
        ("script with line ends of Windows", ["/bin/interp"], WINDOWS),
        ("text", [], NEITHER),
    ],
)
def test_a_program_that_an_installed_mystikos_may_not_start_is_packaged_with_a_warning(
    made: Inputs, kind: str, files: list[str], problem: str
) -> None:
    (warning,) = warned(with_program(made, kind, *files))
    assert f"ApplicationPath: /bin/app may not start under Mystikos: {problem}" in warning


@pytest.mark.parametrize(
    ("files", "keys", "warns"),
    [
        ([f"/opt/{LIBRARY}"], {}, True),
        ([f"/opt/{LIBRARY}"], {"EnvironmentVariables": ["LD_LIBRARY_PATH=/no:/opt"]}, False),
        ([f"/opt/{LIBRARY}", "/etc/ld.so.cache"], {}, False),
        ([], {"Mount": [{"Target": "/mnt", "Type": "hostfs"}]}, True),
    ],
)
def test_a_library_that_may_be_found_is_no_more_than_a_warning(
    made: Inputs, files: list[str], keys: dict[str, object], warns: bool
) -> None:
    warnings = warned(as_embedded(with_program(made, "dynamic", LINKER, *files, **keys)))
    assert [f"the library {LIBRARY}, which /bin/app needs" in warning for warning in warnings] == [
        True
    ] * warns


@pytest.mark.parametrize(
    ("files", "keys"),
    [([], {"EnvironmentVariables": ["LD_LIBRARY_PATH=/opt"]}), (["/etc/ld.so.cache"], {})],
)
def test_an_installed_mystikos_looks_in_no_other_directories(
    made: Inputs, files: list[str], keys: dict[str, object]
) -> None:
    (warning,) = warned(with_program(made, "dynamic", LINKER, f"/opt/{LIBRARY}", *files, **keys))
    assert f"the library {LIBRARY}, which /bin/app needs, is in none of the directories" in warning
    assert "DT_RUNPATH" in warning


def test_what_a_library_needs_is_looked_for_too(made: Inputs) -> None:
    library = tiny_elf.program(needed=["libdeep.so"])
    given = as_embedded(with_program(made, "dynamic", LINKER, f"/lib/{LIBRARY}", content=library))
    message = told(lambda: pipeline.measure(given))
    assert f"the library libdeep.so, which /lib/{LIBRARY} needs, is not in the root" in message


def test_an_argument_with_a_carriage_return_is_told(made: Inputs) -> None:
    given = with_program(made, "script with line ends of Windows and an argument", "/bin/interp")
    assert f"/bin/app may not start: {WINDOWS}" in warned(as_embedded(given))[0]


@pytest.mark.parametrize(
    ("path", "mode", "problem"),
    [
        ("bin/app", 0o611, "/bin/app is not executable in"),
        ("bin", 0o611, "/bin has the mode 0611 in"),
    ],
)
def test_the_embedded_runtime_asks_for_the_permissions_of_the_owner(
    made: Inputs, path: str, mode: int, problem: str
) -> None:
    archive = root_path(made)
    given = with_program(made, "dynamic", LINKER, f"/lib/{LIBRARY}")
    (archive.parent / "appdir" / path).chmod(mode)
    pipeline.pack(archive.parent / "appdir", archive, preserve_modes=True)
    assert warned(given) == []
    assert problem in told(lambda: pipeline.measure(as_embedded(given)))


@pytest.mark.parametrize("path", ["dev/app", "dev/shm/app", "etc/hosts", "bin/link"])
def test_a_program_that_the_kernel_hides_is_refused(made: Inputs, path: str) -> None:
    def change(root: Path) -> None:
        place = root / ("dev/app" if path == "bin/link" else path)
        place.parent.mkdir(parents=True)
        (root / "bin" / "app").rename(place)
        (root / "bin" / "link").symlink_to("/dev/app")

    given = with_root(made, change, ApplicationPath=f"/{path}")
    for runtime in (given, with_embedded(given)):
        assert f"/{path} is none of {root_path(made)} at the start: the kernel puts its own there" in told(
            lambda one=runtime: pipeline.measure(one)  # type: ignore[misc]
        )


def test_what_the_kernel_hides_is_no_interpreter_and_no_library(made: Inputs) -> None:
    given = with_program(made, "dynamic", LINKER, f"/lib/{LIBRARY}")

    def hide(root: Path) -> None:
        (root / "dev").mkdir()
        (root / "lib" / LIBRARY).rename(root / "dev" / LIBRARY)

    given = with_embedded(with_root(given, hide, EnvironmentVariables=["LD_LIBRARY_PATH=/dev"]))
    problem = f"the library {LIBRARY}, which /bin/app needs, is not in the root"
    assert problem in told(lambda: pipeline.measure(given))

    def link(root: Path) -> None:
        (root / "lib" / "ld.so.1").rename(root / "dev" / "ld.so.1")
        (root / "lib" / "ld.so.1").symlink_to("/dev/ld.so.1")

    linked = with_root(given, link)
    assert f"its interpreter {LINKER} is not in the root" in told(lambda: pipeline.measure(linked))


def test_what_a_mount_hides_is_told(made: Inputs) -> None:
    given = with_program(made, "dynamic", LINKER, f"/lib/{LIBRARY}")
    mounts = [{"Target": "/lib", "Type": "hostfs"}]
    told_of = warned(with_embedded(with_root(given, lambda root: None, Mount=mounts)))
    interpreter = f"its interpreter {LINKER} is not a program of the root; it may be one of the mount /lib"
    for problem in (interpreter, f"the library {LIBRARY}, which /bin/app needs, is not in the root"):
        assert any(problem in line for line in told_of)

    def link(root: Path) -> None:
        (root / "bin" / "app").rename(root / "lib" / "app")
        (root / "bin" / "app").symlink_to("/lib/app")

    linked = with_embedded(with_root(given, link, Mount=mounts))
    assert "ApplicationPath: /bin/app lies in the mount /lib" in warned(linked)[0]


def test_what_is_no_file_is_no_interpreter(made: Inputs) -> None:
    given = as_embedded(with_program(made, "script", "/bin/interp/x"))
    assert "its interpreter /bin/interp is not an executable file of the root" in told(
        lambda: pipeline.measure(given)
    )


@settings(deadline=None)
@given(st.integers(0, len(DYNAMIC) - 1), st.binary(max_size=8))
def test_damage_to_a_program_is_read_and_never_a_crash(place: int, damage: bytes) -> None:
    damaged = DYNAMIC[:place] + damage + DYNAMIC[place + len(damage) :]
    with Bytes(damaged).at_any_offset() as read_at:
        assert isinstance(program.read(read_at), program.Executable | program.Script | None)


# What a runtime would refuse of a root or a configuration


def test_what_the_embedded_runtime_would_refuse_of_a_configuration_is_refused(made: Inputs) -> None:
    secret = {"ID": "a", "SrsAddress": "b", "LocalPath": "/c", "ClientLib": "d"}
    cases: list[tuple[dict[str, object], str]] = [
        ({"Secret": [secret]}, "Secret: secrets are released after attestation"),
        (
            {"EnvironmentVariables": ["MYST_WANT_TEE_CREDENTIALS=CERT"]},
            "EnvironmentVariables: MYST_WANT_TEE_CREDENTIALS: credentials are released after attestation",
        ),
        ({"MainStackSize": "16k"}, "MainStackSize: is less than 32,768 bytes"),
        ({"MainStackSize": "64k"}, "MainStackSize: has 65,536 bytes and is not smaller than MemorySize"),
        (
            {
                "MainStackSize": "32k",
                "ApplicationParameters": ["x" * 9] * 1000,
                "EnvironmentVariables": ["A="] * 2000,
            },
            "MainStackSize: has 32,768 bytes, and arguments and environment take 40,017",
        ),
        ({"ApplicationParameters": ["x" * 131072]}, "ApplicationParameters: has a text of 128 KiB or more"),
        *(
            (
                {"Mount": [{"Target": "/mnt", "Type": "ext2", **more}]},
                "Mount[0].Target: an ext2 disk is mounted without PublicKey, RootHash and Flags",
            )
            for more in ({"RootHash": "ab" * 32}, {"PublicKey": "key"}, {"Flags": ["ro"]})
        ),
        ({"Mount": [{"Target": "/mnt/../mnt", "Type": "hostfs"}]}, "/mnt/../mnt is no directory that"),
        *(
            (
                {"Mount": [{"Target": target, "Type": "ramfs"}]},
                f"{target} lies in {place}, where the embedded",
            )
            for target, place in (
                ("/proc/x", "/proc"),
                ("/dev/x", "/dev"),
                ("/dev/shm/x", "/dev"),
                ("/dev/null", "/dev"),
            )
        ),
        ({"Mount": [{"Target": "/link", "Type": "hostfs"}]}, "/link is a symbolic link, which"),
        ({"Mount": [{"Target": "/link/x", "Type": "hostfs"}]}, "/link is a symbolic link, which"),
    ]
    for keys, problem in cases:
        given = with_root(made, lambda root: None, **keys)
        if "link" in problem:
            (root_path(given).parent / "appdir" / "link").unlink(missing_ok=True)
            given = with_root(given, lambda root: (root / "link").symlink_to("mnt"), **keys)
        assert pipeline.measure(given)
        kernel = given.runtime.kernel.read_bytes()
        embedded = as_embedded(given._replace(runtime=Runtime.at(root_path(given).parent / "runtime")))
        assert problem in told(lambda embedded=embedded: pipeline.measure(embedded))  # type: ignore[misc]
        given.runtime.kernel.write_bytes(kernel)


@pytest.mark.parametrize("target", ["/mnt", "/new/dir"])
@pytest.mark.parametrize("mount", [{"Type": "hostfs", "Flags": ["ro"]}, {"Type": "ext2"}], ids=str)
def test_what_the_embedded_runtime_can_mount_is_accepted(
    made: Inputs, mount: dict[str, object], target: str
) -> None:
    given = with_root(made, lambda root: None, Mount=[{"Target": target, **mount}])
    assert pipeline.measure(as_embedded(given))


@pytest.mark.parametrize("name", ["dev", "proc"])
def test_a_root_in_which_the_embedded_runtime_cannot_make_its_directories_is_refused(
    made: Inputs, name: str
) -> None:
    given = as_embedded(with_root(made, lambda root: (root / name).symlink_to("mnt")))
    assert f"root.cpio: /{name} is no directory" in told(lambda: pipeline.measure(given))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda root: (root / "proc").mkdir() or (root / "proc" / "own").touch(), "/proc/own lies in /proc"),
        (lambda root: (root / "etc").mkdir() or (root / "etc" / "hosts").symlink_to("no"), "/etc/hosts is a"),
        (
            lambda root: (root / "etc").mkdir() or (root / "etc" / "resolv.conf").symlink_to("../run/resolv"),
            "/etc/resolv.conf is a symbolic link that leads nowhere",
        ),
        (
            lambda root: (root / "etc" / "hosts" / "own").mkdir(parents=True),
            "/etc/hosts is a directory, where a file of the host belongs",
        ),
    ],
)
def test_a_root_with_which_mystikos_stops_is_refused(
    made: Inputs, change: Callable[[Path], object], problem: str
) -> None:
    assert problem in told(lambda: pipeline.measure(with_root(made, change)))
    assert problem in told(lambda: pipeline.measure(as_embedded(with_root(made, lambda root: None))))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("not json", "/appenv.json:1:1: expected a value"),
        ("[]", "has no list Env with a variable in it"),
        ("{}", "has no list Env with a variable in it"),
        ('{"Env": []}', "has no list Env with a variable in it"),
        ('{"Env": "APP"}', "has an element in Env that is not NAME=VALUE"),
        ('{"Env": 1}', "has no list Env with a variable in it"),
        ('{"Env": ["A=1", "APP"]}', "has an element in Env that is not NAME=VALUE"),
        ('{"Env": [1]}', "has an element in Env that is not NAME=VALUE"),
    ],
)
def test_a_broken_appenv_json_is_refused_where_it_would_be_read(
    made: Inputs, text: str, problem: str
) -> None:
    def change(root: Path) -> None:
        (root / "appenv.json").write_text(text)

    message = told(lambda: pipeline.measure(with_root(made, change)))
    assert "root.cpio, /appenv.json" in message
    assert problem in message
    elsewhere = with_root(made, change, CurrentWorkingDirectory="/mnt")
    assert warned(elsewhere) == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda root: (root / "etc").symlink_to("etc"), "/etc is a symbolic link that leads to no directory"),
        (
            lambda root: (root / "etc").symlink_to("usr/etc"),
            "/etc is a symbolic link that leads to no directory",
        ),
        (
            lambda root: (root / "etc").symlink_to("bin/app"),
            "/etc is a symbolic link that leads to no directory",
        ),
        (
            lambda root: (root / "etc" / "hosts").mkdir(parents=True),
            "/etc/hosts is a directory, where a file",
        ),
        (
            lambda root: (root / "etc").mkdir() or (root / "etc" / "resolv.conf").symlink_to("/bin"),
            "/etc/resolv.conf is a directory, where a file",
        ),
        (
            lambda root: (root / "appenv.json").symlink_to("etc/env.json"),
            "/appenv.json: is a symbolic link, which the embedded runtime does not follow",
        ),
        *(
            (
                lambda root, text=text: (root / "appenv.json").write_text(text),
                "/appenv.json: has more than one Env in it, and the embedded runtime starts with that alone",
            )
            for text in ('{"Env": ["A=1"], "Other": {}}', '{"Env": ["A=1"], "Env": ["B=1"]}')
        ),
        (
            lambda root: (root / "appenv.json").write_text('{"Env": "A=1"}'),
            "/appenv.json: has no list Env with a variable in it",
        ),
        (
            lambda root: (root / "appenv.json").write_text(json.dumps({"Env": [f"A={'x' * 131072}"]})),
            "/appenv.json: has a text of 128 KiB or more",
        ),
        (
            lambda root: (root / "appenv.json").write_text(json.dumps({"Env": ["A=" + "x" * 989] * 33})),
            "MainStackSize: has 32,768 bytes, and arguments and environment take 33,017",
        ),
    ],
)
def test_a_root_with_which_the_embedded_runtime_alone_stops_is_refused_for_it(
    made: Inputs, change: Callable[[Path], object], problem: str
) -> None:
    given = with_root(made, change)
    assert warned(given) == []
    assert problem in told(lambda: pipeline.measure(with_embedded(given)))


def test_variables_that_may_be_there_already_take_no_room_on_the_stack(made: Inputs) -> None:
    texts = ["A=" + "x" * 989] * 33

    def change(root: Path) -> None:
        (root / "appenv.json").write_text(json.dumps({"Env": texts}))

    assert pipeline.measure(with_embedded(with_root(made, change, HostEnvironmentVariables=["A"])))


def test_a_memory_that_is_too_small_for_the_stack_is_told_at_its_own_place(made: Inputs) -> None:
    given = with_root(made, lambda root: None, MemorySize="1m", MainStackSize=None)
    assert "config.json:1:34: MemorySize: has 1,048,576 bytes, and the main stack 1,605,632" in told(
        lambda: pipeline.measure(with_embedded(given))
    )


def test_an_appenv_json_is_accepted(made: Inputs) -> None:
    given = with_root(made, lambda root: (root / "appenv.json").write_text('{"Env": ["A=1", "B="]}'))
    assert warned(given) == []


def with_embedded(given: Inputs) -> Inputs:
    return as_embedded(given._replace(runtime=Runtime.at(root_path(given).parent / "runtime")))


def test_a_working_directory_that_is_not_in_the_root_is_told(made: Inputs) -> None:
    given = with_root(made, lambda root: None, CurrentWorkingDirectory="/no")
    for runtime in (given, with_embedded(given)):
        (warning,) = warned(runtime)
        assert "CurrentWorkingDirectory: /no is not in" in warning


def test_a_working_directory_that_is_a_file_is_an_error(made: Inputs) -> None:
    given = with_root(made, lambda root: None, CurrentWorkingDirectory="/bin/app")
    for runtime in (given, with_embedded(given)):
        assert "/bin/app is no directory in" in told(lambda given=runtime: pipeline.measure(given))


def test_a_working_directory_below_a_file_is_an_error_where_that_is_known(made: Inputs) -> None:
    given = with_root(made, lambda root: None, CurrentWorkingDirectory="/bin/app/below")
    assert "may not start there" in warned(given)[0]
    assert "/bin/app is no directory in" in told(lambda: pipeline.measure(with_embedded(given)))


def test_a_package_cannot_be_called_as_the_loader(tmp_path: Path, made: Inputs) -> None:
    message = told(lambda: build(made, tmp_path / "myst"))
    assert message == (
        f"{tmp_path}/myst: a package of this name acts as the loader without a package; give it another name"
    )
    assert not (tmp_path / "myst").exists()


def test_an_ext2_root_needs_something_that_makes_it_trusted(made: Inputs) -> None:
    ext2 = made._replace(root=DiskRoot())
    untrusted = ext2._replace(pubkeys=(), roothashes=())
    assert told(lambda: pipeline.measure(untrusted)) == (
        f"{made.config.name}: an ext2 root would be mounted unchecked in an enclave without Debug;"
        " give a public key or a root hash that makes the disk trusted"
    )
    for trusted in (
        ext2._replace(pubkeys=()),
        ext2._replace(roothashes=()),
        untrusted._replace(config=made.config._replace(debug=True)),
    ):
        assert pipeline.measure(trusted).mrenclave


def test_an_ext2_root_is_measured_as_a_page_of_zeros(tmp_path: Path, made: Inputs) -> None:
    measured = pipeline.measure(made._replace(root=DiskRoot()))
    region = next(region for region in measured.layout["regions"] if region["name"] == "rootfs")
    assert (region["size"], region["file_size"]) == (4096, 4096)


def test_an_archive_that_is_none_is_told(made: Inputs) -> None:
    root_path(made).write_bytes(bytes(4096))
    assert "root.cpio, offset 0: is no CPIO archive of the newc form" in told(lambda: pipeline.measure(made))


# The runtime


RUNTIME_FILES = ("lib/openenclave/mystenc.so", "lib/libmystkernel.so", "lib/libmystcrt.so")


@pytest.mark.parametrize("lacking", ["bin/myst", *RUNTIME_FILES])
def test_an_incomplete_runtime_is_told_by_what_it_lacks(tmp_path: Path, made: Inputs, lacking: str) -> None:
    (tmp_path / "runtime" / lacking).unlink()
    assert told(lambda: Runtime.installed(tmp_path / "runtime")) == (
        f"{tmp_path}/runtime: is no complete runtime: it lacks {lacking};"
        " give the directory of an installed Mystikos, or use the embedded runtime"
    )


@pytest.mark.parametrize("file", RUNTIME_FILES)
def test_a_runtime_for_another_machine_is_told(tmp_path: Path, made: Inputs, file: str) -> None:
    path = tmp_path / "runtime" / file
    data = path.read_bytes()
    path.write_bytes(data[:18] + b"\xb7\0" + data[20:])
    assert told(lambda: pipeline.measure(made)) == (
        f"{path}: is an ELF file for EM_AARCH64, not 64-bit x86-64; give one built for x86-64"
    )


def test_a_relocation_that_no_enclave_can_apply_is_told(made: Inputs) -> None:
    made.runtime.crt.write_bytes(tiny_elf.build(rela_dyn=((0x10, 7, 0, 0),)))
    assert "libmystcrt.so, section .rela.dyn: relocation 0 has type 7" in told(lambda: pipeline.measure(made))


# The measurement as a file


def test_a_measurement_comes_back_from_its_file(made: Inputs) -> None:
    measured = pipeline.measure(made)
    assert Measurement.from_json(measured.to_json(), "m.json") == measured


def test_a_measurement_is_the_same_bytes_every_time(made: Inputs) -> None:
    assert pipeline.measure(made).to_json() == pipeline.measure(made).to_json()


def test_a_measurement_shows_the_layout(made: Inputs) -> None:
    shown = json.loads(pipeline.measure(made).to_json())
    assert [region["name"] for region in shown["layout"]["regions"]][-1] == "mman.pids"
    assert shown["mrenclave"] == sigstruct.identity(bytes.fromhex(shown["sigstruct"])).mrenclave.hex()


@settings(deadline=None)
@given(st.binary(max_size=100) | st.sampled_from([b"{}", b"[]", b"1", b'{"format": 1}', b'{"format": 2}']))
def test_anything_else_is_no_measurement(data: bytes) -> None:
    problem = kinds.instead_of(data, "measurement")
    assert told(lambda: Measurement.from_json(data, "m.json")) == f"m.json: {problem}; measure again"


def test_a_measurement_of_another_version_is_told_to_be_one(made: Inputs) -> None:
    document = json.loads(pipeline.measure(made).to_json())
    other = json.dumps(document | {"format": 2}).encode()
    message = told(lambda: Measurement.from_json(other, "m.json"))
    assert message == "m.json: is no measurement of this version; measure again"


@pytest.mark.parametrize("name", ["mrenclave", "sigstruct"])
def test_a_measurement_that_lost_bytes_is_told(made: Inputs, name: str) -> None:
    document = json.loads(pipeline.measure(made).to_json())
    document[name] = document[name][2:]
    damaged = json.dumps(document).encode()
    message = told(lambda: Measurement.from_json(damaged, "m.json"))
    assert message == "m.json: is a damaged measurement; measure again"


# Signing


def test_what_is_signed_is_the_image_that_was_measured(made: Inputs) -> None:
    measured = pipeline.measure(made)
    image = pipeline.sign(measured, made.runtime, made.config, key(), DAY)
    reopened, structure = reopen(image, "image")
    assert sigstruct.check(structure) is None
    assert hashlib.sha256(reopened.file()).hexdigest() == measured.image_sha256
    assert sigstruct.identity(structure).mrenclave == measured.mrenclave


def test_another_configuration_is_not_signed(made: Inputs) -> None:
    measured = pipeline.measure(made)
    other = made.config._replace(data=made.config.data + b"\n")
    assert told(lambda: pipeline.sign(measured, made.runtime, other, key(), DAY)) == (
        f"{made.runtime.enclave}: is not what was measured with {made.config.name};"
        " measure again with this runtime and configuration"
    )


def test_another_enclave_image_is_not_signed(made: Inputs) -> None:
    measured = pipeline.measure(made)
    made.runtime.enclave.write_bytes(tiny_elf.enclave(tiny_elf.oeinfo(heap_pages=3)))
    assert "is not what was measured" in told(
        lambda: pipeline.sign(measured, made.runtime, made.config, key(), DAY)
    )


class WrongSigner:
    """Names one key and signs something else with it."""

    modulus, exponent, identity = key().modulus, key().exponent, "wrong"

    def sign(self, digest: bytes) -> bytes:
        return key().sign(digest[::-1])


def test_a_signer_that_signs_something_else_is_told(made: Inputs) -> None:
    measured = pipeline.measure(made)
    assert told(lambda: pipeline.sign(measured, made.runtime, made.config, WrongSigner(), DAY)) == (
        "the signer: gave a SIGSTRUCT whose signature does not verify; sign with the key it names"
    )


@pytest.mark.parametrize("field", sigstruct.SIGSTRUCT.fields)
def test_a_key_signs_no_measurement_with_a_field_that_is_not_the_configuration_s(
    made: Inputs, field: str
) -> None:
    measured = pipeline.measure(made)
    offset = sigstruct.SIGSTRUCT.fields[field].offset
    structure = bytearray(measured.sigstruct)
    structure[offset] ^= 2
    changed = measured._replace(sigstruct=bytes(structure))
    assert told(lambda: pipeline.sign(changed, made.runtime, made.config, key(), DAY)) == (
        f"the measurement: is not what measuring with {made.config.name} gives: its SIGSTRUCT differs in"
        f" {field}; find out who changed it, and measure again"
    )


def test_a_key_signs_no_measurement_with_reserved_bytes_set(made: Inputs) -> None:
    measured = pipeline.measure(made)
    changed = measured._replace(sigstruct=measured.sigstruct[:1000] + b"\1" + measured.sigstruct[1001:])
    assert "differs in a reserved field" in told(
        lambda: pipeline.sign(changed, made.runtime, made.config, key(), DAY)
    )


@pytest.mark.parametrize(
    ("epoch", "day"),
    [
        ("0", date(1970, 1, 1)),
        ("1795392000", date(2026, 11, 23)),
        ("1795391999", date(2026, 11, 22)),
        ("253402300799", date(9999, 12, 31)),
    ],
)
def test_the_signing_day_is_that_of_the_epoch_in_utc(
    monkeypatch: pytest.MonkeyPatch, epoch: str, day: date
) -> None:
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    assert pipeline.signing_day(epoch) == day


@pytest.mark.parametrize("epoch", [None, ""])
def test_without_an_epoch_the_signing_day_is_today(epoch: str | None) -> None:
    before = datetime.now(timezone.utc).date()
    assert before <= pipeline.signing_day(epoch) <= datetime.now(timezone.utc).date()


NOT_EPOCHS = [
    "today",
    "1.5",
    "9" * 20,
    "9" * 5000,
    "-1",
    "-0",
    "+5",
    "1e9",
    "1_000",
    " 5",
    "٣",
    "253402300800",
]


@pytest.mark.parametrize("epoch", NOT_EPOCHS)
def test_an_epoch_that_is_none_is_told(epoch: str) -> None:
    assert told(lambda: pipeline.signing_day(epoch)).startswith("SOURCE_DATE_EPOCH: ")


# Verifying a package


def test_a_package_verifies_and_says_who_it_is(tmp_path: Path, made: Inputs) -> None:
    identity = proof.verify(build(made, tmp_path / "app"))
    assert identity.mrenclave == pipeline.measure(made).mrenclave
    assert identity.mrsigner == hashlib.sha256(key().modulus.to_bytes(384, "little")).digest()
    assert (identity.product_id, identity.security_version, identity.debug) == (0, 0, False)


def test_identity_and_debugging_are_those_of_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "given").mkdir()
    made = inputs(tmp_path / "given", ProductID=7, SecurityVersion=9, Debug=True)
    identity = proof.verify(build(made, tmp_path / "app"))
    assert (identity.product_id, identity.security_version, identity.debug) == (7, 9, True)


def flipped(path: Path, offset: int) -> Path:
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x10
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("name", [sections.ROOTFS, sections.PUBKEYS, sections.ROOTHASHES])
def test_a_changed_byte_of_measured_data_changes_mrenclave(tmp_path: Path, made: Inputs, name: str) -> None:
    path = build(made, tmp_path / "app")
    place = sections.read(path).sections[name]
    for offset in (place.offset, place.offset + place.size // 2, place.offset + place.size - 1):
        flipped(path, offset)
        assert told(lambda: proof.verify(path)).startswith(f"{path}: MRENCLAVE is ")
        assert proof.verify(flipped(path, offset))


@pytest.mark.parametrize("name", [sections.KERNEL, sections.CRT, sections.ENCLAVE])
def test_a_changed_byte_of_each_loaded_page_is_told(tmp_path: Path, made: Inputs, name: str) -> None:
    path = build(made, tmp_path / "app")
    opened = sections.read(path)
    image = elf.Image(opened.content(name).read(), name)
    for load in image.loads:
        # The enclave image's first words are set when it is laid out, whatever the file has there.
        for at in range(load.offset + 200, load.offset + load.file_size, 1024):
            offset = opened.sections[name].offset + at
            with pytest.raises(UserError):
                proof.verify(flipped(path, offset))
            flipped(path, offset)
    assert proof.verify(path)


def test_the_configuration_beside_the_enclave_is_the_one_in_it(tmp_path: Path, made: Inputs) -> None:
    path = build(made, tmp_path / "app")
    place = sections.read(path).sections[sections.CONFIG]
    assert told(lambda: proof.verify(flipped(path, place.offset + 3))) == (
        f"{path}, section .mystconfig: is not the configuration in the enclave;"
        " do not use the package; make it again"
    )


def record_offset(path: Path) -> int:
    """Where in a package the record of its enclave image lies."""
    opened = sections.read(path)
    image = elf.Image(opened.content(sections.ENCLAVE).read(), "image")
    return opened.sections[sections.ENCLAVE].offset + image.section(".oeinfo").offset


@pytest.mark.parametrize("field", ["header", "modulus", "signature", "mrenclave", "q1", "q2", "date"])
def test_a_changed_sigstruct_is_told_by_the_rule_it_breaks(tmp_path: Path, made: Inputs, field: str) -> None:
    path = build(made, tmp_path / "app")
    offset = (
        record_offset(path) + OEINFO.fields["sigstruct"].offset + sigstruct.SIGSTRUCT.fields[field].offset
    )
    assert told(lambda: proof.verify(flipped(path, offset))).startswith(
        f"{path}, section .mystenc: SIGSTRUCT: "
    )


def test_a_changed_record_is_told(tmp_path: Path, made: Inputs) -> None:
    path = build(made, tmp_path / "app")
    start = record_offset(path)
    names = ("heap_pages", "stack_pages", "tcs_count", "product_id", "security_version", "flags")
    for name in (*names, "attributes", "xfrm"):
        offset = start + OEINFO.fields[name].offset
        with pytest.raises(UserError):
            proof.verify(flipped(path, offset))
        flipped(path, offset)
    assert proof.verify(path)


def test_a_sigstruct_that_was_signed_for_other_attributes_is_told(tmp_path: Path, made: Inputs) -> None:
    """MRENCLAVE covers the record but not SIGSTRUCT's own fields, which a signer could set at will."""
    measured = pipeline.measure(made)
    for values in ({"attributes": 6}, {"product_id": 1}, {"miscmask": 0}, {"attributes_mask": 0}):
        changed = sigstruct.SIGSTRUCT.patch(measured.sigstruct, values)  # type: ignore[arg-type]
        signed = enclave_key.sign(changed, key(), DAY)
        image = pipeline.prepare(made.runtime, made.config).file(signed)
        pipeline.package(made, Bytes(image), tmp_path / "app")
        assert told(lambda: proof.verify(tmp_path / "app")) == (
            f"{tmp_path}/app, section .mystenc: SIGSTRUCT does not agree with the enclave's record;"
            " do not use the package; make it again"
        )


LAX = [
    b'{"version": "0.1", "Aplicationpath": "/bin/app", "MemorySize": "12k"}',
    b'{"ApplicationPath": "/bin/app", "ProductID": 70000, "MemorySize": "1k", "MemorySize": 12288}',
    b'{"ApplicationPath": "relative", "ApplicationParameters": "x", "UserMemSize": "12K",}',
    b'// comment\n{"MemorySize": 4096, "UserMemSize": 12288}',
]


@pytest.mark.parametrize("data", LAX)
def test_a_package_whose_configuration_the_reader_would_refuse_is_verified_nevertheless(
    tmp_path: Path, made: Inputs, data: bytes
) -> None:
    lax = made._replace(config=Config("/bin/app", memory_size=12288, data=data))
    path = build(lax, tmp_path / "app")
    assert proof.verify(path).mrenclave == pipeline.measure(lax).mrenclave


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (b"{}", 64 << 20),
        (b'{"MemorySize": 0}', 64 << 20),
        (b'{"MemorySize": "40m"}', 40 << 20),
        (b'{"MemorySize": 4097}', 8192),
        (b'{"UserMemSize": "1g", "MemorySize": "1m"}', 1 << 20),
        (b'{"MemorySize": "1m", "UserMemSize": "1g"}', 1 << 30),
        (b"[]", 64 << 20),
    ],
)
def test_the_memory_of_any_configuration_is_read(data: bytes, size: int) -> None:
    assert config.memory_size_of(data, "c.json") == size


@pytest.mark.parametrize("data", [b"", b"{", b'{"MemorySize": "big"}', b'{"MemorySize": -1}'])
def test_a_configuration_without_a_readable_memory_is_told(data: bytes) -> None:
    assert told(lambda: config.memory_size_of(data, "c.json")).startswith("c.json:1:")


# Packing


def test_packing_says_what_went_in_and_what_was_left_out(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "f").write_bytes(b"12345")
    os.mkfifo(tmp_path / "root" / "pipe")
    tree = pipeline.pack(tmp_path / "root", tmp_path / "root.cpio")
    assert (tree.files, tree.size, tree.left_out) == (1, 5, ("pipe",))
    assert [member.path for member in read(tmp_path / "root.cpio").members] == [b"f"]


def test_two_builds_in_different_places_are_the_same_bytes(tmp_path: Path) -> None:
    packages = []
    for name, mask in (("a", 0o022), ("a longer name", 0o077)):
        before = os.umask(mask)
        try:
            (tmp_path / name).mkdir()
            packages.append(build(inputs(tmp_path / name), tmp_path / name / "app").read_bytes())
        finally:
            os.umask(before)
    assert packages[0] == packages[1]


def test_a_trusted_key_goes_in_as_it_is(tmp_path: Path, made: Inputs) -> None:
    opened = sections.read(build(made, tmp_path / "app"))
    assert opened.content(sections.PUBKEYS).read() == (DATA / "keys/key-b.pub.pem").read_bytes() + b"\0"
    assert len(opened.content(sections.ROOTHASHES).read()) == 32
