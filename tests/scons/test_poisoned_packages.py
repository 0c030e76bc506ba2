"""Whoever may write to a cache changes no package, be it fetched without what leads to it or with that."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
from reapi_server import ReapiServer
from scons_project import ALL, CONFIG, DATA, MEASURE, PACKAGE, PACKAGE_HELLO, ROOTFS, SIGN, TARGETS, Project

from mystikos_tool.cache.remote import digest
from mystikos_tool.cache.remote.results import Output, Result, encode
from mystikos_tool.packaging import sections

NAME = "hello"
WARNING = "hello: what the cache gave is not what this build makes; it is made here"

# What is made before the cache is asked for the package, by what else the user's script says.
COPY = "NoCache(env.Command('copy', {!r}, Copy('$TARGET', '$SOURCE')))\n"
BEFORE = {
    "nothing": PACKAGE_HELLO,
    "the archive": PACKAGE_HELLO + COPY.format(TARGETS[ROOTFS]),
    "the image": PACKAGE_HELLO + COPY.format(TARGETS[SIGN]),
}


@pytest.fixture
def server() -> Iterator[ReapiServer]:
    server = ReapiServer().start()
    yield server
    server.stop()


def changed_elsewhere(project: Project, change: Callable[[Project], object]) -> bytes:
    """Return the package that another project, which is changed, makes."""
    other = project.copy(project.directory.with_name(f"other{len([*project.directory.parent.iterdir()])}"))
    change(other)
    other.build("--cache-disable")
    return other.path(NAME).read_bytes()


def older(project: Project) -> bytes:
    return changed_elsewhere(project, lambda other: other.write("appdir/etc/motd", "bad  day\n"))


def another_app_s(project: Project) -> bytes:
    def change(other: Project) -> None:
        other.write("appdir/bin/world", "#!/bin/world\n", 0o755)
        other.write("config.json", CONFIG.replace("hello", "world"))

    return changed_elsewhere(project, change)


def of_another_configuration(project: Project) -> bytes:
    return changed_elsewhere(project, lambda other: other.write("config.json", CONFIG.replace("1m", "2m")))


def that_may_not_be_debugged(project: Project) -> bytes:
    return changed_elsewhere(
        project, lambda other: other.write("config.json", CONFIG.replace("true", "false"))
    )


def of_an_earlier_security_version(project: Project) -> bytes:
    config = CONFIG.replace("}", ', "SecurityVersion": 7}')
    return changed_elsewhere(project, lambda other: other.write("config.json", config))


def signed_by_another(project: Project) -> bytes:
    return changed_elsewhere(
        project, lambda other: shutil.copy(DATA / "keys" / "key-b.pem", other.path("key.pem"))
    )


def signed_on_another_day(project: Project) -> bytes:
    other = project.copy(project.directory.with_name("another day"))
    other.build("--cache-disable", environment={"SOURCE_DATE_EPOCH": "1700000000"})
    return other.path(NAME).read_bytes()


def of_another_host_program(project: Project) -> bytes:
    def change(other: Project) -> None:
        path = other.path("rt/bin/myst")
        data = bytearray(path.read_bytes())
        data[-1] ^= 1  # lies in the section headers, which nothing loads
        path.write_bytes(data)

    return changed_elsewhere(project, change)


def of_a_trojan(project: Project) -> bytes:
    """The honest package with a host program in which code was changed."""
    data = bytearray(changed_elsewhere(project, lambda _: None))
    entry = int.from_bytes(data[24:32], "little") % 4096
    data[entry : entry + 2] = b"\xeb\xfe"
    return bytes(data)


def of_other_modes(project: Project) -> bytes:
    return changed_elsewhere(project, lambda other: other.path("appdir/etc/motd").chmod(0o755))


def with_the_signature_of_an_older_one(project: Project) -> bytes:
    """The honest package with the enclave image, signature and all, of another measurement."""
    ours, theirs = project.path("ours"), project.path("theirs")
    ours.write_bytes(changed_elsewhere(project, lambda _: None))
    theirs.write_bytes(older(project))
    sections.write_with_image(sections.read(ours), sections.read(theirs).content(sections.ENCLAVE), ours)
    data = ours.read_bytes()
    ours.unlink()
    theirs.unlink()
    return data


def with_a_changed_root(project: Project) -> bytes:
    """The honest package, signature and all, with one byte of its root changed."""
    return changed_elsewhere(project, lambda _: None).replace(b"good day", b"bad  day")


def cut_short(project: Project) -> bytes:
    return changed_elsewhere(project, lambda _: None)[:-64]


def followed_by_more(project: Project) -> bytes:
    return changed_elsewhere(project, lambda _: None) + bytes(64)


def followed_by_much_more(project: Project) -> bytes:
    return changed_elsewhere(project, lambda _: None) + bytes(100_000)


def no_package(project: Project) -> bytes:
    return b"#!/bin/sh\necho malice\n"


PACKAGES = (
    *(older, another_app_s, of_another_configuration, signed_by_another, signed_on_another_day),
    *(that_may_not_be_debugged, of_an_earlier_security_version, of_a_trojan, followed_by_much_more),
    *(of_another_host_program, of_other_modes, with_the_signature_of_an_older_one, with_a_changed_root),
    *(cut_short, followed_by_more, no_package),
)


class Poisoned(NamedTuple):
    """A server that has the honest package, whose action's key is ``key``."""

    server: ReapiServer
    key: str
    project: Project

    def answer(self, outputs: tuple[Output, ...], blobs: Mapping[str, bytes] | None = None) -> None:
        """Let the server answer with something else."""
        self.server.results[self.key] = encode(Result(outputs, 1.0))
        self.server.blobs.update(blobs or {})

    def check(self, told: str, stages: set[str] = ALL) -> None:
        """Build: nothing that the server says gets through, and the honest package is made."""
        honest = self.project.directory.with_name("honest")
        build = self.project.build()
        assert build.stages == stages
        assert told in build.text
        assert self.project.path(NAME).read_bytes() == honest.joinpath(NAME).read_bytes()
        assert self.project.path(NAME).stat().st_mode & 0o7777 == 0o755
        assert not self.project.path(NAME).is_symlink()
        assert not [name for name in self.project.names() if "part" in name]


@pytest.fixture
def poisoned(project: Project, server: ReapiServer) -> Poisoned:
    return poison(project, server, PACKAGE_HELLO)


def poison(project: Project, server: ReapiServer, body: str) -> Poisoned:
    project.sconstruct(f"env['MYST_REMOTE_CACHE'] = {server.url!r}\n" + body)
    project.copy(project.directory.with_name("honest")).build()
    (key,) = server.results
    return Poisoned(server, key, project)


def check_other_package(
    project: Project, server: ReapiServer, package: Callable[[Project], bytes], body: str
) -> None:
    poisoned = poison(project, server, body)
    data = package(project)
    named = digest.of(data)
    poisoned.answer((Output(NAME, named, 0o755),), {named.hash: data})
    poisoned.check(WARNING)


@pytest.mark.parametrize("package", [older, signed_by_another, with_the_signature_of_an_older_one])
def test_another_package_is_not_taken(
    project: Project, server: ReapiServer, package: Callable[[Project], bytes]
) -> None:
    check_other_package(project, server, package, PACKAGE_HELLO)


@pytest.mark.long
@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("before", BEFORE)
def test_another_package_is_not_taken_whatever_was_made_before(
    project: Project, server: ReapiServer, package: Callable[[Project], bytes], before: str
) -> None:
    check_other_package(project, server, package, BEFORE[before])


@pytest.mark.long
@pytest.mark.parametrize("package", PACKAGES)
def test_another_package_is_not_taken_from_a_directory(
    project: Project, package: Callable[[Project], bytes]
) -> None:
    project.sconstruct("CacheDir('../cache')\n" + PACKAGE_HELLO)
    honest = project.copy(project.directory.with_name("honest"))
    honest.build()
    (cached,) = project.path("../cache").glob("??/*")
    data = package(project)
    cached.write_bytes(data)
    build = project.build()
    assert build.stages == ALL and WARNING in build.err
    assert project.path(NAME).read_bytes() == honest.path(NAME).read_bytes()


@pytest.mark.parametrize("mode", [0o644, pytest.param(0o777, marks=pytest.mark.long)])
def test_permissions_are_not_the_server_s(poisoned: Poisoned, mode: int) -> None:
    (named,) = (digest.of(data) for data in poisoned.server.blobs.values() if data.startswith(b"\x7fELF"))
    poisoned.answer((Output(NAME, named, mode),))
    poisoned.check("Retrieved `hello' from cache", set())


WRONG = "1 wrong or incomplete"


def test_a_mode_with_set_user_id_is_no_result(poisoned: Poisoned) -> None:
    (named,) = (digest.of(data) for data in poisoned.server.blobs.values() if data.startswith(b"\x7fELF"))
    poisoned.answer((Output(NAME, named, 0o4755),))
    poisoned.check(WRONG)


RESULTS = {
    "none": (),
    "another": (Output("another", digest.EMPTY, 0o755),),
    "more": (Output(NAME, digest.EMPTY, 0o755), Output("key.pem", digest.EMPTY, 0o755)),
    "outside": (Output("../outside/hello", digest.EMPTY, 0o755),),
    "a link": (Output(NAME, target="key.pem"),),
    "no blob": (Output(NAME, digest.of(b"never stored"), 0o755),),
    "a wrong size": (Output(NAME, digest.Digest("ab" * 32, 1 << 62), 0o755),),
    "no digest": (Output(NAME, digest.Digest("../../etc/passwd", 1), 0o755),),
}


def test_another_action_result_is_none(poisoned: Poisoned) -> None:
    key = poisoned.project.path("key.pem").read_bytes()
    for outputs in RESULTS.values():
        poisoned.answer(outputs)
        poisoned.check("remote cache: 0 hits, 1 misses", ALL)
        assert poisoned.project.path("key.pem").read_bytes() == key
        poisoned.project.build("-c")


def test_garbage_is_no_action_result(poisoned: Poisoned) -> None:
    poisoned.server.results[poisoned.key] = b"\xff" * 1000
    poisoned.check(WRONG)


def test_other_bytes_under_a_digest_are_not_taken(poisoned: Poisoned) -> None:
    blobs = poisoned.server.blobs
    poisoned.server.blobs = {name: data[:-1] + b"x" for name, data in blobs.items()}
    poisoned.check(WRONG)


def test_a_size_that_is_another_s_is_not_taken(poisoned: Poisoned) -> None:
    (named,) = (digest.of(data) for data in poisoned.server.blobs.values() if data.startswith(b"\x7fELF"))
    poisoned.answer((Output(NAME, named._replace(size=named.size - 1), 0o755),))
    poisoned.check("")


def test_a_package_of_another_size_is_left_while_it_comes(poisoned: Poisoned) -> None:
    server, size = poisoned.server, 100_000_000
    named = digest.Digest("ab" * 32, size)
    poisoned.answer((Output(NAME, named, 0o755),), {named.hash: bytes(size)})
    server.faults["Read"] = lambda context, moved: server.ended.wait(0.01)
    poisoned.check(WARNING)
    assert server.moved["Read answered"] < size // 2


def test_nothing_is_signed_for_a_package_that_is_fetched(project: Project, server: ReapiServer) -> None:
    poison(project, server, PACKAGE_HELLO)
    calls = server.calls["GetActionResult"]
    build = project.build("-j2")
    assert "signed" not in build.out and build.stages & {SIGN, MEASURE, ROOTFS, PACKAGE} == set()
    assert server.calls["GetActionResult"] == calls + 1
    assert not Path(project.path(TARGETS[SIGN])).exists()
