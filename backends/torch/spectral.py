"""Rows for Fourier transforms and the windows that go with them.

ONNX keeps real and imaginary parts in a last axis of size 2, PyTorch has complex tensors.
"""

from __future__ import annotations

from ...ir import DType, Node
from .code import Code, Piece, call, infix, method, raw
from .emitter import Emitter, Row
from .members import TORCH_TYPES


def dft(node: Node, e: Emitter) -> Code:
    """DFT-20: a last axis of size 1 holds real numbers; the inverse is scaled by 1 / count in both."""
    rank = e.need_rank(node, node.operand(0))
    given = None if node.input(2) is None else e.number(node.input(2))
    axis: Piece = int(-2 if given is None else given) % rank
    if node.input(2) is not None and given is None:
        axis = e.integer(node.operand(2))
    x, real = spectrum_operand(node, e)
    inverse, half = bool(node.int("inverse")), bool(node.int("onesided"))
    e.need(not half or real is not inverse, node, "half of a spectrum belongs to a real signal")
    options: dict[str, Piece] = {"dim": axis}
    if node.input(1) is not None:
        options = {"n": e.integer(node.operand(1)), **options}
    if half and inverse:
        return method(call("torch.fft.irfft", x, **options), "unsqueeze", -1)
    name = "rfft" if half else "ifft" if inverse else "fft"
    return call("torch.view_as_real", call(f"torch.fft.{name}", x, **options))


def spectrum_operand(node: Node, e: Emitter) -> tuple[Code, bool]:
    """The operand as a tensor without the last axis, and whether it is real."""
    value = e.resolve(node.operand(0))
    parts = value.shape[-1] if value.shape else None
    if parts == 1:
        return method(e.tensor(value), "squeeze", -1), True
    e.need(parts == 2, node, "the size of its operand's last axis is not known")
    return call("torch.view_as_complex", method(e.tensor(value), "contiguous")), False


def stft(node: Node, e: Emitter) -> Code:
    """STFT-17: windows cut out at every step, and the spectrum of each."""
    value = e.resolve(node.operand(0))
    window, shape = node.input(2), None if node.input(2) is None else e.resolve(node.operand(2)).shape
    length: Piece = shape[0] if shape and isinstance(shape[0], int) else None
    if node.input(3) is not None:
        length = e.integer(node.operand(3))
    e.need(length is not None, node, "the length of its frames is not known")
    if value.rank == 3:
        x, real = spectrum_operand(node, e)
        e.need(real, node, "its signal is complex")
    else:
        x = e.tensor(value)
    frames = method(x, "unfold", 1, length, e.integer(node.operand(1)))
    if window is not None:
        frames = infix("*", frames, e.tensor(window))
    return call("torch.view_as_real", call("torch.fft.rfft" if node.int("onesided") else "torch.fft.fft", frames))


def window(name: str, **options: float) -> Row:
    """A window function of a size that is known when the model runs."""

    def row(node: Node, e: Emitter) -> Code:
        dtype = DType.of_code(node.int("output_datatype"))
        e.need(dtype.is_float and dtype in TORCH_TYPES, node, f"PyTorch has no windows of {dtype.label}")
        size = e.integer(node.operand(0))
        periodic = bool(node.int("periodic"))
        return call(f"torch.{name}", size, periodic=periodic, **options, dtype=raw(f"torch.{TORCH_TYPES[dtype]}"))

    return row


ROWS: dict[str, Row] = {
    "DFT": dft, "STFT": stft,
    "HannWindow": window("hann_window"), "BlackmanWindow": window("blackman_window"),
    "HammingWindow": window("hamming_window", alpha=25 / 46, beta=21 / 46),
}  # fmt: skip
