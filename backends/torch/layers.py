"""Rows for layers with weights, which become `nn` modules: convolutions, matrix products, normalizations, PReLU."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ...ir import Dense, DType, Node, Tensor, Value
from ...ir.tensors import Lazy, transpose
from .code import Code, Piece, call, code, infix, method, sequence
from .emitter import Emitter, Outputs, Result, Row, float_type
from .names import path_of
from .placement import scope_of
from .windows import compact, conv_options, padded, spatial_padding


def module_call(
    node: Node,
    e: Emitter,
    x: Value,
    constructor: Code,
    tensors: Mapping[str, Tensor],
    weight: Value,
    default: str,
    bias: Value | None = None,
) -> Code:
    """`self.name(x)` for a module whose parameters are the graph's tensors."""
    path = e.placement.module(node, weight, default, bias)
    return call(e.module(node, constructor, tensors, tensors, path), e.tensor(x))


def can_hold(e: Emitter, constructor: Code, tensors: Mapping[str, Tensor], weight: Value) -> bool:
    """True when the tensors belong to no other module, so that a module of their own adds no second copy."""
    key = (constructor.render({}), tuple((k, id(t)) for k, t in tensors.items()))
    if key in e.members.modules:
        return True
    if any(e.is_owned(t) for t in tensors.values()) or not e.placement.fits(tensors):
        return False
    return id(weight.const) in e.placement.keys or e.placement.keeps_key(weight)


# Convolutions


def conv(node: Node, e: Emitter) -> Code:
    """Conv-22 as nn.Conv1d/2d/3d; uneven padding is applied first."""
    x, weight, bias = node.operand(0), node.operand(1), node.input(2)
    rank = e.need_rank(node, weight)
    spatial = rank - 2
    e.need(spatial in (1, 2, 3), node, f"there is no row for {spatial} spatial axes")
    held = e.const(weight)
    shape = held.shape if held is not None else (e.resolve(weight).shape or ())
    kernel = [int(k) for k in node.ints("kernel_shape", [k if isinstance(k, int) else 0 for k in shape[2:]])]
    before, after = spatial_padding(node, e, spatial, kernel)
    data = e.tensor(x)
    if before != after or min(before) < 0:
        data, before = padded(data, before, after), [0] * spatial
    options = conv_options(node, spatial, before)
    bias_tensor = e.const(bias)
    if held is not None and held.dtype.is_float and (bias is None or bias_tensor is not None):
        groups = node.int("group")
        more: dict[str, Piece] = {**options, **({"bias": False} if bias is None else {}), **float_type(held.dtype)}
        made = call(f"nn.Conv{spatial}d", held.shape[1] * groups, held.shape[0], compact(kernel), **more)
        tensors = {"weight": held, **({"bias": bias_tensor} if bias_tensor is not None else {})}
        weight = e.resolve(weight)
        if can_hold(e, made, tensors, weight):
            path = e.placement.module(node, weight, "conv", bias)
            return call(e.module(node, made, tensors, tensors, path), data)
    more_args = [e.tensor(bias)] if bias is not None else []
    return call(f"F.conv{spatial}d", data, e.tensor(weight), *more_args, **options)


def conv_transpose(node: Node, e: Emitter) -> Code:
    """ConvTranspose-22; pads that differ by side are cut off afterwards."""
    x, weight, bias = node.operand(0), node.operand(1), node.input(2)
    spatial = e.need_rank(node, weight) - 2
    e.need(spatial in (1, 2, 3), node, f"there is no row for {spatial} spatial axes")
    e.need(
        node.str("auto_pad") in ("NOTSET", "VALID") and node.attr("output_shape") is None,
        node,
        "auto_pad and output_shape are not supported",
    )
    pads = node.ints("pads", (0,) * (2 * spatial)) if node.str("auto_pad") == "NOTSET" else (0,) * (2 * spatial)
    extra = node.ints("output_padding", (0,) * spatial)
    before, after = pads[:spatial], pads[spatial:]
    extra = tuple(o + b - a for o, b, a in zip(extra, before, after, strict=True))
    strides, dilations = node.ints("strides", (1,) * spatial), node.ints("dilations", (1,) * spatial)
    e.need(
        all(0 <= o < max(s, d) for o, s, d in zip(extra, strides, dilations, strict=True)),
        node,
        "its padding differs too much by side",
    )
    options = conv_options(node, spatial, before)
    if any(extra):
        options["output_padding"] = compact(extra)
    held, bias_tensor, weight = e.const(weight), e.const(bias), e.resolve(weight)
    if held is not None and held.dtype.is_float and (bias is None or bias_tensor is not None):
        more: dict[str, Piece] = {**options, **({"bias": False} if bias is None else {}), **float_type(held.dtype)}
        made = call(
            f"nn.ConvTranspose{spatial}d",
            held.shape[0],
            held.shape[1] * node.int("group"),
            compact(held.shape[2:]),
            **more,
        )
        tensors = {"weight": held, **({"bias": bias_tensor} if bias_tensor is not None else {})}
        if can_hold(e, made, tensors, weight):
            return module_call(node, e, x, made, tensors, weight, "deconv", bias)
    more_args = [e.tensor(bias)] if bias is not None else []
    return call(f"F.conv_transpose{spatial}d", e.tensor(x), e.tensor(weight), *more_args, **options)


# Matrix products


def linear(node: Node, e: Emitter, x: Value, weight: Value, rows: Tensor, bias: Value | None) -> Code | None:
    """`nn.Linear` for a constant [out, in] weight `rows`; F.linear where it has an owner; None for other biases."""
    bias_tensor = e.const(bias)
    if bias is not None and (bias_tensor is None or bias_tensor.count != rows.shape[0]):
        return None
    if bias_tensor is not None and bias_tensor.rank != 1:
        bias_tensor = e.flattened(bias_tensor)
    if e.placement.viewed(rows) is not None and id(rows) not in e.placement.keys:
        if id(rows) in e.derived:
            return None  # as it is, the [in, out] matrix serves as well
        shift = e.shown(bias_tensor) if bias_tensor is not None else None
        shift = shift if shift is not None else e.optional(bias)
        return call("F.linear", e.tensor(x), e.shown(rows), *([shift] if shift is not None else []))
    options: dict[str, Piece] = {**({"bias": False} if bias is None else {}), **float_type(rows.dtype)}
    made = call("nn.Linear", rows.shape[1], rows.shape[0], **options)
    tensors = {"weight": rows, **({"bias": bias_tensor} if bias_tensor is not None else {})}
    weight = e.resolve(weight)
    if can_hold(e, made, tensors, weight):
        return module_call(node, e, x, made, tensors, weight, "linear", bias)
    tied = tied_path(node, e, rows)
    if tied is not None and not e.is_owned(bias_tensor):
        key = (made.render({}), id(rows), id(bias_tensor))
        return call(e.members.tied(tied, made, tensors, key), e.tensor(x))
    if not e.is_owned(rows) and id(rows) in e.derived:
        return None  # as it is, the [in, out] matrix serves as well
    owned = code(e.members.tensor(e.placement.constant(weight), rows, trainable=True))
    return call("F.linear", e.tensor(x), owned, *([e.tensor(bias)] if bias is not None else []))


def tied_path(node: Node, e: Emitter, weight: Tensor) -> tuple[str, ...] | None:
    """Where the model's own state_dict has a tied weight once more, its node's scope first; None where nowhere."""
    names = [k for k in e.placement.keys.get(id(weight), ()) if k.endswith(".weight")]
    names.sort(key=lambda k: k != f"{scope_of(node)}.weight")
    paths = [path_of(n[: -len(".weight")]) for n in names]
    return next((p for p in paths if p is not None and e.members.free_path(p, {(*p, "weight"): weight}) == p), None)


def rows_of(e: Emitter, weight: Tensor) -> Tensor:
    """An [in, out] matrix as [out, in]: the operand where it is a transposition, so that its owner is recognised."""
    if isinstance(weight, Lazy) and weight.function == "transpose" and weight.rank == 2:
        return weight.operands[0]
    return e.derive("rows", weight, lambda: transpose(weight, (1, 0)))


def matmul(node: Node, e: Emitter) -> Code | None:
    """`nn.Linear` for a constant matrix on the right, with the Add of a vector after it as its bias."""
    x, weight = node.operand(0), node.operand(1)
    held = e.const(weight)
    if held is None or held.rank != 2 or not held.dtype.is_float or e.const(x) is not None:
        return infix("@", e.tensor(x), e.tensor(weight))
    rows = rows_of(e, held)
    add, bias = following_bias(node, e, held.shape[1])
    if add is not None:
        made = linear(node, e, x, weight, rows, bias)
        if made is not None:
            e.absorbed.add(add)
            return e.assign([e.variable(add.output)], made)
    made = linear(node, e, x, weight, rows, None)
    return made if made is not None else infix("@", e.tensor(x), e.tensor(weight))


def following_bias(node: Node, e: Emitter, width: int) -> tuple[Node | None, Value | None]:
    """The Add of a constant vector of `width` that alone uses the node, and the vector."""
    add = node.output.only_user
    if add is None or add.op != "Add" or add.domain:
        return None, None
    bias = add.operand(1) if add.operand(0) is node.output else add.operand(0)
    tensor, rank = e.const(bias), e.rank(node.operand(0))
    fits = tensor is not None and tensor.rank >= 1 and tensor.shape[-1] == width == tensor.count
    return (
        (add, bias)
        if fits and tensor is not None and (tensor.rank == 1 or (rank is not None and tensor.rank <= rank))
        else (None, None)
    )


def gemm(node: Node, e: Emitter) -> Code:
    """alpha * a @ b + beta * c (Gemm-13); `nn.Linear` for constant b and c and no factors."""
    a, b, c = node.operand(0), node.operand(1), node.input(2)
    alpha, beta, held = node.float("alpha"), node.float("beta"), e.const(b)
    if held is not None and alpha == 1 and (beta == 1 or c is None) and not node.int("transA") and held.dtype.is_float:
        made = linear(node, e, a, b, held if node.int("transB") else rows_of(e, held), c)
        if made is not None:
            return made
    left = method(e.tensor(a), "t") if node.int("transA") else e.tensor(a)
    right = method(e.tensor(b), "t") if node.int("transB") else e.tensor(b)
    made = infix("@", left, right)
    if alpha != 1:
        made = infix("*", made, alpha)
    if c is not None and beta != 0:
        made = infix("+", made, e.tensor(c) if beta == 1 else infix("*", e.tensor(c), beta))
    return made


# Normalizations


def batch_norm(node: Node, e: Emitter) -> Code:
    """nn.BatchNorm with running statistics as buffers (BatchNormalization-15); IR momentum is 1 - PyTorch's."""
    x = node.operand(0)
    e.need(not node.int("training_mode"), node, "it is in training mode")
    e.need(not any(o.users for o in node.outputs[1:]), node, "its statistics are used as outputs")
    held = [e.const(v) for v in node.inputs[1:5]]
    rank = e.need_rank(node, x)
    name = {2: "nn.BatchNorm1d", 3: "nn.BatchNorm1d", 4: "nn.BatchNorm2d", 5: "nn.BatchNorm3d"}.get(rank)
    known = [t for t in held if t is not None]
    if name is not None and len(known) == 4 and len({t.dtype for t in known}) == 1:
        momentum = round(1 - node.float("momentum"), 6)
        options: dict[str, Piece] = {
            **epsilon(node, 1e-5),
            **({"momentum": momentum} if momentum != 0.1 else {}),
            **float_type(known[0].dtype),
        }
        made = call(name, known[0].count, **options)
        names = ("weight", "bias", "running_mean", "running_var")
        shared: dict[str, Tensor] = dict(zip(names, known, strict=True))
        weight = e.resolve(node.operand(1))
        if can_hold(e, made, shared, weight):
            counted = {**shared, "num_batches_tracked": Dense(np.zeros((), np.int64))}
            path = e.placement.module(node, weight, "bn")
            return call(e.module(node, made, counted, shared, path), e.tensor(x))
    scale, bias, mean, variance = (e.tensor(v) for v in node.inputs[1:5])
    held_apart = [
        method(s, "detach") if is_parameter(v, e) else s
        for v, s in zip(node.inputs[3:5], (mean, variance), strict=True)
    ]
    return call("F.batch_norm", e.tensor(x), *held_apart, scale, bias, eps=node.float("epsilon"))


def is_parameter(value: Value | None, e: Emitter) -> bool:
    """True for a constant that is trained, as statistics become that are the numbers of a weight elsewhere: PyTorch
    has no gradient for them.
    """
    return value is not None and e.const(value) is not None and e.placement.trainable(value)


def epsilon(node: Node, default: float, attribute: str = "epsilon") -> dict[str, Piece]:
    value = float(str(np.float32(node.float(attribute))))
    return {} if value == default else {"eps": value}


def layer_norm(node: Node, e: Emitter) -> Code:
    """LayerNormalization-17 over the last axes, which are those of its scale."""
    x, scale, bias = node.operand(0), node.operand(1), node.input(2)
    e.need(node.int("stash_type") == 1, node, "it does not compute in float32")
    held, bias_tensor = e.const(scale), e.const(bias)
    rank, axis = e.rank(x), node.int("axis")
    count = -axis if axis < 0 else rank - axis if rank is not None else None
    if count is None:
        e.refuse(node, "the rank of its operand is not known")
    if (
        held is not None
        and held.rank == count
        and (bias is None or (bias_tensor is not None and bias_tensor.shape == held.shape))
    ):
        shape: Piece = held.shape[0] if count == 1 else held.shape
        made = call(
            "nn.LayerNorm",
            shape,
            **epsilon(node, 1e-5),
            **({"bias": False} if bias is None else {}),
            **float_type(held.dtype),
        )
        tensors = {"weight": held, **({"bias": bias_tensor} if bias_tensor is not None else {})}
        if can_hold(e, made, tensors, e.resolve(scale)):
            return module_call(node, e, x, made, tensors, e.resolve(scale), "norm")
    sizes = [e.size(x, i - count) for i in range(count)]
    made = call("F.layer_norm", e.tensor(x), tuple(sizes), eps=node.float("epsilon"))
    made = infix("*", made, e.tensor(scale))
    return infix("+", made, e.tensor(bias)) if bias is not None else made


def layer_norm_with_statistics(node: Node, e: Emitter) -> Result:
    """The same, with the mean and the inverse of the deviation where they are used."""
    made = layer_norm(node, e)
    if not any(o.users for o in node.outputs[1:]):
        return made
    x, axis = node.operand(0), node.int("axis")
    e.need(e.dtype(x) is DType.F32, node, "its mean or deviation is used, and it does not compute in float32")
    rank = e.need_rank(node, x)
    options: dict[str, Piece] = {"dim": tuple(range(axis % rank, rank)), "keepdim": True}
    variance = method(e.tensor(x), "var", **options, correction=0)
    mean = method(e.tensor(x), "mean", **options)
    return Outputs([made, mean, call("torch.rsqrt", infix("+", variance, node.float("epsilon")))])


def rms_norm(node: Node, e: Emitter) -> Code:
    x, scale, axis = node.operand(0), node.operand(1), node.int("axis")
    held, rank = e.const(scale), e.rank(x)
    count = -axis if axis < 0 else rank - axis if rank is not None else None
    if count is None:
        e.refuse(node, "the rank of its operand is not known")
    e.need(node.int("stash_type") == 1, node, "it does not compute in float32")
    if held is not None and held.rank == count and held.dtype is DType.F32:
        made = call("nn.RMSNorm", held.shape[0] if count == 1 else held.shape, eps=node.float("epsilon"))
        if can_hold(e, made, {"weight": held}, e.resolve(scale)):
            return module_call(node, e, x, made, {"weight": held}, e.resolve(scale), "norm")
    sizes = [e.size(x, i - count) for i in range(count)]
    return infix("*", call("F.rms_norm", e.tensor(x), tuple(sizes), eps=node.float("epsilon")), e.tensor(scale))


def affine_norm(
    node: Node, e: Emitter, name: str, function: str, lead: list[Piece], options: dict[str, Piece], default: str
) -> Code:
    """GroupNormalization and InstanceNormalization: modules for constant scale and bias, else the function."""
    x, scale, bias = node.operand(0), node.operand(1), node.operand(2)
    held, bias_tensor = e.const(scale), e.const(bias)
    if held is not None and bias_tensor is not None and name:
        made = call(name, *lead, held.count, **epsilon(node, 1e-5), **options, **float_type(held.dtype))
        tensors = {"weight": held, "bias": bias_tensor}
        if can_hold(e, made, tensors, e.resolve(scale)):
            return module_call(node, e, x, made, tensors, e.resolve(scale), default)
    given = {"weight": (scale, 1), "bias": (bias, 0)}
    parameters = {key: e.tensor(v) for key, (v, number) in given.items() if not is_filled(e, v, number)}
    return call(function, e.tensor(x), *lead, **parameters, eps=node.float("epsilon"))


def is_filled(e: Emitter, value: Value, number: int) -> bool:
    """True for a constant that is no parameter and holds one number throughout."""
    held = e.const(value)
    return held is not None and not e.placement.is_named(value) and held.filler is not None and held.filler == number


def group_norm(node: Node, e: Emitter) -> Code:
    return affine_norm(node, e, "nn.GroupNorm", "F.group_norm", [node.int("num_groups")], {}, "norm")


def instance_norm(node: Node, e: Emitter) -> Code:
    name = {3: "nn.InstanceNorm1d", 4: "nn.InstanceNorm2d", 5: "nn.InstanceNorm3d"}.get(
        e.rank(node.operand(0)) or 0, ""
    )
    return affine_norm(node, e, name, "F.instance_norm", [], {"affine": True}, "norm")


def lp_norm(node: Node, e: Emitter) -> Code:
    return call("F.normalize", e.tensor(node.operand(0)), p=node.int("p"), dim=node.int("axis"))


def local_response(node: Node, e: Emitter) -> Code:
    """The window is even on both sides only for odd sizes."""
    e.need(node.int("size") % 2 == 1, node, "its window has an even size")
    return call(
        "F.local_response_norm",
        e.tensor(node.operand(0)),
        node.int("size"),
        alpha=node.float("alpha"),
        beta=node.float("beta"),
        k=node.float("bias"),
    )


def mean_variance(node: Node, e: Emitter) -> Code:
    axes = sequence(list(node.ints("axes")), "(", ")")
    x = e.tensor(node.operand(0))
    centred = infix("-", x, method(x, "mean", dim=axes, keepdim=True))
    deviation = method(x, "std", dim=axes, correction=0, keepdim=True)
    return infix("/", centred, infix("+", deviation, 1e-9))


def p_relu(node: Node, e: Emitter) -> Code:
    """nn.PReLU for one slope or one per channel; the formula for other slopes."""
    x, slope = node.operand(0), node.operand(1)
    held, rank, shape = e.const(slope), e.rank(x), e.resolve(x).shape
    channels = shape[1] if shape is not None and len(shape) > 1 else None
    per_channel = held is not None and rank is not None and held.count == channels and _along_channels(held, rank)
    if held is not None and (per_channel or (held.count == 1 and rank is not None and held.rank <= rank)):
        vector = held if held.rank == 1 else e.flattened(held)
        made = call("nn.PReLU", *([] if held.count == 1 else [held.count]), **float_type(held.dtype))
        weight = e.resolve(slope)
        if can_hold(e, made, {"weight": vector}, weight):
            return module_call(node, e, x, made, {"weight": vector}, weight, "prelu")
    data = e.tensor(x)
    return call("torch.where", infix("<", data, 0), infix("*", data, e.tensor(slope)), data)


def _along_channels(slope: Tensor, rank: int) -> bool:
    padded_shape = (1,) * (rank - slope.rank) + slope.shape
    return slope.rank <= rank and rank > 1 and padded_shape[1] == slope.count


ROWS: dict[str, Row] = {
    "Conv": conv, "ConvTranspose": conv_transpose, "MatMul": matmul, "Gemm": gemm, "PRelu": p_relu,
    "BatchNormalization": batch_norm, "LayerNormalization": layer_norm_with_statistics, "RMSNormalization": rms_norm,
    "GroupNormalization": group_norm, "InstanceNormalization": instance_norm, "LpNormalization": lp_norm,
    "LRN": local_response, "MeanVarianceNormalization": mean_variance,
}  # fmt: skip
