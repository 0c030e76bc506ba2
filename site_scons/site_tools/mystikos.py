"""Hand over to the tool in this checkout, so that ``tools=["default", "mystikos"]`` finds it."""

import sys
from pathlib import Path

_CHECKOUT = str(Path(__file__).resolve().parents[2])
if _CHECKOUT not in sys.path:
    sys.path.insert(0, _CHECKOUT)

from mystikos_tool.scons.tool import exists, generate, options  # noqa: E402

__all__ = ["exists", "generate", "options"]
