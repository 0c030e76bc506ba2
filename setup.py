"""Compile the embedded runtime into the wheel, and put the SCons tool where SCons finds it."""

import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

sys.path.insert(0, str(Path(__file__).resolve().parent))

from mystikos_tool.runtime import build, digests


class BuildWithRuntime(build_py):
    """Copy the Python files, then add what an installed package has and a checkout does not need."""

    def run(self) -> None:
        """Build the package."""
        super().run()
        if self.editable_mode:
            return
        prebuilt = Path(self.build_lib) / "mystikos_tool/runtime/prebuilt"
        build.build(prebuilt)
        digests.check_known(prebuilt)
        tools = Path(self.build_lib) / "SCons/Tool"
        self.mkpath(str(tools))
        self.copy_file("mystikos_tool/scons/tool.py", str(tools / "mystikos.py"))


setup(cmdclass={"build_py": BuildWithRuntime})
