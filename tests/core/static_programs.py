"""The compiler of the small programs in the tests' packages."""

from __future__ import annotations

import sys

from mystikos_tool.runtime.build import SOURCE_DIRECTORY

# Zig compiles its C library anew, which takes 40 s, for other options than these, which the runtime is
# compiled with, and in a directory from which the toolchain's path is a relative one.
ZIG = (sys.executable, "-m", "ziglang", "cc", "-target", "x86_64-linux-musl")
SHARING = ("-O1", "-fno-asynchronous-unwind-tables", "-fPIE", "-pie")
STATIC_COMPILER = (*ZIG, *SHARING, "-static")
COMPILED_IN = SOURCE_DIRECTORY
