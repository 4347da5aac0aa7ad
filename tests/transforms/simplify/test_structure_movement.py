"""Regions that only move data: cyclic shifts, windows, patches and shuffles become one Transpose or one Gather."""

import numpy as np
import pytest
from tersor.transforms.simplify.structure import movement
from tersor.transforms.simplify.structure.movement import compose_movement, digits

RULES = [compose_movement]


def one(body: str, inputs: str = "%x: f32[N,6,4,32]", outputs: str = "y") -> str:
    return f"graph({inputs}) -> ({outputs}) {{ {body} }}"


ROLL = """%a = Slice(%x, i64[1]{0}, i64[1]{2}, i64[1]{1}) : f32[N,2,4,32]
          %b = Slice(%x, i64[1]{2}, i64[1]{6}, i64[1]{1}) : f32[N,4,4,32]
          %c = Concat(%b, %a) {axis=1} : f32[N,6,4,32] """


def test_a_cyclic_shift_is_one_gather(check_rules):
    after = "%r = Gather(%x, i64[6]{2,3,4,5,0,1}) {axis=1} : f32[N,6,4,32] return %r"
    check_rules(RULES, one(ROLL + "return %c"), one(after), fired=1)


def test_a_shift_along_two_axes_and_a_window_partition_are_one_gather_between_reshapings(check_rules):
    body = (
        ROLL
        + """%d, %e = Split(%c, i64[2]{1,3}) {axis=2} : f32[N,6,1,32], f32[N,6,3,32]
        %f = Concat(%e, %d) {axis=2} : f32[N,6,4,32] %g = Reshape(%f, i64[6]{-1,3,2,2,2,32}) : f32[N,3,2,2,2,32]
        %h = Transpose(%g) {perm=[0,1,3,2,4,5]} : f32[N,3,2,2,2,32] %i = Reshape(%h, i64[3]{-1,4,32}) : f32[6*N,4,32] return %i"""
    )
    order = np.roll(np.arange(24).reshape(6, 4), (-2, -1), (0, 1)).reshape(3, 2, 2, 2).transpose(0, 2, 1, 3).reshape(-1)
    after = f"""%r = Reshape(%x, i64[3]{{-1,24,32}}) : f32[N,24,32]
        %g = Gather(%r, i64[24]{{{",".join(map(str, order))}}}) {{axis=1}} : f32[N,24,32]
        %i = Reshape(%g, i64[3]{{-1,4,32}}) : f32[6*N,4,32] return %i"""
    check_rules(RULES, one(body), one(after))


def test_windows_joined_and_shifted_back_are_one_gather(check_rules):
    inputs = "%x: f32[6*N,4,32]"
    body = """%a = Reshape(%x, i64[6]{-1,3,2,2,2,32}) : f32[N,3,2,2,2,32] %b = Transpose(%a) {perm=[0,1,3,2,4,5]} : f32[N,3,2,2,2,32]
        %c = Reshape(%b, i64[4]{-1,6,4,32}) : f32[N,6,4,32] %d = Slice(%c, i64[1]{0}, i64[1]{4}, i64[1]{1}) : f32[N,4,4,32]
        %e = Slice(%c, i64[1]{4}, i64[1]{6}, i64[1]{1}) : f32[N,2,4,32] %f = Concat(%e, %d) {axis=1} : f32[N,6,4,32] return %f"""
    order = np.roll(np.arange(24).reshape(3, 2, 2, 2).transpose(0, 2, 1, 3).reshape(6, 4), 2, 0)
    after = f"""%r = Reshape(%x, i64[3]{{-1,24,32}}) : f32[N,24,32]
        %g = Gather(%r, i64[6,4]{{{",".join(map(str, order.reshape(-1)))}}}) {{axis=1}} : f32[N,6,4,32] return %g"""
    check_rules(RULES, one(body, inputs), one(after, inputs))


def test_patches_merged_by_strided_slices_are_a_transpose_between_reshapings(check_rules):
    pieces = "".join(
        f"""%r{i}{j} = Slice(%x, i64[2]{{{i},{j}}}, i64[2]{{9,9}}, i64[2]{{1,2}}, i64[2]{{2,2}}) : f32[N,3,2,32] """
        for j in (0, 1) for i in (0, 1)
    )  # fmt: skip
    body = pieces + "%c = Concat(%r00, %r10, %r01, %r11) {axis=3} : f32[N,3,2,128] return %c"
    after = """%a = Reshape(%x, i64[4]{-1,2,4,32}) : f32[3*N,2,4,32] %b = Transpose(%a) {perm=[0,2,1,3]} : f32[3*N,4,2,32]
        %c = Reshape(%b, i64[4]{-1,3,2,128}) : f32[N,3,2,128] return %c"""
    check_rules(RULES, one(body), one(after), fired=1)


SHUFFLE = """%a = Reshape(%x, i64[5]{0,2,3,0,0}) : f32[N,2,3,H,W] %b = Transpose(%a) {perm=[0,2,1,3,4]} : f32[N,3,2,H,W]
             %s = Shape(%x) : i64[4] %c = Reshape(%b, %s) : f32[N,6,H,W] """


def test_a_channel_shuffle_of_images_of_unknown_size_is_one_gather(check_rules):
    body = SHUFFLE.replace("i64[5]{0,2,3,0,0}", "%t").replace("%a =", PARTS + "%a =", 1) + "return %c"
    statistics = check_rules(
        RULES, one(body, IMAGE), one("%c = Gather(%x, i64[6]{0,3,1,4,2,5}) {axis=1} : f32[N,6,H,W] return %c", IMAGE)
    )
    assert statistics["compose_movement"].hits == 1


IMAGE = "%x: f32[N,6,H,W]"
PARTS = """%n = Shape(%x) {start=0, end=1} : i64[1] %m = Shape(%x) {start=2} : i64[2]
           %t = Concat(%n, i64[2]{2,3}, %m) {axis=0} : i64[5] """

LEFT = {
    "a result that others in between need": (
        ROLL + "%d = Slice(%c, i64[1]{0}, i64[1]{9}, i64[1]{1}, i64[1]{2}) : f32[N,3,4,32] return %d, %a, %b, %c",
        "a single node, or a chain that is as short as can be",
    ),
    "two tensors": (
        "%n = Neg(%x) : f32[N,6,4,32] %c = Concat(%x, %n) {axis=1} : f32[N,12,4,32] %d = Gather(%c, i64[3]{1,5,2}) {axis=1} : f32[N,3,4,32] return %d, %d, %d, %d",
        "a single node, or a chain that is as short as can be",
    ),
    "the batch": (
        "%a = Slice(%x, i64[1]{0}, i64[1]{1}, i64[1]{0}) : f32[K,6,4,32] %c = Concat(%a, %a) {axis=0} : f32[L,6,4,32] return %c, %c, %c, %c",
        "where an element comes from depends on a size that is not known",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LEFT)
def test_it_is_left_with_the_reason(check_rules, name: str):
    body, reason = LEFT[name]
    check_rules(RULES, one(body, outputs="p, q, r, s"), None, fired=0, declined=[reason])


def test_single_elements_are_not_gathered(check_rules):
    body = ROLL.replace("4,32", "2") + "return %c"
    check_rules(RULES, one(body, "%x: f32[N,6,2]"), None, declined=["no fewer nodes do the same"])


def test_pieces_in_the_interior_that_others_need_stay_for_them(check_rules):
    inner = ROLL.replace("%c = ", "%n = Neg(%a) : f32[N,2,4,32] %c = ")
    check_rules(
        RULES, one(inner + "return %c, %n", outputs="y, z"),
        one("""%a = Slice(%x, i64[1]{0}, i64[1]{2}, i64[1]{1}) : f32[N,2,4,32] %n = Neg(%a) : f32[N,2,4,32]
               %c = Gather(%x, i64[6]{2,3,4,5,0,1}) {axis=1} : f32[N,6,4,32] return %c, %n""", outputs="y, z"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("indices", "found"),
    [
        (np.arange(6), [(6, 1)]),
        (np.arange(6).reshape(2, 3).T, [(3, 1), (2, 3)]),
        (np.array([0, 1, 2, 4]), None),
        (np.array([1, 2]), None),
        (np.array([2, 1, 0]), None),
    ],
)
def test_indices_that_count_are_told_by_their_digits(indices, found):
    assert digits(indices) == found


def test_blocks_are_told_where_whole_ones_are_taken():
    indices = np.arange(24).reshape(2, 3, 4)[:, [2, 0]]
    assert movement.blocks(indices, 2, 3, 4) is not None
    assert movement.blocks(indices[:, :, ::-1], 2, 3, 4) is None
    assert movement.blocks(np.stack([indices[0], indices[1, ::-1]]), 2, 3, 4) is None
