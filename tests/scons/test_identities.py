"""MystIdentity: files with MRENCLAVE and MRSIGNER that other targets depend on."""

from __future__ import annotations

import pytest
from scons_project import CONFIG, DATA, Project

from mystikos_tool import inspect


def test_others_depend_on_what_a_package_is_known_by(project: Project) -> None:
    project.sconstruct(
        'hello = env.MystPackage("hello", "appdir")\n'
        "mrenclave, mrsigner = env.MystIdentity(hello)\n"
        'env.Command("pins", [mrenclave, mrsigner], "cat $SOURCES > $TARGET && echo made")\n'
    )
    assert "made" in project.build().out
    identity = inspect(project.path("hello")).identity
    expected = f"{identity.mrenclave.hex()}\n{identity.mrsigner.hex()}\n"
    assert project.path("pins").read_text() == expected
    assert project.build().out == "scons: `.' is up to date.\n"
    loader = project.path("rt/bin/myst").read_bytes()
    project.write("rt/bin/myst", loader[:15] + b"\1" + loader[16:])
    assert "made" not in project.build().out  # the loader is not measured
    project.write("config.json", CONFIG.replace("1m", "2m"))
    assert "made" in project.build().out
    identity = inspect(project.path("hello")).identity
    assert project.path("pins").read_text() == f"{identity.mrenclave.hex()}\n{identity.mrsigner.hex()}\n"


def test_a_measurement_gives_mrenclave_without_a_key(project: Project) -> None:
    project.path("key.pem").unlink()
    project.sconstruct(
        'measured = env.MystMeasure("hello", "appdir")\n'
        'env.MystIdentity(measured)\nenv.MystIdentity("a/b", measured)\n'
    )
    build = project.build()
    assert {"hello.mrenclave", "a/b.mrenclave"} <= project.names()
    assert not {"hello.mrsigner", "a/b.mrsigner"} & project.names()
    assert f"MRENCLAVE {project.path('hello.mrenclave').read_text().strip()} → hello.mrenclave" in build.out


def test_another_key_is_another_signer_and_no_other_enclave(project: Project) -> None:
    project.sconstruct('env.MystIdentity("id", env.MystSign("hello", env.MystMeasure("hello", "appdir")))\n')
    project.build()
    before = [project.path(f"id.{name}").read_text() for name in ("mrenclave", "mrsigner")]
    project.write("key.pem", (DATA / "keys" / "key-b.pem").read_bytes())
    project.build()
    after = [project.path(f"id.{name}").read_text() for name in ("mrenclave", "mrsigner")]
    assert after[0] == before[0]
    assert after[1] != before[1]


@pytest.mark.parametrize("source", ['"config.json"', 'env.MystRootfs("hello", "appdir")'])
def test_something_else_has_no_identity(project: Project, source: str) -> None:
    project.sconstruct(f"env.MystIdentity({source})\n")
    problem = "MystIdentity takes what MystPackage, MystSign, MystMeasure or MystDisk made"
    assert problem in project.fails().err
