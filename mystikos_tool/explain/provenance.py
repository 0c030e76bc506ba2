"""Where a package comes from: an in-toto statement that names every input by its digest, as SLSA has it.

Nothing is claimed that was not seen: the inputs are measured anew, and the statement is made only
where their enclave is the one in the package.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from mystikos_tool import pipeline, proof
from mystikos_tool.errors import UserError
from mystikos_tool.io.content import Content, FileContent, sha256
from mystikos_tool.packaging import opened
from mystikos_tool.pipeline import Inputs
from mystikos_tool.root.root import ArchiveRoot
from mystikos_tool.root.tree import Tree

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "https://pypi.org/project/mystikos-tool/#package/v1"

# The schema of a statement.
SCHEMA = Path(__file__).with_name("provenance.schema.json")

EMBEDDED = "embedded"

_CHUNK = 1 << 20
_AGAIN = "take the statement as it was published"


@dataclass(frozen=True)
class Parameters:
    """How a package was asked for: the names of its inputs, and what was done with them.

    A name is a path below the directory in which the package was made. ``source`` is the root, None for
    a disk; ``config`` is None where all of the configuration is in ``settings``, which are its members
    in place of the file's. ``runtime`` is "embedded" or a directory. The others are as in
    :class:`mystikos_tool.root.assembly.Options`, for a source that is a directory.
    """

    source: str | None
    config: str | None
    settings: Mapping[str, Any] = field(default_factory=dict)
    runtime: str = EMBEDDED
    pubkeys: tuple[str, ...] = ()
    roothashes: tuple[str, ...] = ()
    modes: str = "canonical"
    exclude: tuple[str, ...] = ()
    overlay: tuple[str, ...] = ()
    chmod: Mapping[str, str] = field(default_factory=dict)
    strip: bool = False


class Input(NamedTuple):
    """An input by its digest: SHA-256 in hexadecimal, and the mode of a file of the root in octal digits."""

    sha256: str
    mode: str | None = None


class Provenance(NamedTuple):
    """What a statement says: the package's name and SHA-256, its MRENCLAVE, and of what it was made.

    Digests are in hexadecimal. ``builder`` is the URI of who made it, ``inputs`` are by their names:
    "configuration", "runtime/FILE", "pubkey/N", "roothash/N", "rootfs" and "rootfs/PATH".
    """

    name: str
    sha256: str
    mrenclave: str
    parameters: Parameters
    inputs: Mapping[str, Input]
    builder: str

    def to_json(self) -> bytes:
        """Return the statement as :data:`SCHEMA` describes it."""
        document = {
            "_type": STATEMENT,
            "subject": [
                {"name": self.name, "digest": {"sha256": self.sha256}},
                {"name": "MRENCLAVE", "digest": {"sha256": self.mrenclave}},
            ],
            "predicateType": PREDICATE,
            "predicate": {
                "buildDefinition": {
                    "buildType": BUILD_TYPE,
                    "externalParameters": asdict(self.parameters),
                    "resolvedDependencies": [_described(*pair) for pair in self.inputs.items()],
                },
                "runDetails": {"builder": {"id": self.builder}},
            },
        }
        return json.dumps(document, indent=1).encode() + b"\n"

    @classmethod
    def from_json(cls, data: bytes, where: str) -> Provenance:
        """Read a statement; raise UserError, which calls it ``where``, for what :data:`SCHEMA` refuses."""
        document = _document(data, where)
        package, measured = document["subject"]
        definition = document["predicate"]["buildDefinition"]
        described = definition["resolvedDependencies"]
        inputs = {one["name"]: _input(one) for one in described}
        if len(inputs) != len(described):
            raise UserError(where, "names an input twice", _AGAIN)
        given = definition["externalParameters"]
        several = {name: tuple(given[name]) for name in ("pubkeys", "roothashes", "exclude", "overlay")}
        return cls(
            package["name"],
            package["digest"]["sha256"],
            measured["digest"]["sha256"],
            Parameters(**{**given, **several}),
            inputs,
            document["predicate"]["runDetails"]["builder"]["id"],
        )


def _described(name: str, given: Input) -> dict[str, Any]:
    mode = {"annotations": {"mode": given.mode}} if given.mode else {}
    return {"name": name, "digest": {"sha256": given.sha256}, **mode}


def _input(described: dict[str, Any]) -> Input:
    return Input(described["digest"]["sha256"], described.get("annotations", {}).get("mode"))


def _document(data: bytes, where: str) -> Any:
    import jsonschema  # loaded by those who read a statement

    try:
        document = json.loads(data)
        jsonschema.validate(document, json.loads(SCHEMA.read_text(encoding="utf-8")))
    except (ValueError, RecursionError):
        raise UserError(where, "is no JSON", _AGAIN) from None
    except jsonschema.ValidationError as error:
        place = "/".join(map(str, error.absolute_path)) or "it"
        problem = f"is no statement of mystikos-tool: {place} is not what it has to be"
        raise UserError(where, problem, "give what 'mystikos-tool provenance' wrote") from None
    return document


def name_of(path: Path | str, directory: Path) -> str:
    """Return how a statement names an input: its path below a directory, or its own name alone."""
    inside = Path(os.path.relpath(path, directory))
    return Path(os.path.realpath(path)).name if ".." in inside.parts else str(inside)


def of(package: Path, inputs: Inputs, tree: Tree | None, parameters: Parameters, builder: str) -> Provenance:
    """State of what a package was made.

    With a ``tree``, that is packed and is the root. ``builder`` is the URI of who runs this. Raises
    UserError, which names `diff`, where these inputs give another enclave.
    """
    found = opened.of(package)
    with pipeline.packed(inputs, tree, package) as whole:
        stated = inputs_of(whole)  # tells of what is no root
        _, in_package = proof.measure_opened(found)
        if pipeline.measure_unchecked(whole).mrenclave != in_package.mrenclave:
            problem = "is another enclave than these inputs give"
            raise UserError(str(package), problem, "compare it with one made of them: mystikos-tool diff")
    sha256 = sha256_of(FileContent.of(package))
    return Provenance(package.name, sha256, in_package.mrenclave.hex(), parameters, stated, builder)


def inputs_of(whole: Inputs) -> dict[str, Input]:
    """Return every input by its name; a root that is a disk is not among them."""
    return dict(_inputs(whole))


def _inputs(whole: Inputs) -> Iterator[tuple[str, Input]]:
    runtime = whole.runtime
    for path in (runtime.loader, runtime.enclave, runtime.crt, runtime.kernel):
        yield f"runtime/{path.name}", Input(sha256_of(FileContent.of(path)))
    yield "configuration", Input(hashlib.sha256(whole.config.data).hexdigest())
    yield from _numbered("pubkey", whole.pubkeys)
    yield from _numbered("roothash", whole.roothashes)
    if isinstance(whole.root, ArchiveRoot):
        yield "rootfs", Input(sha256_of(whole.root.content()))
        found = whole.root.index()
        for member in found.members:
            if not stat.S_ISDIR(member.mode):
                name = f"rootfs/{member.path.decode(errors='backslashreplace')}"
                yield name, Input(sha256_of(found.content_of(member)), f"{member.mode:o}")


def _numbered(role: str, paths: Iterable[Path]) -> Iterator[tuple[str, Input]]:
    for number, path in enumerate(paths):
        yield f"{role}/{number}", Input(sha256_of(FileContent.of(path)))


def sha256_of(content: Content) -> str:
    """Return the SHA-256 of a content in hexadecimal."""
    return sha256(content.chunks(_CHUNK)).hex()
