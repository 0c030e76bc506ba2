"""Every example is built twice, and all that can be another thing is another thing: each target is the same.

The quick test does without the example of an interpreter and has the runtime as a wheel has it. The long
ones (``./sconsw long``) compile everything twice and go through the versions of Python and SCons.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from mystikos_tool.formats.sigstruct import SIGSTRUCT
from mystikos_tool.packaging.opened import OpenedPackage
from mystikos_tool.runtime import PREBUILT, embedded

CHECKOUT = Path(__file__).resolve().parents[2]
KEYS = CHECKOUT / "tests" / "data" / "keys"
DAY = "1767312000"  # 2026-01-02
PROGRAMS = ("appdir/bin/hello", "build/bin/phrasebook")
NOBODY = 65534
# The capabilities let the other user reach the interpreter and the cache of its compiler, wherever they lie.
CAPABILITIES = "+dac_read_search,+dac_override"
AS_NOBODY = (
    *("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"),
    *(f"--inh-caps={CAPABILITIES}", f"--ambient-caps={CAPABILITIES}"),
)

pytestmark = [
    pytest.mark.skipif(find_spec("ziglang") is None, reason="needs the ziglang package"),
    pytest.mark.skipif(not shutil.which("faketime"), reason="faketime is not installed"),
]


@dataclass(frozen=True)
class Circumstances:
    """Under what an example is built: ``under`` is a command in front of that of SCons.

    ``tool`` is the directory of a checkout. With ``backwards``, files are created in the opposite order.
    """

    directory: Path
    tool: Path = CHECKOUT
    python: Path = Path(sys.executable)
    umask: int = 0o022
    under: Sequence[str] = ()
    user: int | None = None
    options: Sequence[str] = ("-j1",)
    backwards: bool = False
    variables: Mapping[str, str] = field(default_factory=dict)

    def lay_out(self, source: Path, name: str) -> Path:
        """Make an example's files anew, with times of their own."""
        target = self.directory / name
        before = os.umask(self.umask)
        try:
            for path in sorted(source.rglob("*"), reverse=self.backwards):
                place = target / path.relative_to(source)
                place.parent.mkdir(parents=True, exist_ok=True)
                if path.is_symlink():
                    place.symlink_to(path.readlink())
                elif path.is_file():
                    shutil.copyfile(path, place)
                    if os.access(path, os.X_OK):
                        place.chmod(0o777 & ~self.umask)
        finally:
            os.umask(before)
        if self.user is not None:
            for path in [self.directory, target, *target.rglob("*")]:
                os.chown(path, self.user, self.user, follow_symlinks=False)
        return target

    def build(self, example: Path, **variables: str | None) -> Path:
        """Run scons in an example's directory; ``variables`` are of the environment, None takes one away."""
        given = {**os.environ, "SOURCE_DATE_EPOCH": DAY, **self.variables, **variables}
        site = f"--site-dir={self.tool / 'site_scons'}"
        done = subprocess.run(
            [*self.under, str(self.python), "-m", "SCons", "-Q", site, *self.options],
            cwd=example,
            env={name: value for name, value in given.items() if value is not None},
            umask=self.umask,
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return example


def targets(example: Path, sources: Path) -> dict[str, bytes]:
    """What a build made, but for its database and what is compiled, whose debug information names its place.

    Packages have programs without that.
    """
    programs = {example / program for program in PROGRAMS}
    made = {
        str(path.relative_to(example)): path.read_bytes()
        for path in example.rglob("*")
        if path.is_file()
        and not path.is_symlink()
        and not (path.suffix == ".o" or path in programs or path.name.startswith(".sconsign"))
    }
    return {name: content for name, content in made.items() if not (sources / name).exists()}


def assert_same(ours: Mapping[str, bytes], theirs: Mapping[str, bytes]) -> None:
    assert set(ours) == set(theirs)
    assert not [name for name in ours if ours[name] != theirs[name]]


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The examples with the keys that they would make, which no two builds make alike."""
    directory = tmp_path_factory.mktemp("examples")
    for name in ("disk", "hello", "python", "web"):
        shutil.copytree(
            CHECKOUT / "examples" / name,
            directory / name,
            symlinks=True,
            ignore=shutil.ignore_patterns("bin", ".sconsign*", "build"),
        )
        shutil.copy(KEYS / "key-a.pem", directory / name / "private.pem")
    generator = CHECKOUT / "examples" / "monorepo" / "generate.py"
    subprocess.run([sys.executable, generator, "2", directory / "monorepo", "--files=3"], check=True)
    (directory / "monorepo" / "keys").mkdir()
    for team in ("north", "south", "west"):
        shutil.copy(KEYS / "key-b.pem", directory / "monorepo" / "keys" / f"{team}.pem")
    return directory


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this project with a prebuilt runtime, as a wheel has it."""
    directory = tmp_path_factory.mktemp("installed")
    shutil.copytree(CHECKOUT / "site_scons", directory / "site_scons")
    tool = directory / "mystikos_tool"
    shutil.copytree(CHECKOUT / "mystikos_tool", tool, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(
        embedded().loader.parents[1], directory / PREBUILT.relative_to(CHECKOUT), dirs_exist_ok=True
    )
    return directory


@pytest.fixture
def memory() -> Iterator[Path]:
    """A directory in a tmpfs."""
    if not Path("/dev/shm").is_dir() or not os.access("/dev/shm", os.W_OK):
        pytest.skip("needs a tmpfs at /dev/shm")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        yield Path(directory)


def otherwise(one: Circumstances, directory: Path) -> Circumstances:
    """Everything but the tool is another thing."""
    is_root = os.geteuid() == 0 and shutil.which("setpriv")
    return replace(
        one,
        directory=directory / "another" / "and a longer place",
        umask=0o077,
        under=("faketime", "2031-05-06 07:08:09", *(AS_NOBODY if is_root else ())),
        user=NOBODY if is_root else None,
        options=("-j8", "--random"),
        backwards=True,
        variables={
            **one.variables,
            "LC_ALL": "C",
            "LANG": "tr_TR.UTF-8",
            "TZ": "Pacific/Kiritimati",
            "PYTHONHASHSEED": "7",
            "USER": "nobody",
        },
    )


def build_twice(one: Circumstances, other: Circumstances, sources: Path, names: Sequence[str]) -> None:
    for name in names:
        source = sources / name
        ours, theirs = (targets(each.build(each.lay_out(source, name)), source) for each in (one, other))
        assert_same(ours, theirs)
        assert any(target.endswith(".measurement.json") for target in ours)


@pytest.fixture(scope="session")
def hello(tmp_path_factory: pytest.TempPathFactory, sources: Path, installed: Path) -> Circumstances:
    """The first example, built."""
    one = Circumstances(
        tmp_path_factory.mktemp("one"), installed, variables={"LC_ALL": "C.UTF-8", "TZ": "UTC"}
    )
    one.build(one.lay_out(sources / "hello", "hello"))
    return one


def test_place_user_umask_locale_time_jobs_order_and_file_system_change_no_byte_of_an_example(
    hello: Circumstances, memory: Path, sources: Path
) -> None:
    other = otherwise(hello, memory)
    theirs = other.build(other.lay_out(sources / "hello", "hello"))
    assert_same(targets(hello.directory / "hello", sources / "hello"), targets(theirs, sources / "hello"))
    build_twice(hello, other, sources, ["monorepo"])
    assert not (theirs / "build").exists()  # the runtime was there


def unsigned(package: Path) -> bytes:
    """A package without the date and what follows from it."""
    structure = OpenedPackage(package).sigstruct
    added = {name: bytes(SIGSTRUCT.fields[name].size) for name in ("signature", "q1", "q2")}
    return package.read_bytes().replace(structure, SIGSTRUCT.patch(structure, {"date": 0, **added}))


def test_another_day_is_in_the_signature_and_nowhere_else(
    hello: Circumstances, tmp_path: Path, sources: Path
) -> None:
    example = tmp_path / "hello"
    shutil.copytree(hello.directory / "hello", example, symlinks=True)
    ours, package = targets(example, sources / "hello"), example / "hello"
    dated = unsigned(package)
    for under, epoch, day in (((), "1900000000", 0x20300317), (("faketime", "2031-05-06"), None, 0x20310506)):
        replace(hello, under=under).build(example, SOURCE_DATE_EPOCH=epoch)
        assert SIGSTRUCT.get_int(OpenedPackage(package).sigstruct, "date") == day
        assert unsigned(package) == dated
        theirs = targets(example, sources / "hello")
        assert {name for name in ours if ours[name] != theirs[name]} == {"hello", "hello.mystenc.so"}


def check_another_compilation(one: Circumstances, other: Circumstances, sources: Path) -> None:
    """Everything is compiled in both, the runtime too; the example of an interpreter is among them."""
    for each, name in ((one, "one"), (other, "other")):
        cache = each.directory.parent / f"{name} cache"
        cache.mkdir(parents=True)
        cache.chmod(0o777)
        each.variables["ZIG_GLOBAL_CACHE_DIR"] = str(cache)  # type: ignore[index]
        each.variables["XDG_CACHE_HOME"] = str(cache / "of the user")  # type: ignore[index]
    build_twice(one, other, sources, ("disk", "hello", "monorepo", "python", "web"))
    assert (one.directory / "hello" / "build" / "mystikos-runtime" / "bin" / "myst").exists()


@pytest.mark.long
def test_every_example_is_the_same_where_all_of_it_is_compiled(
    tmp_path: Path, memory: Path, sources: Path
) -> None:
    one = Circumstances(tmp_path / "one", variables={"LC_ALL": "C.UTF-8", "TZ": "UTC"})
    check_another_compilation(one, otherwise(one, memory), sources)


def interpreters() -> list[Path]:
    """Every other Python from 3.10 on that pyenv or the distribution has."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found: dict[str, Path] = {}
    # By its library: every run of the tests looks, and starting them takes long.
    for library in (*pyenv.glob("versions/3.1?.*/lib/python3.1?"), *Path("/usr/lib").glob("python3.1?")):
        python = library.parents[1] / "bin" / library.name
        if (library / "ensurepip").is_dir() and python.exists():
            found.setdefault(library.name, python)
    found.pop("python{}.{}".format(*sys.version_info), None)
    return list(found.values())


VERSIONS = [
    (Path(sys.executable), "scons==4.5.1"),
    *((path, "scons") for path in interpreters()),
]


@pytest.mark.long
@pytest.mark.parametrize(("python", "scons"), VERSIONS, ids=lambda value: str(value))
def test_another_python_and_another_scons_make_the_same_bytes(
    hello: Circumstances, tmp_path: Path, sources: Path, python: Path, scons: str
) -> None:
    """Of the examples that have no Python in them."""
    environment = tmp_path / "environment"
    subprocess.run([python, "-m", "venv", environment], check=True)
    needed = ("cryptography", "jsonschema", "pyelftools", scons)
    subprocess.run([environment / "bin/python", "-m", "pip", "install", "--quiet", *needed], check=True)
    (compiler := tmp_path / "compiler").mkdir()
    found = find_spec("ziglang")
    assert found and found.origin
    (compiler / "ziglang").symlink_to(Path(found.origin).parent)
    other = replace(
        hello,
        directory=tmp_path / "other",
        python=environment / "bin/python",
        variables={**hello.variables, "PYTHONPATH": str(compiler)},
    )
    build_twice(replace(hello, directory=tmp_path / "one"), other, sources, ("hello", "monorepo"))
