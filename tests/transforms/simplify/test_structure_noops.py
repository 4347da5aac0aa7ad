"""Casts, choices, padding and the rest of what changes nothing: what goes, what stays and why."""

import pytest
from tersor.ir import skeleton
from tersor.ir.inference import infer
from tersor.ir.rewrite import Rewriter
from tersor.transforms.simplify.structure import booleans, casts, identities, padding


def one(body: str, inputs: str = "%x: f32[N,4,6]", outputs: str = "y") -> str:
    return f"graph({inputs}) -> ({outputs}) {{ {body} }}"


IMAGES = "%x: f32[N,2,8,8]"

DROPPED = {
    "a sum of one": ([identities.drop_single_operand], "%x: f32[N,4,6]", "%a = Sum(%x)"),
    "a pooling of single elements": (
        [identities.drop_single_element_window], IMAGES, "%a = AveragePool(%x) {kernel_shape=[1,1], strides=[1,1]}"),
    "a resize by 1": ([identities.drop_resize_to_same_size], IMAGES, "%a = Resize(%x, _, f32[4]{1,1,1,1}) {mode=\"linear\"}"),
    "a reduction over an axis of size 1": ([identities.drop_reduction_of_ones], "%x: f32[N,1]", "%a = ReduceMean(%x, i64[1]{1})"),
    "a reduction over no axes": ([identities.drop_reduction_of_ones], "%x: f32[N,1]", "%a = ReduceSum(%x) {noop_with_empty_axes=1}"),
    "a clip without bounds": ([identities.drop_unbounded_clip], "%x: f32[N,4]", "%a = Clip(%x)"),
    "a choice that is decided": ([booleans.drop_decided_where], "%x: f32[N,4]", "%a = Where(bool[]{true}, %x, f32[]{0})"),
    "a choice between equals": ([booleans.drop_decided_where], "%x: f32[N,4], %c: bool[4]", "%a = Where(%c, %x, %x)"),
    "and true": ([booleans.drop_neutral_truth], "%x: bool[N,4]", "%a = And(bool[]{true}, %x)"),
    "or false": ([booleans.drop_neutral_truth], "%x: bool[N,4]", "%a = Or(%x, bool[4]{false,false,false,false})"),
    "the larger of equals": ([booleans.drop_equal_operands], "%x: f32[N,4]", "%a = Max(%x, %x)"),
    "a cast there and back": ([casts.drop_lossless_cast], "%x: i32[N,4]", "%b = Cast(%x) {to=7} : i64[N,4] %a = Cast(%b) {to=6}"),
}  # fmt: skip


def of_type(inputs: str) -> str:
    return inputs.split(": ", 2)[1].split("]", 1)[0] + "]"


@pytest.mark.parametrize("name", DROPPED)
def test_it_is_dropped_whether_its_operand_and_result_are_shared_or_outputs(check_rules, name: str):
    rules, inputs, body = DROPPED[name]
    kind = of_type(inputs)
    between = f"%b = Cast(%x) {{to=7}} : i64{kind[3:]} " if "%b" in body else ""
    check_rules(rules, one(f"{body} : {kind} return %a, %x", inputs, "p, q"), one("return %x, %x", inputs, "p, q"))
    if between:
        check_rules(
            rules,
            one(f"{body} : {kind} return %a, %b", inputs, "p, q"),
            one(f"{between} return %x, %b", inputs, "p, q"),
        )


@pytest.mark.parametrize(("choices", "after"), [("true,false", ""), ("false,true", "%n = Not(%x) : bool[N,4] ")])
def test_a_choice_between_truths_is_the_condition_or_its_negation(graph, choices: str, after: str):
    """Compared by text alone: ONNX Runtime has no Where on booleans."""
    yes, no = choices.split(",")
    inputs = "%x: bool[N,4]"
    subject = graph(one(f"%a = Where(%x, bool[]{{{yes}}}, bool[1]{{{no}}}) : bool[N,4] return %a, %a", inputs, "p, q"))
    Rewriter([booleans.drop_where_between_truths]).run(subject, infer=infer(subject).node)
    value = "%n" if after else "%x"
    assert skeleton(subject) == skeleton(graph(one(f"{after}return {value}, {value}", inputs, "p, q")))


LEFT = {
    "a Max that keeps a float layer from a quantization in front": (
        identities.drop_single_operand,
        "%x: u8[N,4]",
        "%b = DequantizeLinear(%x, f32[]{0.1}) : f32[N,4]\n%a = Max(%b) : f32[N,4]",
        "it keeps a float operator apart from a quantization",
    ),
    "a sum of two": (identities.drop_single_operand, "%x: f32[N,4]", "%a = Sum(%x, %x) : f32[N,4]", "it has several operands"),
    "a pooling of several elements": (identities.drop_single_element_window, IMAGES, "%a = MaxPool(%x) {kernel_shape=[1,2]} : f32[N,2,8,7]", "its window has several elements"),
    "a pooling that skips": (identities.drop_single_element_window, IMAGES, "%a = MaxPool(%x) {kernel_shape=[1,1], strides=[2,2]} : f32[N,2,4,4]", "it leaves elements out or adds some"),
    "a resize by 2": (identities.drop_resize_to_same_size, IMAGES, "%a = Resize(%x, _, f32[4]{1,1,2,2}) : f32[N,2,16,16]", "its scales are not all 1"),
    "a reduction over several elements": (identities.drop_reduction_of_ones, "%x: f32[N,4]", "%a = ReduceMean(%x, i64[1]{0}) : f32[1,4]", "an axis has or may have several elements"),
    "a reduction over everything": (identities.drop_reduction_of_ones, "%x: f32[N,4]", "%a = ReduceMean(%x) : f32[1,1]", "it reduces all axes"),
    "a clip": (identities.drop_unbounded_clip, "%x: f32[N,4]", "%a = Clip(%x, f32[]{0}) : f32[N,4]", "it has bounds"),
    "a choice in places": (booleans.drop_decided_where, "%x: f32[2]", "%a = Where(bool[2]{true,false}, %x, f32[]{0}) : f32[2]", "the condition is true in places"),
    "a decided choice that broadcasts": (booleans.drop_decided_where, "%x: f32[N]", "%a = Where(bool[2,1]{true,true}, %x, f32[]{0}) : f32[2,N]", "it broadcasts or its shape is not known"),
    "a choice on an input": (booleans.drop_decided_where, "%x: f32[N], %c: bool[]", "%a = Where(%c, %x, f32[]{0}) : f32[N]", "the condition is not known"),
    "a choice between numbers": (booleans.drop_where_between_truths, "%x: f32[N], %c: bool[]", "%a = Where(%c, %x, f32[]{0}) : f32[N]", "it does not choose between true and false"),
    "and false": (booleans.drop_neutral_truth, "%x: bool[N]", "%a = And(%x, bool[]{false}) : bool[N]", "no neutral operand"),
    "the larger of two": (booleans.drop_equal_operands, "%x: f32[N]", "%a = Max(%x, f32[]{0}) : f32[N]", "its operands differ"),
    "a cast that loses fractions": (casts.drop_lossless_cast, "%x: f32[N]", "%b = Cast(%x) {to=7} : i64[N] %a = Cast(%b) {to=1} : f32[N]", "the first Cast loses something"),
    "a cast of large integers": (casts.drop_lossless_cast, "%x: i32[N]", "%b = Cast(%x) {to=1} : f32[N] %a = Cast(%b) {to=6} : i32[N]", "the first Cast loses something"),
    "a cast that loses the sign": (casts.drop_lossless_cast, "%x: i8[N]", "%b = Cast(%x) {to=12} : u32[N] %a = Cast(%b) {to=1} : f32[N]", "the first Cast loses something"),
}  # fmt: skip


@pytest.mark.parametrize("name", LEFT)
def test_it_is_left_with_the_reason(check_rules, name: str):
    rule, inputs, body, reason = LEFT[name]
    check_rules([rule], one(f"{body} return %a", inputs), None, fired=0, declined=[reason])


def test_a_reduction_that_removes_axes_of_size_1_is_a_squeeze(check_rules):
    inputs = "%x: f32[N,1,4]"
    check_rules([identities.drop_reduction_of_ones],
                one("%a = ReduceMax(%x, i64[1]{-2}) {keepdims=0} : f32[N,4] return %a", inputs),
                one("%a = Squeeze(%x, i64[1]{1}) : f32[N,4] return %a", inputs), fired=1)  # fmt: skip


@pytest.mark.parametrize(
    ("bounds", "after"),
    [((0, 6, 1, 3), (1, 3)), ((0, 6, -1, 9), (0, 6)), ((0, 2, 4, 6), (4, 4)), ((5, 6, 1, 3), (3, 3))],
)
def test_two_clips_are_one(check_rules, bounds, after):
    line = "%{} = Clip(%{}, f32[]{{{}}}, f32[]{{{}}}) : f32[N,4,6] "
    body = line.format("a", "x", *bounds[:2]) + line.format("b", "a", *bounds[2:]) + "return %b"
    check_rules([identities.merge_clips], one(body), one(line.format("b", "x", *after) + "return %b"), fired=1)


def test_a_clip_that_others_need_or_with_crossed_bounds_is_not_merged(check_rules):
    body = "%a = Clip(%x, f32[]{0}, f32[]{6}) : f32[N,4,6] %b = Clip(%a, f32[]{3}, f32[]{1}) : f32[N,4,6] return %b"
    check_rules([identities.merge_clips], one(body), None, declined=["a lower bound is above the upper one"])
    check_rules([identities.merge_clips], one(body + ", %a", outputs="p, q"), None, fired=0)


def test_what_is_rounded_is_not_rounded_again(check_rules):
    body = "%a = Floor(%x) : f32[N,4,6] %b = Ceil(%a) : f32[N,4,6] return %b, %a"
    check_rules([identities.drop_repeated_rounding], one(body, outputs="p, q"),
                one("%a = Floor(%x) : f32[N,4,6] return %a, %a", outputs="p, q"), fired=1)  # fmt: skip
    check_rules([identities.drop_repeated_rounding], one("%a = Sign(%x) : f32[N,4,6] return %a"), None,
                declined=["its operand is not rounded"])  # fmt: skip


def test_relu_of_a_clip_from_zero_is_the_clip(check_rules):
    body = "%a = Clip(%x, f32[]{0}) : f32[N,4,6] %b = Relu(%a) : f32[N,4,6] return %b"
    check_rules([identities.merge_relus], one(body), one("%a = Clip(%x, f32[]{0}) : f32[N,4,6] return %a"), fired=1)


def test_a_cast_that_loses_nothing_on_the_way_is_left_out(check_rules):
    inputs = "%x: bool[N]"
    body = "%b = Cast(%x) {to=6} : i32[N] %a = Cast(%b) {to=1} : f32[N] "
    after = "%a = Cast(%x) {to=1} : f32[N] "
    check_rules([casts.drop_lossless_cast], one(body + "return %a", inputs), one(after + "return %a", inputs), fired=1)
    check_rules([casts.drop_lossless_cast], one(body + "return %a, %b", inputs, "p, q"),
                one("%b = Cast(%x) {to=6} : i32[N] " + after + "return %a, %b", inputs, "p, q"), fired=1)  # fmt: skip


def test_a_cast_to_the_type_of_another_value_is_a_cast(check_rules):
    inputs = "%x: f32[N], %z: i64[M]"
    body = "%a = CastLike(%x, %z) : i64[N] return %a, %a"
    check_rules(
        [casts.cast_instead_of_cast_like],
        one(body, inputs, "p, q"),
        one("%a = Cast(%x) {to=7} : i64[N] return %a, %a", inputs, "p, q"),
    )


CHOICES = "%c: bool[N], %x: f32[N], %z: f32[N], %t: f32[N]"


@pytest.mark.parametrize(
    ("body", "after"),
    [
        ("%n = Not(%c) : bool[N] %a = Where(%n, %x, %z) : f32[N]", "%a = Where(%c, %z, %x) : f32[N]"),
        ("%n = Where(%c, %x, %z) : f32[N] %a = Where(%c, %n, %t) : f32[N]", "%a = Where(%c, %x, %t) : f32[N]"),
        ("%n = Where(%c, %x, %z) : f32[N] %a = Where(%c, %t, %n) : f32[N]", "%a = Where(%c, %t, %z) : f32[N]"),
    ],
)
def test_choices_on_one_condition_are_one(check_rules, body: str, after: str):
    rules = [booleans.swap_choices_of_negation, booleans.merge_choices]
    check_rules(rules, one(f"{body} return %a", CHOICES), one(f"{after} return %a", CHOICES), fired=1)
    check_rules(rules, one(f"{body} return %a, %n", CHOICES, "p, q"), None, fired=0)


def test_a_dropped_choice_that_gave_the_shape_stays(check_rules):
    inputs = "%c: bool[N], %x: f32[N], %z: f32[2,N], %t: f32[N]"
    body = "%n = Where(%c, %x, %z) : f32[2,N] %a = Where(%c, %n, %t) : f32[2,N] return %a"
    check_rules([booleans.merge_choices], one(body, inputs), None, declined=["it broadcasts or its shape is not known"])


PAD = "%a = Pad(%x, i64[8]{0,0,1,2,0,0,3,0}, f32[]{0}) : f32[N,2,12,10] "
WEIGHT = "@w : f32[3,2,3,3] = random(1) "


def test_two_pads_are_one(check_rules):
    body = PAD + "%b = Pad(%a, i64[4]{1,1,0,0}, f32[]{0}, i64[2]{1,3}) : f32[N,3,12,11] "
    after = "%b = Pad(%x, i64[8]{0,1,1,3,0,0,3,0}, f32[]{0}) : f32[N,3,12,11] "
    check_rules([padding.merge_pads], one(body + "return %b", IMAGES), one(after + "return %b", IMAGES), fired=1)
    check_rules(
        [padding.merge_pads],
        one(body + "return %b, %a", IMAGES, "p, q"),
        one(PAD + after + "return %b, %a", IMAGES, "p, q"),
    )


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        ("%b = Pad(%a, i64[8]{0,0,0,1,0,0,0,0}, f32[]{1}) : f32[N,2,12,11]", "they fill with different things"),
        ('%b = Pad(%a, i64[8]{0,0,0,1,0,0,0,0}) {mode="edge"} : f32[N,2,12,11]', "they fill with different things"),
        ("%b = Pad(%a, i64[8]{0,0,-1,0,0,0,0,0}) : f32[N,2,11,10]", "one cuts off"),
    ],
)
def test_pads_that_differ_are_left(check_rules, second: str, reason: str):
    check_rules([padding.merge_pads], one(f"{PAD}{second} return %b", IMAGES), None, declined=[reason])


def test_zeros_before_a_convolution_are_its_padding(check_rules):
    body = WEIGHT + PAD + "%b = Conv(%a, @w) {pads=[1,0,0,1]} : f32[N,3,11,9] "
    after = WEIGHT + "{}%b = Conv(%x, @w) {{pads=[2,2,3,1]}} : f32[N,3,11,9] "
    check_rules(
        [padding.pad_inside_window],
        one(body + "return %b", IMAGES),
        one(after.format("") + "return %b", IMAGES),
        fired=1,
    )
    check_rules(
        [padding.pad_inside_window],
        one(body + "return %b, %a", IMAGES, "p, q"),
        one(after.format(PAD) + "return %b, %a", IMAGES, "p, q"),
    )


def test_zeros_before_an_average_are_counted(check_rules):
    body = "%a = Pad(%x, i64[8]{0,0,1,1,0,0,1,0}) : f32[N,2,10,9] %b = AveragePool(%a) {kernel_shape=[2,2]} : f32[N,2,9,8] return %b"
    after = "%b = AveragePool(%x) {kernel_shape=[2,2], pads=[1,1,1,0], count_include_pad=1} : f32[N,2,9,8] return %b"
    check_rules([padding.pad_inside_window], one(body, IMAGES), one(after, IMAGES), fired=1)


@pytest.mark.parametrize(
    ("pad", "user", "reason"),
    [
        (
            PAD,
            "%b = AveragePool(%a) {kernel_shape=[4,4], pads=[1,1,1,1]} : f32[N,2,11,9]",
            "it does not count its own padding",
        ),
        (
            PAD,
            "%b = AveragePool(%a) {kernel_shape=[4,4], strides=[3,3], ceil_mode=1} : f32[N,2,4,3]",
            "its last windows may go beyond the padding",
        ),
        (
            PAD,
            "%b = AveragePool(%a) {kernel_shape=[2,2]} : f32[N,2,11,9]",
            "a window would lie in the padding entirely",
        ),
        (PAD, '%b = Conv(%a, @w) {auto_pad="SAME_UPPER"} : f32[N,3,12,10]', "it computes its padding itself"),
        (
            PAD.replace("{0})", "{1})"),
            "%b = Conv(%a, @w) : f32[N,3,10,8]",
            "the Pad does more than to add zeros around images",
        ),
        (
            "%a = Pad(%x, i64[8]{1,0,0,0,0,0,0,0}) : f32[N+1,2,8,8]",
            "%b = Conv(%a, @w) : f32[N+1,3,6,6]",
            "the Pad does more than to add zeros around images",
        ),
        (
            '%a = Pad(%x, i64[8]{0,0,1,0,0,0,0,0}) {mode="reflect"} : f32[N,2,9,8]',
            "%b = Conv(%a, @w) : f32[N,3,7,6]",
            "the Pad does more than to add zeros around images",
        ),
    ],
)
def test_padding_that_a_window_does_not_do_is_left(check_rules, pad: str, user: str, reason: str):
    check_rules([padding.pad_inside_window], one(f"{WEIGHT}{pad} {user} return %b", IMAGES), None, declined=[reason])
