"""Complex numbers and Fourier transforms.

ONNX computes with real tensors only, so a complex tensor is lowered as a pair of real ones; operators that move
elements act on both parts alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...ir import Array, DType, Size, TensorType, Value, constant
from .elementwise import arctangent
from .lowering import Lowering, Row, Rows, axis_of, dtype_of, rank_of, shape_of, typed

PARTS = {DType.C64: DType.F32, DType.C128: DType.F64}
"""The element type of real and imaginary parts."""


@dataclass(frozen=True)
class Complex:
    """A complex tensor: two real ones of the same element type, whose shapes broadcast."""

    real: Value
    imag: Value


def concerns(op: Lowering, arguments: Sequence[Any]) -> bool:
    """Whether a node takes or gives complex numbers."""
    return any(t.dtype in PARTS for t in op.outs) or any(is_complex(a) for a in _leaves(arguments))


def lowered(op: Lowering, name: str, row: Row | None, arguments: Sequence[Any], options: dict[str, Any]) -> Any:
    """The node `name` with complex numbers: by a row of its own, or part by part with the `row` for real numbers."""
    if name in COMPLEX_ROWS:
        return COMPLEX_ROWS[name](op, *arguments, **options)
    if name not in PARTWISE or row is None:
        op.decline("it has no form for complex numbers")
    op.outs = [TensorType(PARTS[t.dtype], t.shape) for t in op.outs]
    real, imag = (row(op, *_part(op, arguments, i), **options) for i in (0, 1))
    if isinstance(real, Value):
        return Complex(real, imag)
    return [Complex(a, b) for a, b in zip(real, imag, strict=True)]


def is_complex(x: Any) -> bool:
    return isinstance(x, Complex) or (isinstance(x, Value) and isinstance(x.type, TensorType) and x.type.dtype in PARTS)


def _leaves(arguments: Sequence[Any]) -> Sequence[Any]:
    return [leaf for a in arguments for leaf in (a if isinstance(a, list) else (a,))]


def _part(op: Lowering, arguments: Any, place: int) -> Any:
    """The arguments with complex tensors replaced by their real (0) or imaginary (1) parts."""
    if isinstance(arguments, (list, tuple)):
        return [_part(op, a, place) for a in arguments]
    if is_complex(arguments):
        return parts(op, arguments)[place]
    return arguments


def parts(op: Lowering, x: Any, dtype: DType | None = None) -> tuple[Value, Value]:
    """Real and imaginary part of a complex tensor, a real one or a number."""
    if isinstance(x, Complex):
        return x.real, x.imag
    if isinstance(x, Value) and is_complex(x):
        if x.const is None:
            op.decline("a complex input of the graph is not covered")
        array = x.const.numpy()
        return constant(np.real(array).copy(), f"{x.name}.real"), constant(np.imag(array).copy(), f"{x.name}.imag")
    assert dtype is not None
    if isinstance(x, complex):
        return op.scalar(x.real, dtype), op.scalar(x.imag, dtype)
    return op.tensor(x, dtype), op.scalar(0, dtype)


def like(op: Lowering, made: Value, shape: Sequence[Size] | None = None) -> Value:
    """An intermediate part of the first result."""
    kind = PARTS.get(op.out.dtype, op.out.dtype)
    return typed(made, kind, op.out_shape if shape is None else shape)


# Arithmetic


def add_sub(name: str) -> Row:
    def row(op: Lowering, a: Any, b: Any, alpha: Any = 1) -> Complex:
        if alpha != 1:
            op.decline("a factor beside complex numbers is not covered")
        dtype = PARTS[op.out.dtype]
        (ar, ai), (br, bi) = parts(op, a, dtype), parts(op, b, dtype)
        return Complex(like(op, op.call(name, ar, br)), like(op, op.call(name, ai, bi)))

    return row


def multiply(op: Lowering, a: Any, b: Any) -> Complex:
    """(ar + i ai) (br + i bi); a real factor scales both parts."""
    dtype = PARTS[op.out.dtype]
    (ar, ai), (br, bi) = parts(op, a, dtype), parts(op, b, dtype)
    if not is_complex(b) and not isinstance(b, complex):
        return Complex(like(op, op.Mul(ar, br)), like(op, op.Mul(ai, br)))
    if not is_complex(a) and not isinstance(a, complex):
        return Complex(like(op, op.Mul(ar, br)), like(op, op.Mul(ar, bi)))
    real = op.Sub(like(op, op.Mul(ar, br)), like(op, op.Mul(ai, bi)))
    imag = op.Add(like(op, op.Mul(ar, bi)), like(op, op.Mul(ai, br)))
    return Complex(like(op, real), like(op, imag))


def divide(op: Lowering, a: Any, b: Any) -> Complex:
    """a / b; a complex divisor by its conjugate: a conj(b) / |b|^2."""
    dtype = PARTS[op.out.dtype]
    if is_complex(b) or isinstance(b, complex):
        real, imag = parts(op, b, dtype)
        shape = shape_of(real)
        b = typed(op.Add(*[like(op, op.Mul(v, v), shape) for v in (real, imag)]), dtype, shape)
        a = multiply(op, a, Complex(real, like(op, op.Neg(imag), shape)))
    (real, imag), divisor = parts(op, a, dtype), op.tensor(b, dtype)
    return Complex(like(op, op.Div(real, divisor)), like(op, op.Div(imag, divisor)))


def conjugate(op: Lowering, x: Any) -> Complex:
    real, imag = parts(op, x)
    return Complex(real, like(op, op.Neg(imag)))


def absolute(op: Lowering, x: Any) -> Value:
    real, imag = parts(op, x)
    squares = op.Add(like(op, op.Mul(real, real)), like(op, op.Mul(imag, imag)))
    return op.Sqrt(like(op, squares))


def exponential(op: Lowering, x: Any) -> Complex:
    """exp(real) (cos(imag) + i sin(imag))."""
    real, imag = parts(op, x)
    return polar(op, like(op, op.Exp(real)), imag)


def angle(op: Lowering, x: Any) -> Value:
    """The angle of a complex number; pi for a negative real one, 0 for others, NaN for NaN."""
    if is_complex(x):
        real, imag = (op.expand(p, op.out_shape) for p in parts(op, x))
        return arctangent(op, imag, real)
    dtype = op.out.dtype
    x = op.cast(x, dtype)
    made = op.Where(op.Less(x, op.scalar(0, dtype)), op.scalar(np.pi, dtype), op.scalar(0, dtype))
    return op.Where(op.IsNaN(x), x, like(op, made))


def matrix_product(op: Lowering, a: Any, b: Any) -> Complex:
    """The product of matrices, of which one may be real."""
    dtype = PARTS[op.out.dtype]

    def product(x: Value, y: Value) -> Value:
        return like(op, op.MatMul(x, y))

    (ar, ai), (br, bi) = parts(op, a, dtype), parts(op, b, dtype)
    if not is_complex(b):
        return Complex(product(ar, br), product(ai, br))
    if not is_complex(a):
        return Complex(product(ar, br), product(ar, bi))
    real = op.Sub(product(ar, br), product(ai, bi))
    return Complex(like(op, real), like(op, op.Add(product(ar, bi), product(ai, br))))


# From real tensors and back


def compose(op: Lowering, real: Value, imag: Value) -> Complex:
    return Complex(real, imag)


def polar(op: Lowering, size: Value, angle: Value) -> Complex:
    cos, sin = (like(op, f(angle), shape_of(angle)) for f in (op.Cos, op.Sin))
    return Complex(like(op, op.Mul(size, cos)), like(op, op.Mul(size, sin)))


def view_as_complex(op: Lowering, x: Value) -> Complex:
    """The last axis of size 2 holds real and imaginary part."""
    return unstacked(op, x, op.out_shape)


def view_as_real(op: Lowering, x: Any) -> Value:
    real, imag = (op.expand(p, op.out_shape[:-1]) for p in parts(op, x))
    return stacked(op, Complex(real, imag))


def real_part(op: Lowering, x: Any) -> Value:
    return op.expand(parts(op, x, op.out.dtype)[0], op.out_shape)


def imaginary_part(op: Lowering, x: Any) -> Value:
    return op.expand(parts(op, x, op.out.dtype)[1], op.out_shape)


def stacked(op: Lowering, x: Complex) -> Value:
    shape = shape_of(x.real)
    wide = [op.unsqueeze(p, [len(shape)]) for p in (x.real, x.imag)]
    return typed(op.Concat(*wide, axis=len(shape)), dtype_of(x.real), [*shape, 2])


def unstacked(op: Lowering, x: Value, shape: Sequence[Size]) -> Complex:
    axis = len(shape)
    return Complex(*(typed(op.Gather(x, op.scalar(i, DType.I64), axis=axis), dtype_of(x), shape) for i in (0, 1)))


# Fourier transforms

Norm = str | int | None
BACKWARD, ORTHO, FORWARD = "backward", "ortho", "forward"


def factor(op: Lowering, norm: Norm, inverse: bool, counts: Sequence[Size]) -> float:
    """What to multiply an unscaled transform with; its inverse counts as unscaled without 1 / count."""
    count = float(np.prod(op.ints(list(counts)), dtype=np.float64))
    if norm == ORTHO:
        return count**-0.5
    return 1 / count if (norm or BACKWARD) == (BACKWARD if inverse else FORWARD) else 1.0


def scaled(op: Lowering, x: Value, number: float) -> Value:
    return x if abs(number - 1) < 1e-12 else typed(op.Mul(x, op.scalar(number, dtype_of(x))), dtype_of(x), shape_of(x))


def transformed(op: Lowering, x: Any, dims: Sequence[int], norm: Norm, *, inverse: bool, half: bool = False) -> Complex:
    """The discrete Fourier transform along `dims`, of the non-negative frequencies of the last of them for `half`."""
    pair = parts(op, x) if is_complex(x) else None
    shape = list(shape_of(x if pair is None else pair[0]))
    number = factor(op, norm, inverse, [shape[d] for d in dims])
    wide = op.unsqueeze(x, [len(shape)]) if pair is None else stacked(op, Complex(*pair))
    dtype = dtype_of(wide)
    for place, dim in enumerate(reversed(dims)):
        attrs: dict[str, Any] = {"onesided": 1} if half and place == 0 else {}
        if attrs:
            shape[dim] = shape[dim] // 2 + 1
        made = op.DFT(wide, None, op.scalar(dim, DType.I64), inverse=int(inverse), **attrs)
        wide = typed(made, dtype, [*shape, 2])
    if inverse:  # ONNX's inverse divides by the count
        number *= float(np.prod(op.ints([shape[d] for d in dims]), dtype=np.float64))
    return unstacked(op, scaled(op, wide, number), shape)


def real_inverse(op: Lowering, x: Any, dims: Sequence[int], norm: Norm) -> Value:
    """From the non-negative frequencies of the last of `dims` to a real tensor: the last axis as a product with cosines
    and sines, since ONNX has no such transform."""
    count = op.ints(op.out_shape[dims[-1]])[0]
    number = factor(op, norm, True, [op.out_shape[d] for d in dims])
    if len(dims) > 1:
        x = transformed(op, x, dims[:-1], FORWARD, inverse=True)
    real, imag = parts(op, x)
    bins = op.ints(shape_of(real)[dims[-1]])[0]
    if bins != count // 2 + 1:
        op.decline("it cuts or pads the frequencies")
    frequencies, samples = np.arange(bins)[:, None], np.arange(count)[None, :]
    angle = 2 * np.pi * ((frequencies * samples) % count) / count
    twice = np.where((frequencies == 0) | (2 * frequencies == count), 1.0, 2.0) * number
    dtype = dtype_of(real)
    rank = rank_of(real)
    order = [*(a for a in range(rank) if a != dims[-1]), dims[-1]]
    kept = [op.out_shape[a] for a in order]
    made: list[Value] = []
    for part, table in ((real, twice * np.cos(angle)), (imag, -twice * np.sin(angle))):
        last = part if order == sorted(order) else op.Transpose(part, perm=order)
        last = typed(last, dtype, [shape_of(part)[a] for a in order])
        made.append(typed(op.MatMul(last, constant(table.astype(dtype.numpy))), dtype, kept))
    total = typed(op.Add(*made), dtype, kept)
    return total if order == sorted(order) else op.Transpose(total, perm=[order.index(a) for a in range(rank)])


def axes_of(op: Lowering, x: Any, dims: Any, default: Callable[[int], Sequence[int]]) -> list[int]:
    first = parts(op, x)[0] if is_complex(x) else x
    chosen = default(rank_of(first)) if dims is None else [dims] if isinstance(dims, int) else dims
    return [axis_of(first, d) for d in chosen]


def fitted(op: Lowering, x: Any, sizes: Any, dims: Sequence[int]) -> Any:
    """The operand of a transform, cut or filled up with zeros to the sizes asked for."""
    if sizes is None:
        return x
    if is_complex(x):
        real, imag = (fitted(op, p, sizes, dims) for p in parts(op, x))
        return Complex(real, imag)
    shape = list(shape_of(x))
    for dim, size in zip(dims, sizes if isinstance(sizes, list) else [sizes], strict=True):
        if shape[dim] == size:
            continue
        have, want = op.ints([shape[dim], size])
        shape[dim] = want
        if want < have:
            x = typed(op.Slice(x, [0], [want], [dim]), dtype_of(x), list(shape))
        else:
            x = typed(op.Pad(x, [0, want - have], None, [dim]), dtype_of(x), list(shape))
    return x


def fourier(default: Callable[[int], Sequence[int]], *, inverse: bool = False, half: bool = False) -> Row:
    def row(op: Lowering, x: Any, s: Any = None, dim: Any = None, norm: Norm = None) -> Complex:
        dims = axes_of(op, x, dim, default)
        return transformed(op, fitted(op, x, s, dims), dims, norm, inverse=inverse, half=half)

    return row


def real_fourier(default: Callable[[int], Sequence[int]]) -> Row:
    def row(op: Lowering, x: Any, s: Any = None, dim: Any = None, norm: Norm = None) -> Value:
        dims = axes_of(op, x, dim, default)
        sizes = [op.out_shape[d] for d in dims]
        return real_inverse(op, fitted(op, x, [*sizes[:-1], sizes[-1] // 2 + 1], dims), dims, norm)

    return row


def normalization(code: int, inverse: bool) -> str:
    """How the core operators write scaling: 0 none, 1 by the square root of the count, 2 by the count."""
    return {0: FORWARD if inverse else BACKWARD, 1: ORTHO, 2: BACKWARD if inverse else FORWARD}[code]


def core_complex(op: Lowering, x: Any, dim: Sequence[int], scaling: int, forward: bool) -> Complex:
    dims = axes_of(op, x, dim, range)
    return transformed(op, x, dims, normalization(scaling, not forward), inverse=not forward)


def core_real(op: Lowering, x: Value, dim: Sequence[int], scaling: int, onesided: bool) -> Complex:
    dims = axes_of(op, x, dim, range)
    return transformed(op, x, dims, normalization(scaling, False), inverse=False, half=onesided)


def core_inverse(op: Lowering, x: Any, dim: Sequence[int], scaling: int, last_dim_size: Size) -> Value:
    return real_inverse(op, x, axes_of(op, x, dim, range), normalization(scaling, True))


# Short-time transforms


def window_of(op: Lowering, given: Value | None, length: int, size: int, dtype: DType) -> Array:
    """A constant window of `length`, filled up with zeros on both sides to the `size` of a frame."""
    if given is not None and given.const is None:
        op.decline("its window is computed")
    values = np.ones(length) if given is None else given.tensor.numpy().astype(np.float64)
    left = (size - length) // 2
    return np.pad(values, (left, size - length - left)).astype(dtype.numpy)


def short_time(
    op: Lowering, x: Any, n_fft: int, hop_length: int | None = None, win_length: int | None = None,
    window: Value | None = None, normalized: bool = False, onesided: bool | None = None,
    return_complex: bool | None = None, align_to_window: bool | None = None,
) -> Any:  # fmt: skip
    """The spectra [..., bins, frames] of windows of a signal, one every `hop_length` samples."""
    if is_complex(x) or align_to_window:
        op.decline("only real signals are covered")
    dtype, batch = dtype_of(x), rank_of(x) == 2
    bins, frames = op.out_shape[-3:-1] if not return_complex else op.out_shape[-2:]
    shape = [shape_of(x)[0] if batch else 1, frames, bins]
    weights = window_of(op, window, win_length or n_fft, n_fft, dtype)
    signal = op.unsqueeze(x if batch else op.unsqueeze(x, [0]), [2])
    hop = op.scalar(hop_length or n_fft // 4, DType.I64)
    made = op.STFT(signal, hop, constant(weights), op.scalar(n_fft, DType.I64), onesided=int(onesided is not False))
    wide = scaled(op, typed(made, dtype, [*shape, 2]), n_fft**-0.5 if normalized else 1.0)
    turned = typed(op.Transpose(wide, perm=[0, 2, 1, 3]), dtype, [shape[0], bins, frames, 2])
    turned = turned if batch else op.squeeze(turned, [0])
    return unstacked(op, turned, shape_of(turned)[:-1]) if return_complex else turned


def inverse_short_time(
    op: Lowering, x: Any, n_fft: int, hop_length: int | None = None, win_length: int | None = None,
    window: Value | None = None, center: bool = True, normalized: bool = False, onesided: bool | None = None,
    length: Size | None = None, return_complex: bool = False,
) -> Value:  # fmt: skip
    """A signal whose spectra are x: the sum of all frames, each the transform back times the window, over the sum of
    squared windows. Both sums are transposed convolutions."""
    if return_complex or onesided is False:
        op.decline("only real signals from non-negative frequencies are covered")
    real, imag = parts(op, x)
    dtype, batch, bins = dtype_of(real), rank_of(real) == 3, n_fft // 2 + 1
    frames, hop = shape_of(real)[-1], hop_length or n_fft // 4
    weights = window_of(op, window, win_length or n_fft, n_fft, DType.F64)
    angle = 2 * np.pi * ((np.arange(bins)[:, None] * np.arange(n_fft)) % n_fft) / n_fft
    twice = np.where((np.arange(bins) == 0) | (2 * np.arange(bins) == n_fft), 1.0, 2.0)[:, None]
    twice = twice * weights * (n_fft**-0.5 if normalized else 1 / n_fft)
    waves = np.concatenate([twice * np.cos(angle), -twice * np.sin(angle)])[:, None].astype(dtype.numpy)
    rows = [p if batch else op.unsqueeze(p, [0]) for p in (real, imag)]
    samples = (frames - 1) * hop + n_fft
    spectra = typed(op.Concat(*rows, axis=1), dtype, [shape_of(rows[0])[0], 2 * bins, frames])
    total = op.ConvTranspose(spectra, constant(waves), strides=[hop])
    ones, squares = op.full([1, 1, frames], 1, dtype), (weights**2)[None, None].astype(dtype.numpy)
    envelope = op.ConvTranspose(ones, constant(squares), strides=[hop])
    whole = [shape_of(rows[0])[0], 1, samples]
    start, (count,) = n_fft // 2 if center else 0, op.out_shape[-1:]
    pieces: list[Value] = []
    for value, shape in ((total, whole), (envelope, [1, 1, samples])):
        cut = op.Slice(typed(value, dtype, shape), [start], op.dims([start + count]), [2])
        pieces.append(typed(cut, dtype, [*shape[:2], count]))
    if length is not None and not (isinstance(samples, int) and isinstance(count, int) and start + count <= samples):
        op.decline("it asks for more samples than there are")
    made = typed(op.Div(*pieces), dtype, [whole[0], 1, count])
    return op.squeeze(made, [1] if batch else [0, 1])


def last_axis(_: int) -> Sequence[int]:
    return [-1]


def last_two(_: int) -> Sequence[int]:
    return [-2, -1]


COMPLEX_ROWS: Rows = {
    "aten.add.Tensor": add_sub("Add"), "aten.sub.Tensor": add_sub("Sub"),
    "aten.mul.Tensor": multiply, "aten.mul.Scalar": multiply, "aten.div.Tensor": divide, "aten.div.Scalar": divide,
    "aten._conj.default": conjugate, "aten.conj.default": conjugate, "aten.conj_physical.default": conjugate,
    "aten.exp.default": exponential, "aten.angle.default": angle,
    **dict.fromkeys(["aten.matmul.default", "aten.mm.default", "aten.bmm.default"], matrix_product),
    "aten.abs.default": absolute, "aten.complex.default": compose, "aten.polar.default": polar,
    "aten.view_as_complex.default": view_as_complex, "aten.view_as_real.default": view_as_real,
    "aten.real.default": real_part, "aten.imag.default": imaginary_part,
    "aten.stft.default": short_time, "aten.istft.default": inverse_short_time,
    "aten.fft_fft.default": fourier(last_axis), "aten.fft_fft2.default": fourier(last_two),
    "aten.fft_fftn.default": fourier(range),
    "aten.fft_ifft.default": fourier(last_axis, inverse=True),
    "aten.fft_ifft2.default": fourier(last_two, inverse=True),
    "aten.fft_ifftn.default": fourier(range, inverse=True),
    "aten.fft_rfft.default": fourier(last_axis, half=True), "aten.fft_rfft2.default": fourier(last_two, half=True),
    "aten.fft_rfftn.default": fourier(range, half=True),
    "aten.fft_irfft.default": real_fourier(last_axis), "aten.fft_irfft2.default": real_fourier(last_two),
    "aten.fft_irfftn.default": real_fourier(range),
    "aten._fft_c2c.default": core_complex, "aten._fft_r2c.default": core_real, "aten._fft_c2r.default": core_inverse,
}  # fmt: skip
"""Operators that mix the parts, make them or give them away."""

PARTWISE = frozenset(
    [
        "aten.view.default", "aten.reshape.default", "aten._unsafe_view.default", "aten.flatten.using_ints",
        "aten.unflatten.int", "aten.permute.default", "aten.transpose.int", "aten.t.default", "aten.squeeze.dim",
        "aten.squeeze.default", "aten.unsqueeze.default", "aten.expand.default", "aten.repeat.default",
        "aten.select.int", "aten.slice.Tensor", "aten.cat.default", "aten.stack.default", "aten.split.Tensor",
        "aten.split_with_sizes.default", "aten.chunk.default", "aten.unbind.int", "aten.roll.default",
        "aten.flip.default", "aten.index.Tensor", "aten.index_select.default", "aten.embedding.default",
        "aten.neg.default", "aten.sum.dim_IntList", "aten.mean.dim",
        "aten.contiguous.default", "aten.clone.default", "aten.detach.default", "aten.alias.default",
        "aten.lift_fresh_copy.default", "aten.resolve_conj.default", "aten.resolve_neg.default",
        "aten.view_as.default",
    ]
)  # fmt: skip
"""Operators that do to the real part and to the imaginary part what they do to a real tensor."""
