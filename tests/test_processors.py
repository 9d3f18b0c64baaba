"""Processors that a process may use: as batch systems, containers and users limit them."""

from __future__ import annotations

import math
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import fvproc as fv
from fvproc import cli, processors


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """Return a function that lays out control groups: lines of /proc/self/cgroup, and files by their path."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    monkeypatch.setattr(processors, "_GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(processors, "_MOUNTED", tmp_path / "sys")
    processors._quota.cache_clear()

    def lay_out(lines: str, files: dict[str, str]) -> None:
        (tmp_path / "cgroup").write_text(lines)
        for name, content in files.items():
            path = tmp_path / "sys" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)

    yield lay_out
    processors._quota.cache_clear()


@pytest.mark.parametrize(
    ("lines", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),  # a container's own group is its root
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),  # one and a half: two threads fill it
        ("0::/\n", {"cpu.max": "10000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 16),
        ("0::/\n", {"cpu.max": "9900000 100000\n"}, 16),
        (
            "0::/system.slice/job\n",
            {"system.slice/job/cpu.max": "max 100000\n", "system.slice/cpu.max": "300000 100000"},
            3,
        ),
        (
            "4:cpu,cpuacct:/docker/ab\n",
            {"cpu,cpuacct/cpu.cfs_quota_us": "400000", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
            4,
        ),
        ("4:cpu,cpuacct:/\n", {"cpu,cpuacct/cpu.cfs_quota_us": "-1", "cpu,cpuacct/cpu.cfs_period_us": "100000"}, 16),
        ("5:cpuset:/\n0::/\n", {}, 16),
        ("0::/\n", {"cpu.max": "torn"}, 16),
        ("torn\n", {"cpu.max": "200000 100000\n"}, 16),
    ],
)
def test_control_groups_limit_the_processors(groups, lines, files, expected):
    groups(lines, files)
    assert processors.cores() == expected


def test_without_control_groups_the_affinity_counts(groups):
    assert processors._quota() == math.inf  # nothing is laid out
    assert processors.cores() == 16


def test_what_a_user_allows_is_a_limit_of_the_context_alone(groups):
    groups("0::/\n", {"cpu.max": "400000 100000\n"})
    elsewhere: list[int] = []
    with processors.at_most(3):
        assert processors.cores() == 3
        with processors.at_most(None):
            assert processors.cores() == 3
        with processors.at_most(9):
            assert processors.cores() == 4  # no more than there are
        thread = threading.Thread(target=lambda: elsewhere.append(processors.cores()))
        thread.start()
        thread.join()
    assert elsewhere == [4]
    assert processors.cores() == 4


def test_this_machine_says_a_number_that_it_has():
    assert 1 <= processors.cores() <= (os.cpu_count() or 1)


@pytest.mark.parametrize("way", ["process", "process_many", "command"])
def test_threads_asked_for_are_those_that_write_too(groups, curves_file, tmp_path, monkeypatch, way):
    pools: list[int | None] = []
    honest = ThreadPoolExecutor.__init__

    def init(self, max_workers=None, *arguments, **options):
        pools.append(max_workers)
        honest(self, max_workers, *arguments, **options)

    monkeypatch.setattr(ThreadPoolExecutor, "__init__", init)
    outputs = [tmp_path / "out" / f"{curves_file.stem}{suffix}" for suffix in (".h5", ".tif")]
    outputs[0].parent.mkdir()
    if way == "process":
        fv.process(curves_file, output=outputs, threads=3)
    elif way == "process_many":
        fv.process_many([curves_file], output_dir=tmp_path / "out", suffixes=(".h5", ".tif"), threads=3)
    else:
        assert (
            cli.main(["run", str(curves_file), "-o", str(outputs[0]), "--tiff", str(outputs[1]), "--threads", "3"]) == 0
        )
    assert all(path.exists() for path in outputs)
    assert len(pools) >= 3
    assert set(pools) <= {1, 3}  # 1: the journal's
