"""Sizes that operators are told: constants instead of chains, Expand under broadcasting, and what must stay."""

from __future__ import annotations

import numpy as np
import pytest
from tersor.backends.runners import synthesize
from tersor.ir import Model, verify
from tersor.ir.inference import infer
from tersor.ir.rewrite import Rule
from tersor.transforms.parity import outputs
from tersor.transforms.simplify.folding import broadcasting, rebuild_sizes, targets
from tersor.transforms.simplify.structure import erase_dead

BECOMES: dict[str, tuple[Rule, str, str]] = {
    "a reshape with one symbolic size": (
        targets.constant_reshape_target,
        "%t = Shape(%z) : i64[2] %a = Reshape(%x, %t) : f32[N,24]",
        "%a = Reshape(%x, i64[2]{-1,24}) : f32[N,24]",
    ),
    "a reshape whose sizes are its operand's": (
        targets.constant_reshape_target,
        "%s = Shape(%y) : i64[3] %t = Concat(%s, i64[1]{1}) {axis=0} : i64[4] %a = Reshape(%y, %t) : f32[N,S,6,1]",
        "%a = Reshape(%y, i64[4]{0,0,6,1}) : f32[N,S,6,1]",
    ),
    "a reshape of which one size is left over": (
        targets.constant_reshape_target,
        "%s = Shape(%y) {end=1} : i64[1] %t = Concat(%s, i64[1]{-1}) {axis=0} : i64[2] %a = Reshape(%y, %t) : f32[N,6*S]",
        "%a = Reshape(%y, i64[2]{0,-1}) : f32[N,6*S]",
    ),
    "an expand of a single entry along a known axis": (
        targets.constant_expand_shape,
        "%s = Shape(%z) {end=1} : i64[1] %t = Concat(%s, i64[1]{5}, i64[2]{4,6}) {axis=0} : i64[4] "
        "%u = Unsqueeze(%x, i64[1]{1}) : f32[N,1,4,6] %a = Expand(%u, %t) : f32[N,5,4,6]",
        "%u = Unsqueeze(%x, i64[1]{1}) : f32[N,1,4,6] %a = Expand(%u, i64[4]{1,5,1,1}) : f32[N,5,4,6]",
    ),
    "an expand to a new axis of one": (
        targets.constant_expand_shape,
        "%s = Shape(%x) : i64[3] %t = Concat(i64[1]{1}, %s) {axis=0} : i64[4] %a = Expand(%x, %t) : f32[1,N,4,6]",
        "%a = Unsqueeze(%x, i64[1]{0}) : f32[1,N,4,6]",
    ),
    "a slice to the end": (
        targets.constant_slice_bounds,
        "%e = Shape(%y) {start=1, end=2} : i64[1] %a = Slice(%y, i64[1]{1}, %e, i64[1]{1}) : f32[N,max(0,S-1),6]",
        "%a = Slice(%y, i64[1]{1}, i64[1]{9223372036854775807}, i64[1]{1}) : f32[N,max(0,S-1),6]",
    ),
    "a split into equal pieces": (
        targets.equal_split_sizes,
        "%s = Shape(%z) {end=1} : i64[1] %t = Concat(%s, %s) {axis=0} : i64[2] %c = Concat(%x, %x) {axis=0} : f32[2*N,4,6] "
        "%a, %b = Split(%c, %t) {axis=0} : f32[N,4,6], f32[N,4,6]",
        "%c = Concat(%x, %x) {axis=0} : f32[2*N,4,6] %a, %b = Split(%c) {axis=0, num_outputs=2} : f32[N,4,6], f32[N,4,6]",
    ),
    "a resize of symbolic batches": (
        targets.constant_resize_scales,
        "%u = Unsqueeze(%x, i64[1]{1}) : f32[N,1,4,6] %s = Shape(%z) {end=1} : i64[1] "
        "%t = Concat(%s, i64[3]{1,8,12}) {axis=0} : i64[4] %a = Resize(%u, _, _, %t) {mode=\"nearest\"} : f32[N,1,8,12]",
        "%u = Unsqueeze(%x, i64[1]{1}) : f32[N,1,4,6] %a = Resize(%u, _, f32[4]{1,1,2,2}) {mode=\"nearest\"} : f32[N,1,8,12]",
    ),
    "a resize of some axes by scales": (
        targets.resize_of_all_axes,
        "%u = Unsqueeze(%x, i64[1]{1}) : f32[N,1,4,6] %a = Resize(%u, _, f32[2]{3,2}) {axes=[-1,2], mode=\"nearest\"} : f32[N,1,8,18]",
        "%u = Unsqueeze(%x, i64[1]{1}) : f32[N,1,4,6] %a = Resize(%u, _, f32[4]{1,1,2,3}) {mode=\"nearest\"} : f32[N,1,8,18]",
    ),
    "a resize of some axes to sizes": (
        targets.resize_of_all_axes,
        "%u = Unsqueeze(%x, i64[1]{1}) : f32[N,1,4,6] %a = Resize(%u, _, _, i64[2]{8,9}) {axes=[2,3], mode=\"linear\"} : f32[N,1,8,9]",
        "%u = Unsqueeze(%x, i64[1]{1}) : f32[N,1,4,6] %a = Resize(%u, _, f32[4]{1,1,2,1.5}) {mode=\"linear\"} : f32[N,1,8,9]",
    ),
    "a resize of the axes of space to computed sizes": (
        targets.resize_of_all_axes,
        "%u = Unsqueeze(%x, i64[1]{1}) : f32[N,1,4,6] %s = Shape(%y) {start=1} : i64[2] "
        "%a = Resize(%u, _, _, %s) {axes=[2,3], mode=\"nearest\"} : f32[N,1,S,6]",
        "%u = Unsqueeze(%x, i64[1]{1}) : f32[N,1,4,6] %s = Shape(%y) {start=1} : i64[2] %n = Shape(%u) {end=2} : i64[2] "
        "%t = Concat(%n, %s) {axis=0} : i64[4] %a = Resize(%u, _, _, %t) {mode=\"nearest\"} : f32[N,1,S,6]",
    ),
    "a tile of single entries": (
        targets.constant_tile_repeats,
        "%r = ReduceMax(%x, i64[1]{0}) : f32[1,4,6] %a = Tile(%r, i64[3]{5,1,1}) : f32[5,4,6]",
        "%r = ReduceMax(%x, i64[1]{0}) : f32[1,4,6] %a = Expand(%r, i64[3]{5,1,1}) : f32[5,4,6]",
    ),
    "an expanded operand": (
        broadcasting.drop_expand_under_broadcast,
        "%s = Shape(%x) : i64[3] %e = Expand(f32[1,1]{2.0}, %s) : f32[N,4,6] %a = Mul(%x, %e) : f32[N,4,6]",
        "%a = Mul(%x, f32[]{2.0}) : f32[N,4,6]",
    ),
    "an operand filled with one number": (
        broadcasting.drop_expand_under_broadcast,
        "%s = Shape(%x) : i64[3] %e = ConstantOfShape(%s) {value=tensor f32[1] = [3]} : f32[N,4,6] %a = Min(%e, %x) : f32[N,4,6]",
        "%a = Min(f32[]{3.0}, %x) : f32[N,4,6]",
    ),
    "an expanded operand of a matrix product": (
        broadcasting.drop_expand_under_broadcast,
        "%s = Shape(%x) {end=1} : i64[1] %t = Concat(%s, i64[2]{6,5}) {axis=0} : i64[3] %e = Expand(@w, %t) : f32[N,6,5] "
        "%a = MatMul(%x, %e) : f32[N,4,5]",
        "%a = MatMul(%x, @w) : f32[N,4,5]",
    ),
    "a function of an expanded operand": (
        broadcasting.expand_later,
        "%r = ReduceMax(%x, i64[1]{1}) : f32[N,1,6] %e = Expand(%r, i64[3]{1,4,1}) : f32[N,4,6] %a = Add(%e, f32[]{1.0}) : f32[N,4,6]",
        "%r = ReduceMax(%x, i64[1]{1}) : f32[N,1,6] %b = Add(%r, f32[]{1.0}) : f32[N,1,6] %a = Expand(%b, i64[3]{1,4,1}) : f32[N,4,6]",
    ),
}  # fmt: skip

INPUTS = "%x: f32[N,4,6], %y: f32[N,S,6], %z: f32[N,24]"


def one(body: str, outputs: str = "r") -> str:
    return f"graph({INPUTS}) -> ({outputs}) {{ @w : f32[6,5] = random(1) {body} }}"


@pytest.mark.parametrize("name", BECOMES)
def test_it_becomes_constant(check_rules, name: str):
    rule, before, after = BECOMES[name]
    check_rules(
        [rule],
        one(f"{before} %o = Softplus(%a) : ? return %o"),
        one(f"{after} %o = Softplus(%a) : ? return %o"),
        fired=1,
    )


@pytest.mark.parametrize("name", BECOMES)
def test_it_becomes_constant_where_its_result_is_an_output_and_shared(check_rules, name: str):
    rule, before, after = BECOMES[name]
    rest = " %o = Softplus(%a) : ? return %o, %a"
    check_rules([rule], one(before + rest, "r, q"), one(after + rest, "r, q"), fired=1)


SHARED = [
    "a reshape with one symbolic size",
    "an expand of a single entry along a known axis",
    "a slice to the end",
    "a resize of symbolic batches",
]


@pytest.mark.parametrize("name", SHARED)
def test_the_sizes_stay_where_they_are_an_output(check_rules, name: str):
    rule, before, after = BECOMES[name]
    sizes = "%e" if "%e = " in before else "%t"
    made = before[: before.index("%a = ")].removesuffix(" ")
    kept = after if after in before else f"{made} {after[after.index('%a = ') :]}"
    check_rules([rule], one(f"{before} return %a, {sizes}", "r, q"), one(f"{kept} return %a, {sizes}", "r, q"), fired=1)


LEFT: dict[str, tuple[Rule, str, str]] = {
    "reshape to other sizes": (
        targets.constant_reshape_target,
        "%n = Shape(%y) : i64[3] %t = Gather(%n, i64[3]{1,0,2}) : i64[3] %a = Reshape(%y, %t) : f32[S,N,6] return %a",
        "several sizes are not those of its operand"),
    "reshape to numbers from the data": (
        targets.constant_reshape_target,
        "%n = ReduceMax(%z) {keepdims=0} : f32[] %i = Cast(%n) {to=7} : i64[] %m = Mul(%i, i64[]{0}) : i64[] %p = Sub(%m, i64[]{1}) : i64[] "
        "%t = Reshape(%p, i64[1]{1}) : i64[1] %a = Reshape(%y, %t) : f32[?] return %a".replace("f32[?]", "?"),
        "its target depends on more than sizes"),
    "expand along a symbolic axis": (
        targets.constant_expand_shape,
        "%s = Shape(%x) {end=1} : i64[1] %t = Concat(%s, i64[1]{5}) {axis=0} : i64[2] %a = Expand(f32[1,1]{1.0}, %t) : f32[N,5] return %a",
        "a size is known at run time only"),
    "slice to another axis's size": (
        targets.constant_slice_bounds,
        "%e = Shape(%y) {end=1} : i64[1] %a = Slice(%y, i64[1]{0}, %e, i64[1]{1}) : f32[N,min(N,S),6] return %a",
        "a bound is known at run time only"),
    "slice that runs backwards": (
        targets.constant_slice_bounds,
        "%e = Shape(%y) {start=1, end=2} : i64[1] %a = Slice(%y, %e, i64[1]{0}, i64[1]{1}, i64[1]{-1}) : ? return %a",
        "it may run backwards"),
    "expanded operand whose shape no other has": (
        broadcasting.drop_expand_under_broadcast,
        "%s = Shape(%x) : i64[3] %e = Expand(f32[1,1]{2.0}, %s) : f32[N,4,6] %a = Mul(%e, f32[]{2.0}) : f32[N,4,6] return %a",
        "the expanded shape is that of no other operand"),
    "expanded number in a product of matrices": (
        broadcasting.drop_expand_under_broadcast,
        "%s = Shape(%x) : i64[3] %e = Expand(f32[1,1]{2.0}, %s) : f32[N,4,6] %a = MatMul(%e, f32[6,1]{1.0,2.0,3.0,4.0,5.0,6.0}) : f32[N,4,1] return %a",
        "the expanded shape is that of no other operand"),
    "tile of several entries": (
        targets.constant_tile_repeats, "%a = Tile(%x, i64[3]{1,2,1}) : f32[N,8,6] return %a", "it repeats more than single entries"),
    "resize that keeps the aspect ratio": (
        targets.constant_resize_scales,
        "%u = Unsqueeze(%x, i64[1]{1}) : f32[N,1,4,6] %s = Shape(%x) {end=1} : i64[1] %t = Concat(%s, i64[3]{1,8,12}) {axis=0} : i64[4] "
        "%a = Resize(%u, _, _, %t) {mode=\"nearest\", keep_aspect_ratio_policy=\"not_larger\"} : ? return %a", "it keeps the aspect ratio"),
    "resize of some axes with a region": (
        targets.resize_of_all_axes,
        "%u = Unsqueeze(%x, i64[1]{1}) : f32[N,1,4,6] %a = Resize(%u, f32[4]{0,0,1,1}, f32[2]{2,2}) "
        "{axes=[2,3], coordinate_transformation_mode=\"tf_crop_and_resize\"} : f32[N,1,8,12] return %a",
        "it crops or keeps the aspect ratio"),
    "resize of some axes to a size of an unknown one": (
        targets.resize_of_all_axes,
        "%u = Unsqueeze(%y, i64[1]{1}) : f32[N,1,S,6] %a = Resize(%u, _, _, i64[2]{8,12}) {axes=[2,3], mode=\"nearest\"} : f32[N,1,8,12] return %a",
        "a scale is known at run time only"),
    "function of what others need expanded": (
        broadcasting.expand_later,
        "%r = ReduceMax(%x, i64[1]{1}) : f32[N,1,6] %e = Expand(%r, i64[3]{1,4,1}) : f32[N,4,6] %b = Exp(%e) : f32[N,4,6] %a = Add(%e, %b) : f32[N,4,6] return %a",
        "no operand is expanded for it alone"),
}  # fmt: skip


@pytest.mark.parametrize("name", LEFT)
def test_it_is_left_with_the_reason(check_rules, name: str):
    rule, body, reason = LEFT[name]
    check_rules([rule], one(body), None, fired=0, declined=[reason])


WANTED = {
    "a shape of something computed from an input": (
        "%r = Relu(%y) : f32[N,S,6] %s = Shape(%r) : i64[3] %n = Gather(%s, i64[]{1}) : i64[] %q = Range(i64[]{0}, %n, i64[]{1}) : i64[S] "
        "%m = Gather(%s, i64[]{0}) : i64[] %p = Range(i64[]{0}, %m, i64[]{1}) : i64[N] return %q, %p, %r",
        ["Relu", "Shape", "Gather", "Range", "Gather", "Range"]),
    "a part of a shape from several pieces": (
        "%s = Shape(%y) : i64[3] %n = Gather(%s, i64[]{0}) : i64[] %u = Unsqueeze(%n, i64[1]{0}) : i64[1] "
        "%m = Gather(%s, i64[]{1}) : i64[] %v = Unsqueeze(%m, i64[1]{0}) : i64[1] %t = Concat(%u, %v) {axis=0} : i64[2] return %t, %x, %z",
        ["Shape"]),
    "a product that goes there and back": (
        "%s = Shape(%y) {start=1, end=2} : i64[1] %a = Mul(%s, i64[]{4}) : i64[1] %b = Div(%a, i64[]{2}) : i64[1] return %b, %x, %z",
        ["Shape", "Mul"]),
    "a size of which the value is not needed": (
        "%r = Relu(%y) : f32[N,S,6] %e = Exp(%r) : f32[N,S,6] %s = Shape(%e) : i64[3] return %s, %x, %z", ["Shape"]),
    "the shortest form": (
        "%s = Shape(%y) {start=1, end=2} : i64[1] %q = Squeeze(%s) : i64[] return %q, %x, %z", ["Shape", "Squeeze"]),
}  # fmt: skip


@pytest.mark.parametrize("name", WANTED)
def test_sizes_that_are_wanted_take_the_fewest_nodes(graph, name: str):
    body, ops = WANTED[name]
    subject = graph(one(body, "a, b, c"))
    before, feeds = subject.clone(), synthesize(subject, count=2, seed=1)
    count = len(subject)
    saved = rebuild_sizes(subject, infer(subject))
    erase_dead(subject)
    verify(subject)
    assert [n.op for n in subject] == ops
    assert count - len(subject) == saved
    for old, new in zip(outputs(Model(before), feeds), outputs(Model(subject), feeds), strict=True):
        assert all(np.array_equal(old[k], new[k]) for k in old)


def test_sizes_take_whole_shapes_where_the_opset_has_no_parts_of_them(graph):
    subject = graph(
        one(
            "%s = Shape(%y) : i64[3] %n = Gather(%s, i64[]{1}) : i64[] %u = Unsqueeze(%n, i64[1]{0}) : i64[1] return %u",
            "a",
        )
    )
    rebuild_sizes(subject, infer(subject), parts=False)
    erase_dead(subject)
    assert [n.op for n in subject] == ["Shape", "Gather"]
