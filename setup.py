"""Compile the embedded runtime into the wheel, so that whoever installs it needs no compiler."""

import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

sys.path.insert(0, str(Path(__file__).resolve().parent))

from mystikos_tool.runtime import build


class BuildWithRuntime(build_py):
    """Copy the Python files, then compile the runtime beside them."""

    def run(self) -> None:
        """Build the package."""
        super().run()
        if not self.editable_mode:
            build.build(Path(self.build_lib) / "mystikos_tool/runtime/prebuilt")


setup(cmdclass={"build_py": BuildWithRuntime})
