"""Hand over to the tool in this checkout, so that ``tools=["default", "mystikos"]`` finds it."""

import sys
from importlib.util import find_spec
from pathlib import Path

_CHECKOUT = Path(__file__).resolve().parents[2]

# PYTHONPATH may have another one, as of another checkout.
_found = find_spec("mystikos_tool")
if not (_found and _found.origin and Path(_found.origin).resolve().parents[1] == _CHECKOUT):
    sys.path.insert(0, str(_CHECKOUT))

from mystikos_tool.scons.tool import exists, generate, options  # noqa: E402

__all__ = ["exists", "generate", "options"]
