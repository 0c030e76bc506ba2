"""The configuration: read with the place of each value, checked, typed."""

from mystikos_tool.config.configuration import (
    KEYS,
    Config,
    ConfigError,
    Mount,
    Secret,
    load,
    memory_size_of,
    parse,
)

__all__ = ["KEYS", "Config", "ConfigError", "Mount", "Secret", "load", "memory_size_of", "parse"]
