"""A cache's URL says where it is and how it is used, and holds no secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from mystikos_tool.cache.remote.address import EXECUTOR, parse
from mystikos_tool.errors import UserError


@pytest.mark.parametrize(
    ("url", "place", "name", "shown"),
    [
        ("grpc://cache/main", "cache:8980", "main", "grpc://cache:8980/main"),
        ("grpcs://cache.example:4433", "cache.example:4433", "", "grpcs://cache.example:4433"),
        ("grpc://[::1]:8980/a/b", "[::1]:8980", "a/b", "grpc://[::1]:8980/a/b"),
        ("unix:/run/casd.sock?instance=main", "/run/casd.sock", "main", "unix:/run/casd.sock"),
        ("http://cache/team/", "cache:80", "team", "http://cache:80/team"),
        ("HTTPS://cache?ca=ca.pem", "cache:443", "", "https://cache:443"),
    ],
)
def test_a_url_names_host_and_instance(url: str, place: str, name: str, shown: str) -> None:
    address = parse(url)
    assert (address.place, address.name, str(address)) == (place, name, shown)


def test_options_are_taken_as_they_are_written() -> None:
    address = parse(
        "grpcs://c?mode=read&ca=a%26b.pem&token-command=get --for c&patience=3&min-rate=1M&chunks-size=2G"
    )
    assert (address.reads, address.writes) == (True, False)
    assert address.ca == Path("a&b.pem")
    assert address.token_command == "get --for c"
    assert (address.patience, address.min_rate, address.chunks_size) == (3, 10**6, 2 * 10**9)


def test_no_chunks_are_kept_where_no_directory_is_named() -> None:
    assert parse("grpc://c?chunks=").chunks is None


def test_chunks_are_kept_in_the_user_s_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert parse("grpc://c").chunks == tmp_path / "mystikos-tool" / "chunks"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ftp://hunter2@cache",
        "cache:8980",
        "grpc://",
        "grpc://user:hunter2@cache",
        "grpc://cache:hunter2",
        "unix:relative",
        "grpc://cache?token=hunter2",
        "grpc://cache?mode=hunter2",
        "grpc://cache?patience=hunter2",
        "grpc://cache?patience=0",
        "grpc://cache?patience=nan",
        "grpc://cache?instance=x",
        "grpcs://cache?cert=cert.pem",
        "grpc://cache?ca=ca.pem",
        "grpc://cache?token-file=hunter2",
        "http://192.0.2.1?token-command=hunter2",
        "grpcs://cache?token-file=a&token-command=b",
        "grpc://cache#hunter2",
        "grpc://cache?patience=1e9",
        "grpc://cache?mode=read&mode=hunter2",
        "grpcs://cache?token-file=hunter2&token-file=b",
        "grpcs://cache?token-file=",
        "grpcs://cache?token-command",
        "grpcs://cache?ca=",
        "grpcs://cache?token-file=hunter2%00",
        "grpcs://cache?token-command=hunter2%00",
        "unix:/hunter2%00",
        "grpc://cache/hunter2\n",
        "grpc://cache/hunter2\udcff",
    ],
)
def test_what_is_wrong_is_said_without_showing_it(url: str) -> None:
    with pytest.raises(UserError) as error:
        parse(url)
    assert error.value.remedy
    assert "hunter2" not in str(error.value)


def test_an_executor_is_waited_for_as_long_as_a_clock_can_count() -> None:
    assert parse("grpc://farm?wait=1e8", EXECUTOR).wait == 1e8
    with pytest.raises(UserError, match="at most 100,000,000"):
        parse("grpc://farm?wait=1e10", EXECUTOR)


@pytest.mark.parametrize(
    "url", ["grpc://localhost?token-file=t", "http://127.0.0.1:80?token-file=t", "unix:/s?token-file=t"]
)
def test_a_token_may_stay_on_this_machine_unencrypted(url: str) -> None:
    assert parse(url).token_file == Path("t")
