"""Import all of the standard library that needs nothing else, inside of the package."""

import importlib
import json
import platform
import sys
import warnings
from pathlib import Path


def imported(name: str) -> bool:
    """Tell whether a module can be imported."""
    try:
        importlib.import_module(name)
    except (ImportError, OSError):
        return False
    return True


def main() -> None:
    """Print how many modules were imported, and write a file, which stays in memory."""
    warnings.simplefilter("ignore")
    names = sorted(sys.stdlib_module_names - {"antigravity", "this", "idlelib", "turtledemo"})
    missing = [name for name in names if not imported(name)]
    result = Path("result.json")
    result.write_text(json.dumps({"python": platform.python_version(), "modules": len(names) - len(missing)}))
    print(result.read_text())


if __name__ == "__main__":
    main()
