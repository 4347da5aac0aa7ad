#!/bin/sh
# The main job on a real network: simplify, prune and quantize the digits classifier, and write it as ONNX and as PyTorch.
set -eu
here=$(dirname "$0")
tersor=${BIN:?folder of the environment that tersor is installed in}/tersor

echo "The network, as it was trained:"
"$tersor" inspect "$here/digits.onnx"

echo
echo "Simplified, pruned, quantized, each step measured:"
"$tersor" compress "$here/digits.onnx" -o out --force --pytorch \
    --methods "simplify,prune(ratio=0.25),quantize(mode='static')" \
    --data "$here/calibration.npz" --eval "$here/evaluate.py:top1" \
    --goal "size<=0.3x, drop(top1)<=2%"

echo
echo "The files, run once more from disk against the original (quantized: it differs, by this much):"
"$tersor" verify "$here/digits.onnx" out/model.onnx --data "$here/calibration.npz" --tolerance 1
echo "Open out/report.html in a browser."
