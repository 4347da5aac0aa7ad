"""Pixels moved to channels and back, and images enlarged, by Reshape, Transpose and Expand: which forms become one
operator, and which are left and why.
"""

import pytest
from tersor.transforms.simplify.raising import spatial as s

IMAGE = "f32[N,12,H,W]"


def graph_of(body: str, type_: str = IMAGE, outputs: str = "y") -> str:
    return f"graph(%x: {type_}) -> ({outputs}) {{ {body} }}"


def shuffled(split: str, six: str, perm: str, moved: str, joined: str, four: str) -> str:
    """Three nodes with %i in between and %a at the end; sizes of the target with more than one open size come from x."""
    return (
        f"%r = Reshape(%x, i64[6]{{{split}}}) : f32[{six}] %i = Transpose(%r) {{perm=[{perm}]}} : f32[{moved}] "
        f"%a = Reshape(%i, i64[4]{{{joined}}}) : f32[{four}]"
    )


STATIC = "f32[N,12,5,7]"
FORMS = {
    "columns first": (
        STATIC, shuffled("-1,3,2,2,5,7", "N,3,2,2,5,7", "0,1,4,2,5,3", "N,3,5,2,7,2", "-1,3,10,14", "N,3,10,14"),
        '%a = DepthToSpace(%x) {blocksize=2, mode="CRD"} : f32[N,3,10,14]'),
    "depth first": (
        STATIC, shuffled("-1,2,2,3,5,7", "N,2,2,3,5,7", "0,3,4,1,5,2", "N,3,5,2,7,2", "-1,3,10,14", "N,3,10,14"),
        '%a = DepthToSpace(%x) {blocksize=2, mode="DCR"} : f32[N,3,10,14]'),
    "columns first at any height": (
        "f32[2,12,H,7]", shuffled("2,3,2,2,-1,7", "2,3,2,2,H,7", "0,1,4,2,5,3", "2,3,H,2,7,2", "2,3,-1,14", "2,3,2*H,14"),
        '%a = DepthToSpace(%x) {blocksize=2, mode="CRD"} : f32[2,3,2*H,14]'),
    "pixels to channels": (
        "f32[N,3,10,14]", shuffled("-1,3,5,2,7,2", "N,3,5,2,7,2", "0,3,5,1,2,4", "N,2,2,3,5,7", "-1,12,5,7", "N,12,5,7"),
        "%a = SpaceToDepth(%x) {blocksize=2} : f32[N,12,5,7]"),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_moving_pixels_is_one_operator(check_rules, name: str):
    type_, body, after = FORMS[name]
    check_rules(
        [s.raise_depth_and_space], graph_of(body + " return %a", type_), graph_of(after + " return %a", type_), fired=1
    )


@pytest.mark.parametrize("rest", ["%o = Cos(%i) return %a, %o", "return %a, %i"])
@pytest.mark.parametrize("name", FORMS)
def test_moving_pixels_stays_where_a_value_in_between_is_needed(check_rules, name: str, rest: str):
    type_, body, _ = FORMS[name]
    check_rules([s.raise_depth_and_space], graph_of(f"{body} {rest}", type_, "y, z"), None, fired=0)


MOVES_LEFT = {
    "a shuffle of channels in two steps": (
        shuffled("-1,3,2,2,5,7", "N,3,2,2,5,7", "0,2,1,3,4,5", "N,2,3,2,5,7", "-1,12,5,7", "N,12,5,7"),
        "it is another order of the axes"),
    "blocks that are not square": (
        shuffled("-1,2,2,3,5,7", "N,2,2,3,5,7", "0,1,4,2,5,3", "N,2,5,2,7,3", "-1,2,10,21", "N,2,10,21"),
        "it does not split the channels into square blocks"),
    "blocks joined with the wrong pixels": (
        shuffled("-1,3,2,2,7,5", "N,3,2,2,7,5", "0,1,4,2,5,3", "N,3,7,2,5,2", "-1,3,14,10", "N,3,14,10"),
        "it does not keep the pixels"),
    "another shape at the end": (
        shuffled("-1,3,2,2,5,7", "N,3,2,2,5,7", "0,1,4,2,5,3", "N,3,5,2,7,2", "-1,3,14,10", "N,3,14,10"),
        "it does not join each block with its pixel"),
}  # fmt: skip


@pytest.mark.parametrize("name", MOVES_LEFT)
def test_other_moves_are_left_with_the_reason(check_rules, name: str):
    body, reason = MOVES_LEFT[name]
    check_rules([s.raise_depth_and_space], graph_of(body + " return %a", STATIC), None, fired=0, declined=[reason])


SPLIT = "%u = Unsqueeze(%x, i64[2]{3,5}) : f32[N,12,5,1,7,1] "
ENLARGED = "%a = Reshape(%i, i64[4]{-1,12,10,21}) : f32[N,12,10,21]"
ENLARGING = {
    "expand": SPLIT + "%i = Expand(%u, i64[6]{1,1,1,2,1,3}) : f32[N,12,5,2,7,3] " + ENLARGED,
    "tile": SPLIT + "%i = Tile(%u, i64[6]{1,1,1,2,1,3}) : f32[N,12,5,2,7,3] " + ENLARGED,
    "reshape": SPLIT.replace("Unsqueeze(%x, i64[2]{3,5})", "Reshape(%x, i64[6]{-1,12,5,1,7,1})")
    + "%i = Expand(%u, i64[6]{1,12,5,2,7,3}) : f32[N,12,5,2,7,3] " + ENLARGED,
}  # fmt: skip
NEAREST = (
    '%a = Resize(%x, _, f32[4]{1.0,1.0,2.0,3.0}) {mode="nearest", coordinate_transformation_mode="asymmetric", '
    'nearest_mode="floor"} : f32[N,12,10,21] return %a'
)


@pytest.mark.parametrize("name", ENLARGING)
def test_repeating_pixels_is_resizing(check_rules, name: str):
    check_rules(
        [s.raise_enlarging], graph_of(ENLARGING[name] + " return %a", STATIC), graph_of(NEAREST, STATIC), fired=1
    )


@pytest.mark.parametrize("rest", ["%o = Cos(%i) return %a, %o", "return %a, %i"])
@pytest.mark.parametrize("name", ENLARGING)
def test_repeating_pixels_stays_where_a_value_in_between_is_needed(check_rules, name: str, rest: str):
    check_rules([s.raise_enlarging], graph_of(f"{ENLARGING[name]} {rest}", STATIC, "y, z"), None, fired=0)


ENLARGING_LEFT = {
    "heads repeated for their groups": (
        "%u = Unsqueeze(%x, i64[1]{2}) : f32[N,12,1,5,7] %i = Expand(%u, i64[5]{1,12,3,5,7}) : f32[N,12,3,5,7] "
        "%a = Reshape(%i, i64[4]{-1,36,5,7}) : f32[N,36,5,7]",
        "it does not repeat along every axis of the space of an image in single precision"),
    "the image repeated as a whole": (
        "%u = Unsqueeze(%x, i64[2]{2,4}) : f32[N,12,1,5,1,7] %i = Expand(%u, i64[6]{1,1,2,1,3,1}) : f32[N,12,2,5,3,7] "
        + ENLARGED, "it does not repeat along the axes of space alone"),
    "copies joined elsewhere": (
        ENLARGING["expand"].replace("10,21", "21,10"), "it does not join copies with their pixel"),
}  # fmt: skip


@pytest.mark.parametrize("name", ENLARGING_LEFT)
def test_other_repetitions_are_left_with_the_reason(check_rules, name: str):
    body, reason = ENLARGING_LEFT[name]
    check_rules([s.raise_enlarging], graph_of(body + " return %a", STATIC), None, fired=0, declined=[reason])


ORDER = "%i = Gather(%x, i64[12]{0,4,8,1,5,9,2,6,10,3,7,11}) {axis=1} : f32[N,12,H,W]"
GROWN = "%a = DepthToSpace(%i) {blocksize=2} : f32[N,3,2*H,2*W]"


def test_channels_in_the_order_of_the_other_mode_have_that_mode(check_rules):
    after = '%a = DepthToSpace(%x) {blocksize=2, mode="CRD"} : f32[N,3,2*H,2*W] return %a'
    check_rules([s.order_channels_by_mode], graph_of(f"{ORDER} {GROWN} return %a"), graph_of(after), fired=1)


def test_channels_in_another_order_are_gathered(check_rules):
    body = f"{ORDER.replace('0,4,8', '4,0,8')} {GROWN} return %a"
    check_rules(
        [s.order_channels_by_mode], graph_of(body), None, fired=0, declined=["it is another order of the channels"]
    )


@pytest.mark.parametrize("rest", ["%o = Cos(%i) return %a, %o", "return %a, %i"])
def test_channels_that_others_need_in_order_are_gathered(check_rules, rest: str):
    check_rules([s.order_channels_by_mode], graph_of(f"{ORDER} {GROWN} {rest}", outputs="y, z"), None, fired=0)
