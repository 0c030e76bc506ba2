"""Keys of every kind in a build: what a change of them makes run again, and what is kept of them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import rsa_keys
from cryptography.hazmat.primitives import serialization
from scons_project import DATA, PACKAGE, SIGN, Project
from soft_token import PIN, SoftToken, needs_token

from mystikos_tool.packaging import inspection
from mystikos_tool.signing import named_key, pem

KEYS = DATA / "keys"
PASSPHRASE = "corr3ct horse"
OPENSSL = "openssl pkeyutl -sign -inkey {key} -pkeyopt digest:sha256"

needs_openssl = pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")


def package(key: str) -> str:
    return f'env.MystPackage("hello", "appdir", MYST_KEY={key!r})\n'


def mrsigner(project: Path | Project) -> str:
    path = project.path("hello") if isinstance(project, Project) else project
    return inspection.inspect(path).identity.mrsigner.hex()


@pytest.fixture
def token(tmp_path: Path) -> SoftToken:
    made = SoftToken(tmp_path / "token").make()
    made.add(KEYS / "key-a.pem")
    made.add(KEYS / "key-b.pem", label="next", identifier="b1")
    return made


@needs_token
def test_a_key_rotation_in_a_token_signs_anew_and_measures_nothing(built: Project, token: SoftToken) -> None:
    by_file = built.path("hello").read_bytes()
    built.sconstruct(package(token.uri()))
    built.build(environment=token.environment)
    assert built.path("hello").read_bytes() == by_file
    assert built.build(environment=token.environment).stages == set()

    built.sconstruct(package(token.uri(object="next")))
    rotated = built.build(environment=token.environment)
    assert rotated.stages == {SIGN, PACKAGE}
    assert mrsigner(built) == pem.load(KEYS / "key-b.pem").identity


@needs_token
def test_another_key_under_the_same_name_in_a_token_signs_anew(
    built: Project, token: SoftToken, tmp_path: Path
) -> None:
    built.sconstruct(package(token.uri()))
    built.build(environment=token.environment)
    other = SoftToken(tmp_path / "other").make()
    other.add(KEYS / "key-b.pem")
    assert built.build(environment=other.environment).stages == {SIGN, PACKAGE}
    assert mrsigner(built) == pem.load(KEYS / "key-b.pem").identity


@needs_token
def test_a_public_key_that_is_named_lets_a_build_with_nothing_to_do_go_without_the_token(
    built: Project, token: SoftToken
) -> None:
    shutil.copy(KEYS / "key-a.pub.pem", built.path("public.pem"))
    built.sconstruct(package(token.uri(more="&public-key=public.pem")))
    built.build(environment=token.environment)
    assert built.build(environment={"SOFTHSM2_CONF": "/nowhere"}).stages == set()


@needs_token
def test_a_token_that_is_not_there_fails_the_build_and_keeps_the_earlier_package(
    built: Project, token: SoftToken
) -> None:
    before = built.path("hello").read_bytes()
    built.sconstruct(package(token.uri(token="elsewhere", object="signer")))
    failed = built.fails(environment=token.environment)
    assert "hello.mystenc.so" in failed.text
    assert "there is no such token" in failed.text
    assert built.path("hello").read_bytes() == before


@needs_token
def test_nothing_of_a_pin_is_kept_or_said(project: Project, token: SoftToken) -> None:
    project.sconstruct(package(token.uri()))
    builds = [project.build(*options, environment=token.environment) for options in ((), ("--tree=all",))]
    assert PIN not in "".join(build.text for build in builds)
    for path in project.directory.rglob("*"):
        assert not path.is_file() or PIN.encode() not in path.read_bytes(), path


@needs_openssl
def test_a_command_signs_and_its_public_key_decides_what_runs_again(built: Project) -> None:
    by_file = built.path("hello").read_bytes()
    shutil.copy(KEYS / "key-a.pub.pem", built.path("public.pem"))
    built.sconstruct(package("exec:public-key=public.pem " + OPENSSL.format(key="key.pem")))
    said = built.build()
    assert "signed with exec:openssl → hello.mystenc.so" in said.out
    assert built.path("hello").read_bytes() == by_file

    # Another way to the same key is no reason to sign.
    built.sconstruct(package("exec:public-key=public.pem timeout=9 " + OPENSSL.format(key="./key.pem")))
    assert built.build().stages == set()

    shutil.copy(KEYS / "key-b.pem", built.path("key.pem"))
    shutil.copy(KEYS / "key-b.pub.pem", built.path("public.pem"))
    assert built.build().stages == {SIGN, PACKAGE}
    assert mrsigner(built) == pem.load(KEYS / "key-b.pem").identity


def test_nothing_of_a_passphrase_is_kept_or_said(project: Project) -> None:
    key = rsa_keys.read(project.path("key.pem").read_bytes())
    encryption = serialization.BestAvailableEncryption(PASSPHRASE.encode())
    forms = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    project.write("key.pem", key.private_bytes(*forms, encryption))
    project.sconstruct(package("file:key.pem?passphrase=env:KEY_PASSPHRASE"))
    said = project.build(environment={"KEY_PASSPHRASE": PASSPHRASE})
    assert mrsigner(project) == pem.load(KEYS / "key-a.pem").identity
    assert PASSPHRASE not in said.text
    for path in project.directory.rglob("*"):
        assert not path.is_file() or PASSPHRASE.encode() not in path.read_bytes(), path
    assert project.build().stages == set()  # nothing to sign, and no passphrase needed


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        ("pkcs11:object=a;pin-value=s3cret?module-path=/m.so", "MYST_KEY: pkcs11:…: has the PIN in it"),
        ("exec:sign s3cret", "MYST_KEY: exec:sign: does not say which key it signs with"),
        ("vault:s3cret", "MYST_KEY: vault:…: names a key by a scheme that is not known"),
    ],
)
def test_a_key_that_is_named_wrongly_is_told_in_one_line(project: Project, key: str, problem: str) -> None:
    project.sconstruct(package(key))
    said = project.fails()
    assert problem in said.text
    # SCons shows the line of the SConstruct, which is the user's own text.
    assert not any("s3cret" in line for line in said.text.splitlines() if "MYST_KEY: " in line)


def test_a_key_that_others_may_read_is_one_warning(project: Project) -> None:
    project.path("key.pem").chmod(0o644)
    project.sconstruct("env.MystPackage('hello', 'appdir')\nenv.MystPackage('other', ['appdir'])\n")
    told = "key.pem: others may read or change this key (mode 0644); chmod go= key.pem"
    assert project.build("-j2").err.count(told) == 1
    assert project.build().err == ""
    project.sconstruct(package("file:key.pem"))
    project.path("hello.mystenc.so").unlink()
    assert project.build().err == f"mystikos: warning: {told} (MystPackage at SConstruct:3)\n"
    project.path("key.pem").chmod(0o600)
    project.path("hello.mystenc.so").unlink()
    assert project.build().err == ""


def test_what_is_no_file_is_not_told_to_be_a_key_that_others_may_read(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir(mode=0o777)
    assert [named_key.exposed(path) for path in (tmp_path / "directory", Path(os.devnull))] == [None, None]


NAMES_OF_A_KEY = ("key.pem", "file:key.pem", "C:key.pem", "my:key.pem", "file:keys/my:key.pem")


@pytest.mark.parametrize("where", ["in the repository", "here"])
def test_a_key_is_found_whatever_its_name_and_in_a_repository_too(
    project: Project, tmp_path: Path, where: str
) -> None:
    here = Project(tmp_path / "here")
    here.path("").mkdir()
    key = project.path("key.pem").read_bytes()
    project.path("key.pem").unlink()
    for name in NAMES_OF_A_KEY:
        (here if where == "here" else project).write(name.removeprefix("file:"), key, 0o600)
    project.sconstruct(
        "measured = env.MystMeasure('hello', 'appdir')\n"
        f"for number, name in enumerate({NAMES_OF_A_KEY}):\n"
        "    env.MystSign(f'{number}', measured, MYST_KEY=name)\n"
    )
    build = here.build("-Y", str(project.directory))
    assert build.out.count("signed with ") == len(NAMES_OF_A_KEY)
    assert build.err == ""


@needs_openssl
def test_the_public_key_of_a_command_may_lie_in_a_repository(project: Project, tmp_path: Path) -> None:
    shutil.copy(KEYS / "key-a.pub.pem", project.path("public.pem"))
    key = project.path("key.pem")
    project.sconstruct(package("exec:public-key=public.pem " + OPENSSL.format(key=key)))
    here = Project(tmp_path / "here")
    here.path("").mkdir()
    here.build("-Y", str(project.directory))
    assert mrsigner(here) == pem.load(KEYS / "key-a.pem").identity


def test_a_key_whose_name_has_a_colon_may_be_made_by_the_build(project: Project) -> None:
    project.sconstruct(f"env.MystKey('my:key.pem')\n{package('my:key.pem')}")
    project.build()


# In two steps


STATED = """\
measurement = env.MystMeasure("hello", env.MystRootfs("hello", "appdir"))
digest = env.MystDigest("hello", measurement)
image = env.MystAttach("hello", [digest, "hello.sig", "public.pem"])
env.MystPackage("hello", image)
"""


@pytest.fixture
def stated(built: Project) -> Project:
    shutil.copy(KEYS / "key-a.pub.pem", built.path("public.pem"))
    built.sconstruct(STATED)
    return built


def sign(project: Project, key: str = "key-a.pem") -> None:
    digest = project.path("hello.digest").read_bytes()
    project.write("hello.sig", pem.load(KEYS / key).sign(digest))


def test_a_build_stops_at_the_digest_and_a_later_one_goes_on(stated: Project) -> None:
    by_file = stated.path("hello").read_bytes()
    said = stated.build("hello.digest")
    assert "stated what is to be signed, dated 2026-01-02 → hello.statement.json" in said.out
    assert len(stated.path("hello.digest").read_bytes()) == 32
    failed = stated.fails()
    assert "hello.sig: is named by MystAttach and is not there; sign the digest" in failed.text

    sign(stated)
    said = stated.build()
    assert said.stages == set()  # the image is the one that is packaged already
    assert "attached hello.sig → hello.mystenc.so" in said.out
    assert stated.path("hello").read_bytes() == by_file
    assert "is up to date" in stated.build().out


def test_a_statement_keeps_its_date_on_another_day_and_in_another_checkout(
    stated: Project, tmp_path: Path
) -> None:
    stated.build("hello.digest")
    sign(stated)
    for name in (".sconsign.dblite", ".sconsign.mystikos", "hello", "hello.mystenc.so"):
        stated.path(name).unlink(missing_ok=True)
    later = stated.copy(tmp_path / "later")
    later.build(environment={"SOURCE_DATE_EPOCH": None})
    assert inspection.inspect(later.path("hello")).date == "20260102"


def test_a_clean_keeps_the_statement_that_a_signature_may_belong_to(stated: Project) -> None:
    stated.build("hello.digest")
    stated.build("-c")
    assert stated.path("hello.statement.json").exists()
    assert not stated.path("hello.digest").exists()


def test_a_date_that_is_asked_for_is_stated(stated: Project) -> None:
    stated.build("hello.digest")
    said = stated.build("hello.digest", environment={"SOURCE_DATE_EPOCH": "1800000000"})
    assert "dated 2027-01-15" in said.out


def test_another_enclave_is_stated_anew_and_the_old_signature_does_not_fit(stated: Project) -> None:
    stated.build("hello.digest")
    sign(stated)
    stated.build()
    before = stated.path("hello").read_bytes()
    stated.write("appdir/etc/motd", "good night\n")
    failed = stated.fails()
    assert "hello.sig: is no signature over the statement of 2026-01-02 by the key" in failed.text
    assert stated.path("hello").read_bytes() == before
    sign(stated)
    stated.build()
    assert stated.path("hello").read_bytes() != before


def test_a_certificate_for_another_key_is_refused(stated: Project) -> None:
    stated.build("hello.digest")
    sign(stated, "key-b.pem")
    assert "is no signature over the statement" in stated.fails().text


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        ('env.MystAttach("x", [digest, "hello.sig"])', "MystAttach takes what MystDigest made, a signature"),
        ('env.MystAttach("x", ["a", "b", "c"])', "MystAttach takes what MystDigest made, a signature"),
        ('env.MystDigest("x", "appdir")', "is a directory; give a file"),
        ('env.MystDigest("x", "key.pem")', "MystDigest states what MystMeasure made"),
        ('env.MystDigest("x", measurement, MYST_KEY="key.pem")', "MYST_KEY has no effect"),
    ],
)
def test_what_a_call_does_not_take_is_told(stated: Project, call: str, problem: str) -> None:
    stated.sconstruct(STATED + call + "\n")
    assert problem in stated.fails().text


@needs_openssl
def test_openssl_signs_the_digest_of_a_build(stated: Project) -> None:
    stated.build("hello.digest")
    command = OPENSSL.format(key=KEYS / "key-a.pem").split()
    files = ["-in", "hello.digest", "-out", "hello.sig"]
    subprocess.run([*command, *files], cwd=stated.directory, check=True)
    stated.build()
    assert mrsigner(stated) == pem.load(KEYS / "key-a.pem").identity


TWO_APPS_AND_EVERY_OPENING = """\
from mystikos_tool.signing import pem
load = pem.load_rsa
def told(path, passphrase=None):
    print("opened", path)
    return load(path, passphrase)
pem.load_rsa = told
env.MystPackage("hello", "appdir")
env.MystPackage("second", "appdir")
"""


def test_a_key_file_is_opened_once_in_a_build_and_anew_in_the_next(project: Project) -> None:
    project.sconstruct(TWO_APPS_AND_EVERY_OPENING)
    commands = f"build\nshell cp {KEYS}/key-b.pem key.pem\nbuild\nexit\n"
    said = project.run("--interactive", stdin=commands)
    assert said.out.count("opened key.pem") == 2
    assert said.out.count("signed with key.pem") == 4
    for name in ("hello", "second"):
        assert mrsigner(project.path(name)) == pem.load(KEYS / "key-b.pem").identity


@needs_token
def test_a_token_is_asked_for_its_key_once_in_a_build_and_anew_in_the_next(
    built: Project, token: SoftToken, tmp_path: Path
) -> None:
    built.sconstruct(package(token.uri()) + 'env.MystPackage("second", "appdir", MYST_KEY=env["KEY"])\n')
    configuration = token.directory / "softhsm2.conf"
    other = SoftToken(tmp_path / "other").make()
    other.add(KEYS / "key-b.pem")
    head = (
        built.path("SConstruct")
        .read_text()
        .replace('MYST_RUNTIME="rt",', f'MYST_RUNTIME="rt", KEY={token.uri()!r},')
    )
    built.write("SConstruct", head)
    commands = f"build\nshell cp {other.directory}/softhsm2.conf {configuration}\nbuild\nexit\n"
    said = built.run("--interactive", environment=token.environment, stdin=commands)
    assert said.status == 0, said.text
    for name in ("hello", "second"):
        assert mrsigner(built.path(name)) == pem.load(KEYS / "key-b.pem").identity
    assert said.out.count("signed with pkcs11:") == 4
