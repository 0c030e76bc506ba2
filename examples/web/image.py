"""Make the image of the service without a registry: one layer with Python, one with the service.

usage: image.py PYTHON.cpio server.py IMAGE

IMAGE is an archive of an OCI image layout, as `podman save --format oci-archive` writes one.
"""

import gzip
import hashlib
import io
import json
import stat
import sys
import tarfile
from pathlib import Path

OCI = "application/vnd.oci.image"
TYPES = {stat.S_IFDIR: tarfile.DIRTYPE, stat.S_IFREG: tarfile.REGTYPE, stat.S_IFLNK: tarfile.SYMTYPE}


def files(archive: bytes):
    """Yield path, mode and data of what is in a CPIO archive."""
    at = 0
    while True:
        fields = [int(archive[start : start + 8], 16) for start in range(at + 6, at + 110, 8)]
        mode, size, name_size = fields[1], fields[6], fields[11]
        path = archive[at + 110 : at + 109 + name_size].decode("utf-8", "surrogateescape")
        if path == "TRAILER!!!":
            return
        data = (at + 110 + name_size + 3) & -4
        yield path, mode, archive[data : data + size]
        at = (data + size + 3) & -4


def tar(members) -> bytes:
    """Return a tar archive; all of it root's and of 1970, so that it is always the same."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for path, mode, data in members:
            info = tarfile.TarInfo(path)
            info.mode, info.type = stat.S_IMODE(mode), TYPES[stat.S_IFMT(mode)]
            if info.issym():
                info.linkname = data.decode("utf-8", "surrogateescape")
            else:
                info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return made.getvalue()


def digest(data: bytes) -> str:
    """Return the digest that names a content."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def image(layers: list[bytes], process: dict):
    """Yield path, mode and data of the files of an image layout."""

    def blob(media_type: str, data: bytes) -> dict:
        blobs[f"blobs/{digest(data).replace(':', '/')}"] = data
        return {"mediaType": f"{OCI}.{media_type}", "digest": digest(data), "size": len(data)}

    def described(media_type: str, value: dict) -> dict:
        return blob(media_type, json.dumps(value).encode())

    blobs: dict[str, bytes] = {}
    config = {
        "os": "linux",
        "architecture": "amd64",
        "config": process,
        "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in layers]},
    }
    manifest = {
        "schemaVersion": 2,
        "config": described("config.v1+json", config),
        "layers": [blob("layer.v1.tar+gzip", gzip.compress(layer, 1, mtime=0)) for layer in layers],
    }
    index = {"schemaVersion": 2, "manifests": [described("manifest.v1+json", manifest)]}
    blobs["index.json"] = json.dumps(index).encode()
    blobs["oci-layout"] = b'{"imageLayoutVersion": "1.0.0"}'
    for path, data in sorted(blobs.items()):
        yield path, stat.S_IFREG | 0o644, data


def main() -> None:
    """Write the image."""
    python, service, target = map(Path, sys.argv[1:])
    base = [(path, mode, data) for path, mode, data in files(python.read_bytes()) if path != "."]
    app = [
        ("app", stat.S_IFDIR | 0o755, b""),
        ("app/server.py", stat.S_IFREG | 0o644, service.read_bytes()),
        ("data", stat.S_IFDIR | 0o755, b""),
    ]
    interpreter = str(Path(sys.executable).resolve())  # in the image it is at the same place
    process = {"Env": ["PYTHONDONTWRITEBYTECODE=1"], "Entrypoint": [interpreter, "/app/server.py"]}
    target.write_bytes(tar(image([tar(base), tar(app)], process)))


if __name__ == "__main__":
    main()
