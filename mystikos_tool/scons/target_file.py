"""The files that the stages make: their digests are remembered, so that nothing is read to compare it."""

from __future__ import annotations

import hashlib
from typing import Any

import SCons.Node
import SCons.Node.FS

from mystikos_tool.printable import few
from mystikos_tool.scons import blame, intermediates, scons_internals, settled
from mystikos_tool.scons.database import content_digest
from mystikos_tool.scons.input_node import InputNode, is_made_of
from mystikos_tool.scons.stages import (
    CACHED,
    Disk,
    Image,
    Measurement,
    Package,
    Stage,
    awaited,
    call_of,
    mark,
    stage_of,
)


class TargetFile(SCons.Node.FS.File):  # type: ignore[misc]
    """A file that a stage makes.

    What its stage's ``made_of`` names decides the content: then the digest is that of the names
    and of the nodes' signatures, and the file, however large, is never read. It is compared by the
    digest whatever the environment's Decider: SCons' timestamps count seconds, in which a stage may
    run twice.
    """

    __slots__ = ()

    def rfile(self) -> TargetFile:
        """Return the file itself, never that of a repository: a key signs what this build has made."""
        return self

    def get_csig(self) -> str:
        """Return the digest in hexadecimal; of nothing where there is no file."""
        if scons_internals.was_only_told_of(self):
            return scons_internals.NOT_MADE
        info = self.get_ninfo()
        try:
            return str(info.csig)
        except AttributeError:
            pass
        info.csig = self._made_of() or self._just_made() or self.get_content_hash()
        return str(info.csig)

    def _made_of(self) -> str | None:
        stage = stage_of(self)
        if not (stage and stage.made_of):
            return None
        words = [part if isinstance(part, str) else part.get_csig() for part in stage.made_of]
        return hashlib.sha256("\n".join(words).encode()).hexdigest()

    def _just_made(self) -> str:
        """Return the digest of what the stage has written, once: the file may be another one later.

        What a post-action of the user's makes of the file is read.
        """
        stage = stage_of(self)
        if not (stage and stage.digest) or scons_internals.is_changed_afterwards(self):
            return ""
        digest, stage.digest = stage.digest, ""
        return str(digest)

    def get_content_hash(self) -> str:
        """Return the SHA-256 of the content in hexadecimal; of nothing where there is no file."""
        return content_digest(self)

    def get_max_drift_csig(self) -> str:
        """Return nothing: what stat says decides whether a file is read again, however old it is."""
        return ""

    def scan(self) -> None:
        """Find the programs of the user's pre- and post-actions, and what has to be made before.

        What one stage of a call waits for is made before the first of them. No scanner has anything to
        find in what a stage is made of. SCons forgets this when a source was made, and asks again.
        """
        if self.implicit is None:
            stage = stage_of(self)
            for source in self.sources:
                if isinstance(source, InputNode):
                    source.settle()
            scons_internals.scanned(self, scons_internals.programs_of_added_actions(self))
            before = awaited(self) if stage and stage.added_for else []
            if required := [node for node in before if not is_made_of(node, self)]:
                self.add_prerequisite(required)
            if isinstance(stage, Package):
                settled.look_at(self)

    def made_before(self) -> list[Any]:
        """Return what has to be made before the file, although it is not made of that."""
        found, required = self._intermediates(), self.prerequisites or []
        return [*required, *found.parts] if found and self is found.nodes[0] else required

    def make_ready(self) -> None:
        """Do nothing: what a build needs to know is found out when there is one."""

    def is_there(self) -> bool:
        """Tell whether nothing is to be made: it is up to date, or fetched already."""
        if self.get_state() == SCons.Node.up_to_date:
            return True
        found = self._intermediates()
        return found is not None and self is found.package and found.fetched() is True

    def prepare(self) -> None:
        """Prepare to be made, unless there is nothing to make."""
        if not self.is_there():
            super().prepare()

    def is_up_to_date(self) -> bool:
        """Tell whether there is nothing to make, as of what only a package needs that is there."""
        if settled.is_settled(self):
            return True
        found = self._intermediates()
        return bool((found and found.spare(self)) or super().is_up_to_date())

    def missing(self) -> bool:
        """Tell whether the file is neither there nor made; who asks is about to read it."""
        found = self._intermediates()
        if found and self in found.unmade:
            found.make()
        return bool(super().missing())

    def built(self) -> None:
        """Remember what was made, where something was."""
        if not self._is_spared():
            super().built()

    def _is_spared(self) -> bool:
        found = self._intermediates()
        return bool(found and self in found.unmade)

    def _intermediates(self) -> intermediates.Intermediates | None:
        """Return what of this file and its neighbours need not be made; None where there are no such."""
        return intermediates.of(self)

    def named(self, message: str) -> str:
        """Return a message with the call that described the file."""
        return blame.named(message, call_of(self))

    def changed(self, node: Any = None, allowcache: bool = False) -> bool:
        """Tell whether the file has to be made.

        SCons asks twice; from when all children are ready the answer stays the same.
        """
        ready = node is None and self.get_state() == SCons.Node.pending
        return bool(super().changed(node, allowcache or ready)) or self._is_damaged()

    def _is_damaged(self) -> bool:
        """Tell whether the file is not the one that was made, as after a power failure or by another's hand.

        Of a small file the content tells, of others the size, and of a disk, of which nothing that is made
        of it needs to read more than the end, the time. A key must not sign what no build has made.
        """
        made = self.get_stored_info().ninfo
        if getattr(made, "size", None) is None or not self.exists():
            return False
        if made.size != self.get_size():
            return True
        stage = stage_of(self)
        if isinstance(stage, Disk):
            return bool(made.timestamp != self.get_timestamp())
        return not (stage and stage.made_of) and bool(made.csig != self.get_csig())

    def retrieve_from_cache(self) -> bool:
        """Take the file from SCons' cache; of an intermediate, take the package that it is for."""
        found = self._intermediates()
        if found is None or (self is found.package and found.fetched() is None):
            return self.take_from_cache()
        return found.fetched() is True if self is found.package else found.fetch_at(self)

    def take_from_cache(self) -> bool:
        """Take the file itself from SCons' cache, unless it is not what this build would make."""
        if not super().retrieve_from_cache():
            return False
        if scons_internals.only_tells():
            return True
        from mystikos_tool.scons import acceptance, remote_cache

        is_proved = isinstance(self.get_build_env().get_CacheDir(), remote_cache.RemoteCache)
        return acceptance.accepted(self, is_proved=is_proved)

    def release_target_info(self) -> None:
        """Release nothing: to find out what can be released costs more than it holds."""

    def visited(self) -> None:
        """Store what is known of the file, unless the database says the same already.

        Where nothing changes, SCons then need not serialize its entries anew. It calls this again
        for what it has found to be up to date.
        """
        if settled.is_settled(self) or self._is_spared():
            return
        state = self.get_state()
        asked = state != SCons.Node.pending or scons_internals.fills_cache()
        if state != SCons.Node.up_to_date and (asked or not self._is_stored()):
            super().visited()
        if state == SCons.Node.up_to_date and isinstance(stage_of(self), Package):
            settled.confirm(self)

    def _is_stored(self) -> bool:
        known, stored = self.get_ninfo(), self.get_stored_info()
        known.timestamp, known.size = self.get_timestamp(), self.get_size()
        version = (self.get_csig(), known.timestamp, known.size)
        return version == _version(stored.ninfo) and _children(self) == _stored_children(stored.binfo)

    def explain(self) -> Any:
        """Return why the file is made again, naming what changed in a directory that it is made of."""
        found = self._intermediates()
        if found and self is found.package and found.reason:
            return found.reason
        inputs = {str(child): child for child in self.sources if isinstance(child, InputNode)}
        stored = self.get_stored_info().binfo
        if hasattr(stored, "bsources"):
            # The database keeps names; SCons would take them for the names of values.
            stored.bsources = [inputs.get(name, name) for name in stored.bsources]
        text = super().explain()
        for name, node in inputs.items():
            if text and node.changed_paths:
                text = text.replace(f"`{name}' changed\n", f"`{name}' changed: {few(node.changed_paths)}\n")
        return text

    def get_cachedir_csig(self) -> str:
        """Return the digest by which a cache finds what is made of the file.

        That of a measurement or signed image follows from what it is made of, before it is made.
        """
        stage = stage_of(self)
        if isinstance(stage, Image):
            return f"{self.get_cachedir_bsig()} {stage.day()}"
        return str(self.get_cachedir_bsig()) if isinstance(stage, Measurement) else self.get_csig()


def _version(info: Any) -> tuple[Any, ...]:
    """Return what is stored of a file beside what it was made of."""
    return tuple(getattr(info, name, None) for name in ("csig", "timestamp", "size"))


def _children(node: Any) -> list[str]:
    return [str(child) for child in (*node.sources, *node.depends, *(node.implicit or ()))]


def _stored_children(info: Any) -> list[str]:
    """Return the names of what a file was made of, in the order of :func:`_children`."""
    lists = (getattr(info, name, ()) for name in ("bsources", "bdepends", "bimplicit"))
    return [str(child) for children in lists for child in children]


def target_file(node: Any, stage: Stage) -> Any:
    """Make a file node the target of a stage."""
    if not isinstance(node, TargetFile):
        node.__class__ = TargetFile
        node.changed_since_last_build = scons_internals.BY_SIGNATURE
    if not isinstance(stage, CACHED):
        node.set_nocache()
    mark(node, stage)
    return node
