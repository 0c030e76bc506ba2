"""An enclave that is measured from the first change of its root on has the MRENCLAVE of a whole one."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from examples import examples
from mystikos_tool.enclave import resuming
from mystikos_tool.enclave.layout import Layout, Run
from mystikos_tool.enclave.mrenclave import mrenclave
from mystikos_tool.enclave.resuming import States
from mystikos_tool.io.content import Bytes, FileContent, Readable
from mystikos_tool.io.sha256 import is_available

P = 4096
RO, RW = 0x201, 0x203
STEP = 128  # pages of a piece that is hashed

pytestmark = pytest.mark.skipif(not is_available(), reason="needs OpenSSL's SHA256_Update")


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resuming, "_BETWEEN", STEP)


def around(root: Readable, *, image: bytes = b"image", offset: int = 9 * P, flags: int = RO) -> Layout:
    """A layout with a root, an image before it and a configuration behind it."""
    end = offset + -(-root.size // P) * P
    runs = (
        Run(0, 1, RW, True, Bytes(image)),
        Run(offset, -(-root.size // P), flags, True, root),
        Run(end, 1, RO, True, Bytes(b"config")),
    )
    return Layout(1 << 40, 0, 0, 0, 0, 0, (), runs)


def written(path: Path, data: bytes) -> FileContent:
    path.write_bytes(data)
    return FileContent.of(path)


sizes = st.integers(1, 6 * STEP * P) | st.sampled_from([STEP * P, 3 * STEP * P, 3 * STEP * P + 1, 4100 * P])


@given(sizes, st.floats(0, 1), st.integers(0, 1 << 32))
@settings(
    max_examples=examples(25), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_root_that_changed_has_the_mrenclave_of_one_measured_whole(
    tmp_path: Path, size: int, share: float, seed: int
) -> None:
    data = bytearray(random.Random(seed).randbytes(size))
    root = written(tmp_path / "root", data)
    measured, states = resuming.mrenclave(around(root), root)
    assert measured == mrenclave(around(root))
    changed = int(share * (size - 1))
    for at in {changed, size - 1}:
        data[at] ^= 1
        written(tmp_path / "root", data)
        measured, states = resuming.mrenclave(around(root), root, states, at)
        assert measured == mrenclave(around(root))


def test_only_what_comes_from_the_last_state_before_the_change_on_is_read(tmp_path: Path) -> None:
    data = random.Random(1).randbytes(5 * STEP * P)
    root = written(tmp_path / "root", data)
    whole, states = resuming.mrenclave(around(root), root)
    assert len(states.states) == 5 * 32
    written(tmp_path / "root", bytes(3 * STEP * P) + data[3 * STEP * P :])
    assert resuming.mrenclave(around(root), root, states, 3 * STEP * P) == (whole, states)
    assert resuming.mrenclave(around(root), root, states, 3 * STEP * P - 1)[0] != whole


@pytest.mark.parametrize(
    "other", [{"image": b"another"}, {"offset": 10 * P}, {"flags": RW}, {"size": 1 << 41}]
)
def test_states_are_of_no_use_where_anything_before_the_root_is_another(
    tmp_path: Path, other: dict[str, object]
) -> None:
    root = written(tmp_path / "root", bytes(3 * STEP * P))
    _, states = resuming.mrenclave(around(root), root)
    size = {key: other.pop(key) for key in tuple(other) if key == "size"}
    laid_out = around(root, **other)._replace(**size)  # type: ignore[arg-type]
    assert resuming.mrenclave(laid_out, root, states, root.size)[0] == mrenclave(laid_out)


def test_what_comes_behind_the_root_may_be_another(tmp_path: Path) -> None:
    root = written(tmp_path / "root", bytes(3 * STEP * P))
    _, states = resuming.mrenclave(around(root), root)
    laid_out = around(root)
    laid_out = laid_out._replace(stream=(*laid_out.stream[:-1], Run(1 << 30, 1, RW, True, Bytes(b"other"))))
    assert resuming.mrenclave(laid_out, root, states, root.size)[0] == mrenclave(laid_out)


def test_a_root_that_became_shorter_takes_no_states_from_behind_its_end(tmp_path: Path) -> None:
    root = written(tmp_path / "root", bytes(5 * STEP * P))
    _, states = resuming.mrenclave(around(root), root)
    shorter = written(tmp_path / "root", bytes(2 * STEP * P + 5))
    measured, left = resuming.mrenclave(around(shorter), shorter, states, shorter.size)
    assert measured == mrenclave(around(shorter))
    assert left == States(states.beginning, states.states[: 2 * 32])


def test_content_that_is_read_but_once_is_measured_whole() -> None:
    root = Bytes(random.Random(2).randbytes(3 * STEP * P))
    measured, states = resuming.mrenclave(around(root), root)
    assert measured == resuming.mrenclave(around(root), root, states, root.size)[0] == mrenclave(around(root))
