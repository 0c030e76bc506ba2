"""``python -m mystikos_tool``."""

import sys

from mystikos_tool.cli import main

sys.exit(main())
