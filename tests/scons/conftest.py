from __future__ import annotations

from pathlib import Path

import pytest
from scons_project import Project, make_project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project that has not been built yet."""
    return make_project(tmp_path / "project")


@pytest.fixture(scope="session")
def _built(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = make_project(tmp_path_factory.mktemp("scons") / "built")
    project.build()
    return project


@pytest.fixture
def built(_built: Project, tmp_path: Path) -> Project:
    """A copy of a project that has been built."""
    return _built.copy(tmp_path / "copy")
