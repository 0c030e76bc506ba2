"""What of a root cannot work in an enclave: of an application directory, an archive, a disk or a package."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from mystikos_tool import config as config_reader
from mystikos_tool.config import Config
from mystikos_tool.errors import UserError
from mystikos_tool.explain.subject import Subject, subject
from mystikos_tool.packaging import sections
from mystikos_tool.printable import few, printable
from mystikos_tool.root import root
from mystikos_tool.root.disk.index import DiskIndex
from mystikos_tool.root.functions import SEVERITIES, Severity
from mystikos_tool.root.index import Index
from mystikos_tool.root.suitability import Finding, findings

# The schema of what to_json returns.
SCHEMA = Path(__file__).with_name("check.schema.json")

FORMAT = 1
MAX_FINDINGS = 10_000
_SHOWN = 3
_WIDTH = max(map(len, SEVERITIES))


class Row(NamedTuple):
    """A row of the table: a severity, and which files, what is wrong with them and what to do."""

    severity: Severity
    text: str

    def __str__(self) -> str:
        return f"{self.severity:{_WIDTH}}  {self.text}"


@dataclass(frozen=True)
class Check:
    """What was found of a root, the severest first; ``left_out`` is the number of more that there are.

    ``path`` is what was checked, ``configuration`` whether there was one to hold it to.
    """

    path: str
    configuration: bool
    findings: tuple[Finding, ...]
    left_out: int = 0

    def fails(self, at: Severity = "error") -> bool:
        """Tell whether there is a finding of a severity, or of a higher one."""
        failing = SEVERITIES[: SEVERITIES.index(at) + 1]
        return any(finding.severity in failing for finding in self.findings)

    def to_json(self) -> str:
        """Return one JSON object as :data:`SCHEMA` describes it."""
        document = {
            "format": FORMAT,
            "path": self.path,
            "configuration": self.configuration,
            "counts": self._counts(),
            "left_out": self.left_out,
            "findings": [finding._asdict() for finding in self.findings],
        }
        return json.dumps(document, indent=1)

    def to_text(self) -> str:
        """Return a table for people, one line for what is the same of several files."""
        return "\n".join([*map(str, self.rows()), self.summary()])

    def rows(self) -> Iterator[Row]:
        """Yield the rows of the table, one for what is the same of several files."""
        places: dict[tuple[Severity, str, str], list[str]] = {}
        for finding in self.findings:
            places.setdefault((finding.severity, finding.problem, finding.remedy), []).append(finding.where)
        for (severity, problem, remedy), where in places.items():
            yield Row(severity, f"{few(where, _SHOWN)}: {problem}; {remedy}")

    def summary(self) -> str:
        """Return the numbers of findings by severity, as a line."""
        counts = [f"{number:,} {name}{'' if number == 1 else 's'}" for name, number in self._counts().items()]
        more = f", and {self.left_out:,} more that are not shown" if self.left_out else ""
        return f"{self.path}: {', '.join(counts)}{more}"

    def _counts(self) -> dict[str, int]:
        counts = Counter(finding.severity for finding in self.findings)
        return {severity: counts[severity] for severity in SEVERITIES}


def check(
    path: Path,
    config: Config | None = None,
    *,
    disk: Path | None = None,
    exclude: tuple[str, ...] = (),
    preserve_modes: bool = False,
) -> Check:
    """Check an application directory, an archive, a disk, a package or a signed directory.

    The last two have a configuration, which ``config`` stands in place of; ``disk`` is the root where it
    is on one. ``exclude`` and ``preserve_modes`` say how a directory is packed. Raises UserError for what is
    nothing of these or cannot be read, and for a package whose root is on a disk that is not given.
    """
    if isinstance(root.of(path), root.DiskRoot):
        if disk:
            raise UserError(str(path), "is a disk itself", "give one disk")
        return _checked(path, DiskIndex(path), config)
    with subject(path, exclude=exclude, preserve_modes=preserve_modes) as found:
        config = config or _configuration(found)
        if disk and (found.opened is None or found.archive is not None):
            raise UserError(str(path), "has its root on no disk", "leave the disk out")
        if disk:
            return _checked(path, DiskIndex(disk), config)
        if found.archive is None:
            problem = "holds no root that could be looked into"
            raise UserError(str(path), problem, "give the disk, directory or archive of its root")
        return _checked(path, found.archive, config)


def _checked(path: Path, index: Index, config: Config | None) -> Check:
    every = findings(index, config, is_disk=isinstance(index, DiskIndex))
    kept = [_shown(finding) for finding in islice(every, MAX_FINDINGS)]
    kept.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    return Check(printable(str(path)), config is not None, tuple(kept), sum(1 for _ in every))


def _configuration(found: Subject) -> Config | None:
    if found.opened is None:
        return None
    return config_reader.parse(found.opened.config, found.opened.where(sections.CONFIG))


def _shown(finding: Finding) -> Finding:
    texts = (finding.where, finding.problem, finding.remedy)
    where, problem, remedy = (printable(text, 4096) for text in texts)
    return finding._replace(where=where, problem=problem, remedy=remedy)
