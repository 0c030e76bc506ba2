from __future__ import annotations

from importlib.util import find_spec

import pytest

from mystikos_tool.runtime import Runtime
from mystikos_tool.runtime.build import build


@pytest.fixture(scope="session")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Runtime:
    """The embedded runtime, compiled once for all tests."""
    if find_spec("ziglang") is None:
        pytest.skip("needs the ziglang package")
    directory = tmp_path_factory.mktemp("runtime")
    build(directory)
    return Runtime.installed(directory)
