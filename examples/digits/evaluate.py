"""Top-1 accuracy on the test images beside this file: `--eval examples/digits/evaluate.py:top1` on the command line."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

BATCH = 100


def top1(run: Callable[[dict[str, np.ndarray]], Mapping[str, np.ndarray]]) -> np.ndarray:
    """Return 1 for every test image whose largest logit is its label, else 0: float32 [700].

    `run` takes {"x": float32 [n,1,8,8]} and returns {"logits": float [n,10]}. One value per image, not their mean, so
    that the caller can form a confidence interval and compare two networks image by image.
    """
    with np.load(Path(__file__).with_name("test.npz"), allow_pickle=False) as archive:
        images, labels = archive["x"], archive["y"]
    logits = np.concatenate([run({"x": images[i : i + BATCH]})["logits"] for i in range(0, len(images), BATCH)])
    return (logits.argmax(axis=1) == labels).astype(np.float32)
