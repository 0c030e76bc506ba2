from __future__ import annotations

import hashlib
import json
import os
import stat
from pathlib import Path

import jsonschema
import pytest
from cli_support import DATA, Run, configure

from mystikos_tool.cli import NAMES, VERBS
from mystikos_tool.packaging import sections

CASES = json.loads((DATA / "cases.json").read_text())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# package-sgx


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_a_recorded_package_is_made_to_the_byte(
    run: Run, runtimes: Path, tmp_path: Path, case: dict[str, object]
) -> None:
    expected = json.loads((DATA / "expected" / f"{case['name']}.json").read_text())
    rootfs = (
        [f"--rootfs={DATA}/expected/rootfs/{Path(str(case['appdir'])).name}.cpio"] if case["appdir"] else []
    )
    lists = {"--pubkey": case.get("pubkeys", []), "--roothash": case.get("roothashes", [])}
    trusted = [part for option, paths in lists.items() for path in paths for part in (option, DATA / path)]  # type: ignore[attr-defined]
    target = tmp_path / "package"
    result = run(
        "package-sgx",
        *rootfs,
        *trusted,
        DATA / str(case["key"]),
        DATA / str(case["config"]),
        "--runtime",
        runtimes / str(case["runtime"]),
        "-o",
        target,
    )
    if expected.get("rejected"):
        assert result.status == 2
        assert not target.exists()
        return
    assert result.status == 0, result.err
    assert hashlib.sha256(target.read_bytes()).hexdigest() == expected["package_on_program_sha256"]
    assert expected["mrenclave"] in result.out


def test_a_package_goes_to_the_reference_s_place_by_default(run: Run, project: Path) -> None:
    result = run("package-sgx", "appdir", "key.pem", "config.json", "--runtime=runtime")
    assert result.status == 0, result.err
    assert result.out.startswith("created myst/bin/hello: ")
    assert result.err == ""
    assert mode(project / "myst" / "bin" / "hello") == 0o755
    assert {path.name for path in project.iterdir()} == {
        "appdir",
        "key.pem",
        "config.json",
        "runtime",
        "myst",
    }


@pytest.mark.parametrize(
    "arguments",
    [
        ["--outfile", "x", "appdir", "key.pem", "config.json", "--runtime", "runtime"],
        ["--outfile=x", "--runtime=runtime", "appdir", "key.pem", "config.json"],
        ["-o", "x", "--runtime=runtime", "appdir", "key.pem", "config.json"],
        ["-o=x", "--runtime=runtime", "appdir", "key.pem", "config.json"],
        ["appdir", "-o=x", "key.pem", "--runtime=runtime", "config.json"],
    ],
)
def test_options_stand_anywhere_and_take_a_blank_or_an_equals_sign(
    run: Run, project: Path, arguments: list[str]
) -> None:
    result = run("package-sgx", *arguments)
    assert result.status == 0, result.err
    assert (project / "x").exists()


def test_names_behind_two_hyphens_may_begin_with_one(run: Run, project: Path) -> None:
    (project / "appdir").rename(project / "-appdir")
    assert run("mkcpio", "--exclude=none", "--", "-appdir", "-root.cpio").status == 0
    assert run("excpio", "--", "-root.cpio", "again").status == 0
    assert (project / "again").is_dir()
    assert "an argument is empty" in run("mkcpio", "--", "-appdir", "").err


def test_an_appdir_gives_the_package_of_its_archive(run: Run, project: Path) -> None:
    common = ["key.pem", "config.json", "--runtime=runtime"]
    assert run("package-sgx", "appdir", *common, "-o=from-appdir").status == 0
    assert run("mkcpio", "appdir", "archive", "--modes=canonical").status == 0
    assert run("package-sgx", "--rootfs=archive", *common, "-o=from-archive").status == 0
    assert (project / "from-appdir").read_bytes() == (project / "from-archive").read_bytes()


def test_place_umask_and_order_of_creation_do_not_change_a_package(run: Run, project: Path) -> None:
    packages = []
    for number, umask in enumerate((0o022, 0o077)):
        before = os.umask(umask)
        try:
            copy = project / f"copy-{number}"
            (copy / "bin").mkdir(parents=True)
            for name in sorted(["motd", "bin/hello"], reverse=bool(number)):
                (copy / name).write_bytes((project / "appdir" / name).read_bytes())
            (copy / "bin" / "hello").chmod(0o777 & ~umask)
            result = run("package-sgx", copy, "key.pem", "config.json", "--runtime=runtime", f"-o=p{number}")
            assert result.status == 0, result.err
        finally:
            os.umask(before)
        packages.append((project / f"p{number}").read_bytes())
        assert mode(project / f"p{number}") == 0o755 & ~umask
    assert packages[0] == packages[1]


@pytest.mark.parametrize(("umask", "program", "file"), [(0o022, 0o755, 0o644), (0o077, 0o700, 0o600)])
def test_outputs_have_the_permissions_that_the_umask_lets_them(
    run: Run, project: Path, umask: int, program: int, file: int
) -> None:
    before = os.umask(umask)
    try:
        run("package-sgx", "appdir", "key.pem", "config.json", "--runtime=runtime", "-o=package")
        run("mkcpio", "appdir", "archive")
        run("sign-sgx", "archive", "key.pem", "config.json", "--runtime=runtime", "-d=signed")
    finally:
        os.umask(before)
    assert mode(project / "package") == mode(project / "signed" / "bin" / "myst") == program
    for made in ("archive", "signed/rootfs", "signed/lib/openenclave/mystenc.so"):
        assert mode(project / made) == file


def test_an_error_names_the_directory_that_was_given_not_its_copy(run: Run, project: Path) -> None:
    configure(project, ApplicationPath="/usr/bin/hello")
    result = run("package-sgx", "appdir", "key.pem", "config.json", "--runtime=runtime", "-o=package")
    assert "ApplicationPath: /usr/bin/hello is not in appdir; did you mean /bin/hello?" in result.err
    configure(project)
    (project / "appdir" / "etc").mkdir()
    (project / "appdir" / "etc" / "k.pem").write_bytes((project / "key.pem").read_bytes())
    result = run("package-sgx", "appdir", "key.pem", "config.json", "--runtime=runtime", "-o=package")
    assert "error: appdir: holds the key that signs, at /etc/k.pem" in result.err


def test_warnings_go_to_standard_error_and_the_package_is_made(run: Run, project: Path) -> None:
    configure(project, version=None, EnvironmentVariables="A=1")
    os.mkfifo(project / "appdir" / "fifo")
    (project / "appdir" / ("n" * 254)).touch()
    result = run("package-sgx", "appdir", "key.pem", "config.json", "--runtime=runtime")
    assert result.status == 0
    lines = result.err.splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("mystikos-tool: warning: config.json:1:1: there is no version")
    assert "EnvironmentVariables: an installed Mystikos crashes on a string" in lines[1]
    assert lines[2].startswith("mystikos-tool: warning: appdir/fifo: is left out")
    assert (
        "nnn: its path in the root has 254 bytes, and an installed Mystikos cuts its last byte off"
        in lines[3]
    )


def test_a_canonical_configuration_is_the_one_in_the_package(run: Run, project: Path) -> None:
    configure(project, ApplicationParameters="one")
    assert run("package-sgx", "appdir", "key.pem", "config.json", "--runtime=runtime", "-o=x").status == 0
    stored = sections.read(project / "x").content(sections.CONFIG).read()
    assert json.loads(stored)["ApplicationParameters"] == ["one"]
    assert run("verify", "x").status == 0


def test_the_date_is_that_of_source_date_epoch(
    run: Run, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86399")
    assert run("package-sgx", "appdir", "key.pem", "config.json", "--runtime=runtime", "-o=x").status == 0
    assert json.loads(run("dump-sgx", "x", "--json").out)["date"] == "19700101"


# sign-sgx


def test_a_signed_directory_has_the_parts_of_the_package(run: Run, project: Path) -> None:
    common = ["key.pem", "config.json", "--runtime=runtime", f"--pubkey={DATA}/keys/key-b.pub.pem"]
    assert run("mkcpio", "appdir", "archive").status == 0
    result = run("sign-sgx", "archive", *common)
    assert result.status == 0, result.err
    assert result.out.startswith("created hello.signed: MRENCLAVE ")
    assert run("package-sgx", "--rootfs=archive", *common, "-o=package").status == 0
    parts = sections.read(project / "package")
    signed = project / "hello.signed"
    places = {
        "lib/openenclave/mystenc.so": sections.ENCLAVE,
        "lib/libmystkernel.so": sections.KERNEL,
        "lib/libmystcrt.so": sections.CRT,
        "rootfs": sections.ROOTFS,
        "pubkeys": sections.PUBKEYS,
        "roothashes": sections.ROOTHASHES,
        "config.json": sections.CONFIG,
    }
    for name, section in places.items():
        assert (signed / name).read_bytes() == parts.content(section).read(), name
    assert (signed / "bin" / "myst").read_bytes() == (project / "runtime" / "bin" / "myst").read_bytes()
    assert mode(signed / "bin" / "myst") == 0o755
    assert sum(path.is_file() for path in signed.rglob("*")) == len(places) + 1


@pytest.mark.parametrize(
    ("options", "directory"), [([], "hello.signed"), (["--outdir=out"], "out"), (["-d=out"], "out")]
)
def test_a_signed_directory_is_made_again_and_what_else_is_there_stays_and_is_named(
    run: Run, project: Path, options: list[str], directory: str
) -> None:
    assert run("mkcpio", "appdir", "archive").status == 0
    sign = ["sign-sgx", "archive", "key.pem", "config.json", "--runtime=runtime", *options]
    assert run(*sign).err == ""
    assert run(*sign).err == ""
    (project / directory / "lib" / "mine").write_bytes(b"mine")
    (project / directory / "empty").mkdir()
    again = run(*sign)
    assert again.status == 0
    assert again.err == (
        f"mystikos-tool: warning: {directory}/lib/mine: is no part of the signed directory and stays;"
        " remove it if it is not wanted\n"
    )
    assert (project / directory / "lib" / "mine").read_bytes() == b"mine"


@pytest.mark.parametrize("root", ["mkcpio", "mkext2"])
def test_a_signed_directory_is_signed_again_in_place(run: Run, project: Path, root: str) -> None:
    run(root, "appdir", "root")
    options = ["--runtime=runtime", f"--pubkey={DATA}/keys/key-b.pub.pem", "-d=signed"]
    assert run("sign-sgx", "root", "key.pem", "config.json", *options).status == 0
    before = {path: path.read_bytes() for path in (project / "signed").rglob("*") if path.is_file()}
    again = ["sign-sgx", "signed/rootfs", "key.pem", "signed/config.json", *options]
    assert run(*again).status == 0
    assert {path: path.read_bytes() for path in before} == before
    assert "signed/config.json: is one of the inputs" in run(*again, "--set=SecurityVersion=3").err
    assert {path: path.read_bytes() for path in before} == before


def test_an_ext2_disk_is_signed_as_a_root_that_is_no_archive(run: Run, project: Path) -> None:
    run("mkext2", "appdir", "disk")
    common = ["key.pem", "config.json", "--runtime=runtime", "--roothash=disk"]
    signed = run("sign-sgx", "disk", *common)
    packaged = [run("package-sgx", *common, *given) for given in ([], ["--rootfs=disk"])]
    assert {made.status for made in (signed, *packaged)} == {0}
    assert len({made.out.split()[-1] for made in (signed, *packaged)}) == 1
    assert (project / "hello.signed" / "rootfs").read_bytes() == (project / "disk").read_bytes()


# mkcpio and excpio


def test_what_is_packed_is_unpacked_again(run: Run, project: Path) -> None:
    (project / "appdir" / "link").symlink_to("bin/hello")
    (project / "appdir" / "motd").chmod(0o640)
    result = run("mkcpio", "appdir", "archive")
    assert (result.status, result.out) == (0, "created archive: 2 files, 19 bytes\n")
    result = run("excpio", "archive", "out")
    assert (result.status, result.out) == (0, "created out: 4 members of archive\n")
    assert (project / "out" / "motd").read_bytes() == b"hello\n"
    assert mode(project / "out" / "motd") == 0o640
    assert (project / "out" / "link").readlink() == Path("bin/hello")


def test_an_archive_is_unpacked_into_a_directory_that_is_there_and_empty(run: Run, project: Path) -> None:
    assert run("mkcpio", "appdir", "archive").status == 0
    (project / "out").mkdir()
    assert run("excpio", "archive", "out").status == 0
    assert (project / "out" / "motd").read_bytes() == b"hello\n"
    again = run("excpio", "archive", "out")
    assert again.status == 2
    assert "out: is not empty" in again.err


# dump-sgx and verify


@pytest.fixture
def hello(run: Run, project: Path) -> Path:
    configure(project, ProductID=7, SecurityVersion=9)
    assert run("package-sgx", "appdir", "key.pem", "config.json", "--runtime=runtime", "-o=hello").status == 0
    return project / "hello"


def test_a_dump_for_programs_is_one_json_object(run: Run, hello: Path) -> None:
    dump = json.loads(run("dump-sgx", "--json", hello).out)
    assert (dump["product_id"], dump["security_version"], dump["debug"]) == (7, 9, True)
    assert dump["date"] == "20260102"
    assert dump["config"] == Path("config.json").read_text()
    modulus = bytes.fromhex(dump["modulus"])
    assert dump["mrsigner"] == hashlib.sha256(modulus).hexdigest()
    assert list(dump["sections"]) == list(sections.SECTIONS)
    digest = hashlib.sha256(Path("runtime/lib/libmystcrt.so").read_bytes()).hexdigest()
    assert dump["sections"][".libmystcrt"]["sha256"] == digest


def test_a_dump_for_people_has_the_reference_s_lines(run: Run, hello: Path) -> None:
    out = run("dump-sgx", hello).out
    dump = json.loads(run("dump-sgx", "--json", hello).out)
    lines = out.splitlines()
    assert lines[:3] == ["product_id=7", "security_version=9", "debug=1"]
    for name in ("mrenclave", "mrsigner", "signature"):
        assert f"{name}={dump[name]}" in lines
    assert out.endswith("Package configuration:\n" + Path("config.json").read_text())


def test_a_sound_package_is_verified(run: Run, hello: Path) -> None:
    dump = json.loads(run("dump-sgx", "--json", hello).out)
    result = run("verify", hello)
    assert (result.status, result.err) == (0, "")
    assert result.out.startswith(
        f"{hello}: verified\nMRENCLAVE {dump['mrenclave']}\nMRSIGNER {dump['mrsigner']}\n"
        "product 7, security version 9, debug on\nproved: "
    )
    assert "not proved: what the host program does" in result.out


def test_what_is_expected_of_a_package_decides_the_exit_status(run: Run, hello: Path) -> None:
    expected = ["--signer=key.pem", "--product=7", "--min-svn=9", "--loader=runtime/bin/myst"]
    result = run("verify", hello, *expected)
    assert (result.status, result.err) == (0, "")
    assert "proved: the host program is the given loader" in result.out
    for wrong in ("--signer=" + "0" * 64, "--mrenclave=" + "0" * 64, "--mrsigner=" + "0" * 64):
        assert run("verify", hello, wrong).status == 1
    for wrong in ("--product=8", "--min-svn=10", "--no-debug", "--loader=runtime/lib/libmystcrt.so"):
        assert run("verify", hello, wrong).status == 1
    for unreadable in ("--signer=missing.pem", "--mrenclave=12", "--loader=missing"):
        assert run("verify", hello, unreadable).status == 2
    assert run("verify", "config.json").status == 2


def test_verify_tells_programs_in_json_that_follows_the_printed_schema(run: Run, hello: Path) -> None:
    schema = json.loads(run("schema", "verification").out)
    for arguments, status in (([], 0), (["--no-debug"], 1)):
        result = run("verify", hello, "--format=json", *arguments)
        assert result.status == status
        document = json.loads(result.out)
        jsonschema.validate(document, schema)
        assert document["verified"] == (status == 0)


@pytest.mark.parametrize("section", sections.SECTIONS)
def test_a_package_with_a_changed_section_is_not_sound(run: Run, project: Path, section: str) -> None:
    trusted = [f"--pubkey={DATA}/keys/key-b.pub.pem", f"--roothash={DATA}/keys/disk1.roothash"]
    common = ["appdir", "key.pem", "config.json", "--runtime=runtime"]
    assert run("package-sgx", *common, *trusted, "-o=hello").status == 0
    data = bytearray((project / "hello").read_bytes())
    data[sections.read(project / "hello").sections[section].offset + 24] ^= 1  # of an image, its entry point
    (project / "hello").write_bytes(data)
    result = run("verify", "hello")
    assert result.status in (1, 2)  # 2 where it cannot be read any more
    assert result.err.startswith("mystikos-tool: error: hello")


def test_a_package_with_a_changed_signature_is_not_sound(run: Run, hello: Path) -> None:
    signature = bytes.fromhex(json.loads(run("dump-sgx", "--json", hello).out)["signature"])
    data = bytearray(hello.read_bytes())
    data[data.index(signature)] ^= 1
    hello.write_bytes(data)
    result = run("verify", hello)
    assert result.status == 1
    assert "SIGSTRUCT: " in result.err


def test_a_configuration_is_shown_without_its_control_characters(run: Run, project: Path) -> None:
    steered = '{"version": "0.1", "Debug": true, "ApplicationPath": "/bin/hello"} // \x1b[2J\x9b'
    (project / "config.json").write_text(steered)
    assert run("package-sgx", "appdir", "key.pem", "config.json", "--runtime=runtime", "-o=x").status == 0
    out = run("dump-sgx", "x").out
    assert "// \\x1b[2J\\x9b" in out
    assert "\x1b" not in out


def test_a_key_that_others_may_read_is_warned_of(run: Run, project: Path) -> None:
    arguments = ["package-sgx", "appdir", "key.pem", "config.json", "--runtime=runtime", "-o=x"]
    assert run(*arguments).err == ""
    (project / "key.pem").chmod(0o640)
    result = run(*arguments)
    assert result.status == 0
    assert "warning: key.pem: others may read or change this key (mode 0640); chmod go= key.pem" in result.err


# keygen


def test_a_made_key_signs_a_package(run: Run, project: Path) -> None:
    made = run("keygen", "new.pem")
    assert made.status == 0
    assert mode(project / "new.pem") == 0o600
    assert run("package-sgx", "appdir", "new.pem", "config.json", "--runtime=runtime", "-o=x").status == 0
    mrsigner = json.loads(run("dump-sgx", "--json", "x").out)["mrsigner"]
    assert made.out == f"created new.pem: RSA-3072, exponent 3, MRSIGNER {mrsigner}\n"


# Help


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(run: Run, verb: str) -> None:
    result = run(verb, "--help")
    assert result.status == 0
    assert f"example:\n  mystikos-tool {verb} " in result.out


def test_the_overview_names_every_verb_with_its_other_names(run: Run) -> None:
    result = run("--help")
    assert result.status == 0
    for verb in VERBS.values():
        assert f"  {', '.join((verb.name, *verb.aliases))} " in result.out


def test_verbs_have_the_short_names_of_the_reference(run: Run) -> None:
    short = {"package": "package-sgx", "sign": "sign-sgx", "dump": "dump-sgx"}
    for name, verb in short.items():
        assert NAMES[name].name == verb
        assert run(name, "--help").out == run(verb, "--help").out
        assert f"Other names: {name}." in run(verb, "--help").out


def test_the_version_is_shown(run: Run) -> None:
    assert run("--version").out.startswith("mystikos-tool ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: VERB"),
        (["pakage-sgx"], "invalid choice: 'pakage-sgx'"),
        (["package-sgx", "key"], "required: config"),
        (["verify"], "required: package"),
        (["mkcpio", "a", "b", "c"], "unrecognized arguments: c"),
        (["verify", "--jsn", "x"], "unrecognized arguments: --jsn"),
    ],
)
def test_a_wrong_command_line_is_told_with_the_usage(run: Run, arguments: list[str], message: str) -> None:
    result = run(*arguments)
    assert result.status == 2
    assert message in result.err
    assert result.err.startswith("usage: mystikos-tool ")
