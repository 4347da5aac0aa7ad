"""The safetensors format (an 8-byte length, a JSON header, then the tensors' bytes), written tensor by tensor."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from ...ir import DType, Tensor, UnsupportedError
from ..files import pending

LABELS = {
    DType.F64: "F64", DType.F32: "F32", DType.F16: "F16", DType.BF16: "BF16", DType.I64: "I64", DType.I32: "I32",
    DType.I16: "I16", DType.I8: "I8", DType.U64: "U64", DType.U32: "U32", DType.U16: "U16", DType.U8: "U8",
    DType.BOOL: "BOOL",
}  # fmt: skip
ALIGNMENT = 8


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Writes tensors by name, so that the file appears whole or not at all; no more than one block is in memory.

    Names are sorted and wide elements come first, as the reference implementation orders them: aligned, and equal for
    equal contents. Raises UnsupportedError for an element type that the format lacks, OSError where the system refuses.
    """
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].dtype.bits, item[0]))
    header: dict[str, object] = {}
    position = 0
    for name, tensor in ordered:
        if tensor.dtype not in LABELS:
            raise UnsupportedError(f"{tensor.dtype.label} tensors cannot be saved in safetensors", where=name)
        end = position + tensor.nbytes
        header[name] = {"dtype": LABELS[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [position, end]}
        position = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    with pending(path) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, tensor in ordered:
            file.append(tensor, name)
        file.finish()
        file.publish()
