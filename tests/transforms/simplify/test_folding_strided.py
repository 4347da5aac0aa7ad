"""A view with strides of its own, as exporters write it: a Gather from all elements in a row by what a Range and a
constant count together.
"""

import pytest
from tersor.transforms.simplify.folding import indices


def view(step: str, features: str, count: str = "4") -> str:
    return f"""graph(%x: f32[N,4,1,1]) -> (y) {{
      %s = Shape(%x) {{start=0, end=1}} : i64[1]
      %n = Squeeze(%s) : i64[]
      %flat = Reshape(%x, i64[1]{{-1}}) : f32[4*N]
      %range = Range(i64[]{{0}}, %n, i64[]{{1}}) : i64[N]
      %rows = Mul(%range, i64[]{{{step}}}) : i64[N]
      %first = Unsqueeze(%rows, i64[2]{{1,2}}) : i64[N,1,1]
      @c : i64[1,{count},1] = [{features}]
      %all = Add(%first, @c) : i64[N,{count},1]
      %y = Gather(%flat, %all) : f32[N,{count},1]
      return %y
    }}"""


def test_a_view_of_all_elements_in_order_is_a_reshape(check_rules):
    after = """graph(%x: f32[N,4,1,1]) -> (y) {
      %flat = Reshape(%x, i64[1]{-1}) : f32[4*N]
      %y = Reshape(%flat, i64[3]{-1,4,1}) : f32[N,4,1]
      return %y
    }"""
    check_rules([indices.reshape_instead_of_gather], view("4", "0,1,2,3"), after, fired=1)


@pytest.mark.parametrize(
    ("step", "features", "count"),
    [("4", "0,2,1,3", "4"), ("4", "3,2,1,0", "4"), ("3", "0,1,2,3", "4"), ("4", "0,1", "2"), ("4", "1,2,3", "3")],
    ids=["mixed", "backwards", "overlapping", "too few", "from the second on"],
)
def test_a_view_of_other_elements_is_left(check_rules, step: str, features: str, count: str):
    text = view(step, features, count)
    check_rules([indices.reshape_instead_of_gather], text, None, declined=["it does not take everything in order"])
