"""Images on a registry: what is asked, who learns of the user, and what is refused."""

from __future__ import annotations

import base64
import gzip
import json
import os
import re
import shutil
import socket
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from unittest.mock import ANY

import pytest
import zstandard
from image_registry import Answer, RegistryServer, serving
from images import INDEX, LAYER, MANIFEST, MadeImage, as_json, described, digest, file, layer

import mystikos_tool
from mystikos_tool.errors import UserError
from mystikos_tool.io import user_cache
from mystikos_tool.root.oci import credentials, lock, opening, reference
from mystikos_tool.root.oci.registry import Registry
from mystikos_tool.root.oci.source import ImageSource

LAYERS = [layer(file("bin/hello", "hello" * 1000, 0o755)), layer(file("motd", "hi"))]
FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
BASIC = "Basic " + base64.b64encode(b"user:secret").decode()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "DOCKER_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9/")
    return tmp_path / "home"


@pytest.fixture
def server() -> Iterator[RegistryServer]:
    with serving() as served:
        yield served


def log_in(home: Path, host: str, user: bytes = b"user:secret", file: str = ".docker/config.json") -> None:
    path = home / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"auths": {host: {"auth": base64.b64encode(user).decode()}}}))


def tree(text: str, locked: Path = Path("none.lock.json")) -> dict[str, tuple[str, int, bytes]]:
    return described(ImageSource(opening.named(text, "", locked)).tree())


def told(text: str) -> str:
    with pytest.raises(UserError) as error:
        tree(text)
    return str(error.value)


@pytest.mark.parametrize("compression", ["", "+gzip", "+zstd"])
def test_an_image_is_taken_by_its_digest_and_asked_for_once(server: RegistryServer, compression: str) -> None:
    name = server.push(MadeImage(LAYERS, compression))
    found = tree(name)
    assert found["bin/hello"] == ("file", 0o755, b"hello" * 1000)
    assert len(server.asked) == 4  # manifest, configuration, two layers
    assert tree(name) == found
    assert len(server.asked) == 4


def test_a_tag_is_what_the_lock_file_has_and_is_never_asked_for(
    server: RegistryServer, tmp_path: Path
) -> None:
    locked = tmp_path / "lock.json"
    tag = f"{server.host}/app:1"
    server.push(MadeImage(LAYERS))
    with pytest.raises(UserError, match=r"is a tag, which may be another image .*lock\.json has no digest"):
        tree(tag, locked)
    assert not server.asked
    lock.write(locked, {tag: Registry(reference.needed(tag)).descriptor().digest})
    server.push(MadeImage([layer(file("other"))]))
    assert "motd" in tree(tag, locked)
    assert [path for path in server.paths if path.endswith("/1")] == ["/v2/app/manifests/1"]


def test_basic_authentication_has_what_docker_or_podman_keep(server: RegistryServer, home: Path) -> None:
    name = server.push(MadeImage(LAYERS))

    def rule(path: str, authorization: str) -> Answer | None:
        return None if authorization == BASIC else (401, {"WWW-Authenticate": 'Basic realm="r"'}, b"")

    server.rule = rule
    assert "wants credentials, and none are known that it accepts; log in: podman login 127.0.0.1" in told(
        name
    )
    log_in(home, f"http://{server.host}/v2/")
    assert "motd" in tree(name)
    log_in(home, server.host, b"user:wrong", ".config/containers/auth.json")
    assert credentials.of(reference.needed(name)) == credentials.Credentials("user", "wrong")
    log_in(home, f"{server.host}/app", file=".config/containers/auth.json")
    assert credentials.of(reference.needed(name)) == credentials.Credentials("user", "secret")
    assert "secret" not in repr(credentials.of(reference.needed(name)))


def test_a_token_is_asked_for_where_the_registry_says(server: RegistryServer, home: Path) -> None:
    name = server.push(MadeImage(LAYERS))
    log_in(home, server.host)

    def rule(path: str, authorization: str) -> Answer | None:
        if path.startswith("/token"):
            return 200, {}, json.dumps({"token": "t0"}).encode()
        wanted = f'Bearer realm="http://{server.host}/token",service="s",scope="repository:app:pull"'
        return None if authorization == "Bearer t0" else (401, {"WWW-Authenticate": wanted}, b"")

    server.rule = rule
    assert "motd" in tree(name)
    assert ("/token?service=s&scope=repository%3Aapp%3Apull", BASIC) in server.asked
    assert all(authorization != BASIC for path, authorization in server.asked if path.startswith("/v2"))


def test_a_redirect_to_another_place_learns_nothing_of_the_user(server: RegistryServer, home: Path) -> None:
    name = server.push(MadeImage(LAYERS))
    log_in(home, server.host)
    with serving() as other:
        other.answers.update(server.answers)

        def rule(path: str, authorization: str) -> Answer | None:
            if authorization != BASIC:
                return 401, {"WWW-Authenticate": "Basic"}, b""
            return (307, {"Location": f"http://{other.host}{path}"}, b"") if "/blobs/" in path else None

        server.rule = rule
        assert "motd" in tree(name)
        assert len(other.asked) == 3
        assert {authorization for _, authorization in other.asked} == {""}


def test_where_a_redirect_leads_names_no_service_that_learns_of_the_user(
    server: RegistryServer, home: Path
) -> None:
    name = server.push(MadeImage(LAYERS))
    log_in(home, server.host)
    with serving() as other:
        server.rule = lambda path, _: (
            (307, {"Location": f"http://{other.host}{path}?signed=1"}, b"") if "/blobs/" in path else None
        )
        for status, challenge in (
            (401, f'Bearer realm="http://{other.host}/token"'),
            (401, "Basic"),
            (403, ""),
        ):
            answer = (status, {"WWW-Authenticate": challenge}, b"")
            other.rule = lambda path, _, answer=answer: answer
            problem = told(name)
            assert f"is redirected to {other.host}, which answers with status {status}; try again" in problem
            assert "signed" not in problem
        assert {authorization for _, authorization in other.asked} == {""}
        assert not [path for path, _ in other.asked if path.startswith("/token")]


@pytest.mark.parametrize(
    "challenge",
    [
        'Basic realm="r", Bearer realm="{0}", service="s"',
        'Bearer realm="{0}",service="s", Basic realm="r"',
        "bearer realm={0},service=s",
        'BEARER  Service = "s" , Realm = "{0}"',
        'Negotiate abc==, Bearer error="a, \\"b\\" c", realm="{0}", service="s"',
        ', Bearer realm="{0}", service="\\s", realm="http://elsewhere.example/"',
        'Bearer error="no realm", Bearer realm="{0}",service="s"',
    ],
)
def test_a_registry_may_offer_several_ways_to_be_authorized_in_any_notation(
    server: RegistryServer, challenge: str
) -> None:
    name = server.push(MadeImage(LAYERS))

    def rule(path: str, authorization: str) -> Answer | None:
        if path.startswith("/token"):
            return 200, {}, b'{"token": "t0"}'
        wanted = challenge.format(f"http://{server.host}/token")
        return None if authorization == "Bearer t0" else (401, {"WWW-Authenticate": wanted}, b"")

    server.rule = rule
    assert "motd" in tree(name)
    assert "/token?service=s&scope=repository%3Aapp%3Apull" in server.paths


@pytest.mark.parametrize(
    ("location", "problem"),
    [
        ("http://registry.example/v2/x", "leads to 'http://registry.example/v2/x', which is not safe"),
        ("file:///etc/passwd", "leads to 'file:///etc/passwd', which is not safe"),
        ("https://user:pw@registry.example/", "which is not safe"),
        ("", "is redirected again and again"),
    ],
)
def test_a_redirect_that_is_not_safe_is_refused(server: RegistryServer, location: str, problem: str) -> None:
    name = server.push(MadeImage(LAYERS))
    server.rule = lambda path, _: (302, {"Location": location}, b"")
    assert problem in told(name)


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ((500, {}, b""), "is answered with status 500; try again later"),
        ((404, {}, b""), "is not on the registry, or is hidden"),
        ((403, {}, b""), "wants credentials, and none are known that it accepts"),
        ((429, {}, b""), "was asked for too often; try again later, or log in: podman login 127.0.0.1"),
        ((429, {"Retry-After": "60"}, b""), "was asked for too often; try again in 60 s, or log in"),
        ((429, {"Retry-After": "Fri, 27 Nov 2026 10:00:00 GMT"}, b""), "; try again later, or log in"),
        ((503, {"Retry-After": "5"}, b""), "is answered with status 503; try again in 5 s"),
        ((401, {"WWW-Authenticate": "Negotiate"}, b""), "wants authorization of the kind 'Negotiate'"),
        ((401, {"WWW-Authenticate": "Bearer, x"}, b""), "wants authorization of the kind 'Bearer, x'"),
        ((401, {}, b""), "wants authorization of the kind ''"),
        ((401, {"WWW-Authenticate": 'Bearer realm="http://x.example/"'}, b""), "which is not safe"),
        ((200, {"Content-Length": "9", "Connection": "close"}, b"short"), "has another digest than"),
        ((200, {}, bytes(5 << 20)), "sends more than 4,194,304 bytes"),
        ((200, {}, b"{}"), "has another digest than"),
    ],
)
def test_what_a_registry_does_that_it_should_not_is_told(
    server: RegistryServer, answer: Answer, problem: str
) -> None:
    name = server.push(MadeImage(LAYERS))
    server.rule = lambda path, _: answer
    assert problem in told(name)


def test_what_the_registry_lacks_of_an_image_is_named(server: RegistryServer) -> None:
    made = MadeImage(LAYERS)
    name = server.push(made)
    missing = made.manifest["layers"][1]["digest"]
    del server.answers[f"/v2/app/blobs/{missing}"]
    assert f"{name}, blobs/{missing}: is not on the registry, or is hidden" in told(name)


@pytest.mark.parametrize("answer", [b"{}", b'{"errors": [{"code": "DENIED"}]}', b'{"mediaType": "text/x"}'])
def test_a_tag_that_is_no_image_is_not_locked(server: RegistryServer, tmp_path: Path, answer: bytes) -> None:
    server.rule = lambda path, _: (200, {}, answer)
    with pytest.raises(UserError, match=r"has no layers|which is no image"):
        lock.renew(tmp_path / "lock.json", [f"{server.host}/app:1"])
    assert not (tmp_path / "lock.json").exists()


def test_a_layer_that_is_too_long_too_short_or_another_is_refused(
    server: RegistryServer, tmp_path: Path
) -> None:
    made = MadeImage(LAYERS)
    name = server.push(made)
    path = f"/v2/app/blobs/{made.manifest['layers'][0]['digest']}"
    kind, data = server.answers[path]
    for sent, problem in (
        (data + b"more", "has more bytes than its descriptor says"),
        (data[:-3], "ends 3 bytes too early"),
        (data[:-3] + b"xyz", "has another digest than"),
    ):
        server.answers[path] = (kind, sent)
        assert problem in told(name)
        name_in_cache = digest(made.layers[0]).replace(":", "-")
        assert not list((tmp_path / "cache/mystikos-tool/layers").glob(f"*{name_in_cache}*"))


def test_a_registry_that_is_down_is_told() -> None:
    assert "cannot be reached: connection refused; see that it is up" in told(
        f"127.0.0.1:9/app@sha256:{'0' * 64}"
    )


def test_a_registry_that_does_not_answer_is_given_up(server: RegistryServer) -> None:
    name = server.push(MadeImage(LAYERS))
    waiting = threading.Event()

    def rule(path: str, authorization: str) -> Answer | None:
        waiting.wait(10)
        return None

    server.rule = rule
    registry = Registry(reference.needed(name), patience=0.1)
    try:
        with pytest.raises(UserError, match=r"does not answer in time|no answer in time"):
            registry.descriptor()
    finally:
        waiting.set()


HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("first", "then", "problem"),
    [
        (b"", b"H", "does not answer in time"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n", "does not answer in time"),
        (HEAD + b"X: ", b"x", "does not answer in time"),
        (HEAD, b"X: y\r\n", "does not answer in time"),
        (CHUNKED + b"1;", b"x", "does not answer in time"),
        (CHUNKED + b"1\r\nx\r\n0\r\n", b"X: y\r\n", "does not answer in time"),
        (CHUNKED, b"1\r\nx\r\n", "sends fewer than 30,720 bytes in 0.3 s"),
        (HEAD + b"\r\n", b"x", "sends fewer than 30,720 bytes in 0.3 s"),
    ],
)
def test_an_answer_that_comes_byte_by_byte_is_given_up(first: bytes, then: bytes, problem: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor() as pool:
        name = f"127.0.0.1:{listening.getsockname()[1]}/app@sha256:{'0' * 64}"

        def answer() -> None:
            with listening.accept()[0] as client, suppress(OSError):
                client.recv(1 << 16)
                client.sendall(first)
                for _ in range(1000):  # 20 s
                    client.sendall(then)
                    time.sleep(0.02)

        answering, started = pool.submit(answer), time.monotonic()
        with pytest.raises(UserError, match=problem):
            Registry(reference.needed(name), patience=0.3).descriptor()
        assert time.monotonic() - started < 10
        answering.result()


def test_credentials_come_from_a_helper_where_the_file_names_one(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper = tmp_path / "bin" / "docker-credential-mine"
    helper.parent.mkdir()
    helper.write_text(
        '#!/bin/sh\nread server; echo "{\\"Username\\": \\"u\\", \\"Secret\\": \\"$server\\"}"\n'
    )
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{helper.parent}:/usr/bin:/bin")
    path = home / ".docker/config.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"credHelpers": {"ghcr.io": "mine"}, "auths": {"ghcr.io": {}}}))
    asked = reference.needed("ghcr.io/a/b:1")
    assert credentials.of(asked) == credentials.Credentials("u", "ghcr.io")
    assert credentials.of(reference.needed("quay.io/a/b:1")) is None
    path.write_text(json.dumps({"credsStore": "none-such"}))
    with pytest.raises(UserError, match="docker-credential-none-such cannot be started"):
        credentials.of(asked)
    path.write_text(json.dumps({"credsStore": "../evil"}))
    with pytest.raises(UserError, match="names a credential helper that cannot be one"):
        credentials.of(asked)
    path.write_text(json.dumps({"auths": {"ghcr.io": {"auth": "!"}}}))
    with pytest.raises(UserError, match="not base64 of user:password"):
        credentials.of(asked)


def helper_that(tmp_path: Path, does: str) -> None:
    path = tmp_path / "bin" / "docker-credential-mine"
    path.parent.mkdir()
    path.write_text(f"#!/bin/sh\n{does}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", r"config\.json: is no JSON; correct it, or remove it and log in again"),
        ("", "is no JSON"),
        ("[]", "is no JSON object; correct it"),
        ('{"auths": []}', "auths is no object"),
        ('{"auths": {"127.0.0.1": "x"}}', "is no object"),
        ('{"credsStore": "none-such"}', "docker-credential-none-such cannot be started: no such file"),
        ('{"credsStore": "mine"}', "docker-credential-mine ended with status 3; mend or install it"),
        (None, "is a directory, not a file of credentials"),
    ],
)
def test_nothing_is_taken_without_credentials_where_they_cannot_be_read(
    server: RegistryServer,
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: str | None,
    problem: str,
) -> None:
    """As docker login has them, where the registry would give an anonymous user something, too."""
    name = server.push(MadeImage(LAYERS))
    wanted = {"WWW-Authenticate": f'Bearer realm="http://{server.host}/token"'}

    def rule(path: str, authorization: str) -> Answer | None:
        if path.startswith("/token"):
            return 200, {}, b'{"token": "anonymous"}'
        return None if authorization else (401, wanted, b"")

    server.rule = rule
    helper_that(tmp_path, "echo the keychain is locked; exit 3")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    path = home / ".docker/config.json"
    path.parent.mkdir(parents=True)
    if content is None:
        path.mkdir()
    else:
        path.write_text(content.replace("127.0.0.1", server.host))
    assert re.search(problem, told(name))
    assert not [path for path in server.paths if path.startswith("/token")]


def test_a_helper_that_knows_nothing_of_a_registry_is_no_failure(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper_that(tmp_path, "echo credentials not found in native keychain; exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    path = home / ".docker/config.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"credsStore": "mine"}')
    assert credentials.of(reference.needed("ghcr.io/a/b:1")) is None


def test_credentials_in_a_directory_that_may_not_be_searched_are_missed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", "/" + 300 * "n")  # where root may search, too, a name is too long
    with pytest.raises(UserError, match=r"cannot be looked up, and may hold credentials: file name too long"):
        credentials.of(reference.needed("ghcr.io/a/b:1"))


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("nginx:1.27", "docker.io/library/nginx:1.27"),
        ("user/app:1", "docker.io/user/app:1"),
        ("localhost/app:1", "localhost/app:1"),
        ("ghcr.io/a/b/c:x", "ghcr.io/a/b/c:x"),
        (f"r:5000/a:1@sha256:{'a' * 64}", f"r:5000/a:1@sha256:{'a' * 64}"),
        ("nginx", None),
        ("build/image.tar", None),
        ("UPPER:1", None),
        ("a:1:2", None),
    ],
)
def test_references_are_read_as_docker_reads_them(text: str, whole: str | None) -> None:
    found = reference.parse(text)
    assert (str(found) if found else None) == whole


@pytest.mark.parametrize(
    ("text", "rest"),
    [("docker://nginx:1", "nginx:1"), ("oci:nginx", "nginx"), ("oci-archive:a.tar:1", "a.tar:1")],
)
def test_the_notation_of_skopeo_says_how_it_is_written_here(text: str, rest: str) -> None:
    assert f"which is not needed here; write it as {rest}" in told(text)


def test_plain_http_is_for_this_machine_alone() -> None:
    assert reference.needed("localhost:5000/a:1").address == "http://localhost:5000/v2/"
    assert reference.needed("127.0.0.1.example.com/a:1").address.startswith("https://")
    assert reference.needed("nginx:1").address == "https://registry-1.docker.io/v2/"


def test_a_document_in_the_cache_that_was_changed_is_fetched_again(
    server: RegistryServer, tmp_path: Path
) -> None:
    name = server.push(MadeImage(LAYERS))
    before = tree(name)
    for path in (tmp_path / "cache/mystikos-tool/documents").iterdir():
        path.write_bytes(b"{}")
    assert tree(name) == before
    assert len(server.asked) == 6


def test_what_is_no_file_in_the_cache_is_neither_written_through_nor_waited_for(
    server: RegistryServer, tmp_path: Path
) -> None:
    name = server.push(MadeImage(LAYERS))
    before = tree(name)
    mine = tmp_path / "mine"
    mine.write_text("mine")
    cached = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert {path.suffix for path in cached} == {"", ".tar", ".index"}
    for put in (lambda path: path.symlink_to(mine), os.mkfifo):
        for path in cached:
            path.unlink()
            put(path)
        assert tree(name) == before
        assert all(path.is_file() and not path.is_symlink() for path in cached)
    assert mine.read_text() == "mine"


def test_a_lock_file_that_is_damaged_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "lock.json"
    for data in ("[]", "{}", '{"version": 2, "images": {}}', '{"version": 1, "images": {"a:1": "x"}}'):
        path.write_text(data)
        with pytest.raises(UserError, match=r"lock\.json"):
            lock.read(path)


def test_an_index_within_an_index_has_an_end(server: RegistryServer) -> None:
    made = MadeImage(LAYERS)
    inner = made.descriptor
    for _ in range(6):
        data = json.dumps({"schemaVersion": 2, "manifests": [inner]}).encode()
        inner = made.added("application/vnd.oci.image.index.v1+json", data)
    made.descriptor = inner
    for key, data in made.blobs.items():
        server.answers[f"/v2/app/manifests/{key}"] = ("application/json", data)
    assert "has an index within an index, 4 times" in told(server.push(made))


# As on public registries


def test_a_public_registry_gives_tokens_by_one_host_and_layers_by_another(
    server: RegistryServer, tmp_path: Path
) -> None:
    """Nobody is logged in; tokens are of a scope, become old, and are no business of where the layers are."""
    made = MadeImage(LAYERS)
    name = server.push(made, "library/app")
    layers = [each["digest"] for each in made.manifest["layers"]]
    with serving() as tokens, serving() as storage:
        given: list[str] = []

        def token(path: str, authorization: str) -> Answer:
            given.append(f"t{len(given)}")
            return 200, {}, json.dumps({"access_token": given[-1], "expires_in": 300}).encode()

        def rule(path: str, authorization: str) -> Answer | None:
            used = [asked for _, asked in server.asked].count("Bearer t0")
            if authorization.removeprefix("Bearer ") not in given[used > 2 :]:
                scope = 'scope="repository:library/app:pull"'
                realm = f'Bearer realm="http://{tokens.host}/token",service="registry.test",{scope}'
                return 401, {"WWW-Authenticate": realm}, b"{}"
            key = path.rpartition("/")[2]
            return (
                (307, {"Location": f"http://{storage.host}/{key}?signed=1"}, b"") if key in layers else None
            )

        tokens.rule, server.rule = token, rule
        storage.answers = {
            f"/{key}?signed=1": ("application/octet-stream", made.blobs[key]) for key in layers
        }
        assert "motd" in tree(name)
        asked = "/token?service=registry.test&scope=repository%3Alibrary%2Fapp%3Apull"
        assert set(tokens.asked) == {(asked, "")}
        assert given[1:], "a new one was asked for"
        assert sorted(storage.asked) == sorted((f"/{key}?signed=1", "") for key in layers)


def index_of(made: MadeImage, *others: dict[str, object]) -> None:
    """Make the image one of an index, as buildx pushes it."""
    own = {**made.descriptor, "platform": {"os": "linux", "architecture": "amd64"}}
    made.descriptor = made.added(INDEX, as_json({"schemaVersion": 2, "manifests": [*others, own]}))


def served(server: RegistryServer, made: MadeImage) -> str:
    for key, data in made.blobs.items():
        server.answers[f"/v2/app/manifests/{key}"] = ("application/json", data)
    return server.push(made)


def test_attestations_and_signatures_in_an_index_are_no_images(server: RegistryServer) -> None:
    made = MadeImage(LAYERS)
    attested = {"vnd.docker.reference.type": "attestation-manifest"}
    other = {"os": "unknown", "architecture": "unknown"}
    index_of(
        made,
        {**made.added(MANIFEST, b"{}"), "platform": other, "annotations": attested},
        {**made.added(MANIFEST, b"{ }"), "platform": {"os": "linux", "architecture": "amd64p32"}},
        {
            **made.added(MANIFEST, b"{  }"),
            "platform": {"os": "linux", "architecture": "arm64", "variant": "v8"},
        },
    )
    assert "motd" in tree(served(server, made))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            {"artifactType": "text/x", "config": {"mediaType": "application/vnd.oci.empty.v1+json"}},
            "its configuration is of type 'application/vnd.oci.empty.v1+json'; give a container image",
        ),
        (
            {"mediaType": "application/vnd.oci.artifact.manifest.v1+json", "blobs": []},
            "is of the media type 'application/vnd.oci.artifact.manifest.v1+json', which is no image",
        ),
        (
            {"schemaVersion": 1, "mediaType": None, "fsLayers": [], "history": []},
            "is an image of Docker's schema 1, which is not read; push the image anew",
        ),
        (
            {"layers": [{"mediaType": FOREIGN, "urls": ["http://169.254.169.254/"]}]},
            "at other places than the image, by urls; give an image that has all of its layers",
        ),
    ],
)
def test_what_a_registry_has_and_is_no_root_is_called_what_it_is(
    server: RegistryServer, change: dict[str, object], problem: str
) -> None:
    made = MadeImage(LAYERS)
    size = {"digest": digest(b"{}"), "size": 2}
    if "config" in change:
        change = {**change, "config": {**change["config"], **size}}  # type: ignore[dict-item]
    if "layers" in change:
        change = {**change, "layers": [{**each, **size} for each in change["layers"]]}  # type: ignore[attr-defined]
    document = {key: value for key, value in {**made.manifest, **change}.items() if value is not None}
    made.descriptor = made.added(MANIFEST, as_json(document))
    asked = len(server.asked)
    assert problem in told(served(server, made))
    assert len(server.asked) == asked + 1, "nothing more is fetched for it"


def test_zstd_chunked_and_estargz_are_what_they_are_without_their_indexes(server: RegistryServer) -> None:
    whole = LAYERS[0]
    pack = zstandard.ZstdCompressor(level=1).compress
    skipped = struct.pack("<II", 0x184D2A50, 100) + bytes(100)
    chunked = pack(whole[:700]) + skipped + pack(whole[700:]) + skipped * 2
    # The footer of eStargz: a gzip member of nothing, with the offset of the index in its extra field.
    footer = (
        b"\x1f\x8b\x08\x04" + bytes(5) + b"\xff" + struct.pack("<H2sH", 26, b"SG", 22) + b"%016xSTARGZ" % 700
    )
    footer = footer + b"\x01\x00\x00\xff\xff" + bytes(8)
    stargz = gzip.compress(whole[:700]) + gzip.compress(whole[700:]) + footer
    for kind, data in (("+zstd", chunked), ("+gzip", stargz)):
        made = MadeImage([whole])
        made.manifest["layers"] = [made.added(f"{LAYER}{kind}", data)]
        made.descriptor = made.added(MANIFEST, as_json(made.manifest))
        shutil.rmtree(user_cache.directory(), ignore_errors=True)
        assert tree(server.push(made)) == {"bin": ANY, "bin/hello": ("file", 0o755, b"hello" * 1000)}


# The library


def test_the_library_locks_tags_and_makes_a_root_of_an_image_as_the_command_does(
    server: RegistryServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    server.push(MadeImage(LAYERS, process={"Cmd": ["hello", "you"], "Env": ["PATH=/bin"]}))
    tag = f"{server.host}/app:1"
    digest = lock.read(Path(lock.FILE)).get(tag)
    assert digest is None
    found = mystikos_tool.lock_images(tag)
    assert found == {tag: str(lock.read(Path(lock.FILE))[tag])}
    assert mystikos_tool.lock_images() == found
    said = {"ApplicationPath": "/bin/hello", "ApplicationParameters": ["you"]}
    assert mystikos_tool.image("appdir", tag, exclude=["motd"]) == said
    assert sorted(path.name for path in Path("appdir").iterdir()) == ["appenv.json", "bin"]
    assert mystikos_tool.image("root.cpio", tag) == said
    with pytest.raises(UserError, match="appdir: is not empty"):
        mystikos_tool.image("appdir", tag)


def test_an_image_whose_program_is_missing_becomes_a_root_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    layout = MadeImage(LAYERS, process={"Cmd": ["gone"]}).layout(tmp_path / "image")
    assert mystikos_tool.image(tmp_path / "appdir", layout) == {}
    assert "starts 'gone', which is no program in it" in caplog.text
    assert (tmp_path / "appdir/motd").read_text() == "hi"
