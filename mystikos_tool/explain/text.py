"""A difference as lines for people."""

from __future__ import annotations

from collections.abc import Iterator

from mystikos_tool.explain.difference import Change, Difference, Side
from mystikos_tool.explain.roots import FileChange, RootDifference
from mystikos_tool.explain.stream import AreaChange

_MAX_FILES = 50
_MARKS = {"only in A": "-", "only in B": "+"}


def of(difference: Difference) -> str:
    """Return the lines of a difference, the answer first; everything in them is fit to be printed."""
    return "\n".join(_lines(difference))


def _lines(found: Difference) -> Iterator[str]:
    yield headline(found)
    yield from (_side(name, side) for name, side in (("A", found.a), ("B", found.b)))
    for note in found.notes:
        yield f"note: {note}"
    if found.causes:
        yield "\nlikely causes"
        for cause in found.causes:
            more = f", and {cause.count - len(cause.places)} more" if cause.count > len(cause.places) else ""
            yield f"  {cause.cause}: {', '.join(cause.places)}{more}"
            yield f"    remedy: {cause.remedy}"
    if operation := found.first_operation:
        yield f"\nfirst different operation: {operation.name} at {operation.offset:#x} ({operation.area})"
        yield f"  A: {operation.a or 'nothing'}"
        yield f"  B: {operation.b or 'nothing'}"
    if found.root and not found.root.same:
        yield from _root(found.root)
    yield from _changes("configuration", found.configuration)
    yield from _changes("record of the enclave image", found.record)
    for component in found.components:
        yield f"\n{component.name}: {_sizes(component.size_a, component.size_b)}"
        for section in component.sections:
            shown = section_change(section.size_a, section.size_b, section.first_byte)
            yield f"  {section.name}: {shown}"
        if not component.sections:
            yield "  headers, or what no section covers"
    yield from _changes("trusted on disks", found.trusted)
    yield from _changes("signature, which is not measured", found.signature)
    programs = [found.host_program] if found.host_program else []
    yield from _changes("host program, which is not measured", programs)
    if found.areas:
        yield "\nareas of the enclave"
        width = max(len(area.name) for area in found.areas)
        yield from (f"  {area.name:{width}}  {area_change(area)}" for area in found.areas)


def headline(found: Difference) -> str:
    """Return the answer in one line."""
    is_root = found.a.mrenclave is None and found.b.mrenclave is None
    if not found.same:
        return "another root file system" if is_root else "another enclave"
    if is_root:
        return "the same root file system"
    unmeasured = ["signer" if one.name == "mrsigner" else one.name for one in found.signature]
    unmeasured += ["host program"] * bool(found.host_program)
    if unmeasured:
        return f"the same enclave: only {', '.join(unmeasured)} differ" + "s" * (len(unmeasured) == 1)
    return "the same enclave"


def _side(name: str, side: Side) -> str:
    facts = [side.kind]
    if side.mrenclave:
        facts.append(f"MRENCLAVE {side.mrenclave}")
    if side.date:
        facts.append(f"signed on {side.date[:4]}-{side.date[4:6]}-{side.date[6:]}")
    return f"{name}: {side.path} ({', '.join(facts)})"


def _root(root: RootDifference) -> Iterator[str]:
    yield f"\nroot file system: {root.changed:,} different; {root.count_a:,} in A, {root.count_b:,} in B"
    for change in root.files[:_MAX_FILES]:
        yield from _file(change)
    if root.changed > _MAX_FILES:
        yield f"  and {root.changed - _MAX_FILES:,} more"
    if root.order:
        yield f"  the order of files is another one from {root.order} on"
    for name, count in root.fields.items():
        yield f"  the field {name} in the archive's headers differs, {count:,} times"
    if root.elsewhere:
        yield "  only what lies between files differs, as padding"


def _file(change: FileChange) -> Iterator[str]:
    mark = _MARKS.get(change.changes[0], "*")
    yield f"  {mark} {change.path}: {file_change(change)}"
    yield from (f"      {line}" for line in change.text)
    for section in change.sections:
        shown = section_change(section.size_a, section.size_b, section.first_byte)
        yield f"      section {section.name}: {shown}"


def file_change(change: FileChange) -> str:
    """Say what of a file differs, and where."""
    a, b = change.a, change.b
    if a is None or b is None:
        side = a or b
        return f"{change.changes[0]}, {side.type}, {side.size:,} bytes" if side else change.changes[0]
    said = []
    for what in change.changes:
        if what == "content":
            page = f"page {a.page:#x}" if a.page == b.page else f"pages {a.page:#x} and {b.page:#x}"
            size = "" if a.size == b.size else f", {_sizes(a.size, b.size)}"
            said.append(f"content from byte {change.first_byte or 0:,} ({page} of the root){size}")
        else:
            said.append(f"{what} {getattr(a, what)} in A, {getattr(b, what)} in B")
    return "; ".join(said)


def section_change(a: int | None, b: int | None, first_byte: int | None) -> str:
    """Say what of a section differs."""
    if a is None or b is None:
        return f"only in {'B' if a is None else 'A'}, {a or b or 0:,} bytes"
    where = "" if first_byte is None else f", from byte {first_byte:,}"
    return _sizes(a, b) + where


def area_change(area: AreaChange) -> str:
    """Say what of an area of the enclave differs."""
    a, b = area.a, area.b
    if a is None or b is None:
        return f"only in {'B' if a is None else 'A'}"
    said = []
    if a.offset != b.offset:
        said.append(f"at {a.offset:#x} in A, at {b.offset:#x} in B")
    if a.size != b.size:
        said.append(_sizes(a.size, b.size))
    if area.first_page is not None:
        count, at = area.different_pages, f"{a.offset + area.first_page:#x}"
        if count is None:
            said.append(f"pages differ from {at} on")
        else:
            said.append(
                f"one page differs, at {at}" if count == 1 else f"{count:,} pages differ, the first at {at}"
            )
    return "; ".join(said)


def _sizes(a: int, b: int) -> str:
    return f"{a:,} bytes" if a == b else f"{a:,} bytes in A, {b:,} in B"


def _changes(title: str, changes: list[Change]) -> Iterator[str]:
    if changes:
        yield f"\n{title}"
    for change in changes:
        yield f"  {change.name}: {_said(change.a)} in A, {_said(change.b)} in B"


def _said(value: object) -> str:
    return "nothing" if value is None else str(value)
