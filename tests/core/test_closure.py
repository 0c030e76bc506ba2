"""What the closure of a program consists of: the rules of the dynamic linkers, and what is refused."""

from __future__ import annotations

import os
import stat
import struct
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import tiny_elf
from hypothesis import given, settings
from hypothesis import strategies as st

from examples import examples
from mystikos_tool.errors import UserError
from mystikos_tool.formats import ld_so_cache, program
from mystikos_tool.io import fingerprint
from mystikos_tool.root import root_view
from mystikos_tool.root.closure import Closure
from mystikos_tool.root.source import DirectorySource
from mystikos_tool.root.tree import Tree, placed

GLIBC = "/lib64/ld-linux-x86-64.so.2"
MUSL = "/lib/ld-musl-x86_64.so.1"


class Sysroot:
    """A small machine below a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def write(self, path: str, data: bytes | str, mode: int = 0o755) -> Path:
        file = self.directory / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data.encode() if isinstance(data, str) else data)
        file.chmod(mode)
        return file

    def link(self, path: str, target: str) -> None:
        file = self.directory / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.symlink_to(target)

    def elf(
        self,
        path: str,
        needed: Sequence[str] = (),
        *,
        interpreter: str = "",
        runpath: Sequence[str] = (),
        rpath: Sequence[str] = (),
        soname: str = "",
        only_own: bool = False,
        machine: int = 62,
    ) -> None:
        data = tiny_elf.program(
            interpreter=interpreter,
            needed=needed,
            search=runpath,
            rpath=rpath,
            soname=soname,
            only_own=only_own,
            machine=machine,
        )
        self.write(path, data)

    def glibc(self, *built_in: str) -> None:
        directories = built_in or ("/lib64", "/usr/lib64")
        linker = tiny_elf.program(soname="ld-linux-x86-64.so.2")
        self.write(GLIBC, linker + b"\0" + b"".join(f"{one}/\0".encode() for one in directories))
        self.elf(f"{directories[0]}/libc.so.6", ["ld-linux-x86-64.so.2"], soname="libc.so.6")

    def musl(self) -> None:
        self.elf(MUSL, soname="libc.musl-x86_64.so.1")

    def tree(self, *programs: str, extras: Sequence[str] = (), exclude: tuple[str, ...] = ()) -> Tree:
        return Closure(programs, sysroot=self.directory, extras=extras, exclude=exclude).tree()

    def files(self, *programs: str, extras: Sequence[str] = (), exclude: tuple[str, ...] = ()) -> set[str]:
        """The files of the closure but for those of every glibc program."""
        tree = self.tree(*programs, extras=extras, exclude=exclude)
        found = {"/" + entry.path.decode() for entry in tree.entries if stat.S_ISREG(entry.mode)}
        return found - {GLIBC, MUSL, "/lib64/libc.so.6", *programs}

    def refusal(self, *programs: str, extras: Sequence[str] = ()) -> str:
        with pytest.raises(UserError) as refused:
            self.tree(*programs, extras=extras)
        return str(refused.value)


@pytest.fixture
def sysroot(tmp_path: Path) -> Sysroot:
    """A machine with glibc."""
    machine = Sysroot(tmp_path / "sysroot")
    machine.glibc()
    return machine


@pytest.fixture
def alpine(tmp_path: Path) -> Sysroot:
    """A machine with musl."""
    machine = Sysroot(tmp_path / "alpine")
    machine.musl()
    return machine


def test_a_program_comes_with_its_interpreter_and_the_libraries_of_its_libraries(sysroot: Sysroot) -> None:
    sysroot.elf("/bin/app", ["libone.so", "libc.so.6"], interpreter=GLIBC)
    sysroot.elf("/lib64/libone.so", ["libtwo.so"])
    sysroot.elf("/usr/lib64/libtwo.so", ["libc.so.6", "libone.so"])
    sysroot.elf("/usr/lib64/libunused.so")
    assert sysroot.files("/bin/app") == {"/lib64/libone.so", "/usr/lib64/libtwo.so"}
    paths = {entry.path for entry in sysroot.tree("/bin/app").entries}
    assert {b"bin/app", b"lib64/ld-linux-x86-64.so.2", b"lib64/libc.so.6"} <= paths


def test_links_and_directories_on_the_way_are_taken_as_they_are(sysroot: Sysroot) -> None:
    sysroot.elf("/bin/app", ["libone.so.1"], interpreter=GLIBC)
    sysroot.link("/lib64/libone.so.1", "/opt/one/libone.so.1.2")
    sysroot.elf("/opt/one/libone.so.1.2")
    sysroot.link("/sbin", "bin")
    entries = {entry.path: entry for entry in sysroot.tree("/sbin/app").entries}
    assert entries[b"lib64/libone.so.1"].target == b"/opt/one/libone.so.1.2"
    assert entries[b"sbin"].target == b"bin"
    assert {b"bin", b"bin/app", b"opt", b"opt/one", b"opt/one/libone.so.1.2"} <= entries.keys()


def test_no_link_of_a_sysroot_leads_out_of_it(sysroot: Sysroot, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "libout.so").write_bytes(tiny_elf.program())
    sysroot.elf("/bin/app", ["libout.so"], interpreter=GLIBC, runpath=["/escape"])
    sysroot.link("/escape", str(outside))
    assert "libout.so (/bin/app needs it)" in sysroot.refusal("/bin/app")
    (sysroot.directory / "escape").unlink()
    sysroot.link("/escape", "../../../../../../.." + str(outside))
    assert "libout.so" in sysroot.refusal("/bin/app")


def test_runpath_is_its_files_own_and_rpath_is_inherited(sysroot: Sysroot) -> None:
    sysroot.elf("/bin/rpath", ["libone.so"], interpreter=GLIBC, rpath=["/opt/lib"])
    sysroot.elf("/bin/runpath", ["libone.so"], interpreter=GLIBC, runpath=["/opt/lib"])
    sysroot.elf("/opt/lib/libone.so", ["libtwo.so"])
    sysroot.elf("/opt/lib/libtwo.so")
    assert sysroot.files("/bin/rpath") == {"/opt/lib/libone.so", "/opt/lib/libtwo.so"}
    assert "libtwo.so (/opt/lib/libone.so needs it)" in sysroot.refusal("/bin/runpath")


def test_a_runpath_takes_away_the_files_own_rpath_and_the_inherited_ones(sysroot: Sysroot) -> None:
    sysroot.elf("/bin/app", ["libone.so"], interpreter=GLIBC, rpath=["/opt/lib"])
    sysroot.elf("/opt/lib/libone.so", ["libtwo.so"], rpath=["/opt/lib"], runpath=["/elsewhere"])
    sysroot.elf("/opt/lib/libtwo.so")
    assert "libtwo.so" in sysroot.refusal("/bin/app")


def test_rpath_counts_before_and_runpath_after_the_librarys_other_users_but_both_before_the_system(
    sysroot: Sysroot,
) -> None:
    for place in ("/opt/lib", "/lib64"):
        sysroot.elf(f"{place}/libone.so")
    sysroot.elf("/bin/app", ["libone.so"], interpreter=GLIBC, runpath=["/missing", "/opt/lib"])
    assert sysroot.files("/bin/app") == {"/opt/lib/libone.so"}


@pytest.mark.parametrize("origin", ["$ORIGIN/../lib", "${ORIGIN}/../lib"])
def test_origin_is_where_the_file_lies_not_where_a_link_to_it_does(sysroot: Sysroot, origin: str) -> None:
    sysroot.elf("/opt/app/bin/app", ["libone.so"], interpreter=GLIBC, runpath=[origin])
    sysroot.link("/bin/app", "/opt/app/bin/app")
    sysroot.elf("/opt/app/lib/libone.so", ["libtwo.so"], runpath=["$ORIGIN/more"])
    sysroot.elf("/opt/app/lib/more/libtwo.so")
    found = sysroot.files("/bin/app")
    assert found == {"/opt/app/bin/app", "/opt/app/lib/libone.so", "/opt/app/lib/more/libtwo.so"}


def test_lib_is_what_the_c_library_was_built_with_and_platform_is_x86_64(tmp_path: Path) -> None:
    for name, built_in, lib in (
        ("debian", "/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"),
        ("fedora", "/lib64", "lib64"),
    ):
        machine = Sysroot(tmp_path / name)
        machine.glibc(built_in)
        machine.elf("/bin/app", ["libone.so"], interpreter=GLIBC, runpath=["/opt/$LIB/${PLATFORM}"])
        machine.elf(f"/opt/{lib}/x86_64/libone.so")
        assert f"/opt/{lib}/x86_64/libone.so" in machine.files("/bin/app")


def test_what_only_the_cache_knows_is_found_and_the_root_gets_a_cache_of_its_own(sysroot: Sysroot) -> None:
    sysroot.elf("/bin/app", ["libone.so"], interpreter=GLIBC)
    sysroot.elf("/opt/lib/libone.so")
    known = {b"libone.so": b"/opt/lib/libone.so", b"libother.so": b"/opt/lib/libother.so"}
    sysroot.write("/etc/ld.so.cache", ld_so_cache.write(known))
    (written,) = [one for one in sysroot.tree("/bin/app").entries if one.path == b"etc/ld.so.cache"]
    assert ld_so_cache.read(b"".join(written.chunks())) == {b"libone.so": [b"/opt/lib/libone.so"]}
    assert b"".join(written.chunks()) == ld_so_cache.write({b"libone.so": b"/opt/lib/libone.so"})


def test_what_the_linker_finds_by_itself_needs_no_cache(sysroot: Sysroot) -> None:
    sysroot.elf("/bin/app", ["libone.so"], interpreter=GLIBC)
    sysroot.elf("/usr/lib64/libone.so")
    sysroot.write("/etc/ld.so.cache", ld_so_cache.write({b"libone.so": b"/usr/lib64/libone.so"}))
    assert sysroot.files("/bin/app") == {"/usr/lib64/libone.so"}


def test_directories_of_the_configuration_and_of_what_it_includes_are_searched(sysroot: Sysroot) -> None:
    sysroot.elf("/bin/app", ["libone.so", "libtwo.so"], interpreter=GLIBC)
    sysroot.elf("/opt/one/libone.so")
    sysroot.elf("/opt/two/libtwo.so")
    sysroot.write("/etc/ld.so.conf", "include ld.so.conf.d/*.conf  # and nothing else\n/opt/one\n")
    sysroot.write("/etc/ld.so.conf.d/two.conf", "/opt/two=libc6\ninclude /etc/ld.so.conf\n")
    found = sysroot.files("/bin/app")
    assert found == {"/opt/one/libone.so", "/opt/two/libtwo.so", "/etc/ld.so.cache"}


def test_libraries_for_some_processors_only_are_not_taken(sysroot: Sysroot) -> None:
    sysroot.elf("/bin/app", ["libone.so"], interpreter=GLIBC)
    sysroot.elf("/lib64/glibc-hwcaps/x86-64-v3/libone.so")
    sysroot.elf("/usr/lib64/libone.so")
    assert sysroot.files("/bin/app") == {"/usr/lib64/libone.so"}


def test_a_file_may_keep_a_linker_from_the_systems_directories(sysroot: Sysroot) -> None:
    sysroot.elf("/bin/app", ["libone.so"], interpreter=GLIBC, only_own=True)
    sysroot.elf("/lib64/libone.so")
    assert "libone.so" in sysroot.refusal("/bin/app")


def test_a_library_that_is_loaded_already_is_known_by_its_soname(sysroot: Sysroot) -> None:
    sysroot.elf("/bin/app", ["libone-1.2.so", "libtwo.so"], interpreter=GLIBC)
    sysroot.elf("/lib64/libone-1.2.so", soname="libone.so.1")
    sysroot.elf("/lib64/libtwo.so", ["libone.so.1"])
    assert sysroot.files("/bin/app") == {"/lib64/libone-1.2.so", "/lib64/libtwo.so"}


def test_musl_is_its_own_c_library_and_inherits_both_kinds_of_path(alpine: Sysroot) -> None:
    alpine.elf(
        "/bin/app", ["libone.so", "libc.musl-x86_64.so.1", "libm.so"], interpreter=MUSL, runpath=["/o"]
    )
    alpine.elf("/o/libone.so", ["libtwo.so"])
    alpine.elf("/o/libtwo.so")
    assert alpine.files("/bin/app") == {"/o/libone.so", "/o/libtwo.so"}


def test_musls_path_file_takes_the_place_of_its_directories_and_goes_into_the_root(alpine: Sysroot) -> None:
    alpine.elf("/bin/app", ["libone.so"], interpreter=MUSL)
    alpine.elf("/usr/local/lib/libone.so")
    assert alpine.files("/bin/app") == {"/usr/local/lib/libone.so"}
    alpine.write("/etc/ld-musl-x86_64.path", "/lib:/opt/one\n/opt/two\n", 0o644)
    assert "libone.so" in alpine.refusal("/bin/app")
    alpine.elf("/opt/two/libone.so")
    assert alpine.files("/bin/app") == {"/opt/two/libone.so", "/etc/ld-musl-x86_64.path"}


def test_musl_heeds_no_path_with_another_variable_than_origin(alpine: Sysroot) -> None:
    alpine.elf("/bin/app", ["libone.so"], interpreter=MUSL, runpath=["/opt/lib", "/opt/$LIB"])
    alpine.elf("/opt/lib/libone.so")
    assert "libone.so" in alpine.refusal("/bin/app")


def test_a_script_comes_with_its_interpreter(sysroot: Sysroot) -> None:
    sysroot.elf("/bin/sh", ["libc.so.6"], interpreter=GLIBC)
    sysroot.write("/bin/inner", "#! /bin/sh -e\n")
    sysroot.write("/bin/script", "#!/bin/inner\nexit\n")
    assert sysroot.files("/bin/script") == {"/bin/sh", "/bin/inner"}


@pytest.mark.parametrize(
    "line",
    [
        "/bin/env python3",
        "/bin/env -S python3 -u",
        "/bin/env -S -i A=1 -u B python3",
        "/bin/env -S 'python3'",
    ],
)
def test_a_script_of_env_comes_with_env_and_what_it_starts(sysroot: Sysroot, line: str) -> None:
    sysroot.elf("/bin/env", ["libc.so.6"], interpreter=GLIBC)
    sysroot.elf("/usr/bin/python3", ["libc.so.6"], interpreter=GLIBC)
    sysroot.write("/bin/script", f"#!{line}\n")
    assert sysroot.files("/bin/script") == {"/bin/env", "/usr/bin/python3"}


def test_scripts_that_cannot_start_are_refused(sysroot: Sysroot) -> None:
    sysroot.write("/bin/loop", "#!/bin/loop\n")
    sysroot.write("/bin/none", "#!/bin/perl\n")
    sysroot.elf("/bin/env", interpreter=GLIBC)
    sysroot.write("/bin/nowhere", "#!/bin/env perl\n")
    sysroot.write("/bin/nothing", "#!/bin/env\n")
    sysroot.write("/bin/windows", "#!/bin/env\r\n")
    assert "/bin/windows: its first line ends with a carriage return" in sysroot.refusal("/bin/windows")
    assert "has an interpreter that is a script" in sysroot.refusal("/bin/loop")
    assert "/bin/none: is a script of /bin/perl, which is not in" in sysroot.refusal("/bin/none")
    assert "lets env start perl, which is in none of" in sysroot.refusal("/bin/nowhere")
    assert "lets env start no program" in sysroot.refusal("/bin/nothing")


def test_a_directory_is_taken_whole_with_what_the_libraries_in_it_need(sysroot: Sysroot) -> None:
    sysroot.elf("/bin/app", ["libc.so.6"], interpreter=GLIBC, rpath=["/opt/lib"])
    sysroot.elf("/usr/lib/app/plugin.so", ["libone.so", "libc.so.6"])
    sysroot.elf("/opt/lib/libone.so")
    sysroot.write("/usr/lib/app/data", "data", 0o640)
    sysroot.write("/usr/lib/app/tests/data", "data")
    sysroot.write("/usr/lib/app/other.so", tiny_elf.program(machine=183, needed=["libarm.so"]))
    sysroot.write("/etc/shared.conf", "conf")
    sysroot.link("/usr/lib/app/shared.conf", "/etc/shared.conf")
    found = sysroot.files("/bin/app", "/usr/lib/app", exclude=("tests",))
    assert found == {
        "/opt/lib/libone.so",
        "/usr/lib/app/plugin.so",
        "/usr/lib/app/data",
        "/usr/lib/app/other.so",
        "/etc/shared.conf",
    }


def test_a_library_alone_comes_with_its_c_library(sysroot: Sysroot, alpine: Sysroot) -> None:
    for machine, linker, libc in ((sysroot, GLIBC, "libc.so.6"), (alpine, MUSL, "libc.musl-x86_64.so.1")):
        machine.elf("/opt/plugin.so", [libc])
        assert linker.strip("/").encode() in {entry.path for entry in machine.tree("/opt/plugin.so").entries}


def test_what_is_given_counts_before_the_sysroot(sysroot: Sysroot, tmp_path: Path) -> None:
    built = Sysroot(tmp_path / "built")
    built.elf("app", ["libone.so", "libtwo.so"], interpreter=GLIBC, runpath=["$ORIGIN"])
    built.elf("libone.so", ["libc.so.6"])
    sysroot.elf("/opt/app/libone.so", ["libmissing.so"])
    sysroot.elf("/opt/app/libtwo.so")
    source = placed(DirectorySource(built.directory).tree(), "opt/app")
    tree = Closure(["/opt/app/app"], given=[source], sysroot=sysroot.directory).tree()
    (one,) = [entry for entry in tree.entries if entry.path == b"opt/app/libone.so"]
    assert one.name == str(built.directory / "libone.so")
    assert b"opt/app/libtwo.so" in {entry.path for entry in tree.entries}


def test_everything_that_is_missing_is_named_with_who_needs_it(sysroot: Sysroot) -> None:
    sysroot.elf("/bin/app", ["libone.so", "libgone.so"], interpreter=GLIBC)
    sysroot.elf("/lib64/libone.so", ["libtwo.so"])
    message = sysroot.refusal("/bin/app")
    assert "libgone.so (/bin/app needs it)" in message
    assert "libtwo.so (/lib64/libone.so needs it)" in message
    assert sysroot.files("/bin/app", exclude=("libgone.so", "libtwo.so")) == {"/lib64/libone.so"}


def test_a_library_of_another_architecture_is_passed_by_and_named_where_there_is_no_other(
    sysroot: Sysroot,
) -> None:
    sysroot.elf("/bin/app", ["libone.so"], interpreter=GLIBC)
    sysroot.elf("/lib64/libone.so", machine=183)
    assert "/lib64/libone.so is for another architecture: EM_AARCH64" in sysroot.refusal("/bin/app")
    sysroot.elf("/usr/lib64/libone.so")
    assert sysroot.files("/bin/app") == {"/usr/lib64/libone.so"}


def test_programs_that_cannot_run_are_refused(sysroot: Sysroot) -> None:
    sysroot.elf("/bin/arm", interpreter="/lib/ld-linux-aarch64.so.1", machine=183)
    sysroot.elf("/bin/bionic", interpreter="/system/bin/linker64")
    sysroot.elf("/bin/uclibc", interpreter="/lib/ld64-uClibc.so.0")
    sysroot.elf("/bin/alpine", interpreter=MUSL)
    sysroot.write("/bin/text", "text")
    assert "is for another architecture: EM_AARCH64" in sysroot.refusal("/bin/arm")
    assert "is of a C library that Mystikos does not run" in sysroot.refusal("/bin/bionic")
    assert "is of a C library that Mystikos does not run" in sysroot.refusal("/bin/uclibc")
    assert f"has the interpreter {MUSL}, which is not in" in sysroot.refusal("/bin/alpine")
    assert "is neither an x86-64 ELF program nor a script" in sysroot.refusal("/bin/text")
    assert "/bin/none: is not in" in sysroot.refusal("/bin/none")
    assert "is no absolute path" in sysroot.refusal("bin/arm")


def test_the_whole_machine_is_no_program() -> None:
    with pytest.raises(UserError, match="is the whole machine"):
        Closure(["/"])


def test_extras_come_by_their_names(sysroot: Sysroot) -> None:
    sysroot.elf("/bin/app", ["libc.so.6"], interpreter=GLIBC)
    sysroot.write("/etc/nsswitch.conf", "hosts: files [NOTFOUND=return] dns # and more\npasswd: files ldap\n")
    sysroot.elf("/lib64/libnss_dns.so.2", ["libresolv.so.2"])
    sysroot.elf("/lib64/libresolv.so.2")
    sysroot.write("/etc/ssl/certs/ca.pem", "ca")
    sysroot.elf("/lib64/libgcc_s.so.1")
    assert sysroot.files("/bin/app", extras=["nss"]) == {
        "/etc/nsswitch.conf",
        "/lib64/libnss_dns.so.2",
        "/lib64/libresolv.so.2",
    }
    assert sysroot.files("/bin/app", extras=["certificates"]) == {"/etc/ssl/certs/ca.pem"}
    assert sysroot.files("/bin/app", extras=["unwinder"]) == {"/lib64/libgcc_s.so.1"}
    assert "extra locale: is not in" in sysroot.refusal("/bin/app", extras=["locale"])
    assert "is no extra of a closure; give one of nss, locale" in sysroot.refusal("/bin/app", extras=["x"])


def test_a_changed_library_gives_another_fingerprint_and_an_unrelated_one_does_not(sysroot: Sysroot) -> None:
    def current() -> bytes:
        return Closure(["/bin/app"], sysroot=sysroot.directory).fingerprint()

    sysroot.elf("/bin/app", ["libone.so"], interpreter=GLIBC)
    sysroot.elf("/usr/lib64/libone.so")
    before = current()
    sysroot.elf("/usr/lib64/libunrelated.so")
    assert current() == before
    sysroot.write("/usr/lib64/libone.so", tiny_elf.program(needed=["libc.so.6"]))
    changed = current()
    assert changed != before
    sysroot.elf("/lib64/libone.so")  # comes first
    assert current() != changed


def test_what_is_known_of_files_is_not_read_again(
    sysroot: Sysroot, opened: Callable[[], set[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprint, "is_racy", lambda *_: False)
    sysroot.elf("/bin/app", ["libone.so"], interpreter=GLIBC)
    sysroot.elf("/lib64/libone.so")
    for path in (*sysroot.directory.rglob("*"), sysroot.directory):
        os.utime(path, (1, 1))
    first = Closure(["/bin/app"], sysroot=sysroot.directory)
    paths = first.tree().paths
    assert "libone.so" in opened()
    again = Closure(["/bin/app"], sysroot=sysroot.directory, known=first.facts())
    assert again.tree().paths == paths
    assert not opened() & {"app", "libone.so", "libc.so.6"}
    assert again.facts() == first.facts()


def test_the_cache_is_read_as_ldconfig_writes_it_and_written_in_the_order_of_the_linker() -> None:
    libraries = {name: b"/opt/" + name for name in (b"libb.so.9", b"libb.so.10", b"liba.so", b"libb-x.so")}
    data = ld_so_cache.write(libraries)
    assert ld_so_cache.read(data) == {name: [path] for name, path in libraries.items()}
    assert list(ld_so_cache.read(data)) == [b"libb.so.10", b"libb.so.9", b"libb-x.so", b"liba.so"]
    old = struct.pack("<12sI", b"ld.so-1.7.0\0", 1) + bytes(12)
    assert ld_so_cache.read(old + bytes(-len(old) % 8) + data) == ld_so_cache.read(data)


@given(st.binary(max_size=400), st.integers(0, 200))
@settings(max_examples=examples(50), deadline=None)
def test_a_damaged_cache_has_at_most_other_libraries(noise: bytes, cut: int) -> None:
    data = ld_so_cache.write({b"liba.so": b"/lib/liba.so"})
    ld_so_cache.read(data[:cut] + noise)
    ld_so_cache.read(noise)


def test_a_hostile_file_costs_little() -> None:
    """Tables and strings of any size and place, all bytes the same, so that no string ends."""
    count = 1 << 16
    start = tiny_elf.EHDR.size + 2 * tiny_elf.PHDR.size
    entries = struct.pack("<QQ", 5, start) + struct.pack("<QQ", 1, 0) * count
    table = struct.pack("<QQ", 5, start) + struct.pack("<QQ", 1, 1) * count
    big = 1 << 62
    header = tiny_elf.EHDR.pack(
        b"\x7fELF\x02\x01\x01".ljust(16, b"\0"), 3, 62, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0
    )
    rows = tiny_elf.PHDR.pack(1, 4, 0, 0, 0, big, big, 8) + tiny_elf.PHDR.pack(2, 4, start, 0, 0, big, big, 8)
    data = header + rows + (entries if len(entries) > len(table) else table)
    read: list[int] = []

    def read_at(offset: int, size: int) -> bytes:
        read.append(size)
        return b"a" * size if offset > len(data) else data[offset : offset + size]

    began = time.process_time()
    found = program.read(read_at)
    assert isinstance(found, program.Executable)
    assert len(found.needed) <= 4096
    assert sum(read) < 1 << 26
    assert time.process_time() - began < 5


def test_files_that_name_endless_libraries_and_directories_are_refused(
    sysroot: Sysroot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(root_view, "MOST_PATHS", 5000)
    directories = [f"/lib64/{'../lib64/' * count}" for count in range(100)]
    sysroot.elf("/bin/app", [f"lib{n}.so" for n in range(2000)], interpreter=GLIBC, rpath=directories)
    assert "is one of more than 5,000 paths that programs are looked for at" in sysroot.refusal("/bin/app")


def test_other_architectures_are_named() -> None:
    def name(data: bytes) -> str | None:
        return program.other_architecture(lambda offset, size: data[offset : offset + size])

    assert name(tiny_elf.program(machine=183)) == "EM_AARCH64"
    assert name(tiny_elf.program(machine=60000)) == "machine 60000"
    assert name(tiny_elf.program()) is None
    assert name(b"text") is None
    narrow = bytearray(tiny_elf.program())
    narrow[4] = 1
    assert name(bytes(narrow)) == "EM_X86_64 with 32-bit addresses"
    big = bytearray(tiny_elf.program())
    big[5], big[18:20] = 2, bytes([0, 43])
    assert name(bytes(big)) == "EM_SPARCV9"


def test_closures_of_programs_of_this_machine_have_what_loads_them() -> None:
    tree = Closure([os.path.realpath("/bin/sh")]).tree()
    assert any(
        entry.path.endswith((b"ld-linux-x86-64.so.2", b"ld-musl-x86_64.so.1")) for entry in tree.entries
    )
