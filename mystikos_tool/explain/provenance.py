"""Where a package comes from: an in-toto statement that names every input by its digest, as SLSA has it.

Nothing is claimed that was not seen: the inputs are measured anew, and the statement is made only
where their enclave is the one in the package.
"""

from __future__ import annotations

import base64
import hashlib
import json
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from mystikos_tool import pipeline
from mystikos_tool.errors import UserError
from mystikos_tool.io.content import Content, FileContent
from mystikos_tool.packaging import opened
from mystikos_tool.pipeline import Inputs
from mystikos_tool.root.root import ArchiveRoot
from mystikos_tool.root.tree import Tree
from mystikos_tool.signing.signer import Signer

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "https://pypi.org/project/mystikos-tool/#package/v1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"

_CHUNK = 1 << 20


def statement(
    package: Path, inputs: Inputs, tree: Tree | None, parameters: dict[str, Any], builder: str
) -> bytes:
    """Return the statement of a package and the inputs that it was made of, as JSON.

    With a ``tree``, that is packed and is the root. ``parameters`` say how, ``builder`` is the URI of
    who runs this. Raises UserError, which names `diff`, where these inputs give another enclave.
    """
    found = opened.of(package)
    with pipeline.packed(inputs, tree, package) as whole:
        _, in_package = pipeline.measure_opened(found)
        if pipeline.measure_unchecked(whole).mrenclave != in_package.mrenclave:
            problem = "is another enclave than these inputs give"
            raise UserError(str(package), problem, "compare it with one made of them: mystikos-tool diff")
        dependencies = list(_dependencies(inputs, whole))
    document = {
        "_type": STATEMENT,
        "subject": [
            {"name": package.name, "digest": {"sha256": _sha256(FileContent.of(package))}},
            {"name": "MRENCLAVE", "digest": {"sha256": in_package.mrenclave.hex()}},
        ],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": parameters,
                "resolvedDependencies": dependencies,
            },
            "runDetails": {"builder": {"id": builder}},
        },
    }
    return json.dumps(document, indent=1).encode() + b"\n"


def _dependencies(inputs: Inputs, whole: Inputs) -> Iterator[dict[str, Any]]:
    """Yield every input by its role and its digest: runtime, configuration, trust, files of the root."""
    runtime = inputs.runtime
    for path in (runtime.loader, runtime.enclave, runtime.crt, runtime.kernel):
        yield _named(f"runtime/{path.name}", FileContent.of(path))
    yield _digest("configuration", hashlib.sha256(inputs.config.data).hexdigest())
    yield from _numbered("pubkey", inputs.pubkeys)
    yield from _numbered("roothash", inputs.roothashes)
    if isinstance(whole.root, ArchiveRoot):
        yield _named("rootfs", whole.root.content())
        found = whole.root.index()
        for member in found.members:
            mode = f"{member.mode:o}"
            if stat.S_ISDIR(member.mode):
                continue
            content = found.content_of(member)
            yield {**_named(f"rootfs/{_uri(member.path)}", content), "annotations": {"mode": mode}}


def _uri(path: bytes) -> str:
    return path.decode(errors="backslashreplace")


def _numbered(role: str, paths: Iterable[Path]) -> Iterator[dict[str, Any]]:
    for number, path in enumerate(paths):
        yield _named(f"{role}/{number}", FileContent.of(path))


def _named(name: str, content: Content) -> dict[str, Any]:
    return _digest(name, _sha256(content))


def _digest(name: str, sha256: str) -> dict[str, Any]:
    return {"name": name, "digest": {"sha256": sha256}}


def _sha256(content: Content) -> str:
    digest = hashlib.sha256()
    for chunk in content.chunks(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


def envelope(payload: bytes, signer: Signer) -> bytes:
    """Return a statement signed by a signer, as a DSSE envelope: RSA PKCS#1 v1.5 over SHA-256.

    The key's identity is the SHA-256 of its modulus, big-endian. Raises UserError as the signer does,
    and for a signature that does not verify.
    """
    encoding = b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)
    signature = signer.sign(hashlib.sha256(encoding).digest())
    public = rsa.RSAPublicNumbers(signer.exponent, signer.modulus).public_key()
    try:
        public.verify(signature, encoding, padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        problem = "gave a signature of the statement that does not verify"
        raise UserError("the signer", problem, "sign with the key it names") from None
    size = (signer.modulus.bit_length() + 7) // 8
    keyid = hashlib.sha256(signer.modulus.to_bytes(size, "big")).hexdigest()
    document = {
        "payloadType": PAYLOAD_TYPE,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [{"keyid": keyid, "sig": base64.b64encode(signature).decode()}],
    }
    return json.dumps(document, indent=1).encode() + b"\n"
