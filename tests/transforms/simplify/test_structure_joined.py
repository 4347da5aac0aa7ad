"""Pieces of joined values, repetitions, extremes of several, Casts that meet, padding before a greatest: what becomes
of them, and what is left with the reason.
"""

import pytest
from tersor.ir import Model, parse
from tersor.ir.inference import infer
from tersor.ir.rewrite import Rewriter, Rule
from tersor.testing import check_rule
from tersor.transforms.base import Context
from tersor.transforms.simplify import Simplify
from tersor.transforms.simplify.folding import indices
from tersor.transforms.simplify.raising import reductions
from tersor.transforms.simplify.structure import booleans, casts, comparisons, padding, pieces


def one(body: str, outputs: str = "y", inputs: str = "%x: f32[N,3,4], %z: f32[N,2,4]") -> str:
    return f"graph({inputs}) -> ({outputs}) {{ {body} }}"


JOINED = "%j = Concat(%x, %z, %x) {axis=1} : f32[N,8,4] "
THREE = "f32[N,3,4], f32[N,2,4], f32[N,3,4]"
IMAGE = "%i: f32[N,2,4,4]"
PADS = "i64[8]{0,0,1,1,0,0,1,1}"
POOL = "{kernel_shape=[3,3]}"

BECOMES: dict[str, tuple[Rule, str, str]] = {
    "pieces that are the operands": (
        pieces.split_operands_of_concat,
        one(JOINED + f"%a, %b, %c = Split(%j, i64[3]{{3,2,3}}) {{axis=-2}} : {THREE} %y = Add(%a, %c) : f32[N,3,4] %o = Neg(%b) : f32[N,2,4] return %y, %o", "y, o"),
        one("%y = Add(%x, %x) : f32[N,3,4] %o = Neg(%z) : f32[N,2,4] return %y, %o", "y, o")),
    "a piece that is two of the operands": (
        pieces.split_operands_of_concat,
        one(JOINED + "%a, %b = Split(%j, i64[2]{5,3}) {axis=1} : f32[N,5,4], f32[N,3,4] %y = Neg(%a) : f32[N,5,4] %o = Neg(%b) : f32[N,3,4] return %y, %o", "y, o"),
        one("%a = Concat(%x, %z) {axis=1} : f32[N,5,4] %y = Neg(%a) : f32[N,5,4] %o = Neg(%x) : f32[N,3,4] return %y, %o", "y, o")),
    "an entry of one operand": (
        pieces.gather_from_operand_of_concat,
        one(JOINED + "%y = Gather(%j, i64[]{-4}) {axis=1} : f32[N,4] return %y"), one("%y = Gather(%z, i64[]{1}) {axis=1} : f32[N,4] return %y")),
    "entries of one operand": (
        pieces.gather_from_operand_of_concat,
        one(JOINED + "%y = Gather(%j, i64[1,2]{7,5}) {axis=1} : f32[N,1,2,4] return %y"), one("%y = Gather(%x, i64[1,2]{2,0}) {axis=1} : f32[N,1,2,4] return %y")),
    "a repetition of a repetition": (
        pieces.merge_repetitions,
        one("%a = Tile(%x, i64[3]{1,2,3}) : f32[N,6,12] %y = Tile(%a, i64[3]{1,2,1}) : f32[N,12,12] return %y"),
        one("%y = Tile(%x, i64[3]{1,4,3}) : f32[N,12,12] return %y")),
    "an expansion of an expansion": (
        pieces.merge_repetitions,
        one("%a = Expand(%x, i64[4]{2,1,1,1}) : f32[2,N,3,4] %y = Expand(%a, i64[5]{3,1,1,1,1}) : f32[3,2,N,3,4] return %y"),
        one("%y = Expand(%x, i64[5]{3,2,1,1,1}) : f32[3,2,N,3,4] return %y")),
    "the greatest of greatest ones": (
        comparisons.flatten_variadic,
        one("%a = Max(%x, %w) : f32[N,3,4] %y = Max(%v, %a) : f32[N,3,4] return %y", inputs="%x: f32[N,3,4], %w: f32[4], %v: f32[3,1]"),
        one("%y = Max(%v, %x, %w) : f32[N,3,4] return %y", inputs="%x: f32[N,3,4], %w: f32[4], %v: f32[3,1]")),
    "a sum of sums": (
        comparisons.flatten_variadic,
        one("%a = Sum(%x, %x) : f32[N,3,4] %y = Sum(%a, %x, %x) : f32[N,3,4] return %y"), one("%y = Sum(%x, %x, %x, %x) : f32[N,3,4] return %y")),
    "numbers among which one counts": (
        comparisons.merge_bounds,
        one("%y = Min(%x, f32[]{3.0}, f32[1]{2.0}) : f32[N,3,4] return %y"), one("%y = Min(%x, f32[1]{2.0}) : f32[N,3,4] return %y")),
    "integers compared": (
        comparisons.compare_the_other_way,
        one("%a = Less(%i, i64[]{2}) : bool[N] %y = Not(%a) : bool[N] return %y", inputs="%i: i64[N]"),
        one("%y = GreaterOrEqual(%i, i64[]{2}) : bool[N] return %y", inputs="%i: i64[N]")),
    "Casts there and back around movement": (
        casts.meet_across_movement,
        one("%a = Cast(%i) {to=1} : f32[N,6] %b = Reshape(%a, i64[3]{0,2,3}) : f32[N,2,3] %c = Transpose(%b) {perm=[0,2,1]} : f32[N,3,2] %y = Cast(%c) {to=6} : i32[N,3,2] return %y", inputs="%i: i16[N,6]"),
        one("%b = Reshape(%i, i64[3]{0,2,3}) : i16[N,2,3] %c = Transpose(%b) {perm=[0,2,1]} : i16[N,3,2] %y = Cast(%c) {to=6} : i32[N,3,2] return %y", inputs="%i: i16[N,6]")),
    "a Cast back to where it came from": (
        casts.meet_across_movement,
        one("%a = Cast(%i) {to=7} : i64[N,6] %b = Unsqueeze(%a, i64[1]{1}) : i64[N,1,6] %y = Cast(%b) {to=9} : bool[N,1,6] return %y", inputs="%i: bool[N,6]"),
        one("%y = Unsqueeze(%i, i64[1]{1}) : bool[N,1,6] return %y", inputs="%i: bool[N,6]")),
    "a Cast of what is filled": (
        casts.fill_with_cast,
        one("%s = Shape(%x) : i64[3] %a = ConstantOfShape(%s) {value=tensor f32[1] = [2]} : f32[N,3,4] %y = Cast(%a) {to=7} : i64[N,3,4] return %y"),
        one("%s = Shape(%x) : i64[3] %y = ConstantOfShape(%s) {value=tensor i64[1] = [2]} : i64[N,3,4] return %y")),
    "zeros around what is never negative": (
        padding.pad_inside_maximum,
        one(f"%r = Relu(%i) : f32[N,2,4,4] %p = Pad(%r, {PADS}) : f32[N,2,6,6] %y = MaxPool(%p) {POOL} : f32[N,2,4,4] return %y", inputs=IMAGE),
        one("%r = Relu(%i) : f32[N,2,4,4] %y = MaxPool(%r) {kernel_shape=[3,3], pads=[1,1,1,1]} : f32[N,2,4,4] return %y", inputs=IMAGE)),
    "minus infinity around anything": (
        padding.pad_inside_maximum,
        one(f"%p = Pad(%i, {PADS}, f32[]{{-inf}}) : f32[N,2,6,6] %y = MaxPool(%p) {POOL} : f32[N,2,4,4] return %y", inputs=IMAGE),
        one("%y = MaxPool(%i) {kernel_shape=[3,3], pads=[1,1,1,1]} : f32[N,2,4,4] return %y", inputs=IMAGE)),
    "integers dequantized and quantized again": (
        casts.drop_requantization,
        one("%d = DequantizeLinear(%q, f32[]{0.1}, i8[]{3}) : f32[N,4] %y = QuantizeLinear(%d, f32[]{0.1}, i8[]{3}) : i8[N,4] %o = Neg(%y) : i8[N,4] return %o", inputs="%q: i8[N,4]"),
        one("%o = Neg(%q) : i8[N,4] return %o", inputs="%q: i8[N,4]")),
    "all rows replaced in order": (
        indices.scatter_everything,
        one("%y = ScatterND(%x, i64[3,1]{0,1,2}, %z) : f32[3,4] %o = Neg(%y) : f32[3,4] return %o", inputs="%x: f32[3,4], %z: f32[3,4]"),
        one("%o = Neg(%z) : f32[3,4] return %o", inputs="%x: f32[3,4], %z: f32[3,4]")),
}  # fmt: skip


@pytest.mark.parametrize("name", BECOMES)
def test_it_is_replaced(check_rules, name: str):
    rule, before, after = BECOMES[name]
    check_rules([rule], before, after, fired=1)


@pytest.mark.parametrize("name", BECOMES)
def test_it_computes_the_same_where_the_interior_is_shared_an_output_or_of_symbolic_sizes(name: str):
    rule, before, _ = BECOMES[name]
    static = before.replace("[N,", "[2,").replace("[N]", "[2]").replace(",N,", ",2,")
    assert check_rule(rule, examples=[static], count=1).fired["as drawn"]


LEFT: dict[str, tuple[Rule, str, str]] = {
    "a piece that ends inside": (
        pieces.split_operands_of_concat, one(JOINED + "%a, %b = Split(%j, i64[2]{4,4}) {axis=1} : f32[N,4,4], f32[N,4,4] return %a, %b", "y, o"),
        "a piece does not end where an operand ends, or a size is not known"),
    "pieces along another axis": (
        pieces.split_operands_of_concat, one(JOINED + "%a, %b = Split(%j, i64[2]{2,2}) {axis=2} : f32[N,8,2], f32[N,8,2] return %a, %b", "y, o"),
        "the Concat joins another axis"),
    "pieces that would be Concats, of what others use": (
        pieces.split_operands_of_concat,
        one("%j = Concat(%x, %z, %x, %z) {axis=1} : f32[N,10,4] %a, %b = Split(%j, i64[2]{5,5}) {axis=1} : f32[N,5,4], f32[N,5,4] return %a, %b, %j", "y, o, j"),
        "it would take more nodes"),
    "entries of two operands": (
        pieces.gather_from_operand_of_concat, one(JOINED + "%y = Gather(%j, i64[2]{2,3}) {axis=1} : f32[N,2,4] return %y"), "its entries come from several operands"),
    "entries along another axis": (
        pieces.gather_from_operand_of_concat, one(JOINED + "%y = Gather(%j, i64[1]{2}) {axis=2} : f32[N,8,1] return %y"), "the Concat joins another axis"),
    "entries from an end that is not known": (
        pieces.gather_from_operand_of_concat,
        one("%j = Concat(%x, %x) {axis=0} : f32[2*N,3,4] %y = Gather(%j, i64[]{-1}) {axis=0} : f32[3,4] return %y"), "it counts from the end of an unknown size"),
    "entries at computed places": (
        pieces.gather_from_operand_of_concat, one(JOINED + "%y = Gather(%j, %k) {axis=1} : f32[N,4] return %y", inputs="%x: f32[N,3,4], %z: f32[N,2,4], %k: i64[]"),
        "its indices are not constant"),
    "an expansion of a repetition": (
        pieces.merge_repetitions, one("%a = Tile(%x, i64[3]{1,2,3}) : f32[N,6,12] %y = Expand(%a, i64[4]{2,1,1,1}) : f32[2,N,6,12] return %y"),
        "its operand is not repeated in the same way"),
    "the smallest of greatest ones": (
        comparisons.flatten_variadic, one("%a = Max(%x, %x) : f32[N,3,4] %y = Min(%a, %x) : f32[N,3,4] return %y"), "no operand is of its kind and used by it alone"),
    "the greatest of what others use": (
        comparisons.flatten_variadic, one("%a = Max(%x, %x) : f32[N,3,4] %y = Max(%a, %x) : f32[N,3,4] return %y, %a", "y, o"), "no operand is of its kind and used by it alone"),
    "one number": (comparisons.merge_bounds, one("%y = Max(%x, f32[]{3.0}) : f32[N,3,4] return %y"), "no two of its operands are numbers of the program"),
    "floats compared": (
        comparisons.compare_the_other_way, one("%a = Less(%x, f32[]{2.0}) : bool[N,3,4] %y = Not(%a) : bool[N,3,4] return %y"), "they may be no numbers"),
    "a Cast that loses something": (
        casts.meet_across_movement,
        one("%a = Cast(%x) {to=10} : f16[N,3,4] %b = Transpose(%a) {perm=[0,2,1]} : f16[N,4,3] %y = Cast(%b) {to=1} : f32[N,4,3] return %y"), "the first Cast loses something"),
    "Casts around what computes": (
        casts.meet_across_movement, one("%a = Cast(%i) {to=1} : f32[N] %b = Sin(%a) : f32[N] %y = Cast(%b) {to=10} : f16[N] return %y", inputs="%i: f16[N]"),
        "no elements are moved between it and another Cast"),
    "a fraction as an integer": (
        casts.fill_with_cast,
        one("%s = Shape(%x) : i64[3] %a = ConstantOfShape(%s) {value=tensor f32[1] = [2.5]} : f32[N,3,4] %y = Cast(%a) {to=7} : i64[N,3,4] return %y"),
        "what the number is as an integer is up to the runtime"),
    "zeros around what may be negative": (
        padding.pad_inside_maximum,
        one(f"%p = Pad(%i, {PADS}) : f32[N,2,6,6] %y = MaxPool(%p) {POOL} : f32[N,2,4,4] return %y", inputs=IMAGE), "the number may be the greatest of its window"),
    "windows with holes": (
        padding.pad_inside_maximum,
        one(f"%p = Pad(%i, {PADS}, f32[]{{-inf}}) : f32[N,2,6,6] %y = MaxPool(%p) {{kernel_shape=[2,2], dilations=[2,2]}} : f32[N,2,4,4] return %y", inputs=IMAGE),
        "its windows have holes"),
    "windows that lie in the padding": (
        padding.pad_inside_maximum,
        one(f"%p = Pad(%i, {PADS}, f32[]{{-inf}}) : f32[N,2,6,6] %y = MaxPool(%p) {{kernel_shape=[1,1]}} : f32[N,2,6,6] return %y", inputs=IMAGE),
        "a window would lie in the padding entirely"),
    "padding that is cut off for whole windows": (
        padding.pad_inside_maximum,
        one(f"%p = Pad(%i, {PADS}, f32[]{{-inf}}) : f32[N,2,6,6] %y = MaxPool(%p) {{kernel_shape=[3,3], strides=[2,2], ceil_mode=1}} : f32[N,2,3,3] return %y", inputs=IMAGE),
        "it computes its padding itself, or places in the padded image are used"),
    "choices on one condition whose shapes are not known": (
        booleans.merge_choices,
        one("%w = Where(%c, %b, %d) : f32[*] %y = Where(%c, %a, %w) : f32[*] return %y", inputs="%c: bool[*], %a: f32[*], %b: f32[*], %d: f32[]"),
        "it broadcasts or its shape is not known"),
    "the root of squares whose exponent adds axes": (
        next(r for r in reductions.RULES if r.name == "raise_l2"),
        one("%p = Pow(%x, f32[1,1,1,1]{2.0}) : f32[1,N,3,4] %s = ReduceSum(%p, i64[1]{-1}) : f32[1,N,3,1] %y = Sqrt(%s) : f32[1,N,3,1] return %y"),
        "an exponent adds axes"),
    "numbers that are rounded": (
        casts.drop_requantization,
        one("%d = DequantizeLinear(%q, f32[]{0.1}, i8[]{3}) : f32[N,4] %y = QuantizeLinear(%d, f32[]{0.2}, i8[]{3}) : i8[N,4] return %y", inputs="%q: i8[N,4]"),
        "scales or zero points differ"),
    "a scale that is next to nothing": (
        casts.drop_requantization,
        one("%d = DequantizeLinear(%q, f32[]{1e-38}) : f32[N,4] %y = QuantizeLinear(%d, f32[]{1e-38}) {output_dtype=3} : i8[N,4] return %y", inputs="%q: i8[N,4]"),
        "a scale is not an ordinary number"),
    "integers of another type": (
        casts.drop_requantization,
        one("%d = DequantizeLinear(%q, f32[]{0.1}) : f32[N,4] %y = QuantizeLinear(%d, f32[]{0.1}) {output_dtype=2} : u8[N,4] return %y", inputs="%q: i8[N,4]"),
        "element types or axes differ"),
    "rows replaced in another order": (
        indices.scatter_everything, one("%y = ScatterND(%x, i64[3,1]{0,2,1}, %z) : f32[3,4] return %y", inputs="%x: f32[3,4], %z: f32[3,4]"),
        "it does not replace everything in order"),
    "rows that are added": (
        indices.scatter_everything, one('%y = ScatterND(%x, i64[3,1]{0,1,2}, %z) {reduction="add"} : f32[3,4] return %y', inputs="%x: f32[3,4], %z: f32[3,4]"),
        "it adds to what is there, or its indices are not a column"),
}  # fmt: skip


@pytest.mark.parametrize("name", LEFT)
def test_it_is_left_with_the_reason(name: str):
    rule, text, reason = LEFT[name]
    graph = parse(text)
    result = Rewriter([rule]).run(graph, infer=infer(graph).node)
    assert not result.fired
    assert reason in result.statistics[rule.name].declined


def test_a_pool_whose_reference_gives_another_shape_is_not_folded():
    graph = parse("""graph(%x: f32[1,4,1]) -> (y) { @c : f32[1,4,5] = random(1) %p = GlobalMaxPool(@c) : f32[1,4,1]
        %y = Add(%x, %p) : f32[1,4,1] return %y }""")
    Simplify().run(Model(graph, {"": 26}), Context())
    assert graph.outputs[0].shape == (1, 4, 1)
    assert all(
        v.shape in ((1, 4, 1), (1, 4, 5))
        for n in graph
        for v in (*n.inputs, *n.outputs)
        if v is not None and v.is_float
    )
