"""The variables of an image as Mystikos has them in a root: ``/appenv.json``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from operator import attrgetter

from mystikos_tool.root.oci.image import Image
from mystikos_tool.root.tree import Entry
from mystikos_tool.root.written import written

PATH = "appenv.json"


def added(entries: Sequence[Entry], image: Image) -> tuple[Entry, ...]:
    """Return the entries with a file of the image's variables, unless there are none or is such a file."""
    env = image.process.env
    if not env or any(entry.path == PATH.encode() for entry in entries):
        return tuple(entries)
    data = (json.dumps({"Env": list(env)}, indent=4) + "\n").encode()
    return tuple(sorted((*entries, written(PATH, data, image.where)), key=attrgetter("path")))
