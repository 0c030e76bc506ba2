"""TLS, client certificates and tokens; nothing of them is shown."""

from __future__ import annotations

import os
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from certificates import Authority, Certificate
from reapi_server import ReapiServer
from remote_machine import FILES, Machine
from web_server import WebServer

from mystikos_tool.cache.remote.server import ServerError
from mystikos_tool.cache.remote.token import Token

GRPC, HTTP = "grpcs", "https"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "authority")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("stranger"), "stranger")


@pytest.fixture(scope="module")
def certificate(authority: Authority) -> Certificate:
    return authority.certificate("server")


@pytest.fixture(params=[GRPC, HTTP])
def url(request: pytest.FixtureRequest, authority: Authority, certificate: Certificate) -> Iterator[str]:
    """A server that speaks TLS and wants a client's certificate."""
    yield from _serving(request.param, authority, certificate)


def _serving(scheme: str, authority: Authority, certificate: Certificate) -> Iterator[str]:
    if scheme == GRPC:
        pair = (certificate.key.read_bytes(), certificate.cert.read_bytes())
        credentials = grpc.ssl_server_credentials([pair], authority.ca.read_bytes(), True)
        reapi = ReapiServer().start(credentials)
        yield f"grpcs://127.0.0.1:{reapi.port}"
        reapi.stop()
    else:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority.ca)
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(certificate.cert, certificate.key)
        web = WebServer(context=context)
        yield web.url
        web.stop()


def test_client_and_server_show_their_certificates(url: str, authority: Authority, tmp_path: Path) -> None:
    client = authority.certificate("client")
    machine = Machine(tmp_path, f"{url}?ca={authority.ca}&cert={client.cert}&key={client.key}")
    machine.store()
    for name in FILES:
        (tmp_path / name).unlink()
    assert machine.fetch()
    assert machine.files() == FILES
    assert not machine.warnings


@pytest.mark.parametrize("wrong", ["ca", "client", "nothing", "missing", "no certificate"])
def test_a_wrong_certificate_is_a_miss(
    wrong: str, url: str, authority: Authority, stranger: Authority, tmp_path: Path
) -> None:
    client = (stranger if wrong == "client" else authority).certificate("client")
    ca = stranger.ca if wrong == "ca" else authority.ca
    cert = tmp_path / "nowhere" if wrong == "missing" else client.cert
    if wrong == "no certificate":
        cert.write_text("none")
    query = f"ca={ca}" if wrong == "nothing" else f"ca={ca}&cert={cert}&key={client.key}"
    machine = Machine(tmp_path / "machine", f"{url}?{query}")
    assert not machine.fetch()
    assert machine.seconds < 3
    assert len(machine.warnings) == 1
    assert not machine.client.health.reads and not machine.client.health.writes


@pytest.fixture(params=["grpc", "http"])
def guarded(request: pytest.FixtureRequest) -> Iterator[ReapiServer | WebServer]:
    """A server that wants a token."""
    server = ReapiServer(token="hunter2").start() if request.param == "grpc" else WebServer("hunter2")
    yield server
    server.stop()


@pytest.mark.parametrize("scheme", [GRPC, HTTP])
def test_a_server_with_a_certificate_for_another_name_gets_no_token(
    scheme: str, authority: Authority, certificate: Certificate, tmp_path: Path
) -> None:
    tmp_path.joinpath("token").write_text("hunter2")
    if scheme == GRPC:
        pair = (certificate.key.read_bytes(), certificate.cert.read_bytes())
        server: ReapiServer | WebServer = ReapiServer().start(grpc.ssl_server_credentials([pair]))
        url = f"grpcs://127.0.0.1:{server.port}" if isinstance(server, ReapiServer) else ""
    else:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate.cert, certificate.key)
        server = WebServer(context=context)
        url = server.url
    options = f"?ca={authority.ca}&token-file={tmp_path / 'token'}"
    right, wrong = (
        Machine(tmp_path / "a", url + options),
        Machine(tmp_path / "b", url.replace("127.0.0.1", "localhost") + options),
    )
    right.store()
    assert right.client.figures.stored == 1
    calls = server.calls.copy()
    assert not wrong.fetch()
    wrong.store()
    assert server.calls == calls
    assert len(wrong.warnings) == 1 and "hunter" not in wrong.warnings[0]
    server.stop()


def test_a_token_comes_from_a_file(guarded: ReapiServer | WebServer, tmp_path: Path) -> None:
    tmp_path.joinpath("token").write_text("hunter2\n")
    machine = Machine(tmp_path / "machine", f"{guarded.url}?token-file={tmp_path / 'token'}")
    machine.store()
    assert machine.fetch()


def test_a_token_comes_from_a_command(guarded: ReapiServer | WebServer, tmp_path: Path) -> None:
    machine = Machine(tmp_path / "machine", f"{guarded.url}?token-command=printf '%25s' hunter2")
    machine.store()
    assert machine.fetch()


def test_a_token_that_expires_is_asked_for_again(guarded: ReapiServer | WebServer, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("hunter2")
    machine = Machine(tmp_path / "machine", f"{guarded.url}?token-file={token}")
    machine.store()
    guarded.token = "hunter3"
    token.write_text("hunter3")
    assert machine.fetch()
    assert not machine.warnings


def test_a_token_that_expired_for_good_is_a_miss(guarded: ReapiServer | WebServer, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("hunter2")
    machine = Machine(tmp_path / "machine", f"{guarded.url}?token-file={token}")
    machine.store()
    guarded.token = "hunter3"
    assert not machine.fetch()
    assert not machine.fetch()
    assert len(machine.warnings) == 1
    assert "credentials" in machine.warnings[0]
    assert "hunter" not in machine.warnings[0]


@pytest.mark.parametrize(
    "content",
    [b"", b" \n", b"two words", b"two\nlines", b"x" * 70_000, "höher".encode(), b"a\r\nX-Header: b"],
)
def test_what_is_no_token_is_not_sent(content: bytes, tmp_path: Path) -> None:
    tmp_path.joinpath("token").write_bytes(content)
    with pytest.raises(ServerError) as error:
        Token(tmp_path / "token", None).value()
    assert "two" not in str(error.value)


@pytest.mark.parametrize(
    "command", ["false", "/nowhere", "echo 'hunter2", "sh -c 'echo hunter2; exit 1'", " ", "#", "yes hunter2"]
)
def test_a_command_that_fails_gives_no_token(command: str) -> None:
    with pytest.raises(ServerError) as error:
        Token(None, command).value()
    assert "hunter2" not in str(error.value)


def test_what_a_command_writes_without_an_end_does_not_fill_the_memory() -> None:
    with pytest.raises(ServerError, match="the token command writes more than 65,536 bytes"):
        Token(None, "yes hunter2").value()


def test_a_token_comes_through_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with subprocess.Popen(["sh", "-c", f"sleep 0.1; echo hunter2 > {tmp_path / 'pipe'}"]):
        assert Token(tmp_path / "pipe", None).value() == "hunter2"


def test_a_pipe_into_which_nobody_writes_gives_no_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mystikos_tool.cache.remote.token._SECONDS", 0.1)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ServerError, match="there is no token in the token's file"):
        Token(tmp_path / "pipe", None).value()


def test_a_missing_token_file_is_a_miss(make: Callable[[str], Machine]) -> None:
    machine = make("token-file=/nowhere/token")
    assert not machine.fetch()
    assert len(machine.warnings) == 1


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[[str], Machine]]:
    server = ReapiServer().start()
    yield lambda query: Machine(tmp_path / "machine", f"{server.url}?{query}")
    server.stop()
