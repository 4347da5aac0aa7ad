"""Calibration shared out to an executor gives the same model."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tersor
from tersor.ir import Model, UsageError
from tersor.transforms.quantize import Quantize
from tersor.transforms.quantize.observers import NotFinite


@pytest.mark.parametrize("observer", ["minmax", "moving_average", "entropy"])
def test_threads_find_the_same_ranges(folder: Path, network: Model, observer: str):
    data, quantize = tersor.data(folder / "calib.npz"), Quantize(observer=observer)
    tersor.apply(network, quantize, data=data).save(folder / "alone.onnx")
    with ThreadPoolExecutor(3) as executor:
        tersor.apply(network, quantize, data=data, executor=executor).save(folder / "shared.onnx")
    assert (folder / "alone.onnx").read_bytes() == (folder / "shared.onnx").read_bytes()


def test_other_processes_are_refused(network: Model):
    with ProcessPoolExecutor(1) as executor, pytest.raises(UsageError, match="ThreadPoolExecutor"):
        tersor.apply(network, "simplify", executor=executor)


def test_an_error_in_a_thread_is_raised_as_it_is(network: Model):
    samples = [np.zeros((1, 3, 8, 8), np.float32), np.full((1, 3, 8, 8), np.nan, np.float32)]
    data = tersor.data([{"x": each} for each in samples])
    with ThreadPoolExecutor(2) as executor, pytest.raises(NotFinite, match="'x'"):
        tersor.apply(network, "quantize", data=data, executor=executor)
