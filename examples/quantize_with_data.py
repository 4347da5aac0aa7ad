"""Quantize with calibration data, read the per-layer table, and leave the layer that suffers most in float.

Run it from the repository root: `python examples/quantize_with_data.py`
"""

from pathlib import Path

import numpy as np
import tersor as ts

# Any re-iterable of {input name: array} is data. A generator is not: calibration reads it more than once.
images = np.load("examples/digits/calibration.npz")["x"]
data = ts.data([images[i : i + 32] for i in range(0, len(images), 32)], inputs=lambda batch: {"x": batch})

test = np.load("examples/digits/test.npz")


def top1(run):
    """One 0 or 1 per image; from these the report forms a confidence interval."""
    return run({"x": test["x"]})["logits"].argmax(axis=1) == test["y"]


def quantized(**options) -> ts.Result:
    """The network in int8. Without `runs=0` latency would be measured too; on a network this small it says little."""
    model = ts.load("examples/digits/digits.onnx")
    methods = ["simplify", ts.Quantize(**options)]
    return ts.compress(model, "size<=0.5x, drop(top1)<=2%", data=data, evaluate={"top1": top1}, methods=methods, runs=0)


result = quantized()
print(result)

# Each layer's row has the signal-to-noise ratio of its output against the float network. The worst first:
layers = sorted((row for row in result.record.layers if row.sqnr_db is not None), key=lambda row: row.sqnr_db or 0.0)
print("\nthe noisiest layers:")
for row in layers[:3]:
    print(f"  {row.name:<26} {row.decision}  {row.sqnr_db:5.1f} dB   {row.shape_after}")

# Other choices, side by side. `skip` takes node names, module scopes, operators and shell patterns of them.
print("\nvariants:")
for options in ({}, {"observer": "mse"}, {"skip": (layers[0].name,)}, {"skip": ("inverted*",)}):
    last = quantized(**options).record.steps[-1]
    distance = last.distance.sqnr_db if last.distance else None
    figures = f"{last.bytes:>7} bytes  {distance or 0.0:5.1f} dB  top1 {last.metrics['top1'].value:.4f}"
    print(f"  {last.transform:<44} {figures}")

Path("out").mkdir(exist_ok=True)
result.save("out/digits-int8.onnx")
print("\nwrote out/digits-int8.onnx")
