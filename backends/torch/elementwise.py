"""Rows for operators that compute element by element: activations, arithmetic, comparisons, casts."""

from __future__ import annotations

from ...ir import DType, Node
from .code import Code, Piece, call, form, infix, literal, method, negative, raw
from .emitter import Emitter, Outputs, Row
from .inplace import activation
from .members import TORCH_TYPES

UNARY: dict[str, str] = {
    "Abs": "torch.abs({0})", "Acos": "torch.acos({0})", "Acosh": "torch.acosh({0})", "Asin": "torch.asin({0})",
    "Asinh": "torch.asinh({0})", "Atan": "torch.atan({0})", "Atanh": "torch.atanh({0})",
    "BitwiseNot": "torch.bitwise_not({0})", "Ceil": "torch.ceil({0})", "Cos": "torch.cos({0})",
    "Cosh": "torch.cosh({0})", "Det": "torch.det({0})", "Erf": "torch.erf({0})", "Exp": "torch.exp({0})",
    "Floor": "torch.floor({0})", "IsNaN": "torch.isnan({0})", "Log": "torch.log({0})",
    "Not": "torch.logical_not({0})", "Reciprocal": "torch.reciprocal({0})",
    "Round": "torch.round({0})", "Sigmoid": "torch.sigmoid({0})", "Sign": "torch.sign({0})",
    "Sin": "torch.sin({0})", "Sinh": "torch.sinh({0})", "Softplus": "F.softplus({0})", "Softsign": "F.softsign({0})",
    "Sqrt": "torch.sqrt({0})", "Tan": "torch.tan({0})", "Tanh": "torch.tanh({0})",
}  # fmt: skip

BINARY: dict[str, str] = {
    "Add": "+", "Sub": "-", "Mul": "*", "And": "&", "Or": "|", "Xor": "^", "Equal": "==", "Less": "<",
    "LessOrEqual": "<=", "Greater": ">", "GreaterOrEqual": ">=", "BitwiseAnd": "&", "BitwiseOr": "|",
    "BitwiseXor": "^",
}  # fmt: skip
"""Operators with the same meaning on tensors in both worlds."""

MANY = 100


def unary(template: str) -> Row:
    return lambda node, e: form(template, e.tensor(node.operand(0)))


def binary(operator: str) -> Row:
    def row(node: Node, e: Emitter) -> Code:
        a, b = node.operand(0), node.operand(1)
        return infix(operator, e.beside(a, b), e.beside(b, a))

    return row


def divide(node: Node, e: Emitter) -> Code:
    """Integer division truncates (Div-14)."""
    a, b = node.operand(0), node.operand(1)
    dtype = e.dtype(a) or e.dtype(b)
    e.need(dtype is not None, node, "the element type of its operands is not known")
    if dtype is not None and dtype.is_integer:
        return call("torch.div", e.tensor(a), e.beside(b, a), rounding_mode="trunc")
    return infix("/", e.beside(a, b), e.beside(b, a))


def power(node: Node, e: Emitter) -> Code:
    """The result has the base's type (Pow-15)."""
    base, exponent = node.operand(0), node.operand(1)
    kinds = e.dtype(base), e.dtype(exponent)
    number = e.number(exponent)
    if number == 2 and e.const(base) is None and not (e.rank(exponent) or 0):
        return method(e.tensor(base), "square")
    made = infix("**", e.beside(base, exponent), e.beside(exponent, base))
    e.need(kinds[0] is not None, node, "the element type of its base is not known")
    return made if kinds[0] is kinds[1] else method(made, "to", e.torch_type(base))


def modulo(node: Node, e: Emitter) -> Code:
    function = "torch.fmod" if node.int("fmod") else "torch.remainder"
    return call(function, e.tensor(node.operand(0)), e.beside(node.operand(1), node.operand(0)))


def shift(node: Node, e: Emitter) -> Code:
    operator = "<<" if node.str("direction") == "LEFT" else ">>"
    return infix(operator, e.tensor(node.operand(0)), e.tensor(node.operand(1)))


def folded(operator: str) -> Row:
    """Sum and Mean of any number of tensors."""

    def row(node: Node, e: Emitter) -> Code:
        e.need(len(node.inputs) <= MANY, node, "it has too many operands for one expression")
        total = e.tensor(node.operand(0))
        for value in node.inputs[1:]:
            total = infix("+", total, e.tensor(value))
        return infix("/", total, len(node.inputs)) if operator == "Mean" and len(node.inputs) > 1 else total

    return row


def extreme(function: str, bound: str) -> Row:
    """Max and Min; against one number a clamp."""

    def row(node: Node, e: Emitter) -> Code:
        e.need(len(node.inputs) <= MANY, node, "it has too many operands for one expression")
        total = e.tensor(node.operand(0))
        for index, value in enumerate(node.inputs[1:]):
            first = node.operand(0)
            number = e.number(value) if index == 0 and e.const(first) is None else None
            if number is not None and value is not None and not (e.rank(value) or 0) and first not in e.sizes:
                total = method(total, "clamp", **{bound: literal(number)})
            else:
                total = call(function, total, e.tensor(value))
        return total

    return row


def clip(node: Node, e: Emitter) -> Code:
    x = e.tensor(node.operand(0))
    low, high = node.input(1), node.input(2)
    numbers = e.number(low), e.number(high)
    if numbers == (0, 6):
        return activation("F.relu6", node, e)
    bounds = {
        name: literal(number) if number is not None else e.tensor(value)
        for name, value, number in (("min", low, numbers[0]), ("max", high, numbers[1]))
        if value is not None
    }
    if not bounds:
        return x
    mixed = {number is None for value, number in zip((low, high), numbers, strict=True) if value is not None}
    if len(mixed) > 1:  # torch.clamp takes two numbers or two tensors
        return method(method(x, "clamp", min=bounds["min"]), "clamp", max=bounds["max"])
    return method(x, "clamp", **bounds)


def where(node: Node, e: Emitter) -> Code:
    """A number stands for a scalar where condition and other choice fix the shape."""
    condition, chosen, other = node.operand(0), node.operand(1), node.operand(2)
    if e.const(other) is not None and e.const(chosen) is not None:
        numbers = [e.number(v) for v in (chosen, other) if not e.rank(v)]
        if len(numbers) == 2 and None not in numbers and e.dtype(chosen) is DType.F32:
            return call("torch.where", e.tensor(condition), *numbers)
        return call("torch.where", *[e.tensor(v) for v in (condition, chosen, other)])
    return call("torch.where", e.tensor(condition), e.beside(chosen, other), e.beside(other, chosen))


def cast(node: Node, e: Emitter) -> Code | None:
    dtype = DType.of_code(node.int("to"))
    e.need(dtype in TORCH_TYPES, node, f"PyTorch has no element type {dtype.label}")
    e.need(
        e.dtype(node.operand(0)) in TORCH_TYPES,
        node,
        "the element type of its operand is not known or not one of PyTorch's",
    )
    if e.dtype(node.operand(0)) is dtype:
        return e.alias(node.output, node.operand(0))
    return method(e.tensor(node.operand(0)), "to", raw(f"torch.{TORCH_TYPES[dtype]}"))


def cast_like(node: Node, e: Emitter) -> Code:
    return method(e.tensor(node.operand(0)), "to", e.torch_type(node.operand(1)))


def same(node: Node, e: Emitter) -> None:
    e.alias(node.output, node.operand(0))


def dropout(node: Node, e: Emitter) -> Code | Outputs | None:
    """Inert outside of training, where its mask is true throughout; it is not offered where training may be on."""
    if any(o.users for o in node.outputs[1:]):
        training = node.input(2)
        e.need(training is None or e.number(training) is False, node, "its mask is used")
        x = e.tensor(node.operand(0))
        return Outputs([x, call("torch.ones_like", x, dtype=raw("torch.bool"))])
    ratio: Piece | None = 0.5 if node.input(1) is None else e.number(node.input(1))
    e.need(node.input(2) is None or e.const(node.input(2)) is not None, node, "its mode is not constant")
    if ratio is None:
        ratio = form("{0}.item()", e.tensor(node.input(1)))
    return call("F.dropout", e.tensor(node.operand(0)), ratio, raw("self.training"))


def leaky_relu(node: Node, e: Emitter) -> Code:
    return activation("F.leaky_relu", node, e, node.float("alpha"))


def elu(node: Node, e: Emitter) -> Code:
    alpha = node.float("alpha")
    return activation("F.elu", node, e, *([] if alpha == 1 else [alpha]))


def celu(node: Node, e: Emitter) -> Code:
    return activation("F.celu", node, e, node.float("alpha"))


def selu(node: Node, e: Emitter) -> Code:
    """gamma * elu(x, alpha) (Selu-22)."""
    return infix("*", call("F.elu", e.tensor(node.operand(0)), node.float("alpha")), node.float("gamma"))


def hard_sigmoid(node: Node, e: Emitter) -> Code:
    x, alpha, beta = e.tensor(node.operand(0)), node.float("alpha"), node.float("beta")
    if abs(alpha - 1 / 6) < 1e-6 and beta == 0.5:
        return activation("F.hardsigmoid", node, e)
    return method(infix("+", infix("*", x, alpha), beta), "clamp", 0, 1)


def gelu(node: Node, e: Emitter) -> Code:
    tanh = {"approximate": "tanh"} if node.str("approximate") == "tanh" else {}
    return call("F.gelu", e.tensor(node.operand(0)), **tanh)


def swish(node: Node, e: Emitter) -> Code:
    x, alpha = e.tensor(node.operand(0)), node.float("alpha")
    return activation("F.silu", node, e) if alpha == 1 else infix("*", x, call("torch.sigmoid", infix("*", x, alpha)))


def thresholded_relu(node: Node, e: Emitter) -> Code:
    return call("F.threshold", e.tensor(node.operand(0)), node.float("alpha"), 0.0)


def shrink(node: Node, e: Emitter) -> Code:
    """x + bias below -lambd, x - bias above lambd, else 0 (Shrink-9)."""
    x, bias, bound = e.tensor(node.operand(0)), node.float("bias"), node.float("lambd")
    above = call("torch.where", infix(">", x, bound), infix("-", x, bias), 0.0)
    return call("torch.where", infix("<", x, -bound), infix("+", x, bias), above)


def is_inf(node: Node, e: Emitter) -> Code:
    x = e.tensor(node.operand(0))
    match bool(node.int("detect_negative")), bool(node.int("detect_positive")):
        case True, True:
            return call("torch.isinf", x)
        case True, False:
            return call("torch.isneginf", x)
        case False, True:
            return call("torch.isposinf", x)
        case _:
            return call("torch.zeros_like", x, dtype=raw("torch.bool"))


def negate(node: Node, e: Emitter) -> Code:
    return negative(e.tensor(node.operand(0)))


ROWS: dict[str, Row] = {
    **{op: unary(template) for op, template in UNARY.items()},
    **{op: binary(operator) for op, operator in BINARY.items()},
    "Neg": negate, "Div": divide, "Pow": power, "Mod": modulo, "BitShift": shift, "Sum": folded("Sum"),
    "Mean": folded("Mean"), "Max": extreme("torch.maximum", "min"), "Min": extreme("torch.minimum", "max"),
    "Clip": clip, "Where": where, "Cast": cast, "CastLike": cast_like, "Identity": same, "Dropout": dropout,
    "LeakyRelu": leaky_relu, "Elu": elu, "Celu": celu, "Selu": selu, "HardSigmoid": hard_sigmoid, "Gelu": gelu,
    "Swish": swish, "ThresholdedRelu": thresholded_relu, "Shrink": shrink, "IsInf": is_inf,
}  # fmt: skip
