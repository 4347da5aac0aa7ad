"""Rows for operators with regions, and for attention."""

from __future__ import annotations

import numpy as np

from ...ir import DType, Graph, Node, Value
from .code import Code, Piece, Variable, call, code, form, infix, method
from .emitter import Emitter, Outputs, Row, Sizes
from .program import Block, Branch, Repeat


def branch(node: Node, e: Emitter) -> None:
    """If-25 as a Python if."""
    condition = condition_of(node.operand(0), e)
    blocks: list[Block] = []
    for name in ("then_branch", "else_branch"):
        region = node.regions[name]
        with e.region(region, node.captured) as block:
            e.nodes(region)
            block.results = [e.tensor(v) for v in region.outputs]
        blocks.append(block)
    targets = [e.variable(o) for o in node.outputs]
    e.block.statements.append(Branch(targets, condition, blocks[0], blocks[1]))


def condition_of(value: Value, e: Emitter) -> Code:
    known = e.known(value)
    return known.items[0] if known is not None and len(known.items) == 1 else e.tensor(value)


def loop(node: Node, e: Emitter) -> None:
    """Loop-25 as a Python for: carried values are variables, scan outputs lists that are stacked at the end."""
    body: Graph = node.regions["body"]
    own = len(body.inputs) - node.captures
    carried = body.inputs[2:own]
    trips = None if node.input(0) is None else e.integer(node.operand(0))
    counter = Variable("step")
    keep = Variable("again")
    targets = [e.variable(o) for o in node.outputs[: len(carried)]]
    lists = [Variable("parts") for _ in node.outputs[len(carried) :]]
    initial = [e.tensor(v) for v in node.inputs[2 : 2 + len(carried)]]
    always = _always_true(body, e)
    with e.region(body, node.captured) as block:
        e.sizes[body.inputs[0]] = Sizes((code(counter),), 0)
        e.variables[body.inputs[1]] = keep
        e.variables.update(zip(carried, targets, strict=True))
        e.nodes(body)
        results = [e.tensor(v) for v in body.outputs]
    given = node.input(1)
    known = given is not None and e.number(given) is None
    stops = not always or known or (given is not None and e.number(given) is False)
    block.results = results if stops else results[1:]
    start = code(True) if given is None or (e.number(given) is True) else condition_of(given, e)
    item = Repeat(targets, counter, trips, (keep, start) if stops else None, initial, lists, block)
    e.block.statements.append(item)
    for output, parts in zip(node.outputs[len(carried) :], lists, strict=True):
        if output.users:
            e.assign([e.variable(output)], call("torch.stack", parts))


def _always_true(body: Graph, e: Emitter) -> bool:
    """The body hands its own condition on, or says true."""
    result = body.outputs[0]
    return result is body.inputs[1] or e.number(result) is True


def scan(node: Node, e: Emitter) -> None:
    """Scan-25 as a Python for over the entries of its operands along their axes."""
    body: Graph = node.regions["body"]
    own, count = len(body.inputs) - node.captures, node.int("num_scan_inputs")
    states, results = own - count, len(body.outputs) - (own - count)
    targets = [e.variable(o) for o in node.outputs[:states]]
    lists = [Variable("parts") for _ in range(results)]
    initial = [e.tensor(v) for v in node.inputs[:states]]
    scanned = [node.operand(i) for i in range(states, own)]
    axes = [
        axis % e.need_rank(node, v) for axis, v in zip(node.ints("scan_input_axes", (0,) * count), scanned, strict=True)
    ]
    length = form(f"{{0}}.shape[{axes[0]}]", e.tensor(scanned[0]))
    counter = Variable("step")
    with e.region(body, node.captured) as block:
        e.variables.update(zip(body.inputs[:states], targets, strict=True))
        backward = node.ints("scan_input_directions", (0,) * count)
        for inside, outside, axis, reverse in zip(body.inputs[states:own], scanned, axes, backward, strict=True):
            place = infix("-", -1, counter) if reverse else code(counter)
            entry = e.variables[inside] = Variable("entry")
            e.assign([entry], method(e.tensor(outside), "select", axis, place))
        e.nodes(body)
        block.results = [e.tensor(v) for v in body.outputs]
    e.block.statements.append(Repeat(targets, counter, length, None, initial, lists, block))
    out_axes = node.ints("scan_output_axes", (0,) * results)
    out_directions = node.ints("scan_output_directions", (0,) * results)
    for output, parts, axis, reverse in zip(node.outputs[states:], lists, out_axes, out_directions, strict=True):
        if output.users:
            entries = form("{0}[::-1]", parts) if reverse else code(parts)
            e.assign([e.variable(output)], call("torch.stack", entries, **({"dim": axis} if axis else {})))


def attention(node: Node, e: Emitter) -> Outputs:
    """Attention-24 as F.scaled_dot_product_attention where that covers it, else written out."""
    for operand, name in zip(node.inputs[:3], ("query", "key", "value"), strict=True):
        made = e.variables.get(e.resolve(operand)) if operand is not None else None
        if made is not None and made.hint == "part":
            made.hint = name
    masked = e.variables.get(e.resolve(node.operand(3))) if node.input(3) is not None else None
    if masked is not None and masked.generic:
        masked.hint, masked.generic = "mask", False
    query, key, value = (e.tensor(v) for v in node.inputs[:3])
    mask, past_key, past_value = node.input(3), node.input(4), node.input(5)
    e.need(node.input(6) is None, node, "it has lengths of the keys")
    e.need(not any(o.users for o in node.outputs[3:]), node, "its scores are used")
    windows = [node.int(side, -1) for side in ("left_window_size", "right_window_size")]
    e.need(all(w < 0 for w in windows), node, "it attends within a window")
    rank = e.need_rank(node, node.operand(0))
    causal, softcap = bool(node.int("is_causal")), node.float("softcap")
    precision = node.attr("softmax_precision")
    e.need(
        precision in (None, 1) or e.dtype(node.operand(0)) is DType.F32, node, "it states a precision of the softmax"
    )
    flat = rank == 3 and past_key is not None
    if flat:
        query = by_heads(query, node.int("q_num_heads"))
        key, value = (by_heads(v, node.int("kv_num_heads")) for v in (key, value))
        rank = 4
    if past_key is not None:
        names = [e.variable(o) if i < len(node.outputs) else Variable("past") for i, o in enumerate(node.outputs[1:3])]
        for name, past, new in zip(names, (past_key, past_value), (key, value), strict=True):
            e.assign([name], call("torch.cat", (e.tensor(past), new), dim=2))
        key, value = code(names[0]), code(names[1])
    options = scale_of(node, e, rank if not flat else 3)
    present: list[Code | None] = [key, value] if past_key is not None or rank == 4 else []
    if softcap:
        made = capped(node, e, [query, key, value], options, rank)
        return Outputs([merged(made) if flat else made, *present])
    masks = [e.tensor(mask)] if mask is not None else []
    if causal and (mask is not None or past_key is not None):
        before: dict[str, Piece] = {} if past_key is None else {"past": form("{0}.shape[2]", e.tensor(past_key))}
        masks = [call(e.helper("causal_mask"), e.tensor(node.operand(0)), key, *masks, **before)]
    elif causal:
        options["is_causal"] = True
    if heads_differ(node, e, rank == 3 or flat):
        options["enable_gqa"] = True
    if rank == 3:
        more: dict[str, Piece] = {"heads": node.int("q_num_heads"), **options}
        return Outputs([call(e.helper("multihead_attention"), query, key, value, *masks, **more), *present])
    more = {**({"attn_mask": masks[0]} if masks else {}), **options}
    made = call("F.scaled_dot_product_attention", query, key, value, **more)
    if flat:
        heads = Variable("x", generic=True)
        e.assign([heads], made)
        made = merged(code(heads))
    return Outputs([made, *present])


def scale_of(node: Node, e: Emitter, rank: int) -> dict[str, Piece]:
    """The scale where it is not the usual one, 1 / sqrt(size of a head)."""
    scale, shape = node.attr("scale"), e.resolve(node.operand(0)).shape
    if not isinstance(scale, float):
        return {}
    width = shape[-1] if shape else None
    size = width // (node.int("q_num_heads") if rank == 3 else 1) if isinstance(width, int) else 0
    return {} if size and np.float32(scale) == np.float32(size**-0.5) else {"scale": scale}


def heads_differ(node: Node, e: Emitter, packed: bool) -> bool:
    """True where keys have fewer heads than queries, or it is not known."""
    if packed:
        return node.int("q_num_heads") != node.int("kv_num_heads")
    shapes = [e.resolve(v).shape for v in (node.operand(0), node.operand(1))]
    return any(s is None for s in shapes) or shapes[0][1] != shapes[1][1]  # pyright: ignore[reportOptionalSubscript]


def capped(node: Node, e: Emitter, operands: list[Code], options: dict[str, Piece], rank: int) -> Code:
    """Attention written out, for what F.scaled_dot_product_attention lacks."""
    more: dict[str, Piece] = {}
    if rank == 3:
        more = {"query_heads": node.int("q_num_heads"), "key_heads": node.int("kv_num_heads")}
    if node.int("is_causal"):
        more["causal"] = True
        if node.input(4) is not None:
            more["past"] = form("{0}.shape[2]", e.tensor(node.operand(4)))
    masks = [e.tensor(node.operand(3))] if node.input(3) is not None else []
    return call(e.helper("attention"), *operands, *masks, softcap=node.float("softcap"), **more, **options)


def merged(x: Code) -> Code:
    """[batch, length, heads * size] of heads that have an axis of their own."""
    return form("{0}.transpose(1, 2).flatten(2)", x)


def by_heads(packed: Code, heads: int) -> Code:
    """[batch, heads, length, size] of heads that are side by side."""
    return form(f"{{0}}.unflatten(-1, ({heads}, -1)).transpose(1, 2)", packed)


def rotary(node: Node, e: Emitter) -> Code:
    """RotaryEmbedding-23; with position_ids the caches are tables to look up."""
    cos, sin = e.tensor(node.operand(1)), e.tensor(node.operand(2))
    if node.input(3) is not None:
        index = e.tensor(node.input(3))
        cos, sin = form("{0}[{1}]", cos, index), form("{0}[{1}]", sin, index)
    options: dict[str, Piece] = {}
    for name, attribute in (("heads", "num_heads"), ("size", "rotary_embedding_dim")):
        if node.int(attribute, 0):
            options[name] = node.int(attribute)
    if node.int("interleaved", 0):
        options["interleaved"] = True
    return call(e.helper("rotate"), e.tensor(node.operand(0)), cos, sin, **options)


ROWS: dict[str, Row] = {"If": branch, "Loop": loop, "Scan": scan, "Attention": attention, "RotaryEmbedding": rotary}
