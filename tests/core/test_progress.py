"""The progress bar: quiet for a second, then one line that goes away."""

from __future__ import annotations

import io

from mystikos_tool.io import progress


class Clock:
    """A clock that the test turns."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_nothing_is_drawn_in_the_first_second() -> None:
    clock, stream = Clock(), io.StringIO()
    bar = progress.Bar("packing", 100, stream, clock)
    clock.now = 0.99
    bar.advance(99)
    bar.close()
    assert stream.getvalue() == ""


def test_after_a_second_the_share_is_drawn_and_taken_off_at_the_end() -> None:
    clock, stream = Clock(), io.StringIO()
    bar = progress.Bar("packing", 200, stream, clock)
    clock.now = 1.0
    bar.advance(100)
    assert stream.getvalue() == "\rpacking [###############...............]  50%"
    bar.close()
    assert stream.getvalue().endswith("\r\033[K")


def test_it_is_drawn_ten_times_a_second_at_the_most() -> None:
    clock, stream = Clock(), io.StringIO()
    bar = progress.Bar("packing", 1000, stream, clock)
    for tick in range(1000):
        clock.now = 1 + tick / 1000
        bar.advance(1)
    bar.close()
    assert stream.getvalue().count("packing") == 10


def test_of_several_bars_one_is_drawn() -> None:
    clock, stream = Clock(), io.StringIO()
    first, second = (progress.Bar(label, 10, stream, clock) for label in ("first", "second"))
    clock.now = 2.0
    first.advance(1)
    second.advance(1)
    assert "second" not in stream.getvalue()
    first.close()
    second.advance(1)
    assert "second" in stream.getvalue()
    second.close()
