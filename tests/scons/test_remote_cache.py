"""A cache on a server gives back what any checkout made of the same; a build is right whatever it does."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import grpc
import pytest
from cached_project import UPPER, check_built, checkout
from reapi_server import ReapiServer
from remote_servers import casd, needs_casd, needs_nginx, nginx
from scons_project import A_NEW_PYTHON, ALL, PACKAGE_HELLO, SITE_TOOLS, Project

needs_gcc = pytest.mark.skipif(not shutil.which("gcc"), reason="needs gcc")


@pytest.fixture
def server() -> Iterator[ReapiServer]:
    server = ReapiServer().start()
    yield server
    server.stop()


def test_signatures_of_every_directory_are_written_at_the_end(server: ReapiServer, tmp_path: Path) -> None:
    project = checkout(tmp_path / "project", server.url, "SConsignFile(None)\n" + UPPER)
    project.build()
    assert project.path("out/.sconsign").exists()
    assert project.build().out.splitlines()[0] == "scons: `.' is up to date."


@pytest.mark.parametrize(
    "start", [pytest.param(casd, marks=needs_casd), pytest.param(nginx, marks=needs_nginx)]
)
def test_two_checkouts_at_different_paths_share_everything(start, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    with start(tmp_path / "server") as url:
        checkout(tmp_path / "one", url).build()
        other = checkout(tmp_path / "a" / "longer path" / "other", url)
        build = other.build("-j2")
    assert "tr a-z" not in build.out
    assert "Retrieved `first' from cache\nRetrieved `second' from cache\n" in build.out
    assert "remote cache: 2 hits, 0 misses, 0 stored" in build.out
    check_built(other)


@needs_gcc
@needs_casd
def test_object_files_and_versioned_libraries_are_shared(tmp_path: Path) -> None:
    body = """\
env.Tool("default")
env.Program("hello", ["hello.c", "part.c"])
env.SharedLibrary("part", "part.c", SHLIBVERSION="1.2.3")
"""
    with casd(tmp_path / "server") as url:
        for name in "one", "other":
            project = checkout(tmp_path / name, url, body)
            project.write("hello.c", "int part(void);\nint main(void) { return part(); }\n")
            project.write("part.c", "int part(void) { return 0; }\n")
            build = project.build("-j2")
    assert "gcc" not in build.out
    assert "5 hits, 0 misses" in build.out
    assert project.path("libpart.so").readlink() == Path("libpart.so.1.2.3")
    assert project.build().out == "scons: `.' is up to date.\n"


def test_several_actions_are_fetched_at_once(server: ReapiServer, tmp_path: Path) -> None:
    body = "".join(
        f'env.Command("out{number}", "text", "for i in 1 2 3 4; do cat $SOURCE $SOURCE; done > $TARGET")\n'
        for number in range(3)
    )
    checkout(tmp_path / "one", server.url, body).build()
    together, met = threading.Barrier(3), []

    def meet(context: object, moved: int) -> None:
        with suppress(threading.BrokenBarrierError):
            together.wait(10)
            met.append(context)

    server.faults["GetActionResult"] = meet
    assert checkout(tmp_path / "two", f"{server.url}?patience=20", body).hits("-j3") == 3
    assert len(met) == 3


WATCHED = """\
import time
from pathlib import Path
from mystikos_tool.cache.digests import Digests
tree = Digests.tree
def watched(*arguments, **named):
    until = time.monotonic() + 10
    while not Path("../connected").exists() and time.monotonic() < until:
        time.sleep(0.01)
    print("connected:", Path("../connected").exists())
    return tree(*arguments, **named)
Digests.tree = watched
"""


def test_a_connection_is_opened_while_the_sources_of_a_package_are_read(
    server: ReapiServer, project: Project
) -> None:
    server.faults["GetCapabilities"] = lambda context, moved: project.path("../connected").touch()
    project.sconstruct(f"{WATCHED}env['MYST_REMOTE_CACHE'] = {server.url!r}\n" + PACKAGE_HELLO)
    build = project.build()
    assert "connected: True" in build.out and "connected: False" not in build.out
    assert server.calls["GetCapabilities"] == 1
    project.build()
    assert server.calls["GetCapabilities"] == 1


@pytest.mark.parametrize(
    "options", [["--cache-disable"], ["-c"], ["-q"], ["--help"], ["--tree=all", "other"]]
)
def test_a_build_that_asks_the_cache_nothing_opens_no_connection(
    options: list[str], server: ReapiServer, project: Project
) -> None:
    other = "NoCache(env.Command('other', [], 'touch other'))\n"
    project.sconstruct(f"env['MYST_REMOTE_CACHE'] = {server.url!r}\n{PACKAGE_HELLO}{other}")
    project.copy(project.directory.with_name("first")).build()
    assert "1 hits" in project.build("hello").out
    project.path("hello").unlink()
    calls = server.calls.copy()
    assert project.run(*options).status == (options == ["-q"])
    assert server.calls == calls


def test_a_build_with_nothing_to_do_opens_no_connection(server: ReapiServer, tmp_path: Path) -> None:
    body = UPPER + (
        "import atexit\n"
        "names = {'grpc', 'google.protobuf', 'zstandard', 'ssl'}\n"
        "atexit.register(lambda: print(sorted(names & {*sys.modules})))\n"
    )
    project = checkout(tmp_path / "one", server.url, body)
    assert "'grpc'" in project.build(environment=A_NEW_PYTHON).out
    before = server.calls.copy()
    assert project.build(environment=A_NEW_PYTHON).out == "scons: `.' is up to date.\n[]\n"
    assert server.calls == before


SHARED = """\
env.Tool("default")
env.VariantDir("variant", "source", duplicate={duplicate})
env.Program("variant/hello", ["variant/hello.c", "variant/part.c"], CCFLAGS=["-g"])
clone = env.Clone(CPPDEFINES=["CLONE"], OBJPREFIX="clone-")
clone.Program("variant/clone", ["variant/hello.c", "variant/part.c"])
"""


def sources(project: Project, below: str = "source") -> None:
    project.write(f"{below}/hello.c", "int part(void);\nint main(void) { return part(); }\n")
    project.write(f"{below}/part.c", "int part(void) { return 0; }\n")


@needs_gcc
@pytest.mark.parametrize("duplicate", [0, 1])
def test_variant_directories_and_clones_are_shared(
    duplicate: int, server: ReapiServer, tmp_path: Path
) -> None:
    projects = [tmp_path / "one", tmp_path / "another place" / "two"]
    for directory in projects:
        project = checkout(directory, server.url, SHARED.format(duplicate=duplicate))
        sources(project)
        build = project.build("-j8")
    assert "6 hits, 0 misses, 0 stored" in build.out and "gcc" not in build.out
    for name in ("hello", "clone"):
        first, second = (directory.joinpath("variant", name) for directory in projects)
        assert first.read_bytes() == second.read_bytes()
    assert project.build().out == "scons: `.' is up to date.\n"


@needs_gcc
def test_a_checkout_with_a_repository_shares_what_is_made_here(server: ReapiServer, tmp_path: Path) -> None:
    body = 'env.Tool("default")\nenv.Program("hello", ["hello.c", "part.c"])\n'
    whole = checkout(tmp_path / "whole", server.url, body)
    sources(whole, ".")
    assert "3 stored" in whole.build().out
    part = checkout(tmp_path / "part", server.url, f'Repository("{tmp_path / "repository"}")\n' + body)
    repository = Project(tmp_path / "repository", {})
    sources(repository, ".")
    build = part.build("-j8")
    assert "3 hits, 0 misses" in build.out and "gcc" not in build.out
    assert part.run("-q").status == 0
    assert part.path("hello").read_bytes() == whole.path("hello").read_bytes()


def test_a_target_whose_name_is_no_text_is_built(server: ReapiServer, tmp_path: Path) -> None:
    body = """\
def copy(target, source, env):
    open(target[0].abspath, "wb").write(b"copied")
env.Command("out/\\udcff", "text", Action(copy, cmdstr="copied"))
"""
    project = checkout(tmp_path / "one", server.url, UPPER + body)
    build = project.build("-j8")
    assert build.err == "" and "2 stored" in build.out
    assert (project.directory / "out" / "\udcff").read_bytes() == b"copied"


def test_cachedir_takes_a_url(server: ReapiServer, tmp_path: Path) -> None:
    body = f"""\
from mystikos_tool.scons.remote_cache import RemoteCache
env.CacheDir({server.url!r}, custom_class=RemoteCache)
"""
    checkout(tmp_path / "one", "", body + UPPER).build()
    other = checkout(tmp_path / "other", "", body + UPPER)
    assert other.hits() == 2
    check_built(other)


def test_an_environment_that_is_made_with_a_cache_uses_it_where_no_package_is_described(
    server: ReapiServer, tmp_path: Path
) -> None:
    body = (
        f"env = Environment(tools=['mystikos'], toolpath=[{str(SITE_TOOLS)!r}],"
        f" MYST_REMOTE_CACHE={server.url!r})\n"
    )
    checkout(tmp_path / "one", "", body + UPPER).build("out")
    assert server.results


def test_scons_options_for_caches_mean_what_they_mean(server: ReapiServer, tmp_path: Path) -> None:
    project = checkout(tmp_path / "one", server.url)
    project.build("--cache-readonly")
    assert not server.results
    project.build("-c")
    project.build("--cache-disable")
    assert not server.results
    assert "2 stored" in project.build("--cache-force").out
    project.build("-c")
    assert "Retrieved `out/upper'" in project.build("-n", "out/upper").out
    assert not project.path("out/upper").exists()
    shown = project.build("--cache-show").out
    assert "tr a-z A-Z < text" in shown and "Retrieved" not in shown and "2 hits" in shown
    project.build("-c")
    said = project.build("--cache-debug=-").out
    assert "CacheRetrieve(out/upper):  retrieving from cache" in said
    assert "hit rate: 100.00%" in said
    project.build("-c")
    assert project.build("-s").out == ""
    project.write("text", "another text\n")
    assert "CachePush(out/upper):  pushing to cache" in project.build("--cache-debug=-").out


def test_targets_are_not_fetched_where_one_of_them_may_not_be(server: ReapiServer, tmp_path: Path) -> None:
    body = UPPER + 'NoCache("second")\n'
    checkout(tmp_path / "one", server.url, body).build()
    other = checkout(tmp_path / "other", server.url, body)
    assert other.hits() == 1
    check_built(other)


@pytest.mark.parametrize("method", ["GetCapabilities", "GetActionResult", "BatchReadBlobs", "Read"])
def test_a_build_goes_on_when_the_server_dies(method: str, server: ReapiServer, tmp_path: Path) -> None:
    body = UPPER + 'env.Command("large", upper, "head -c 2000000 /dev/zero > $TARGET")\n'
    checkout(tmp_path / "one", server.url, body).build()
    server.faults[method] = server.dies(1_000_000 if method == "Read" else 0)
    other = checkout(tmp_path / "other", server.url, body)
    build = other.build("-j4")
    assert build.err.count("warning") == 1
    check_built(other)
    assert other.path("large").stat().st_size == 2_000_000
    assert other.build("MYST_REMOTE_CACHE=").out == "scons: `.' is up to date.\n"


@pytest.mark.parametrize("method", ["FindMissingBlobs", "BatchUpdateBlobs", "UpdateActionResult"])
def test_a_build_is_done_when_the_server_dies_of_what_it_stores(
    method: str, server: ReapiServer, tmp_path: Path
) -> None:
    server.faults[method] = server.dies()
    project = checkout(tmp_path / "one", server.url)
    assert project.build("-j4").err.count("warning") == 1
    check_built(project)


def test_a_poisoned_cache_changes_no_build(server: ReapiServer, tmp_path: Path) -> None:
    checkout(tmp_path / "one", server.url).build()
    server.blobs = dict.fromkeys(server.blobs, b"malice")
    other = checkout(tmp_path / "other", server.url)
    assert "2 wrong or incomplete" in other.build().out
    check_built(other)


def test_a_cache_in_an_older_state_changes_no_build(server: ReapiServer, tmp_path: Path) -> None:
    project = checkout(tmp_path / "one", server.url)
    project.build()
    older = dict(server.results)
    project.write("text", "something newer\n")
    project.build()
    server.results = older
    other = checkout(tmp_path / "other", server.url)
    other.write("text", "something newer\n")
    assert other.hits() == 0
    assert other.path("first").read_text() == "SOMETHING NEWER\n"


def test_what_leads_to_a_signature_is_neither_stored_nor_fetched(
    project: Project, server: ReapiServer, tmp_path: Path
) -> None:
    body = 'env.Command("appdir/upper", "config.json", "tr a-z A-Z < $SOURCE > $TARGET")\n'
    project.sconstruct(f"env['MYST_REMOTE_CACHE'] = {server.url!r}\n" + PACKAGE_HELLO + body)
    other = project.copy(tmp_path / "other")
    assert project.build().stages == ALL
    assert len(server.results) == 2
    build = other.build()
    assert "Retrieved `appdir/upper' from cache\nRetrieved `hello' from cache\n" in build.out
    assert build.stages == set()
    assert project.path("hello").read_bytes() == other.path("hello").read_bytes()


def test_a_cache_for_one_call_is_an_error(project: Project) -> None:
    project.sconstruct('env.MystPackage("hello", "appdir", MYST_REMOTE_CACHE="grpc://cache")\n')
    assert "MYST_REMOTE_CACHE is the environment's" in project.fails().err


def test_nothing_secret_gets_to_where_it_does_not_belong(server: ReapiServer, tmp_path: Path) -> None:
    server.token = "hunter2"
    tmp_path.joinpath("token").write_text("hunter2")
    project = checkout(tmp_path / "one", f"{server.url}?token-file={tmp_path / 'token'}")
    said = project.build("--debug=explain", "--cache-debug=-", "--tree=all").text
    assert "2 stored" in said
    server.token = "hunter3"
    project.write("text", "another text\n")
    said += project.build("--debug=explain", "--cache-debug=-", "--debug=stacktrace").text
    assert "credentials" in said
    kept = [path.read_bytes() for path in project.directory.rglob("*") if path.is_file()]
    assert "hunter2" not in said
    assert not any(b"hunter2" in data or str(server.port).encode() in data for data in kept)


def test_errors_of_the_server_are_not_the_build_s(server: ReapiServer, tmp_path: Path) -> None:
    server.faults["UpdateActionResult"] = server.answers(grpc.StatusCode.RESOURCE_EXHAUSTED)
    project = checkout(tmp_path / "one", server.url)
    build = project.build()
    assert build.err.count("warning") == 1 and "takes nothing more" in build.err
    assert "secret" not in build.text
    check_built(project)


def test_a_server_that_is_gone_costs_a_warning(tmp_path: Path) -> None:
    project = checkout(tmp_path / "one", "grpc://127.0.0.1:1/main")
    build = project.build("-j4")
    assert build.err == (
        "mystikos: warning: remote cache grpc://127.0.0.1:1/main: it cannot be reached; "
        "the build goes on without it\n"
    )
    check_built(project)


def test_a_library_that_is_missing_costs_a_warning(server: ReapiServer, tmp_path: Path) -> None:
    project = checkout(tmp_path / "one", server.url, "sys.modules['grpc'] = None\n" + UPPER)
    build = project.build(environment=A_NEW_PYTHON)
    assert "grpc is not installed (mystikos-tool[remote])" in build.err
    check_built(project)


@pytest.mark.parametrize("url", ["cache:8980", "grpc://user:hunter2@cache", "grpc://cache?mod=read"])
def test_a_url_that_is_none_is_an_error(url: str, tmp_path: Path) -> None:
    build = checkout(tmp_path / "one", url).fails()
    assert "the remote cache's URL" in build.err
    assert "hunter2" not in build.text
    assert 'SConstruct", line ' in build.text and "remote_cache.py" not in build.text
