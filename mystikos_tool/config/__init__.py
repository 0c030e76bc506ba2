"""The configuration: read with the place of each value, checked by its schema, typed."""

from mystikos_tool.config import schema
from mystikos_tool.config.configuration import (
    Config,
    ConfigError,
    Known,
    Mount,
    Secret,
    load,
    members,
    memory_size_of,
    parse,
)

__all__ = [
    "Config",
    "ConfigError",
    "Known",
    "Mount",
    "Secret",
    "load",
    "members",
    "memory_size_of",
    "parse",
    "schema",
]
