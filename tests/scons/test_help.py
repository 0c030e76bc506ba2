"""What `scons -h` says: the project's own help first, and then the tool's."""

from __future__ import annotations

import pytest
from scons_project import Project

BUILDERS = "Builders for Mystikos enclave packages:"


@pytest.mark.parametrize(
    "own", ['Help("OWN\\n")', 'Help("OW")\nHelp("N\\n", append=True)', 'ValidateOptions()\nHelp("OWN\\n")']
)
def test_the_help_of_the_project_comes_first_and_stays_whole(project: Project, own: str) -> None:
    project.sconstruct(f"{own}\n")
    said = project.build("-h").out
    assert said.startswith("OWN\n")
    assert said.count(BUILDERS) == 1
    assert "MystPackage " in said
    assert "MYST_ROOTFS_OVERLAY " in said


def test_without_a_help_of_the_project_that_of_scons_comes_first(project: Project) -> None:
    project.sconstruct(
        'AddOption("--ours", help="an option of the project")\nenv.Clone(tools=["mystikos"])\n'
    )
    said = project.build("-h").out
    assert said.index("an option of the project") < said.index(BUILDERS)
    assert said.count(BUILDERS) == 1
