"""What the actions do: each function runs one stage of the core and returns the line that tells of it.

Everything that the tool asks of the core to make something is here. The actions run in threads of
their own with ``-j``.

Loaded when the first stage runs, so that a build with nothing to do does not pay for it; and each
stage loads what it needs itself, for packing needs nothing of what takes long to load.
"""

from __future__ import annotations

import filecmp
import hashlib
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mystikos_tool.cache.incremental import IncrementalArchives
from mystikos_tool.errors import UserError
from mystikos_tool.io import atomic, fingerprint, lookup
from mystikos_tool.io.content import sha256
from mystikos_tool.io.kept import kept
from mystikos_tool.root import checkout_path, leftovers
from mystikos_tool.root.archive import Archive, DifferentError, write
from mystikos_tool.root.tree import Entry, Tree, boot_fault, join
from mystikos_tool.scons import blame, exclusion, hints, intermediates, partial, scons_internals, stale
from mystikos_tool.scons.database import store
from mystikos_tool.scons.input_node import origin_of, path_of
from mystikos_tool.scons.stages import (
    CONFIG,
    ROOT_HASH,
    Checked,
    Digest,
    Disk,
    Enclave,
    Identity,
    Image,
    Measurement,
    Package,
    Packed,
    Policy,
    Provenance,
    PublicKey,
    Report,
    Rootfs,
    RuntimeImage,
    Stage,
    Stated,
    call_of,
    stage_for,
    stage_of,
)

if TYPE_CHECKING:
    from mystikos_tool import pipeline
    from mystikos_tool.config import Config
    from mystikos_tool.enclave.measurement import Measurement as Measured
    from mystikos_tool.explain.provenance import Parameters
    from mystikos_tool.io.arriving import Arriving
    from mystikos_tool.io.content import Content, FileContent
    from mystikos_tool.root.archive import Unwritten
    from mystikos_tool.root.disk.writer import Disk as Written
    from mystikos_tool.root.disk.writer import Options
    from mystikos_tool.root.oci.process import Start
    from mystikos_tool.root.root import Root
    from mystikos_tool.root.stripped import Stripping
    from mystikos_tool.scons.signing_key import SigningKey
    from mystikos_tool.signing.root_keys import RootKey
    from mystikos_tool.signing.signer import Signer
    from mystikos_tool.signing.statement import Statement

# The table of the store with the fingerprints of the archives that were packed.
_PACKED = "packed"
_ROOT_KEYS = "private keys of every size, packed ones too"

_MAX_ROWS = 100  # of findings that fail a build: more are no help

# Configurations that are kept in memory: those of the apps whose stages alternate under -j.
_CONFIGURATIONS = 16


def rootfs(target: Any, source: list[Any], env: Any) -> str:
    """Pack the sources of a root file system."""
    trees, warn = _trees(target, source), _warning_of(target)
    tree = _joined(target, trees)
    packed, unchanged = _pack(target, tree)
    for path in tree.too_long_to_boot:
        warn(f"{path}: {boot_fault(path)}")
    for warning in (*_paths_in(target, packed, unchanged), *_told_of(target, source, trees, tree)):
        warn(warning)
    sizes = [member.size for member in packed.members if stat.S_ISREG(member.mode)]
    return f"packed {_shown_files(len(sizes))}, {_shown_size(sum(sizes))} → {target}"


def _trees(target: Any, source: Sequence[Any]) -> list[Tree]:
    """Return the trees of a root's sources; what an action that was added has just written is in them."""
    if scons_internals.is_changed_before(target):
        for node in source:
            node.look_again()
    return [node.take_tree() for node in source]


def _joined(target: Any, trees: list[Tree]) -> Tree:
    """Return the tree of a root; warn of what in it is hardly meant, or raise UserError, as is asked for."""
    stage, warn = stage_for(target, Packed), _warning_of(target)
    tree = join(trees, later_wins=stage.overlay)
    for warning in leftovers.told(tree.paths, str(target), stage.leftovers, _keep_out):
        warn(warning)
    return tree


def _told_of(target: Any, source: Sequence[Any], trees: list[Tree], tree: Tree) -> Iterator[str]:
    """Yield what is to be told of the sources of a root once they were packed."""
    yield from _unmatched(target, source, trees)
    for path in tree.left_out:
        yield f"{path}: is a device or FIFO and was left out of {target}"
    for node in source:
        yield from node.machine_changes()
    for node in source:
        for path in node.stray_paths():
            yield f"{path}: has no source and no builder and was left out; {stale.REMEDY}"
    for pattern in exclusion.unused_after(target):
        yield f"MYST_ROOTFS_EXCLUDE: {pattern!r} matches nothing; correct it, or leave it out"


def _shown_files(count: int) -> str:
    return "1 file" if count == 1 else f"{count:,} files"


def disk(target: Any, source: list[Any], env: Any) -> str:
    """Make a disk of the sources of a root, or bring the earlier one up to date."""
    stage, warn = stage_for(target, Disk), _warning_of(target)
    trees = _trees(target, stage.nodes)
    tree = _joined(target, trees)
    made = _write_disk(target, trees, tree)
    for warning in (*_keys_told(target), *_told_of(target, stage.nodes, trees, tree)):
        warn(warning)
    told = f"{_shown_files(tree.files)}, {_shown_size(made.size)}, root hash {made.root_hash.hex()}"
    return f"made a disk of {told} → {target}"


def _write_disk(target: Any, trees: list[Tree], tree: Tree) -> Written:
    """Write a disk, and remember the file as it is now."""
    from mystikos_tool.cache.incremental_disk import IncrementalDisks

    stage, path, stripping = stage_for(target, Disk), path_of(target), _stripping(target)
    before = _known_keys(path)
    made, written = IncrementalDisks(store()).write(
        trees,
        tree,
        path,
        _disk_options(target, stage),
        preserve_owners=stage.layout.owners,
        change=stripping,
    )
    for warning in stripping.warnings() if stripping else ():
        _warning_of(target)(warning)
    _remember(path)
    if not stage.encryption:
        _remember_keys(path, _keys_on_disk(tree, written, before))
    return made


def _keys_on_disk(tree: Tree, written: Sequence[Entry], before: list[RootKey] | None) -> list[RootKey]:
    """Return the private keys on a disk that was written; ``before`` are those of the earlier one."""
    from mystikos_tool.signing import root_keys

    if before is None:
        return root_keys.in_entries(tree.entries)
    kept: list[RootKey] = []
    if before:
        paths = {root_keys.name_of(entry.path) for entry in tree.entries}
        paths -= {root_keys.name_of(entry.path) for entry in written}
        kept = [key for key in before if key.path in paths]
    return root_keys.in_entries(written, kept)


def _keys_told(disk: Any) -> list[str]:
    """Return what is to be told of private keys on a disk; raise UserError where they must not be there."""
    from mystikos_tool.root.root import DiskRoot
    from mystikos_tool.signing import root_keys

    stage, path = stage_for(disk, Disk), path_of(disk)
    keys = [] if stage.encryption else _root_keys(DiskRoot(path))
    if keys and stage.key:
        signs = stage.key.signer()
        root_keys.refuse_signer(keys, signs.modulus, str(disk), signs)
    return root_keys.told(keys, str(disk), stage.secrets)


def _disk_options(target: Any, stage: Disk) -> Options:
    from mystikos_tool.root.disk.writer import ROOM, TIME, Options, encryption
    from mystikos_tool.signing.named_key import exposed

    laid_out = stage.layout
    master_key = path_of(stage.encryption) if stage.encryption else None
    encrypted = encryption(master_key) if master_key else None
    if master_key and (warning := exposed(master_key)):
        blame.warn_once(warning, call_of(target))
    return Options(
        size=laid_out.size,
        room=ROOM if laid_out.room is None else laid_out.room,
        time=TIME if laid_out.time is None else laid_out.time,
        boots=laid_out.boots,
        encryption=encrypted,
        signer=_signer(target, stage.key) if stage.key else None,
    )


def _signer(target: Any, key: SigningKey) -> Signer:
    """Return who signs with a key, and tell who else may read it."""
    for text in key.named().warnings():
        blame.warn_once(text, call_of(target))
    return key.signer()


def publickey(target: Any, source: list[Any], env: Any) -> str:
    """Write the public half of the key that signs a disk."""
    from mystikos_tool.signing import disk_key

    key = stage_for(target, PublicKey).key
    _write(target, disk_key.public_pem(_signer(target, key)))
    return f"wrote the public half of {key.named().shown} → {target}"


def _keep_out(patterns: Sequence[str]) -> str:
    quoted = ", ".join(f'"{pattern}"' for pattern in patterns)
    return f'keep it out with MYST_ROOTFS_EXCLUDE=[{quoted}], or set MYST_ROOTFS_LEFTOVERS="allow"'


def _unmatched(target: Any, source: Sequence[Any], trees: list[Tree]) -> Iterator[str]:
    """Yield what is to be told of modes that were asked for and that nothing has got."""
    asked: dict[str, list[Entry]] = {}
    for node, tree in zip(source, trees, strict=True):
        for pattern, _ in node.options.chmod:
            asked.setdefault(pattern, []).extend(tree.entries)
    if asked:
        from mystikos_tool.root.permissions import unmatched

        for pattern in unmatched(asked):
            yield f"{target}: MYST_ROOTFS_CHMOD has a mode for {pattern}, which no file in the root matches"


def _paths_in(target: Any, packed: Archive, unchanged: Collection[bytes]) -> list[str]:
    """Return what is to be told of programs whose bytes depend on where the build's directory lies."""
    top = target.fs.Top.get_abspath()
    files = checkout_path.found(packed, unchanged, top)
    return checkout_path.told(files, str(target), top, "set MYST_ROOTFS_STRIP=True") if files else []


def _stripping(target: Any) -> Stripping | None:
    patterns = stage_for(target, Packed).strip
    if not patterns:
        return None
    from mystikos_tool.root.stripped import Stripping

    return Stripping(patterns)


def _pack(target: Any, tree: Tree) -> tuple[Archive, Collection[bytes]]:
    """Pack an archive, and remember the file as it is now; return it and the paths of earlier data."""
    path, stripping = path_of(target), _stripping(target)
    before = _known_keys(path)
    alone = any(len(node.taken_by) == 1 for node in target.sources)  # no other root is made of the same
    packed, unchanged = IncrementalArchives(store()).pack(tree, path, stripping, alone=alone)
    for warning in stripping.warnings() if stripping else ():
        _warning_of(target)(warning)
    _remember(path)
    if before is not None and unchanged:
        from mystikos_tool.signing import root_keys

        _remember_keys(path, root_keys.in_changed(packed, unchanged, before))
    return packed, unchanged


def _remember(packed: Path) -> None:
    store().change(_PACKED, str(packed), fingerprint.of(packed.stat()))


def _prove_disks(enclave: Enclave) -> None:
    """Let disks of ours be what their sources make: what is trusted of them is measured and signed."""
    for node in dict.fromkeys((enclave.disk, *enclave.roothashes)):
        _prove_disk(node)


def _prove_disk(node: Any) -> None:
    disk = origin_of(node)
    stage = stage_of(disk)
    if not isinstance(stage, Disk):
        return
    path = path_of(disk)
    if store().table(_PACKED).get(str(path)) != fingerprint.of(path.stat()):
        trees = [source.take_tree() for source in stage.nodes]
        _write_disk(disk, trees, _joined(disk, trees))


def _prove(archive: Any) -> None:
    """Let an archive of ours be what its sources make: what is measured gets signed.

    The file that was packed is not looked into. Another one is, as in a tree that was copied.
    """
    path, stage = path_of(archive), stage_of(archive)
    if not isinstance(stage, Rootfs):
        return
    if store().table(_PACKED).get(str(path)) == fingerprint.of(path.stat()):
        return
    tree = join([node.take_tree() for node in archive.sources], later_wins=stage.overlay)
    with atomic.scratch(path) as directory:
        packed = directory / "rootfs"
        stripping = _stripping(archive)
        write(stripping.tree(tree) if stripping else tree, packed)
        if filecmp.cmp(packed, path, shallow=False):
            _remember(path)
            return
    _warning_of(archive)(f"{archive}: is not what its sources make; it is packed again")
    _pack(archive, tree)


def measure(target: Any, source: list[Any], env: Any) -> str:
    """Measure an enclave."""
    from mystikos_tool import pipeline
    from mystikos_tool.root.root import ArchiveRoot, DiskRoot
    from mystikos_tool.root.root import of as root_of
    from mystikos_tool.signing import root_keys

    stage = stage_for(target, Measurement)
    enclave, warn = stage.enclave, _warning_of(target)
    _prove(enclave.rootfs)
    _prove_disks(enclave)
    notes: list[str] = []
    inputs = _inputs(enclave, notes.append)
    with hints.pointing_to_mappings(enclave, inputs.config.application_path), partial.kept(target):
        if isinstance(inputs.root, ArchiveRoot):
            path = inputs.root.path
            if isinstance(root_of(path), DiskRoot):
                raise UserError(str(path), "is an ext2 disk", 'give MYST_ROOT="disk" if it is the root')
            inputs = inputs._replace(root=ArchiveRoot(path, IncrementalArchives(store()).read(path)))
        for warning in inputs.config.warnings:
            warn(warning)
        if not isinstance(stage_of(enclave.disk or enclave.rootfs), Disk):  # which tells it itself
            for warning in root_keys.told(_root_keys(inputs.root), _name_of_root(enclave), stage.secrets):
                warn(warning)
        for warning in root_keys.told_of_text(inputs.config.data, inputs.config.name, stage.secrets):
            warn(warning)
        pipeline.check_start(inputs, warn)
        measured = partial.measure(target, inputs)
        _write(target, measured.to_json())
    return "\n".join([*notes, f"measured MRENCLAVE {measured.mrenclave.hex()} → {target}"])


def sign(target: Any, source: list[Any], env: Any) -> str:
    """Sign an enclave image that was measured."""
    from mystikos_tool import pipeline
    from mystikos_tool.signing import root_keys

    stage = stage_for(target, Image)
    assert stage.key is not None  # noqa: S101 an attached image is made by another action
    with partial.kept(stage.measurement):
        measured, inputs = _measured(stage.measurement), _inputs(stage.enclave)
        day = pipeline.signing_day(stage.epoch)
        signs = _signer(target, stage.key)
        root_keys.refuse_signer(_root_keys(inputs.root), signs.modulus, _name_of_root(stage.enclave), signs)
        image, structure = pipeline.signed(measured, inputs.runtime, inputs.config, signs, day)
        _write(target, *image.pieces(structure), digest=image.digest(structure))
    return f"signed with {stage.key.named().shown} → {target}"


def digest(target: Any, source: list[Any], env: Any) -> str:
    """State what is to be signed elsewhere, and write its digest beside it."""
    if isinstance(stage_of(target), Digest):
        _write(target, _statement(path_of(source[0])).digest)
        return f"wrote the digest to be signed → {target}"
    from mystikos_tool import pipeline

    stage = stage_for(target, Stated)
    measured, inputs = _measured(stage.measurement), _inputs(stage.enclave)

    def state(day: date) -> Statement:
        return pipeline.state(measured, inputs.runtime, inputs.config, day)

    earlier = None if stage.epoch else _earlier(path_of(target))
    stated = state(pipeline.signing_day(stage.epoch))
    # What was stated, and perhaps signed already, keeps its date as long as it is the same enclave.
    if earlier and earlier == state(earlier.day):
        stated = earlier
    _write(target, stated.to_json())
    return f"stated what is to be signed, dated {stated.day.isoformat()} → {target}"


def _earlier(path: Path) -> Statement | None:
    """Return the statement of an earlier build, None where there is none."""
    try:
        return _statement(path)
    except UserError:
        return None


def _statement(path: Path) -> Statement:
    from mystikos_tool.signing.statement import Statement

    return Statement.from_json(atomic.read_input(path, "statement"), str(path))


def attach(target: Any, source: list[Any], env: Any) -> str:
    """Finish an enclave image with a signature that was made elsewhere."""
    from mystikos_tool.signing import root_keys
    from mystikos_tool.signing.statement import Signed

    stage = stage_for(target, Image)
    _, _, signature, key = map(path_of, source[:4])
    with partial.kept(stage.measurement):
        measured, inputs = _measured(stage.measurement), _inputs(stage.enclave)
        modulus = Signed.read(signature, key).modulus
        root_keys.refuse_signer(_root_keys(inputs.root), modulus, _name_of_root(stage.enclave))
        _write(target, _attached(target, measured, inputs))
    return f"attached {signature} → {target}"


def _attached(image: Any, measured: Measured, inputs: pipeline.Inputs) -> bytes:
    """Return the image of a node that a signature is attached to."""
    from mystikos_tool import pipeline
    from mystikos_tool.signing.statement import Signed

    _, statement, signature, key = map(path_of, image.sources[:4])
    signed = Signed.read(signature, key)
    return pipeline.attach(measured, inputs.runtime, inputs.config, _statement(statement), signed)


def _measured(node: Any) -> Measured:
    from mystikos_tool.enclave.measurement import Measurement as Measured

    path = path_of(node)
    return Measured.from_json(atomic.read_input(path, "measurement"), str(path))


def package(target: Any, source: list[Any], env: Any) -> str:
    """Append everything to the loader."""
    from mystikos_tool.io.content import FileContent

    inputs, image = _inputs(stage_for(target, Package).enclave), FileContent.of(path_of(source[0]))
    try:
        size = partial.finish(target, inputs, image)
    finally:
        partial.abort(target)
    return f"packaged {_shown_size(size)} → {target}"


def identity(target: Any, source: list[Any], env: Any) -> str:
    """Write MRENCLAVE of a measurement, MRSIGNER of a signed image or a disk's root hash, in hexadecimal."""
    from mystikos_tool import pipeline
    from mystikos_tool.enclave.measurement import Measurement as Measured
    from mystikos_tool.signing import trusted

    name, path = stage_for(target, Identity).measure, path_of(source[0])
    if name == "mrenclave":
        found = Measured.from_json(atomic.read_input(path, "measurement"), str(path)).mrenclave
    elif name == ROOT_HASH:
        found = trusted.load_root_hash(path)
    else:
        found = pipeline.identity(path).mrsigner
    _write(target, found.hex().encode() + b"\n")
    return f"{name.upper()} {found.hex()} → {target}"


def check(target: Any, source: list[Any], env: Any) -> str:
    """Look for what cannot work in an enclave, and write what is found."""
    from mystikos_tool.explain import check as checks
    from mystikos_tool.root.functions import SEVERITIES

    stage, warn = stage_for(target, Checked), _warning_of(target)
    if stage.rootfs:
        _prove(stage.rootfs)
    _prove_disk(stage.disk)
    config = _config(stage, warn) if stage.config else None
    is_package = isinstance(stage_of(source[0]), Package)
    disk = path_of(stage.disk) if is_package and stage.disk else None
    found = checks.check(path_of(source[0]), config, disk=disk)
    failing = SEVERITIES[: SEVERITIES.index(stage.fails) + 1] if stage.fails in SEVERITIES else ()
    rows = list(found.rows())
    for row in rows:
        if row.severity not in (*failing, "note"):
            warn(row.text)
    if failed := [str(row) for row in rows if row.severity in failing]:
        remedy = "mend this, or let MYST_CHECK_FAILS pass it:\n" + "\n".join(failed[:_MAX_ROWS])
        raise UserError(str(source[0]), "cannot work in an enclave", remedy)
    _write(target, found.to_json().encode() + b"\n")
    return f"checked {found.summary()} → {target}"


def report(target: Any, source: list[Any], env: Any) -> str:
    """Show what is in a package, as text, JSON, HTML or SVG."""
    from mystikos_tool.explain import report as reports

    found = reports.report(path_of(source[0]))
    form = stage_for(target, Report).form
    if form in ("html", "svg"):
        from mystikos_tool.explain import page

        shown = page.of_report(found) if form == "html" else page.picture_of(found)
    else:
        shown = found.to_json() if form == "json" else found.to_text()
    _write(target, shown.encode() + b"\n")
    return f"showed {source[0]} → {target}"


def policy(target: Any, source: list[Any], env: Any) -> str:
    """Write what a relying party holds the enclave of a package to, which is verified first."""
    from mystikos_tool import proof

    stage = stage_for(target, Policy)
    found = proof.policy(path_of(source[0]), any_version=stage.any_version)
    if found.debug:
        _warning_of(target)(
            f"{target}: accepts an enclave that may be debugged, all of which its host can read"
        )
    _write(target, found.render(stage.form).encode())
    return f"wrote the policy of {source[0]} → {target}"


def sbom(target: Any, source: list[Any], env: Any) -> str:
    """Write the bill of materials of a package."""
    from mystikos_tool.explain import sbom as boms

    _write(target, boms.of_package(path_of(source[0])).encode() + b"\n")
    return f"listed what is in {source[0]} → {target}"


def provenance(target: Any, source: list[Any], env: Any) -> str:
    """State of what a package was made, once its enclave was measured anew."""
    from mystikos_tool import __version__
    from mystikos_tool.explain import dsse
    from mystikos_tool.explain import provenance as statements

    stage, package = stage_for(target, Provenance), path_of(source[0])
    inputs, top = _inputs(stage.enclave), Path(target.fs.Top.get_abspath())
    builder = f"pkg:pypi/mystikos-tool@{__version__}"
    stated = statements.of(package, inputs, None, _parameters(stage.enclave, inputs, top), builder).to_json()
    if stage.key:
        stated = dsse.sealed(stated, _signer(target, stage.key))
    _write(target, stated)
    return f"stated what made {package} → {target}"


def _parameters(enclave: Enclave, inputs: pipeline.Inputs, top: Path) -> Parameters:
    """Return how a package was asked for, its inputs by their names below the top of the build."""
    from mystikos_tool.explain import provenance as statements
    from mystikos_tool.runtime import PREBUILT

    def names(nodes: Iterable[Any]) -> tuple[str, ...]:
        return tuple(statements.name_of(top / path_of(node), top) for node in nodes)

    given = enclave.given
    own_config = given is not None and given.variable == CONFIG
    directory = (top / inputs.runtime.loader).parents[1]
    compiled = stage_of(enclave.runtime[0])
    is_own = directory == PREBUILT or (isinstance(compiled, RuntimeImage) and not compiled.compiler)
    return statements.Parameters(
        source=names([enclave.rootfs])[0] if enclave.rootfs else None,
        config=None if own_config else names([enclave.config])[0],
        settings=given.values if given else {},
        runtime=statements.EMBEDDED if is_own else statements.name_of(directory, top),
        pubkeys=names(enclave.pubkeys),
        roothashes=names(enclave.roothashes),
    )


def _root_keys(root: Root) -> list[RootKey]:
    """Return the private keys in a root, which is looked through once as long as it is the same file."""
    from mystikos_tool.signing import root_keys

    if root.path is None:
        return []
    keys = _known_keys(root.path)
    if keys is None:
        keys = root_keys.of(root)
        _remember_keys(root.path, keys)
    return keys


def _name_of_root(enclave: Enclave) -> str:
    return str(enclave.rootfs or enclave.disk)


def _known_keys(archive: Path) -> list[RootKey] | None:
    """Return the private keys in an archive that was looked through as it is now; None in another one."""
    known = store().table(_ROOT_KEYS).get(str(archive))
    if not known or not lookup.exists(archive) or known[0] != fingerprint.of(archive.stat()):
        return None
    from mystikos_tool.signing.root_keys import RootKey

    return [RootKey(*key) for key in known[1]]


def _remember_keys(archive: Path, keys: list[RootKey]) -> None:
    known = fingerprint.of(archive.stat()), [tuple(key) for key in keys]
    store().change(_ROOT_KEYS, str(archive), known)


class Expected(NamedTuple):
    """What a package has that is not made here: its root, at ``offset`` in it, and its measurement.

    ``modulus`` is that of the key that has to have signed it, None where a signature is attached.
    """

    root: Unwritten
    offset: int
    measured: Measured
    modulus: int | None


def expect(target: Any, package: Arriving | FileContent) -> Expected | None:
    """Find out what a package has to have, while it comes; None where its own stages find it out.

    Raises UserError as they do, and DifferentError for a package with another root.
    """
    from mystikos_tool import pipeline
    from mystikos_tool.root.archive import Held, Unwritten

    stage = stage_for(target.sources[0], Image)
    enclave = stage_for(target, Package).enclave
    if enclave.rootfs is None or enclave.rootfs not in intermediates.unmade(target):
        return None
    _prove_disks(enclave)
    root, inputs = Unwritten(_tree_as_packed(enclave.rootfs)), _inputs(enclave)
    modulus, (offset, size) = _modulus(stage), pipeline.place_of_root(inputs, root.size)
    if package.size != size:
        raise DifferentError
    held = Held(root.tree, package, offset)
    measured = pipeline.measure_unchecked(inputs, held)
    if not held.is_same:
        raise DifferentError
    return Expected(root, offset, measured, modulus)


def is_package(target: Any, path: Path) -> bool:
    """Tell whether a file is, byte for byte, the package that this build would make."""
    from mystikos_tool import pipeline
    from mystikos_tool.io.content import FileContent
    from mystikos_tool.packaging import sections

    inputs, unmade = _inputs(stage_for(target, Package).enclave), intermediates.unmade(target)
    if not unmade:
        image: Content = FileContent.of(path_of(target.sources[0]))
        return sections.is_made_of(path, inputs.runtime.loader, pipeline.package_parts(inputs, image))
    return _is_package_of_sources(target, path, inputs, unmade)


def _is_package_of_sources(target: Any, path: Path, inputs: pipeline.Inputs, unmade: Collection[Any]) -> bool:
    """Tell the same where the image is not made here, nor perhaps what it is made of."""
    from mystikos_tool import pipeline
    from mystikos_tool.io.content import Bytes, FileContent
    from mystikos_tool.packaging import sections
    from mystikos_tool.packaging.opened import OpenedPackage
    from mystikos_tool.root.root import ArchiveRoot

    enclave, stage = stage_for(target, Package).enclave, stage_for(target.sources[0], Image)
    expected = intermediates.expected(target) or expect(target, FileContent.of(path))
    opened = OpenedPackage(path)
    if expected:
        content = FileContent(path, expected.root.size, expected.offset)
        packed = Archive(opened.where(sections.ROOTFS), content, tuple(expected.root.members))
        inputs, measured = inputs._replace(root=ArchiveRoot(path, packed)), expected.measured
        modulus = expected.modulus
    else:
        _prove_disks(enclave)
        if enclave.rootfs:
            _prove(enclave.rootfs)
        is_unmade = stage.measurement in unmade
        measured = pipeline.measure_unchecked(inputs) if is_unmade else _measured(stage.measurement)
        modulus = _modulus(stage)
    image = _image_signed_elsewhere(target.sources[0], measured, inputs, opened.sigstruct, modulus)
    parts = pipeline.package_parts(inputs, Bytes(image))
    if not sections.is_made_of(path, inputs.runtime.loader, parts):
        return False
    digests = (hashlib.sha256(content).hexdigest() for content in (measured.to_json(), image))
    intermediates.prove(target, intermediates.Contents(*digests))
    return True


def _tree_as_packed(archive: Any) -> Tree:
    """Return the tree that an archive is made of, with the files that are stripped on their way."""
    stripping = _stripping(archive)
    tree = join([node.take_tree() for node in archive.sources], later_wins=stage_for(archive, Rootfs).overlay)
    return stripping.tree(tree) if stripping else tree


def _modulus(image: Image) -> int | None:
    """Return the modulus of who signs an image here, None where a signature is attached."""
    return image.key.signer().modulus if image.key else None


def _image_signed_elsewhere(
    node: Any, measured: Measured, inputs: pipeline.Inputs, structure: bytes, modulus: int | None
) -> bytes:
    """Return the image of a node with the signature in a SIGSTRUCT, unless that is another's: UserError.

    It has to be by the key of ``modulus``, over what was measured here and dated as this build dates it.
    """
    from mystikos_tool import pipeline
    from mystikos_tool.signing.statement import Signed

    stage = stage_for(node, Image)
    if modulus is None:
        return _attached(node, measured, inputs)
    day = pipeline.signing_day(stage.epoch)
    statement = pipeline.state(measured, inputs.runtime, inputs.config, day)
    signed = Signed.of(structure, modulus, str(node))
    return pipeline.attach(measured, inputs.runtime, inputs.config, statement, signed)


def key(target: Any, source: list[Any], env: Any) -> str:
    """Make a key, unless there is one."""
    from mystikos_tool.signing import pem

    path = path_of(target)
    if lookup.exists(path):
        pem.load(path)
        return f"kept the key → {path}"
    pem.generate(path)
    return f"made a development key → {path}"


def runtime(target: Any, source: list[Any], env: Any) -> str:
    """Compile one image of the embedded runtime."""
    from mystikos_tool.runtime import build, digests

    stage = stage_for(target, RuntimeImage)
    path = Path(target.get_abspath())
    build.compile_image(build.IMAGE_BY_OUTPUT[stage.output], path, stage.compiler or None)
    if not stage.compiler:
        digests.check(path.parents[stage.output.count("/")], stage.output)
    return f"compiled {_shown_size(path.stat().st_size)} → {target}"


STAGES: Mapping[str, Callable[[Any, list[Any], Any], str]] = {
    function.__name__: function
    for function in (
        *(rootfs, disk, publickey, measure, sign, digest, attach, package, identity, check, key, runtime),
        *(report, policy, sbom, provenance),
    )
}


def _write(target: Any, *content: bytes | memoryview, digest: str = "") -> None:
    """Write a target's content; ``digest`` is its SHA-256 in hexadecimal where that is known.

    It is not read again to be compared later.
    """
    with atomic.writing(path_of(target)) as file:
        file.writelines(content)
    stage_for(target, Stage).digest = digest or sha256(content).hex()


def _inputs(enclave: Enclave, tell: Callable[[str], object] = str) -> pipeline.Inputs:
    """Return what an enclave is made of; what of its configuration an image says is told."""
    from mystikos_tool import pipeline
    from mystikos_tool.root.root import ArchiveRoot, DiskRoot
    from mystikos_tool.runtime import Runtime

    disk = path_of(enclave.disk) if enclave.disk else None
    return pipeline.Inputs(
        runtime=Runtime(*map(path_of, enclave.runtime)),
        config=_config(enclave, tell),
        root=ArchiveRoot(path_of(enclave.rootfs)) if enclave.rootfs else DiskRoot(disk),
        pubkeys=[path_of(node) for node in enclave.pubkeys],
        roothashes=[path_of(node) for node in enclave.roothashes],
    )


def _config(enclave: Enclave | Checked, tell: Callable[[str], object]) -> Config:
    from mystikos_tool import config
    from mystikos_tool.cache.configurations import KnownInStore

    given, start = enclave.given, _start(enclave.rootfs)
    defaults = start.telling(tell) if start else None
    if given is None and defaults is None:
        return _config_of_file(path_of(enclave.config))
    # What is wrong with a member is told with the places that it may come from.
    where = " or ".join([*([given.variable] if given else []), *([start.where] if start else [])])
    if given and given.variable == CONFIG:
        return config.of(given.values, where, KnownInStore(store()), defaults)
    changes = config.Changes(given.values if given else {}, where, defaults)
    return config.load(path_of(enclave.config), KnownInStore(store()), changes)


def _start(rootfs: Any) -> Start | None:
    """Return what the one image of a root says of its program; None where there is none, or several."""
    sources = rootfs.sources if isinstance(stage_of(rootfs), Rootfs) else ()
    starts = [start for node in sources if (start := node.start())]
    return starts[0] if len(starts) == 1 else None


@kept(_CONFIGURATIONS)
def _config_of_file(path: Path) -> Config:
    from mystikos_tool import config
    from mystikos_tool.cache.configurations import KnownInStore

    return config.load(path, KnownInStore(store()))


def _warning_of(target: Any) -> Callable[[str], None]:
    """Return what prints a warning about a target."""
    return lambda text: blame.warn(text, call_of(target))


def _shown_size(size: int) -> str:
    """Return a number of bytes for people: ``200.1 MB``."""
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size} bytes"
