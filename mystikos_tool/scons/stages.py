"""What a node of the tool's is for: one typed value for each stage, kept with the node that it makes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from mystikos_tool.errors import UserError
from mystikos_tool.scons import blame
from mystikos_tool.scons.input_node import InputNode

if TYPE_CHECKING:
    from mystikos_tool.packaging.partial import PartialPackage
    from mystikos_tool.scons.expectations import Expectation
    from mystikos_tool.scons.signing_key import SigningKey


_StageT = TypeVar("_StageT", bound="Stage")

CONFIG, CONFIG_SET = "MYST_CONFIG", "MYST_CONFIG_SET"
ROOT_HASH = "roothash"


class GivenMembers(NamedTuple):
    """Members of a configuration that an SConscript gives, in the construction variable ``variable``.

    With MYST_CONFIG they are the whole of it, with MYST_CONFIG_SET there is a file too.
    """

    values: Mapping[str, Any]
    variable: str


class Enclave(NamedTuple):
    """The nodes that a measurement is made of; ``rootfs`` is None where the root is on a disk.

    ``disk`` is that disk where it is at hand. ``runtime`` has the nodes of loader, enclave image, kernel
    and C runtime; ``given`` is what of the configuration is in no file.
    """

    rootfs: Any
    config: Any
    runtime: tuple[Any, Any, Any, Any]
    pubkeys: tuple[Any, ...]
    roothashes: tuple[Any, ...]
    given: GivenMembers | None = None
    disk: Any = None

    def measured(self) -> list[Any]:
        """Return all of them but the loader."""
        root = [node for node in (self.rootfs, self.disk) if node]
        return [*root, self.config, *self.pubkeys, *self.roothashes, *self.runtime[1:]]

    def trust(self) -> str:
        """Return what tells a root, keys and hashes apart, where all are sources alike."""
        disk = " disk" if self.disk else ""
        return f"{bool(self.rootfs)} {len(self.pubkeys)} {len(self.roothashes)}{disk}"


class DiskLayout(NamedTuple):
    """How a disk is laid out: sizes in bytes, seconds since 1970, and whether a kernel boots from it."""

    size: int | None
    room: int | None
    time: int | None
    boots: bool
    owners: bool


@dataclass(slots=True, eq=False, repr=False)
class Stage:
    """What every stage has.

    ``made_of`` names all that decides the target's content, words and nodes; where it is empty the
    content itself is read. ``detail`` belongs to the signature of the action. ``added_for`` is the
    target of the call that added the stage, None for a stage that was called itself, and ``added`` has
    the targets of the stages that were added for this one. ``call`` is that call, in the user's script,
    and ``awaited`` what :func:`awaited` found for it.
    ``digest`` is that of the content that was just written, in hexadecimal.
    """

    made_of: tuple[Any, ...] = ()
    detail: str = ""
    added_for: Any = None
    added: list[Any] = field(default_factory=list)
    awaited: list[Any] | None = None
    call: blame.Call | None = None
    digest: str = ""

    def signature_detail(self) -> str:
        """Return what belongs to the signature of the action."""
        return self.detail


@dataclass(slots=True, kw_only=True, eq=False, repr=False)
class Packed(Stage):
    """What is made of the sources of a root.

    ``overlay`` says that later sources win, ``leftovers`` what is made of what is hardly meant,
    ``strip`` has the patterns of files that are stripped.
    """

    overlay: bool = False
    leftovers: str = "warn"
    strip: tuple[str, ...] = ()


@dataclass(slots=True, kw_only=True, eq=False, repr=False)
class Rootfs(Packed):
    """A root file system's archive."""


@dataclass(slots=True, kw_only=True, eq=False, repr=False)
class Disk(Packed):
    """A disk, which is laid out as ``layout`` says.

    ``nodes`` are the sources of its files, ``encryption`` is the node of the master key, ``key`` signs,
    and ``public_key`` is the node of that key's public half; each is None where there is none. ``secrets``
    says what private keys on it are.
    """

    layout: DiskLayout
    nodes: tuple[Any, ...]
    secrets: str = "warn"
    encryption: Any = None
    key: SigningKey | None = None
    public_key: Any = None

    def signature_detail(self) -> str:
        """Return what belongs to the signature of the action: the layout, and the key that no file names."""
        return self.detail + (self.key.identity() if self.key else "")


@dataclass(slots=True, kw_only=True, eq=False, repr=False)
class PublicKey(Stage):
    """The public half of a key, in PEM."""

    key: SigningKey

    def signature_detail(self) -> str:
        """Return what belongs to the signature of the action: the key that no file names."""
        return self.detail + self.key.identity()


@dataclass(slots=True, kw_only=True, eq=False, repr=False)
class Measurement(Stage):
    """A measurement; ``package`` is the node of the last package that is made of it.

    ``secrets`` says what private keys in the root are.
    """

    enclave: Enclave
    package: Any = None
    secrets: str = "warn"


@dataclass(slots=True, kw_only=True, eq=False, repr=False)
class Image(Stage):
    """A signed enclave image; ``measurement`` is its node, ``epoch`` the SOURCE_DATE_EPOCH that dates it.

    ``key`` signs. It is None for an image that a signature is attached to.
    """

    enclave: Enclave
    measurement: Any
    epoch: str = ""
    key: SigningKey | None = None

    def signature_detail(self) -> str:
        """Return what belongs to the signature of the action: the date, and the key that no file names."""
        return self.detail + (self.key.identity() if self.key else "")

    def day(self) -> str:
        """Return the date that signing now would give it; nothing where a signature is attached."""
        from mystikos_tool import pipeline

        try:
            return pipeline.signing_day(self.epoch).isoformat() if self.key else ""
        except UserError:
            return self.epoch  # signing says what is wrong


@dataclass(slots=True, kw_only=True, eq=False, repr=False)
class Stated(Stage):
    """What is to be signed elsewhere, as `Image` has it signed here."""

    enclave: Enclave
    measurement: Any
    epoch: str


@dataclass(slots=True, kw_only=True, eq=False, repr=False)
class Digest(Stage):
    """The digest of a statement, raw; ``statement`` is its node."""

    statement: Any


@dataclass(slots=True, kw_only=True, eq=False, repr=False)
class Package(Stage):
    """A package; ``partial`` is what there is of it before its image is signed."""

    enclave: Enclave
    partial: PartialPackage | None = None


@dataclass(slots=True, kw_only=True, eq=False, repr=False)
class Identity(Stage):
    """A file with MRENCLAVE, MRSIGNER or a root hash, whichever ``measure`` names in lower case."""

    measure: str


@dataclass(slots=True, kw_only=True, eq=False, repr=False)
class Report(Stage):
    """What is in a package, in a form that `mystikos-tool inspect` has."""

    form: str


@dataclass(slots=True, kw_only=True, eq=False, repr=False)
class Policy(Stage):
    """What a relying party holds an enclave to, in a form that `mystikos-tool policy` has."""

    form: str
    any_version: bool


@dataclass(slots=True, kw_only=True, eq=False, repr=False)
class Bom(Stage):
    """The bill of materials of a package."""


@dataclass(slots=True, kw_only=True, eq=False, repr=False)
class Provenance(Stage):
    """The statement of what a package was made of; ``key`` signs it, None for nobody."""

    enclave: Enclave
    key: SigningKey | None = None

    def signature_detail(self) -> str:
        """Return what belongs to the signature of the action: also the key that no file names."""
        return self.detail + (self.key.identity() if self.key else "")


@dataclass(slots=True, kw_only=True, eq=False, repr=False)
class RuntimeImage(Stage):
    """An image of the embedded runtime: its path in the runtime, and the compiler that was asked for."""

    output: str
    compiler: str


@dataclass(slots=True, kw_only=True, eq=False, repr=False)
class Test(Stage):
    """A test of a package."""

    expectation: Expectation


@dataclass(slots=True, kw_only=True, eq=False, repr=False)
class Checked(Stage):
    """A report of what cannot work in an enclave.

    ``rootfs``, ``disk``, ``config`` and ``given`` are as of an `Enclave`; a package has its own but for the
    disk. ``fails`` is the severity from which on a finding fails the build.
    """

    rootfs: Any = None
    disk: Any = None
    config: Any = None
    given: GivenMembers | None = None
    fails: str = "error"


# What a cache may keep. The others lead to a signature, and to prove them costs what making them does.
CACHED = (Package, RuntimeImage)


def mark(node: Any, stage: Stage) -> None:
    """Say what a node is for, and who asked for it."""
    stage.call = blame.current()
    node.attributes.mystikos = stage


def stage_of(node: Any) -> Stage | None:
    """Return the Stage that a node is for; None where it is no node of the tool's."""
    return getattr(node.attributes, "mystikos", None) if node else None


def stage_for(node: Any, kind: type[_StageT]) -> _StageT:
    """Return the Stage of a node that is known to be for one of this kind."""
    stage = stage_of(node)
    assert isinstance(stage, kind)  # noqa: S101
    return stage


def call_of(node: Any) -> blame.Call | None:
    """Return the call in the user's script that described a node of the tool's."""
    stage = stage_of(node)
    return stage.call if stage else None


def awaited(node: Any) -> list[Any]:
    """Return what the user lets a stage, or any stage of the call that added it, depend on.

    That is also what files of the user's depend on of which such a stage is made, as a configuration.
    """
    stage = stage_for(node, Stage)
    if stage.added_for:
        node, stage = stage.added_for, stage_for(stage.added_for, Stage)
    if stage.awaited is None:
        stages = [node, *stage.added]
        files = [part.origin for one in stages for part in one.sources if isinstance(part, InputNode)]
        waiting = [nodes for one in (*stages, *files) for nodes in (one.depends, one.prerequisites) if nodes]
        stage.awaited = [part for nodes in waiting for part in nodes]
    return list(stage.awaited)
