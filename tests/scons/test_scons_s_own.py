"""What belongs to SCons and to the user's other targets stays as it is: database, classes, Deciders."""

from __future__ import annotations

import ast
import inspect
import os
import pickle
import subprocess
import sys
from pathlib import Path
from threading import Thread

import pytest
from scons_project import ALL, CHECKOUT, PACKAGE_HELLO, Project

from mystikos_tool.cache.store import Store
from mystikos_tool.scons.database import SharedStore

COPIED = "env.Command('copy', 'config.json', Copy('$TARGET', '$SOURCE'))\n"
WITHOUT_THE_TOOL = "env = Environment(tools=[])\n"


# What is loaded here already, or could be found, is nothing for an SConstruct without the tool.
NOT_INSTALLED = """\
import sys
ours = [name for name in sys.modules if name.partition(".")[0] == "mystikos_tool"]
sys.modules.update(dict.fromkeys(["mystikos_tool", *ours]))
"""


def test_the_database_is_kept_by_an_sconstruct_that_does_not_load_the_tool(project: Project) -> None:
    project.sconstruct(COPIED + PACKAGE_HELLO)
    project.build()
    project.write("SConstruct.other", NOT_INSTALLED + WITHOUT_THE_TOOL + COPIED)
    other = project.build("-f", "SConstruct.other")
    assert "corrupt" not in other.text
    assert other.out == "scons: `.' is up to date.\n"
    assert project.build().stages == set()


def test_what_nothing_has_to_be_built_for_costs_scons_no_task_of_its_own(built: Project) -> None:
    script = built.path("SConstruct").read_text()
    built.sconstruct("Progress(lambda node: print('task', node))\n" + script)
    told = built.build("hello").out.splitlines()
    tasks = {line.removeprefix("task ") for line in told if line.startswith("task")}
    assert {"hello", "hello.cpio", "hello.measurement.json", "hello.mystenc.so"} <= tasks
    assert not {"appdir", "config.json", "key.pem"} & tasks


def test_the_database_holds_classes_of_scons_alone(built: Project) -> None:
    assert b"mystikos_tool" not in built.path(".sconsign.dblite").read_bytes()
    with built.path(".sconsign.dblite").open("rb") as file:
        assert pickle.load(file)


def test_sconsign_shows_the_database(built: Project) -> None:
    code = (
        "import sys; sys.modules['mystikos_tool'] = None; from SCons.Utilities.sconsign import main; main()"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, ".sconsign.dblite"],
        cwd=built.directory,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert "Traceback" not in done.stderr
    assert "appdir: " in done.stdout


def test_the_user_s_other_targets_keep_their_decider_for_a_file_that_a_variable_names(
    project: Project,
) -> None:
    project.sconstruct(
        "env.Decider('timestamp-newer')\n" + COPIED + PACKAGE_HELLO + "print(type(File('config.json')))\n"
    )
    assert "<class 'SCons.Node.FS.File'>" in project.build().out
    for name, moment in (("copy", 2_000_000_000), ("config.json", 1_999_999_999)):
        os.utime(project.path(name), (moment, moment))
    project.write("config.json", project.path("config.json").read_text() + "\n")
    os.utime(project.path("config.json"), (1_999_999_999, 1_999_999_999))
    build = project.build()
    assert build.stages == ALL - {"rootfs"}
    assert "Copy(" not in build.out


@pytest.mark.parametrize("file", ["config.json", "key.pem", "hello.cpio"])
def test_a_built_file_is_followed_where_a_variable_or_a_source_names_it(built: Project, file: str) -> None:
    is_archive = file == "hello.cpio"
    source = "package.cpio" if is_archive else file
    filling = b"\0" if is_archive else b"\n"
    built.path(file).rename(built.path(f"{source}.in"))
    built.sconstruct(
        f"env.Command('{source}', '{source}.in', Copy('$TARGET', '$SOURCE'))\n"
        + f"env.MystPackage('package', {source if source.endswith('.cpio') else 'appdir'!r})\n"
    )
    build = built.build("package")
    assert build.out.index("Copy(") < build.out.index("packaged")
    assert built.build("package").stages == set()
    built.path(f"{source}.in").write_bytes(built.path(f"{source}.in").read_bytes() + filling * 512)
    build = built.build("package")
    assert "Copy(" in build.out
    assert built.build("package").stages == set()


def test_every_operation_of_the_store_holds_its_lock_in_any_thread() -> None:
    store = SharedStore(None)
    operations = {
        "table": lambda: store.table("files"),
        "change": lambda: store.change("files", b"name", (b"", b"")),
        "value": lambda: store.value("tree"),
        "keep": lambda: store.keep("tree", ()),
        "forget": lambda: store.forget("tree"),
        "save": store.save,
    }
    public = {name for name, _ in inspect.getmembers(Store, inspect.isfunction) if not name.startswith("_")}
    assert public == set(operations)
    for name, operation in operations.items():
        with store._lock:
            thread = Thread(target=operation)
            thread.start()
            thread.join(0.05)
            assert thread.is_alive(), f"{name} does not wait for the lock"
        thread.join()


def test_a_store_that_many_threads_fill_is_saved_whole_meanwhile(tmp_path: Path) -> None:
    store = SharedStore(tmp_path / "store")

    def fill(number: int) -> None:
        for key in range(200):
            store.change("files", (number, key), number)
            store.keep(f"{number} {key}", (number, key))
            if key % 50 == 0:
                store.save()

    threads = [Thread(target=fill, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store.save()
    read = Store(tmp_path / "store")
    assert len(read.table("files")) == 8 * 200
    assert all(read.value(f"{number} {key}") == (number, key) for number in range(8) for key in range(200))


def test_names_that_scons_does_not_promise_are_used_in_one_module() -> None:
    for path in (CHECKOUT / "mystikos_tool/scons").glob("*.py"):
        if path.name == "scons_internals.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Attribute):
                continue
            text = ast.unparse(node)
            assert not (text.startswith("SCons.") and "._" in text), f"{path.name}: {text}"
            assert not node.attr.startswith("_children"), f"{path.name}: {text}"
            assert not node.attr.startswith("myst_"), f"{path.name}: {text}"
