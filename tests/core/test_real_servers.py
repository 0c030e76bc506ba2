"""Real servers that are damaged, slow, or do not trust: each costs a miss, or a warning."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from certificates import Authority
from killing_proxy import When, killing
from remote_machine import FILES, Machine
from remote_servers import casd, needs_casd, needs_nginx, nginx, nginx_before

PATIENCE = 0.5
CREDENTIALS = "it does not accept the credentials"

SERVERS = [
    pytest.param(casd, "*/objects/**/*", marks=needs_casd),
    pytest.param(nginx, "files/cas/*", marks=needs_nginx),
]


@pytest.mark.parametrize(("start", "kept"), SERVERS)
def test_a_file_that_was_damaged_in_the_store_is_a_miss(
    start: Callable[..., object], kept: str, tmp_path: Path
) -> None:
    with start(tmp_path / "server") as url:  # type: ignore[attr-defined]
        one, other = Machine(tmp_path / "one", url), Machine(tmp_path / "other", url)
        one.store()
        large = max(tmp_path.joinpath("server").glob(kept), key=lambda path: path.stat().st_size)
        large.chmod(0o600)
        content = bytearray(large.read_bytes())
        content[len(content) // 2] ^= 1
        large.write_bytes(content)
        assert not other.fetch()
        assert other.files() == {}
        assert other.client.figures.rejected == 1


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "authority")


@pytest.fixture
def behind_nginx(authority: Authority, tmp_path: Path) -> Iterator[str]:
    """buildbox-casd behind nginx, with the certificates that it takes and without a token."""
    client = authority.certificate("client")
    with casd(tmp_path / "casd") as url, nginx_before(url, tmp_path / "front", authority) as front:
        yield f"{front}?ca={authority.ca}&cert={client.cert}&key={client.key}"


@needs_casd
def test_a_file_that_drips_out_of_casd_costs_no_more_than_the_patience(tmp_path: Path) -> None:
    with casd(tmp_path / "casd") as url:
        port = int(url.rpartition(":")[2])
        with killing(port, [When("ByteStream/Read", answered=1000)], drips=True) as proxy:
            Machine(tmp_path / "one", url).store()
            through = f"grpc://127.0.0.1:{proxy.port}?patience={PATIENCE}"
            check_slow(Machine(tmp_path / "other", through))
            assert proxy.has_struck.is_set()


@needs_nginx
def test_a_file_that_drips_out_of_nginx_costs_no_more_than_the_patience(tmp_path: Path) -> None:
    with nginx(tmp_path / "server") as url:
        Machine(tmp_path / "one", url).store()
        check_slow(Machine(tmp_path / "other", f"{url}/slow?patience={PATIENCE}"))


def check_slow(machine: Machine) -> None:
    assert not machine.fetch()
    assert machine.client.traffic.received < 100_000
    assert machine.seconds < 3 * PATIENCE
    assert len(machine.warnings) == 1 and "does not answer in time" in machine.warnings[0]
    assert machine.files() == {}


@needs_casd
@needs_nginx
@pytest.mark.parametrize("wrong", ["authority", "certificate", "no certificate"])
def test_a_certificate_that_one_of_both_does_not_trust_costs_a_warning(
    wrong: str, behind_nginx: str, authority: Authority, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path, "stranger")
    client, theirs = authority.certificate("client"), stranger.certificate("client")
    url = {
        "authority": behind_nginx.replace(str(authority.ca), str(stranger.ca)),
        "certificate": behind_nginx.replace(str(client.cert), str(theirs.cert)).replace(
            str(client.key), str(theirs.key)
        ),
        "no certificate": behind_nginx.partition("&")[0],
    }[wrong]
    tmp_path.joinpath("token").write_text("good")
    good, bad = (
        Machine(tmp_path / name, f"{each}&token-file={tmp_path / 'token'}")
        for name, each in (("good", behind_nginx), ("bad", url))
    )
    good.store()
    assert not good.warnings and good.client.figures.stored == 1
    assert not bad.fetch()
    bad.store()
    assert len(bad.warnings) == 1 and bad.client.figures.stored == 0
    assert bad.seconds < 2


@pytest.fixture(params=[pytest.param("casd", marks=needs_casd), "nginx"])
def guarded(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A server that checks tokens, and the directory with the files of those that are good."""
    if request.param == "casd":
        yield request.getfixturevalue("behind_nginx"), tmp_path / "front" / "tokens"
        return
    tokens = tmp_path / "server" / "tokens"
    tokens.mkdir(parents=True)
    with nginx(tmp_path / "server") as url:
        yield f"{url}/guarded?mode=read-write", tokens


def with_token(guarded: tuple[str, Path], token: Path) -> Machine:
    """Return a machine that has stored its files by the token "one" of a file."""
    url, tokens = guarded
    token.write_text("one")
    tokens.joinpath("one").touch()
    machine = Machine(token.with_name("machine"), f"{url}&token-file={token}")
    machine.store()
    return machine


@needs_nginx
def test_a_token_that_expires_is_read_again(guarded: tuple[str, Path], tmp_path: Path) -> None:
    _, tokens = guarded
    machine = with_token(guarded, tmp_path / "token")
    tokens.joinpath("one").rename(tokens / "two")
    (tmp_path / "token").write_text("two")
    assert machine.fetch()
    assert machine.files() == FILES
    assert machine.warnings == []


@needs_nginx
def test_a_token_that_expired_for_good_costs_a_warning(guarded: tuple[str, Path], tmp_path: Path) -> None:
    _, tokens = guarded
    machine = with_token(guarded, tmp_path / "token")
    tokens.joinpath("one").unlink()
    assert not machine.fetch()
    machine.store(signature="another")
    assert len(machine.warnings) == 1 and CREDENTIALS in machine.warnings[0]
    assert machine.client.figures.stored == 1
