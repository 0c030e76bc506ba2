"""``python -m mystikos_tool``."""

from mystikos_tool.cli import process

process()
