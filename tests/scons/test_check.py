"""MystTest: packages as tests, and the alias that runs all of them."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from scons_project import Project

SCRIPT = """#!/bin/sh
echo "arguments: $*"
echo "GREETING=$GREETING"
cat
echo "to stderr" >&2
exit "${STATUS:-0}"
"""


@pytest.fixture
def tested(project: Project) -> Project:
    """A project with something to test that is as quick as a script."""
    project.write("program", SCRIPT, 0o755)
    return project


def expect(tested: Project, *tests: str) -> None:
    tested.sconstruct("".join(f"env.MystTest({test})\n" for test in tests))


def test_arguments_environment_input_status_and_output_are_held_to_what_is_expected(tested: Project) -> None:
    expect(
        tested,
        '"all", "program", args=["red", "$x"], environment={"GREETING": "hi", "STATUS": "7"}, stdin="in\\n",'
        ' status=7, stdout="arguments: red $x\\nGREETING=hi\\nin\\n", stderr="to stderr\\n"',
    )
    assert "check: 1 passed (0 of them unchanged), 0 failed" in tested.build("check").out


@pytest.mark.parametrize("how", ['MystTest("one", "program")', 'MystRun("run", "program")'])
def test_a_program_that_another_process_has_open_for_a_moment_is_started(tested: Project, how: str) -> None:
    tested.sconstruct(
        "import os, time\n"
        "def hold(target, source, env):\n"
        "    if not os.fork():\n"
        "        time.sleep(0.2)\n"  # it has the file open, as what another thread starts has it
        "        os._exit(0)\n"
        "    file.close()\n"
        'file = open("program", "r+")\n'
        'held = env.Command("held", [], hold)\n'
        f"env.Depends(env.{how}, held)\n"
    )
    tested.build("check" if "Test" in how else "run")


def test_a_test_runs_again_only_when_package_or_expectation_changed(tested: Project) -> None:
    expect(tested, '"one", "program"', '"two", "program", args=["a"]')
    assert "(0 of them unchanged)" in tested.build("check").out
    assert "(2 of them unchanged)" in tested.build("check").out
    expect(tested, '"one", "program"', '"two", "program", args=["b"]')
    assert "(1 of them unchanged)" in tested.build("check").out
    tested.write("program", SCRIPT + "\n", 0o755)
    assert "(0 of them unchanged)" in tested.build("check").out


@pytest.mark.parametrize(
    ("expectation", "told"),
    [
        ("status=3", "one: ended with status 0, not 3"),
        ('stdout="something else"', "one: -something else"),
        ('stdout_pattern="^nothing"', "one: stdout has nothing like '^nothing'"),
        ('stderr=""', "one: +to stderr"),
    ],
)
def test_what_is_not_as_expected_is_shown(tested: Project, expectation: str, told: str) -> None:
    expect(tested, f'"one", "program", {expectation}')
    build = tested.run("check")
    assert build.status != 0
    assert told in build.err
    assert not tested.path("one.passed").exists()


def test_a_build_of_everything_runs_no_test(tested: Project) -> None:
    expect(tested, '"bad", "program", status=1', '"sub/bad", "program", status=1')
    for arguments in ((), (".",), ("sub",)):
        assert "test " not in tested.build(*arguments).text
    assert "2 failed" in tested.run("check").out


def test_a_clean_of_the_package_removes_what_its_tests_left(tested: Project) -> None:
    expect(tested, '"one", env.Command("copy", "program", Copy("$TARGET", "$SOURCE"))')
    tested.build("check")
    assert {"copy", "one.passed"} <= tested.names()
    tested.build("-c")
    assert not {"copy", "one.passed"} & tested.names()


def test_check_runs_all_tests_and_names_those_that_failed(tested: Project) -> None:
    expect(tested, '"bad", "program", status=1', '"good", "program"', '"worse", "program", status=2')
    build = tested.run("check")
    assert build.status != 0
    assert "check: 1 passed (0 of them unchanged), 2 failed\n  failed: bad\n  failed: worse\n" in build.out
    assert "check: 1 passed (1 of them unchanged), 2 failed" in tested.run("check").out


def test_a_test_that_fails_by_itself_fails_the_build(tested: Project) -> None:
    expect(tested, '"bad", "program", status=1')
    build = tested.run("bad.passed")
    assert build.status != 0
    assert "the test bad failed" in build.err


def test_a_program_that_does_not_end_is_stopped(tested: Project) -> None:
    tested.write("program", "#!/bin/sh\nexec sleep 100\n", 0o755)
    expect(tested, '"slow", "program", timeout=0.2')
    assert "slow: did not end within 0.2 s" in tested.run("check").err


def test_a_strict_test_lets_no_note_of_the_runtime_pass(tested: Project) -> None:
    note = "program: mystikos: note: uses inotify: under Mystikos no event ever comes"
    tested.write("program", f"#!/bin/sh\necho '{note}' >&2\n", 0o755)
    expect(tested, '"one", "program"', '"two", "program", strict=True')
    build = tested.run("check")
    assert f"two: strict: {note}" in build.err
    assert "check: 1 passed (0 of them unchanged), 1 failed\n  failed: two" in build.out


def test_a_misspelt_expectation_is_told(tested: Project) -> None:
    expect(tested, '"one", "program", stdot="x"')
    build = tested.run("check")
    assert build.status != 0
    assert "MystTest does not take stdot; did you mean stdout?" in build.err


FAILURES = """\
import atexit
atexit.register(lambda: [print("FAILED", one.node, one.errstr) for one in GetBuildFailures()])
"""


def test_tests_that_failed_are_among_the_failures_of_the_build(tested: Project) -> None:
    tested.sconstruct(
        FAILURES + 'env.MystTest("bad", "program", status=1)\nenv.MystTest("worse", "program", status=2)\n'
    )
    said = tested.run("check").out
    assert "FAILED bad.passed the test bad failed\nFAILED worse.passed the test worse failed\n" in said
    assert "FAILED check 2 failed\n" in said
    assert tested.run("bad.passed").out.count("FAILED") == 1


def test_an_alias_runs_the_tests_of_one_directory(tested: Project) -> None:
    expect(tested, '"top", "program", status=1', '"a/one", "program"', '"a/b/two", "program", status=1')
    assert (
        "a/b/check: 0 passed (0 of them unchanged), 1 failed\n  failed: a/b/two\n"
        in tested.run("a/b/check").out
    )
    build = tested.run("a/check")
    assert build.status == 2
    assert "a/check: 1 passed (0 of them unchanged), 1 failed\n  failed: a/b/two\n" in build.out
    assert "test top" not in build.text
    assert "check: 1 passed (1 of them unchanged), 2 failed" in tested.run("check").out


def test_the_alias_of_a_source_directory_runs_the_tests_of_its_variants(tested: Project) -> None:
    tested.write("src/SConscript", 'Import("env")\nenv.MystTest("one", "#program")\n')
    tested.sconstruct(
        'for variant in ("debug", "release"):\n'
        '    SConscript("src/SConscript", variant_dir=variant, duplicate=0, exports="env")\n'
    )
    assert "release/check: 1 passed (0 of them unchanged)" in tested.build("release/check").out
    assert "src/check: 2 passed (1 of them unchanged)" in tested.build("src/check").out


def test_an_alias_that_waits_for_check_runs_all_tests_too(tested: Project) -> None:
    tested.sconstruct(
        'env.MystTest("bad", "program", status=1)\nenv.MystTest("worse", "program", status=2)\n'
        'env.Alias("everything", "check")\n'
    )
    assert "check: 0 passed (0 of them unchanged), 2 failed" in tested.run("everything").out


def report(tested: Project) -> dict[str, tuple[str | None, str | None]]:
    """What the report says of each test: the kind of its element, and that element's message."""
    whole = ElementTree.parse(tested.path("out/tests.xml")).getroot()
    (suite,) = whole
    counted = {kind: str(len(suite.findall(f"testcase/{kind}"))) for kind in ("failure", "error")}
    assert whole.attrib["tests"] == suite.attrib["tests"] == str(len(suite))
    assert (suite.attrib["failures"], suite.attrib["errors"]) == (counted["failure"], counted["error"])
    found = {case.attrib["name"]: next(iter(case), None) for case in suite}
    return {
        name: (None, None) if inner is None else (inner.tag, inner.get("message"))
        for name, inner in found.items()
    }


def test_each_build_of_a_session_tells_of_its_own_tests(tested: Project) -> None:
    tested.write("program", "#!/bin/sh\nexit 1\n", 0o755)
    expect(tested, '"one", "program", MYST_TEST_JUNIT="out/tests.xml"')
    commands = "build check\nshell sed -i s/1/0/ program\nbuild check\nbuild check\nexit\n"
    session = tested.run("--interactive", stdin=commands)
    assert "check: 0 passed (0 of them unchanged), 1 failed" in session.out
    assert "check: 1 passed (0 of them unchanged), 0 failed" in session.out
    assert "check: 1 passed (1 of them unchanged), 0 failed" in session.out
    assert report(tested)["one"][0] != "failure"


def test_a_report_for_ci_systems_is_written_where_it_is_asked_for(tested: Project) -> None:
    tested.write("program", "#!/bin/sh\nprintf '\\001<&\\n'\n", 0o755)
    tests = (
        'env["MYST_TEST_JUNIT"] = "out/tests.xml"\n'
        'env.MystTest("good", "program")\n'
        'env.MystTest("sub/bad", "program", stdout="")\n'
        'env.MystTest("late", env.Command("missing", [], "false"))\n'
    )
    tested.sconstruct(tests)
    tested.run("-k", "check")
    found = report(tested)
    assert found["good"] == (None, None)
    assert found["sub/bad"][0] == "failure"
    assert found["late"][0] == "error"
    tested.run("good.passed")
    assert report(tested) == {"good": ("system-out", None)}
    written = tested.path("out/tests.xml").stat().st_mtime_ns
    tested.run("-n", "check")
    tested.run("program")
    assert tested.path("out/tests.xml").stat().st_mtime_ns == written
    tested.build("-c", "check")
    assert not tested.path("out/tests.xml").exists()
