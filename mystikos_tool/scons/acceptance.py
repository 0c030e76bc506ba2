"""What a cache gave for a stage's target is held to what this build would make.

Whoever may write to a cache could otherwise choose what is shipped, and by the runtime's images what
is signed.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from mystikos_tool.errors import UserError
from mystikos_tool.io import atomic, lookup
from mystikos_tool.io.arriving import Arriving
from mystikos_tool.root.archive import DifferentError
from mystikos_tool.scons import blame, intermediates
from mystikos_tool.scons.stages import Package, RuntimeImage, stage_of


def begin(target: Any, file: Arriving) -> None:
    """Begin with what :func:`accepts` does while a file comes from the cache."""
    if isinstance(stage_of(target), Package):
        intermediates.expect(target, partial(_expected, target, file))


def _expected(target: Any, file: Arriving) -> Any:
    """Return what a package has to have; what comes of another one is refused."""
    from mystikos_tool.scons import work

    try:
        return work.expect(target, file)
    except BaseException:
        file.refuse()
        raise


def accepted(target: Any, *, is_proved: bool) -> bool:
    """Tell whether a file that came from a cache to its place stays; remove it where it is another.

    ``is_proved`` says that the cache itself has asked :func:`accepts` before it put the file there.
    """
    path = Path(target.get_abspath())
    if is_proved or accepts(target, path):
        path.chmod(atomic.permissions(0o755))  # the cache's are not looked at
        return True
    path.unlink(missing_ok=True)
    target.clear_memoized_values()
    return False


def accepts(target: Any, path: Path) -> bool:
    """Tell whether a file is what this build would make of the sources of ``target``; warn where not."""
    stage = stage_of(target)
    if isinstance(stage, Package):
        same = accept_package(target, path)
    else:
        same = not isinstance(stage, RuntimeImage) or accept_image(stage, path)
    if not same:
        blame.warn(f"{target}: what the cache gave is not what this build makes; it is made here")
    return same


def accept_package(target: Any, path: Path) -> bool:
    """Tell whether a package is that of the local root, configuration, runtime and signer.

    It is compared with what they give byte for byte: no less proves what nothing measures, the host
    program. Of what was not made here, the root is compared with its sources and measured, and the
    signature is held to the signer's public key; nothing is signed.
    """
    from mystikos_tool.scons import work

    try:
        return work.is_package(target, path)
    except DifferentError:
        return False
    except (UserError, OSError):  # making the package says what is wrong
        return False


def accept_image(stage: RuntimeImage, path: Path) -> bool:
    """Tell whether an image of the embedded runtime has the digest that the pinned toolchain gives it."""
    from mystikos_tool.runtime import digests

    expected = None if stage.compiler else digests.expected().get(stage.output)
    return not lookup.is_symlink(path) and digests.of(path) == expected
