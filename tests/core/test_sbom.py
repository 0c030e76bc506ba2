"""The bill of materials of a package, and the statement of where it comes from."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from hypothesis import given
from hypothesis import strategies as st
from packageurl import PackageURL
from test_difference import DIR, FILE, root_of
from tiny_runtime import build, inputs, key, root_path

from mystikos_tool import UserError, config
from mystikos_tool.explain import dsse, provenance
from mystikos_tool.explain.components import components
from mystikos_tool.explain.provenance import Parameters
from mystikos_tool.explain.report import report
from mystikos_tool.explain.sbom import of_package
from mystikos_tool.pipeline import Inputs
from mystikos_tool.root import archive
from mystikos_tool.root.root import ArchiveRoot, DiskRoot
from mystikos_tool.root.source import DirectorySource

DPKG = b"""Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2.36-9+deb12u4
Description: GNU C Library
 several
 lines

Package: gone
Status: deinstall ok config-files
Architecture: all
Version: 1

Package: zlib1g
Status: install ok installed
Architecture: amd64
Version: 1:1.2.13.dfsg-1
"""
APK = b"C:Q1x\nP:musl\nV:1.2.4-r2\nA:x86_64\nL:MIT\nF:lib\n\nP:busybox\nV:1.36.1-r5\nA:x86_64\n\n"
PYTHON = (
    b"Metadata-Version: 2.1\nName: Typing_Extensions\nVersion: 4.12.0\nLicense: PSF\n\nName: of the text\n"
)
NPM = b'{"name": "@types/node", "version": "20.1.0", "license": "MIT"}'

FILES = {
    b"etc/os-release": b'NAME="Debian GNU/Linux"\nID=debian\n',
    b"var/lib/dpkg/status": DPKG,
    b"var/lib/dpkg/status.d/base": b"Package: base-files\nVersion: 12.4\nArchitecture: amd64\n",
    b"lib/apk/db/installed": APK,
    b"usr/lib/python3/typing_extensions-4.12.0.dist-info/METADATA": PYTHON,
    b"app/node_modules/@types/node/package.json": NPM,
    b"app/package.json": b'{"name": "not-installed", "version": "1.0.0"}',
    b"bin/app": b"#!/bin/app\n",
}


def tree(files: dict[bytes, bytes]) -> list[tuple[bytes, int, bytes]]:
    """The entries of an archive of these files, with the directories above them and /mnt."""
    above = {path.rsplit(b"/", n)[0] for path in files for n in range(1, path.count(b"/") + 1)}
    entries = [(path, DIR, b"") for path in (*above, b"mnt")]
    entries += [(path, 0o100755 if path == b"bin/app" else FILE, data) for path, data in files.items()]
    return sorted(entries)


@pytest.fixture
def made(tmp_path: Path) -> Inputs:
    (tmp_path / "made").mkdir()
    given = inputs(tmp_path / "made", ProductID=7)
    return given._replace(root=ArchiveRoot(root_of(tmp_path / "root.cpio", tree(FILES))))


@pytest.fixture
def app(tmp_path: Path, made: Inputs) -> Path:
    return build(made, tmp_path / "app")


# Bill of materials


def test_it_is_valid_cyclonedx(app: Path) -> None:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(of_package(app)) is None


def test_every_file_is_in_it_with_its_digest(app: Path) -> None:
    listed = json.loads(of_package(app))["components"]
    files = {one["name"]: one["hashes"][0]["content"] for one in listed if one["type"] == "file"}
    assert files == {path.decode(): hashlib.sha256(data).hexdigest() for path, data in FILES.items()}


def test_what_package_managers_know_is_in_it_by_package_url(app: Path) -> None:
    listed = json.loads(of_package(app))["components"]
    assert {one["purl"] for one in listed if "purl" in one} == {
        "pkg:deb/debian/libc6@2.36-9%2Bdeb12u4?arch=amd64",
        "pkg:deb/debian/zlib1g@1:1.2.13.dfsg-1?arch=amd64",
        "pkg:deb/debian/base-files@12.4?arch=amd64",
        "pkg:apk/debian/musl@1.2.4-r2?arch=x86_64",
        "pkg:apk/debian/busybox@1.36.1-r5?arch=x86_64",
        "pkg:pypi/typing-extensions@4.12.0",
        "pkg:npm/%40types/node@20.1.0",
    }
    licensed = {one["name"]: one["licenses"] for one in listed if "licenses" in one}
    assert licensed["musl"] == [{"license": {"name": "MIT"}}]


def test_the_package_is_named_with_its_identity(app: Path) -> None:
    whole = json.loads(of_package(app))["metadata"]["component"]
    facts = {one["name"]: one["value"] for one in whole["properties"]}
    assert whole["name"] == "app"
    assert facts["mystikos-tool:mrenclave"] == report(app).inspection.identity.mrenclave.hex()
    assert facts["mystikos-tool:product_id"] == "7"


def test_it_is_the_same_bytes_for_the_same_package(tmp_path: Path, made: Inputs, app: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    assert of_package(app) == of_package(build(made, tmp_path / "elsewhere" / "app"))


def test_a_root_on_a_disk_is_not_listed_as_if_it_had_no_files(tmp_path: Path, made: Inputs) -> None:
    package = build(made._replace(root=DiskRoot()), tmp_path / "on-disk")
    with pytest.raises(UserError, match="on-disk: has its root on a disk"):
        of_package(package)


@pytest.mark.parametrize("name", ["/", " ", "//  ", "- -", "..", "\t/"])
def test_a_package_whose_name_no_url_can_have_is_passed_over(tmp_path: Path, name: str) -> None:
    package = json.dumps({"name": name, "version": "1"}).encode()
    status = f"Package: {name}\nVersion: 1\n\nPackage: a\nVersion: {name}\n".encode()
    root = {b"usr/node_modules/x/package.json": package, b"var/lib/dpkg/status": status}
    assert components(archive.read(root_of(tmp_path / "root.cpio", tree(root)))) == []


def test_packages_that_differ_in_nothing_of_their_url_are_the_same_bytes_each_time(
    tmp_path: Path, made: Inputs
) -> None:
    status = b"P:a\nV:1\nL:MIT\n\nP:a\nV:1\nL:BSD\n\nP:a \nV:1\n"
    root = root_of(tmp_path / "root.cpio", tree({**FILES, b"lib/apk/db/installed": status}))
    package = build(made._replace(root=ArchiveRoot(root)), tmp_path / "twice")
    told = of_package(package)
    assert of_package(package) == told
    names = [one["bom-ref"] for one in json.loads(told)["components"]]
    assert len(set(names)) == len(names)
    assert not JsonStrictValidator(SchemaVersion.V1_6).validate_str(told)


@given(st.binary(max_size=200), st.sampled_from(sorted(FILES)))
def test_metadata_that_is_damaged_is_passed_over(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, path: bytes
) -> None:
    whole = root_of(tmp_path_factory.mktemp("root") / "root.cpio", tree({**FILES, path: FILES[path] + data}))
    cut = root_of(tmp_path_factory.mktemp("root") / "root.cpio", tree({**FILES, path: data}))
    for root in (whole, cut):
        for component in components(archive.read(root)):
            PackageURL(component.kind, component.namespace, component.name, component.version).to_string()
            assert component.name and component.version
            assert all(str(value).isprintable() for value in vars(component).values())


# Provenance

PARAMETERS = Parameters(source="root.cpio", config="config.json")


def statement(app: Path, made: Inputs) -> dict[str, object]:
    return dict(json.loads(provenance.of(app, made, None, PARAMETERS, "pkg:pypi/mystikos-tool@1").to_json()))


def test_the_statement_names_the_package_and_every_input_by_its_digest(made: Inputs, app: Path) -> None:
    told = statement(app, made)
    subject, measured = told["subject"]  # type: ignore[misc]
    assert subject == {"name": "app", "digest": {"sha256": hashlib.sha256(app.read_bytes()).hexdigest()}}
    assert measured["digest"]["sha256"] == report(app).inspection.identity.mrenclave.hex()
    definition = told["predicate"]["buildDefinition"]  # type: ignore[index]
    digests = {one["name"]: one["digest"]["sha256"] for one in definition["resolvedDependencies"]}
    runtime = made.runtime
    expected = {
        f"runtime/{path.name}": path
        for path in (runtime.loader, runtime.enclave, runtime.kernel, runtime.crt)
    }
    expected |= {"pubkey/0": made.pubkeys[0], "roothash/0": made.roothashes[0], "rootfs": root_path(made)}
    for name, path in expected.items():
        assert digests.pop(name) == hashlib.sha256(path.read_bytes()).hexdigest()
    assert digests.pop("configuration") == hashlib.sha256(made.config.data).hexdigest()
    assert digests == {
        f"rootfs/{path.decode()}": hashlib.sha256(data).hexdigest() for path, data in FILES.items()
    }


def test_an_application_directory_is_packed_and_stated(tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    made = inputs(tmp_path / "made")
    app = build(made, tmp_path / "app")
    directory = tmp_path / "made" / "appdir"
    packed = made._replace(root=ArchiveRoot(directory))
    stated = provenance.of(app, packed, DirectorySource(directory).tree(), PARAMETERS, "pkg:pypi/x@1")
    assert stated.inputs["rootfs/bin/app"].mode == "100755"


def test_inputs_that_give_another_enclave_are_not_stated(made: Inputs, app: Path) -> None:
    other = made._replace(config=config.parse(made.config.data + b"\n", "config.json"))
    with pytest.raises(UserError, match=r"is another enclave than these inputs give; .*mystikos-tool diff"):
        statement(app, other)


def test_a_signed_statement_verifies_by_the_rules_of_dsse() -> None:
    payload = b'{"_type": "statement"}\n'
    told = json.loads(dsse.sealed(payload, key()))
    assert base64.b64decode(told["payload"]) == payload
    (signature,) = told["signatures"]
    public = rsa.RSAPublicNumbers(3, key().modulus).public_key()
    kind = told["payloadType"]
    signed = f"DSSEv1 {len(kind)} {kind} {len(payload)} ".encode() + payload
    public.verify(base64.b64decode(signature["sig"]), signed, padding.PKCS1v15(), hashes.SHA256())
    with pytest.raises(InvalidSignature):
        public.verify(base64.b64decode(signature["sig"]), signed + b" ", padding.PKCS1v15(), hashes.SHA256())


def sealed_otherwise(change: Callable[[dict[str, Any], dict[str, Any]], object]) -> tuple[bytes, bool]:
    """Return what is found in an envelope whose document, and first signature, were changed."""
    document = json.loads(dsse.sealed(b'{"_type": "???>>>"}\n', key()))
    change(document, document["signatures"][0])
    return dsse.opened(document, key().modulus, "envelope")


IN_URLS = str.maketrans("+/", "-_")


@pytest.mark.parametrize(
    "change",
    [
        lambda document, signature: signature.pop("keyid"),
        lambda document, signature: signature.update(keyid=None),
        lambda document, signature: signature.update(keyid="the release key"),
        lambda document, signature: document["signatures"].insert(0, {"sig": "AAAA"}),
        lambda document, signature: document["signatures"].append({"keyid": "another", "sig": ""}),
        lambda document, signature: signature.update(sig=signature["sig"].translate(IN_URLS)),
        lambda document, signature: document.update(payload=document["payload"].translate(IN_URLS)),
    ],
)
def test_a_statement_is_signed_whatever_an_envelope_calls_the_key_and_in_either_base64(
    change: Callable[[dict[str, Any], dict[str, Any]], object],
) -> None:
    assert sealed_otherwise(change) == (b'{"_type": "???>>>"}\n', True)


def test_a_statement_that_nobody_signed_is_not_signed() -> None:
    _, is_signed = sealed_otherwise(lambda document, signature: document.update(signatures=[]))
    assert not is_signed
    _, is_signed = sealed_otherwise(lambda document, signature: signature.update(keyid="another", sig="AAAA"))
    assert not is_signed


def test_a_signer_that_signs_something_else_is_refused() -> None:
    class Wrong:
        modulus, exponent, identity = key().modulus, 3, "wrong"

        def sign(self, digest: bytes) -> bytes:
            return key().sign(bytes(32))

    with pytest.raises(UserError, match="does not verify"):
        dsse.sealed(b"{}", Wrong())
