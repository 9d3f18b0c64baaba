"""What a person is told while a run goes on."""

from __future__ import annotations

import io

from fvproc.progress import Bar
from fvproc.volume import Tile


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_bar_counts_curves_and_tells_rate_and_time_left(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    stream = Terminal()
    bar = Bar("map.spm", stream)
    bar.start(2)
    bar.expect(4000)
    clock[0] += 2.0
    bar.advance(Tile(0, 1000), False)
    assert "map.spm:  25% 1,000/4,000 curves, 500 curves/s, 6.0 s left, 2 threads" in stream.getvalue()
    clock[0] += 1.0
    bar.advance(Tile(1000, 2000), True)
    assert "50% (1 failed)" in stream.getvalue()
    clock[0] += 197.0
    bar.advance(Tile(2000, 4000), False)
    bar.finish()
    lines = stream.getvalue().split("\r")
    assert "100% (1 failed) 4,000/4,000 curves, 20 curves/s, 3 min 20 s in all" in lines[-1]
    assert lines[-1].endswith("\n")
    assert len({len(line.rstrip("\n")) for line in lines[1:]}) == 1  # each line covers the one before


def test_without_a_terminal_lines_are_plain_and_rare(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    stream = io.StringIO()
    bar = Bar("", stream)
    bar.start(1)
    bar.expect(100)
    for i in range(100):
        clock[0] += 0.5
        bar.advance(Tile(i, i + 1), False)
    bar.finish()
    assert "\r" not in stream.getvalue()
    assert stream.getvalue().count("\n") == 6


def test_a_bar_that_never_started_says_nothing():
    stream = io.StringIO()
    Bar("", stream).finish()
    assert stream.getvalue() == ""


def test_what_an_earlier_run_did_counts_as_done_and_not_as_speed(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    bar = Bar("", io.StringIO())
    bar.start(1)
    bar.expect(4000, 2000)
    clock[0] += 2.0
    bar.advance(Tile(2000, 3000), False)
    assert bar.text() == " 75% 3,000/4,000 curves, 500 curves/s, 2.0 s left, 1 threads"


def test_files_that_are_not_open_yet_count_as_much_as_those_before_them(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    bar = Bar("", io.StringIO(), files=4)
    bar.start(1)
    bar.expect(1000)
    clock[0] += 1.0
    bar.advance(Tile(0, 1000), False)
    assert bar.text() == " 25% file 1 of 4, 1,000/1,000 curves, 1,000 curves/s, 3.0 s left, 1 threads"
    bar.staff(3)
    assert bar.text().endswith("3 threads")
