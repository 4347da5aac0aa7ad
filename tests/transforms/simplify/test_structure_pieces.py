"""Slices, Splits, Gathers and Concats of each other: what becomes of them, what stays and why."""

import pytest
from tersor.ir.rewrite import Rewriter
from tersor.transforms.simplify.structure import pieces


def one(body: str, inputs: str = "%x: f32[N,8,6]", outputs: str = "y") -> str:
    return f"graph({inputs}) -> ({outputs}) {{ {body} }}"


SLICE = "Slice({}, i64[1]{{{}}}, i64[1]{{{}}}, i64[1]{{{}}}, i64[1]{{{}}})"


def test_slices_along_two_axes_are_one(check_rules):
    check_rules(
        [pieces.merge_slices],
        one("%a = Slice(%x, i64[1]{1}, i64[1]{5}, i64[1]{1}) : f32[N,4,6] %b = Slice(%a, i64[1]{-2}, i64[1]{9}, i64[1]{2}) : f32[N,4,2] return %b"),
        one("%b = Slice(%x, i64[2]{1,4}, i64[2]{5,6}, i64[2]{1,2}) : f32[N,4,2] return %b"),
        fired=1,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("outer", "inner"), [((1, 3, 1, 2), (1, 7, 1, 1)), ((-1, -9, 1, -1), (0, 8, 1, 3)), ((1, 9, 1, 2), (7, -9, 1, -2))]
)
def test_slices_along_one_axis_take_what_both_took(check_rules, outer, inner):
    size = len(range(8)[inner[0] : inner[1] : inner[3]][outer[0] : outer[1] : outer[3]])
    between = len(range(8)[inner[0] : inner[1] : inner[3]])
    body = f"%a = {SLICE.format('%x', *inner)} : f32[N,{between},6] %b = {SLICE.format('%a', *outer)} : f32[N,{size},6] return %b"
    statistics = check_rules(
        [pieces.merge_slices],
        one(body),
        one(f"%b = {SLICE.format('%x', *_both(outer, inner))} : f32[N,{size},6] return %b"),
    )
    assert statistics["merge_slices"].hits == 1  # fmt: skip


def _both(outer, inner):
    taken = range(8)[inner[0] : inner[1] : inner[3]][outer[0] : outer[1] : outer[3]]
    return taken.start, (-(2**63 - 1) if taken.stop < 0 else taken.stop), 1, taken.step


def test_slices_of_an_unknown_size_are_merged_where_it_decides_nothing(graph):
    body = "%a = Slice(%x, i64[1]{1}, i64[1]{9223372036854775807}, i64[1]{0}) : f32[M,6] %b = Slice(%a, i64[1]{2}, i64[1]{4}, i64[1]{0}) : f32[K,6] return %b"
    subject = graph(one(body, "%x: f32[N,6]"))
    assert Rewriter([pieces.merge_slices]).run(subject).fired == 1
    node = subject.outputs[0].node
    assert node is not None
    assert [v.tensor.numpy().tolist() for v in node.inputs[1:]] == [[3], [5], [0]]
    assert node.operand(0) is subject.inputs[0]


def test_a_slice_from_the_end_of_an_unknown_size_is_left(check_rules):
    body = "%a = Slice(%x, i64[1]{1}, i64[1]{9}, i64[1]{0}) : f32[M,6] %b = Slice(%a, i64[1]{-2}, i64[1]{9}, i64[1]{0}) : f32[K,6] return %b"
    check_rules([pieces.merge_slices], one(body, "%x: f32[N,6]"), None, declined=["what they take is not known"])


def test_a_slice_whose_result_others_need_stays_for_them(check_rules):
    body = "%a = Slice(%x, i64[1]{1}, i64[1]{5}, i64[1]{1}) : f32[N,4,6] %b = Slice(%a, i64[1]{1}, i64[1]{3}, i64[1]{1}) : f32[N,2,6] return %b, %a"
    after = "%a = Slice(%x, i64[1]{1}, i64[1]{5}, i64[1]{1}) : f32[N,4,6] %b = Slice(%x, i64[1]{2}, i64[1]{4}, i64[1]{1}) : f32[N,2,6] return %b, %a"
    check_rules([pieces.merge_slices], one(body, outputs="y, z"), one(after, outputs="y, z"), fired=1)


JOINED = "%p: f32[N,2], %q: f32[N,3], %t: f32[N,4]"
CONCAT = "%c = Concat(%p, %q, %t) {axis=1} : f32[N,9] "


@pytest.mark.parametrize(
    ("start", "stop", "size", "after"),
    [
        (2, 5, 3, "%r = Neg(%q) : f32[N,3] return %r"),
        (3, 5, 2, "%s = Slice(%q, i64[1]{1}, i64[1]{3}, i64[1]{1}) : f32[N,2] %r = Neg(%s) : f32[N,2] return %r"),
        (2, 9, 7, "%s = Concat(%q, %t) {axis=1} : f32[N,7] %r = Neg(%s) : f32[N,7] return %r"),
        (-4, 99, 4, "%r = Neg(%t) : f32[N,4] return %r"),
    ],
)
def test_a_slice_of_joined_tensors_is_taken_from_them(check_rules, start: int, stop: int, size: int, after: str):
    body = f"{CONCAT} %s = Slice(%c, i64[1]{{{start}}}, i64[1]{{{stop}}}, i64[1]{{1}}) : f32[N,{size}] %r = Neg(%s) : f32[N,{size}] return %r"
    check_rules([pieces.slice_operands_of_concat], one(body, JOINED), one(after, JOINED), fired=1)


def test_a_slice_of_parts_of_two_joined_tensors_is_left(check_rules):
    body = f"{CONCAT} %s = Slice(%c, i64[1]{{1}}, i64[1]{{5}}, i64[1]{{1}}) : f32[N,4] return %s"
    check_rules(
        [pieces.slice_operands_of_concat], one(body, JOINED), None, declined=["it takes parts of several operands"]
    )


def test_a_slice_along_another_axis_than_the_concat_is_left(check_rules):
    body = f"{CONCAT} %s = Slice(%c, i64[1]{{0}}, i64[1]{{1}}, i64[1]{{0}}) : f32[M,9] return %s, %c"
    check_rules(
        [pieces.slice_operands_of_concat], one(body, JOINED, "y, z"), None, declined=["the Concat joins another axis"]
    )


def test_a_joined_tensor_that_others_need_stays_for_them(check_rules):
    body = f"{CONCAT} %s = Slice(%c, i64[1]{{2}}, i64[1]{{5}}, i64[1]{{1}}) : f32[N,3] return %s, %c"
    check_rules(
        [pieces.slice_operands_of_concat], one(body, JOINED, "y, z"), one(f"{CONCAT} return %q, %c", JOINED, "y, z")
    )


def test_a_concat_in_a_concat_is_one(check_rules):
    body = "%a = Concat(%p, %q) {axis=-1} : f32[N,5] %b = Concat(%t, %a, %p) {axis=1} : f32[N,11] return %b"
    check_rules(
        [pieces.merge_concats],
        one(body, JOINED),
        one("%b = Concat(%t, %p, %q, %p) {axis=1} : f32[N,11] return %b", JOINED),
        fired=1,
    )


@pytest.mark.parametrize("rest", ["%c = Neg(%a) : f32[N,5] return %b, %c", "return %b, %a"])
def test_a_concat_that_others_need_is_not_merged(check_rules, rest: str):
    body = "%a = Concat(%p, %q) {axis=1} : f32[N,5] %b = Concat(%t, %a) {axis=1} : f32[N,9] "
    check_rules([pieces.merge_concats], one(body + rest, JOINED, "y, z"), None, fired=0,
                declined=["no operand is a Concat along its axis that only it uses"])  # fmt: skip


def test_a_concat_along_another_axis_is_not_merged(check_rules):
    body = "%a = Concat(%p, %p) {axis=0} : f32[2*N,2] %b = Concat(%a, %a) {axis=1} : f32[2*N,4] return %b"
    check_rules([pieces.merge_concats], one(body, JOINED), None, fired=0)


THREE = """%a = Slice(%x, i64[1]{0}, i64[1]{3}, i64[1]{1}) : f32[N,3,6] %b = Slice(%x, i64[1]{3}, i64[1]{4}, i64[1]{1}) : f32[N,1,6]
           %c = Slice(%x, i64[1]{4}, i64[1]{8}, i64[1]{1}) : f32[N,4,6] """


def test_joined_pieces_that_are_everything_are_the_tensor(check_rules):
    body = THREE + "%r = Concat(%a, %b, %c) {axis=1} : f32[N,8,6] %s = Neg(%r) : f32[N,8,6] return %s"
    check_rules([pieces.join_adjacent_pieces], one(body), one("%s = Neg(%x) : f32[N,8,6] return %s"), fired=1)


def test_joined_outputs_of_a_split_are_its_operand_even_where_others_use_them(check_rules):
    body = "%a, %b = Split(%x, i64[2]{3,5}) {axis=1} : f32[N,3,6], f32[N,5,6] %r = Concat(%a, %b) {axis=1} : f32[N,8,6] %s = Neg(%r) : f32[N,8,6] return %s, %b"
    after = "%a, %b = Split(%x, i64[2]{3,5}) {axis=1} : f32[N,3,6], f32[N,5,6] %s = Neg(%x) : f32[N,8,6] return %s, %b"
    check_rules([pieces.join_adjacent_pieces], one(body, outputs="y, z"), one(after, outputs="y, z"), fired=1)


def test_some_adjacent_pieces_are_one_slice(check_rules):
    body = THREE + "%n = Neg(%c) : f32[N,4,6] %r = Concat(%n, %a, %b) {axis=1} : f32[N,8,6] return %r"
    after = """%c = Slice(%x, i64[1]{4}, i64[1]{8}, i64[1]{1}) : f32[N,4,6] %n = Neg(%c) : f32[N,4,6]
               %s = Slice(%x, i64[1]{0}, i64[1]{4}, i64[1]{1}) : f32[N,4,6] %r = Concat(%n, %s) {axis=1} : f32[N,8,6] return %r"""
    check_rules([pieces.join_adjacent_pieces], one(body), one(after), fired=1)


def test_adjacent_pieces_that_others_need_are_not_joined(check_rules):
    body = THREE + "%n = Neg(%c) : f32[N,4,6] %r = Concat(%n, %a, %b) {axis=1} : f32[N,8,6] return %r, %b"
    check_rules(
        [pieces.join_adjacent_pieces], one(body, outputs="y, z"), None, declined=["its pieces have other users"]
    )


def test_pieces_in_another_order_are_not_joined(check_rules):
    body = THREE + "%r = Concat(%c, %b, %a) {axis=1} : f32[N,8,6] return %r"
    check_rules([pieces.join_adjacent_pieces], one(body), None, declined=["no two of its operands are adjacent pieces"])


def test_slices_that_cover_an_axis_are_outputs_of_splits(check_rules):
    body = THREE + "return %a, %b, %c"
    split = "%{0}0, %{0}1, %{0}2 = Split(%x, i64[3]{{3,1,4}}) {{axis=1}} : f32[N,3,6], f32[N,1,6], f32[N,4,6] "
    after = split.format("a") + split.format("b") + split.format("c") + "return %a0, %b1, %c2"
    check_rules([pieces.split_instead_of_slices], one(body, outputs="p, q, r"), one(after, outputs="p, q, r"), fired=3)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (
            THREE + "%d = Slice(%x, i64[1]{1}, i64[1]{8}, i64[1]{1}) : f32[N,7,6] return %a, %b, %c, %d",
            "it does not cover the axis together with other Slices",
        ),
        (
            THREE.replace("i64[1]{8}", "i64[1]{7}").replace("[N,4,6]", "[N,3,6]") + "return %a, %b, %c, %x",
            "it does not cover the axis together with other Slices",
        ),
        (
            "%a = Slice(%x, i64[1]{0}, i64[1]{8}, i64[1]{1}, i64[1]{2}) : f32[N,4,6] return %a, %a, %a, %a",
            "it does not take one run of known size",
        ),
    ],
)
def test_slices_that_do_not_cover_an_axis_once_stay(check_rules, body: str, reason: str):
    check_rules([pieces.split_instead_of_slices], one(body, outputs="p, q, r, s"), None, declined=[reason])


def test_a_squeezed_piece_of_size_one_is_a_gathered_entry(check_rules):
    body = (
        "%a = Slice(%x, i64[1]{-1}, i64[1]{8}, i64[1]{1}) : f32[N,1,6] %b = Squeeze(%a, i64[1]{1}) : f32[N,6] return %b"
    )
    check_rules(
        [pieces.gather_single_entry], one(body), one("%b = Gather(%x, i64[]{7}) {axis=1} : f32[N,6] return %b"), fired=1
    )


@pytest.mark.parametrize("rest", ["return %b, %a", "%c = Neg(%a) : f32[N,1,6] return %b, %c"])
def test_a_squeezed_piece_that_others_need_is_left(check_rules, rest: str):
    body = "%a = Slice(%x, i64[1]{-1}, i64[1]{8}, i64[1]{1}) : f32[N,1,6] %b = Squeeze(%a, i64[1]{1}) : f32[N,6] "
    check_rules(
        [pieces.gather_single_entry],
        one(body + rest, outputs="y, z"),
        None,
        declined=["its operand has other users or an unknown size"],
    )


def test_squeezed_outputs_of_a_split_are_gathered_entries(check_rules):
    inputs = "%x: f32[2,N]"
    body = "%a, %b = Split(%x) {axis=0, num_outputs=2} : f32[1,N], f32[1,N] %c = Squeeze(%a, i64[1]{0}) : f32[N] %d = Squeeze(%b, i64[1]{0}) : f32[N] return %c, %d"
    after = "%c = Gather(%x, i64[]{0}) {axis=0} : f32[N] %d = Gather(%x, i64[]{1}) {axis=0} : f32[N] return %c, %d"
    check_rules([pieces.gather_single_entry], one(body, inputs, "y, z"), one(after, inputs, "y, z"), fired=2)


def test_outputs_of_a_split_some_of_which_are_not_squeezed_are_left(check_rules):
    inputs = "%x: f32[2,N]"
    body = "%a, %b = Split(%x) {axis=0, num_outputs=2} : f32[1,N], f32[1,N] %c = Squeeze(%a, i64[1]{0}) : f32[N] return %c, %b"
    check_rules(
        [pieces.gather_single_entry],
        one(body, inputs, "y, z"),
        None,
        declined=["its operand's other pieces are needed"],
    )


def test_neighbouring_entries_in_order_are_a_slice(check_rules):
    after = one("%a = Slice(%x, i64[1]{5}, i64[1]{8}, i64[1]{1}) : f32[N,3,6] return %a")
    for indices in ("i64[3]{5,6,7}", "i64[3]{-3,-2,-1}"):
        check_rules(
            [pieces.slice_instead_of_gather],
            one(f"%a = Gather(%x, {indices}) {{axis=1}} : f32[N,3,6] return %a"),
            after,
            fired=1,
        )


def test_entries_that_are_no_neighbours_stay_gathered(check_rules):
    check_rules([pieces.slice_instead_of_gather], one("%a = Gather(%x, i64[2]{1,3}) {axis=1} : f32[N,2,6] return %a"), None,
                declined=["its entries are not neighbours"])  # fmt: skip


def test_a_split_into_one_is_its_operand(check_rules):
    body = "%a = Split(%x) {axis=1, num_outputs=1} : f32[N,8,6] %b = Neg(%a) : f32[N,8,6] return %b, %a"
    check_rules(
        [pieces.drop_split_into_one],
        one(body, outputs="y, z"),
        one("%b = Neg(%x) : f32[N,8,6] return %b, %x", outputs="y, z"),
    )
