"""The configuration: read with the place of each value, checked by its schema, typed."""

from mystikos_tool.config import schema
from mystikos_tool.config.configuration import (
    Changes,
    Config,
    ConfigError,
    Known,
    Mount,
    Secret,
    check_as_read,
    load,
    members,
    memory_size_of,
    of,
    parse,
    setting,
)

__all__ = [
    "Changes",
    "Config",
    "ConfigError",
    "Known",
    "Mount",
    "Secret",
    "check_as_read",
    "load",
    "members",
    "memory_size_of",
    "of",
    "parse",
    "schema",
    "setting",
]
