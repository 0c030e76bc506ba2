"""Container images on the command line: an appdir of one, and a package."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from cli_support import Run, configure
from image_registry import serving
from images import MadeImage, device, directory, file, layer, symlink

import mystikos_tool
from mystikos_tool.errors import UserError
from mystikos_tool.packaging.opened import OpenedPackage
from mystikos_tool.root import archive

COMMON = ["key.pem", "config.json", "--runtime=runtime", "-o=package"]
PROCESS = {
    "Env": ["PATH=/usr/bin:/bin", "MODE=fast"],
    "Entrypoint": ["hello"],
    "Cmd": ["--color", "red"],
    "WorkingDir": "/srv",
}
ROOT = layer(
    file("bin/hello", "#!/bin/hello\n", 0o755),
    file("etc/key", "k", 0o600),
    symlink("usr/bin", "/bin"),
    directory("srv", 0o700),
    device("dev/null"),
)


@pytest.fixture
def image(project: Path) -> Path:
    return MadeImage([ROOT], process=PROCESS).layout(project / "image")


def packaged(path: Path) -> dict[str, object]:
    """The configuration in a package."""
    found: dict[str, object] = json.loads(OpenedPackage(path).config)
    return found


def test_an_appdir_of_an_image_has_its_files_and_variables(image: Path, project: Path, run: Run) -> None:
    result = run("appdir", "from-image", "image", "-o", "made")
    assert result.status == 0, result.err
    assert result.out == "created made: 3 files, 87 bytes\n"
    assert result.err.splitlines() == [
        "mystikos-tool: note: image: ApplicationPath /usr/bin/hello, ApplicationParameters --color red,"
        " CurrentWorkingDirectory /srv, 2 variables in EnvironmentVariables",
        "mystikos-tool: warning: made/dev/null: is left out; a root file system holds no devices and FIFOs",
    ]
    made = project / "made"
    assert {str(path.relative_to(made)) for path in made.rglob("*")} == {
        *("bin", "bin/hello", "etc", "etc/key", "usr", "usr/bin", "srv", "dev", "appenv.json"),
    }
    assert stat.S_IMODE((made / "etc/key").stat().st_mode) == 0o600
    assert json.loads((made / "appenv.json").read_text()) == {"Env": PROCESS["Env"]}


def test_an_archive_of_an_image_is_what_a_package_of_it_holds(image: Path, project: Path, run: Run) -> None:
    made = run("appdir", "from-image", "image", "-o", "made.cpio", "--exclude=dev", "--exclude=*.pyc")
    assert made.status == 0
    assert "warning: *.pyc: is excluded, and nothing in the root matches" in made.err
    configure(project, ApplicationPath="/bin/hello")
    assert run("package-sgx", *COMMON, "--image=image", "--exclude=dev").status == 0
    assert (project / "made.cpio").read_bytes() in (project / "package").read_bytes()


def test_an_image_is_not_written_over(project: Path, run: Run) -> None:
    made = MadeImage([ROOT], process=PROCESS)
    before = made.oci_archive(project / "image.cpio").read_bytes()
    (project / "lock.cpio").write_text("{}")
    for more in (("image.cpio",), ("lock.cpio", "--lock=lock.cpio")):
        result = run("appdir", "from-image", "image.cpio", "-o", *more)
        assert (result.status, result.out) == (2, "")
        assert f"{more[0]}: is one of the inputs; choose another place for the output" in result.err
    with pytest.raises(UserError, match=r"image\.cpio: is one of the inputs"):
        mystikos_tool.image("image.cpio", "image.cpio")
    assert (project / "image.cpio").read_bytes() == before


def test_where_the_configuration_is_silent_the_image_says_what_is_started(
    image: Path, project: Path, run: Run
) -> None:
    configure(project, ApplicationPath=None)
    result = run("package-sgx", *COMMON, "--image", "image")
    assert result.status == 0, result.err
    assert "note: image: ApplicationPath /usr/bin/hello, ApplicationParameters --color red," in result.err
    found = packaged(project / "package")
    assert found["ApplicationPath"] == "/usr/bin/hello"
    assert found["ApplicationParameters"] == ["--color", "red"]
    assert found["CurrentWorkingDirectory"] == "/srv"
    assert found["EnvironmentVariables"] == PROCESS["Env"]


def test_what_the_configuration_says_counts_before_the_image(image: Path, project: Path, run: Run) -> None:
    configure(project, ApplicationPath="/bin/hello", CurrentWorkingDirectory="/")
    result = run("package-sgx", *COMMON, "--image", "image", "--set", "ApplicationParameters=[]")
    assert result.status == 0, result.err
    assert "note: image: 2 variables in /appenv.json\n" in result.err
    found = packaged(project / "package")
    assert found["ApplicationPath"] == "/bin/hello"
    assert "EnvironmentVariables" not in found
    assert found["ApplicationParameters"] == []


def test_variables_of_an_image_that_no_program_sees_are_told(image: Path, project: Path, run: Run) -> None:
    configure(project, CurrentWorkingDirectory="/etc", EnvironmentVariables=["A=1"])
    result = run("package-sgx", *COMMON, "--image", "image")
    assert result.status == 0, result.err
    assert packaged(project / "package")["EnvironmentVariables"] == ["A=1"]
    assert (
        "note: image: 2 variables in /appenv.json, which is read in / only;"
        " add them to EnvironmentVariables of the configuration\n"
    ) in result.err


def test_a_configuration_that_says_all_goes_into_the_package_as_it_is(project: Path, run: Run) -> None:
    MadeImage([ROOT]).layout(project / "image")
    configure(project)
    assert run("package-sgx", *COMMON, "--image", "image").status == 0
    assert OpenedPackage(project / "package").config == (project / "config.json").read_bytes()


def test_layers_lie_over_an_image_and_modes_are_changed(image: Path, project: Path, run: Run) -> None:
    result = run("package-sgx", *COMMON, "--image=image", "--overlay=appdir", "--chmod=etc/key=0640")
    assert result.status == 0, result.err
    opened = OpenedPackage(project / "package")
    found = archive.index(opened.content(".mystrootfs"), "package")
    assert found.by_path[b"etc/key"].mode & 0o777 == 0o640
    assert found.data(found.by_path[b"motd"]) == b"hello\n"
    assert found.data(found.by_path[b"bin/hello"]) == b"#!/bin/hello\n"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["package-sgx", "appdir", *COMMON, "--image=image"], "--image: cannot go with the appdir appdir"),
        (["package-sgx", *COMMON, "--image=image", "--rootfs=r"], "--image: cannot go with --rootfs r"),
        (
            ["package-sgx", *COMMON, "--image=image", "--modes=preserve"],
            "--modes: cannot be preserve: an image",
        ),
        (["package-sgx", *COMMON, "--image=none"], "none: cannot be read: no such file or directory"),
        (["appdir", "from-image", "image", "image", "-o", "d"], "image: is a second image"),
        (["appdir", "from-image", "image", "-o", "d", "--sysroot=/"], "--sysroot: is for a closure"),
        (
            ["appdir", "closure", "/bin/sh", "-o", "d", "--image-name=a"],
            "--image-name: is for an image, and none is given",
        ),
        (["appdir", "from-image", "image", "-o", "appdir"], "appdir: is not empty"),
    ],
)
def test_what_does_not_go_together_is_refused(
    image: Path, project: Path, run: Run, arguments: list[str], problem: str
) -> None:
    before = {path.name for path in project.iterdir()}
    result = run(*arguments)
    assert result.status == 2
    assert problem in result.err
    assert {path.name for path in project.iterdir()} == before


def test_an_image_that_starts_what_it_has_not_is_refused_unless_the_configuration_says_what(
    project: Path, run: Run
) -> None:
    MadeImage([ROOT], process={"Cmd": ["gone"]}).layout(project / "image")
    configure(project, ApplicationPath=None)
    result = run("package-sgx", *COMMON, "--image=image")
    assert result.status == 2
    assert "error: image: starts 'gone', which is no program in it; say in ApplicationPath" in result.err
    assert run("appdir", "from-image", "image", "-o", "made").status == 0
    configure(project)
    assert run("package-sgx", *COMMON, "--image=image").status == 0


def test_a_tag_is_locked_and_an_image_of_a_registry_is_packaged_by_it(project: Path, run: Run) -> None:
    with serving() as server:
        server.push(MadeImage([ROOT], process=PROCESS))
        tag = f"{server.host}/app:1"
        result = run("package-sgx", *COMMON, "--image", tag)
        assert result.status == 2
        assert f"run: mystikos-tool image lock {tag} --lock mystikos-images.lock.json" in result.err
        assert "has no images yet" in run("image", "lock").err
        first = run("image", "lock", tag)
        assert first.status == 0, first.err
        assert first.out.startswith(f"{tag} is sha256:")
        assert run("package-sgx", *COMMON, "--image", tag).status == 0
        server.push(MadeImage([layer(file("other"))]))
        before = (project / "package").read_bytes()
        assert run("package-sgx", *COMMON, "--image", tag).status == 0
        assert (project / "package").read_bytes() == before
        digest = first.out.split()[-1]
        assert f", was {digest}\n" in run("image", "lock").out
        assert "has a digest, which is always the same image" in run("image", "lock", f"{tag}@{digest}").err
        assert "is no image of a registry with a tag" in run("image", "lock", "nginx").err


def test_the_cache_of_layers_is_pruned_on_request(
    image: Path, project: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(project / "cache"))
    assert run("appdir", "from-image", "image", "-o", "made").status == 0
    assert run("image", "prune", "--keep", "1g").out.startswith("removed 0 layers and documents of 0 bytes; ")
    pruned = run("image", "prune").out
    assert pruned.startswith("removed 1 layers and documents of ")
    assert pruned.endswith(" bytes; 0 are left\n")
    assert not list((project / "cache/mystikos-tool/layers").iterdir())
    assert "nginx:1: is for lock, not for prune" in run("image", "prune", "nginx:1").err
    assert "--keep: is for prune, not for lock" in run("image", "lock", "--keep=1g").err
