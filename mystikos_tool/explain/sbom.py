"""The software bill of materials of a package: CycloneDX 1.6, the same bytes for the same package.

It needs cyclonedx-python-lib, an extra.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timezone
from pathlib import Path

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component as Listed
from cyclonedx.model.component import ComponentType
from cyclonedx.model.license import DisjunctiveLicense
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL

from mystikos_tool.errors import UserError
from mystikos_tool.explain.components import Component, components
from mystikos_tool.explain.report import Report, report
from mystikos_tool.explain.subject import archive_of
from mystikos_tool.packaging import opened, sections

_PREFIX = "mystikos-tool:"
_RUNTIME = {
    "mystenc.so": sections.ENCLAVE,
    "libmystcrt.so": sections.CRT,
    "libmystkernel.so": sections.KERNEL,
}


def of_package(path: Path) -> str:
    """Return the bill of materials of a package or a signed directory as JSON, in the form 1.6 of CycloneDX.

    Its components are its runtime, what its root tells of its packages, and its files. Raises UserError
    for what cannot be read, and for a package whose root is a disk: it does not hold the files.
    """
    root = archive_of(opened.of(path))
    if root is None:
        problem = "has its root on a disk, and of what is there a list would say nothing"
        raise UserError(str(path), problem, "list the directory that the disk is made of, as with syft")
    return _sbom(report(path), components(root))


def _sbom(report: Report, components: list[Component]) -> str:
    """Return a bill of materials.

    Its time is the date of the signature; its serial number follows from MRENCLAVE and MRSIGNER.
    """
    identity = report.inspection.identity
    whole = _package(report)
    listed = [*_runtime(report), *_components(components), *_files(report)]
    bom = Bom(
        components=listed,
        serial_number=uuid.uuid5(uuid.NAMESPACE_OID, (identity.mrenclave + identity.mrsigner).hex()),
    )
    bom.metadata.timestamp = _day(report.inspection.date)
    bom.metadata.component = whole
    bom.register_dependency(whole, listed)
    return str(make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=1))


def _day(date: str) -> datetime:
    """Return the time of a signature's date, which a hostile package need not have right."""
    try:
        return datetime.strptime(date, "%Y%m%d").replace(tzinfo=timezone.utc)
    except ValueError:
        return datetime.fromtimestamp(0, timezone.utc)


def _package(report: Report) -> Listed:
    identity = report.inspection.identity
    facts = {
        "mrenclave": identity.mrenclave.hex(),
        "mrsigner": identity.mrsigner.hex(),
        "product_id": str(identity.product_id),
        "security_version": str(identity.security_version),
        "debug": str(identity.debug).lower(),
    }
    return Listed(
        name=report.path.rpartition("/")[2],
        type=ComponentType.APPLICATION,
        bom_ref="package",
        properties=[Property(name=_PREFIX + name, value=value) for name, value in facts.items()],
    )


def _runtime(report: Report) -> list[Listed]:
    digests = report.inspection.sections
    return [
        Listed(
            name=name,
            type=ComponentType.LIBRARY,
            bom_ref=f"runtime:{name}",
            hashes=[_sha256(digests[section].sha256)],
        )
        for name, section in _RUNTIME.items()
    ]


def _components(found: Iterable[Component]) -> list[Listed]:
    """Return components, each with a name of its own: where two had one the library would make up another."""
    times: Counter[str] = Counter()
    listed = []
    for each in map(_component, found):
        name = str(each.bom_ref.value)
        if times[name]:
            each.bom_ref.value = f"{name}#{times[name]}"
        times[name] += 1
        listed.append(each)
    return listed


def _component(found: Component) -> Listed:
    qualifiers = {"arch": found.architecture} if found.architecture else {}
    url = PackageURL(found.kind, found.namespace, found.name, found.version, qualifiers)
    return Listed(
        name=found.name,
        group=found.namespace,
        version=found.version,
        type=ComponentType.LIBRARY,
        bom_ref=f"{url.to_string()}#{found.source}",
        purl=url,
        licenses=[DisjunctiveLicense(name=found.license)] if found.license else [],
        properties=[Property(name=_PREFIX + "found_in", value=found.source)],
    )


def _files(report: Report) -> list[Listed]:
    return [
        Listed(
            name=file.path,
            type=ComponentType.FILE,
            bom_ref=f"file:{number}:{file.path}",
            hashes=[_sha256(file.sha256)],
        )
        for number, file in enumerate(report.files or ())
        if file.sha256
    ]


def _sha256(digest: str) -> HashType:
    return HashType(alg=HashAlgorithm.SHA_256, content=digest)
