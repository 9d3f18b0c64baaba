"""Packing of maps by threads: what comes out can be inflated, is in order, and small where nothing is in it."""

from __future__ import annotations

import threading
import time
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fvproc.writers import packing


@given(hnp.arrays(np.float32, hnp.array_shapes(min_dims=1, max_dims=2, min_side=1, max_side=80)))
def test_a_stream_inflates_to_the_bytes_of_the_array(values):
    assert zlib.decompress(packing.zlib_stream(values)) == values.tobytes()
    assert zlib.decompress(packing.zlib_stream(values.T)) == np.ascontiguousarray(values.T).tobytes()


def test_what_repeats_is_searched_for_and_noise_is_not():
    """A tile without values, or with the same one all over, was a thousandth of its size before, and must be."""
    for alike in (np.nan, 31.0, 1.5e9):
        assert len(packing.zlib_stream(np.full((256, 256), alike, np.float32))) < 256 * 256 * 4 / 200
    noise = np.random.default_rng(0).normal(1.5e9, 1e7, (256, 256)).astype(np.float32)
    assert len(packing.zlib_stream(noise)) < 1.05 * len(zlib.compress(noise.tobytes(), 6))
    for rows, columns in ((256, 20), (16, 256), (44, 44), (4, 256)):  # tiles at the edges of a map
        edge = np.full((256, 256), np.nan, np.float32)
        edge[:rows, :columns] = noise[:rows, :columns]
        least = len(zlib.compress(edge.tobytes(), 6))
        assert len(packing.zlib_stream(edge)) < 1.3 * least, (rows, columns)


@given(st.lists(st.integers(0, 3), max_size=30))
def test_work_comes_back_in_order(waits):
    def work(item):
        time.sleep(item[1] * 1e-4)
        return item[0]

    assert list(packing.in_order(work, enumerate(waits))) == list(range(len(waits)))


def test_an_error_of_the_work_and_a_taker_who_gives_up_end_it():
    before = threading.active_count()

    def work(item):
        if item == 5:
            raise ValueError("five")
        return item

    with pytest.raises(ValueError, match="five"):
        list(packing.in_order(work, range(1000)))
    taken = packing.in_order(str, range(1000))
    assert next(taken) == "0"
    taken.close()
    assert threading.active_count() == before
