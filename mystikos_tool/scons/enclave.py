"""The nodes that an enclave is made of."""

from __future__ import annotations

from typing import Any, NamedTuple


class Enclave(NamedTuple):
    """What a measurement is made of; ``rootfs`` is None where the root is an ext2 disk.

    ``runtime`` has the nodes of loader, enclave image, kernel and C runtime.
    """

    rootfs: Any
    config: Any
    runtime: tuple[Any, Any, Any, Any]
    pubkeys: tuple[Any, ...]
    roothashes: tuple[Any, ...]

    def nodes(self) -> list[Any]:
        """All of them but the runtime's."""
        return [*([self.rootfs] if self.rootfs else []), self.config, *self.pubkeys, *self.roothashes]
