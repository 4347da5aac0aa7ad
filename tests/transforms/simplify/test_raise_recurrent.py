"""The step of a recurrent operator that is computed last is its final state: in which forms, and what is left and why."""

import pytest
from tersor.transforms.simplify.raising import recurrent as r

WEIGHTS = {"LSTM": (64, 16), "GRU": (48, 16), "RNN": (16, 16)}


def one(body: str, op: str = "LSTM", attrs: str = "hidden_size=16", results: str = "%s", outputs: str = "y") -> str:
    """A recurrent operator whose steps are %s, and `body` behind it."""
    rows, columns = WEIGHTS[op]
    types = ", ".join(["f32[S,1,N,16]", "f32[1,N,16]", "f32[1,N,16]"][: results.count("%")])
    return f"""graph(%x: f32[S,N,8]) -> ({outputs}) {{
      @w : f32[1,{rows},8] = random(1)
      @r : f32[1,{rows},{columns}] = random(2)
      {results} = {op}(%x, @w, @r) {{{attrs}}} : {types}
      {body}
    }}"""


ALL = "%q = Squeeze(%s, i64[1]{1}) : f32[S,N,16] "
FIRST = ALL + "%a = Gather(%q, i64[]{-1}) : f32[N,16]"
BATCH_FIRST = ALL + "%t = Transpose(%q) {perm=[1,0,2]} : f32[N,S,16] %a = Gather(%t, i64[]{-1}) {axis=1} : f32[N,16]"
STATE = "%a = Squeeze(%h, i64[1]{0}) : f32[N,16]"


@pytest.mark.parametrize("op", WEIGHTS)
@pytest.mark.parametrize("body", [FIRST, BATCH_FIRST], ids=["steps first", "batch first"])
def test_the_last_step_is_the_final_state(check_rules, op: str, body: str):
    check_rules(r.RULES, one(body + " return %a", op), one(STATE + " return %a", op, results="%s, %h"), fired=1)


def test_the_first_step_is_the_final_state_in_reverse(check_rules):
    attrs = 'hidden_size=16, direction="reverse"'
    before = one(FIRST.replace("{-1}", "{0}") + " return %a", attrs=attrs)
    check_rules(r.RULES, before, one(STATE + " return %a", attrs=attrs, results="%s, %h"), fired=1)


def test_a_state_that_is_there_is_taken(check_rules):
    results = "%s, %h, %c"
    after = one(STATE + " %b = Neg(%c) : f32[1,N,16] return %a, %b", results=results, outputs="y, z")
    before = one(FIRST + " %b = Neg(%c) : f32[1,N,16] return %a, %b", results=results, outputs="y, z")
    check_rules(r.RULES, before, after, fired=1)


@pytest.mark.parametrize("rest", ["%b = Neg(%q) : f32[S,N,16] return %a, %b", "return %a, %q"])
def test_all_steps_stay_for_those_who_need_them(check_rules, rest: str):
    after = one(ALL + STATE + rest, results="%s, %h", outputs="y, z")
    check_rules(r.RULES, one(FIRST + rest, outputs="y, z"), after, fired=1)


LEFT = {
    "another step": (one(FIRST.replace("{-1}", "{0}") + " return %a"), "it is not the step that is computed last"),
    "one of the batch": (
        one(ALL + "%a = Gather(%q, i64[]{-1}) {axis=1} : f32[S,16] return %a"), "it takes something else than a step"),
    "several steps": (
        one(ALL + "%a = Gather(%q, i64[1]{-1}) : f32[1,N,16] return %a"), "it does not take one step"),
    "sequences with lengths": (
        one(FIRST + " return %a").replace("@w, @r)", "@w, @r, _, i32[2]{1,2})").replace("N", "2"),
        "its sequences have lengths of their own, or their batch comes first"),
    "another operator": (
        one("%q = Neg(%s) : f32[S,1,N,16] %a = Gather(%q, i64[]{-1}) : f32[1,N,16] return %a"),
        "it does not take from all steps of a recurrent operator with one direction"),
}  # fmt: skip


@pytest.mark.parametrize("name", LEFT)
def test_it_is_left_with_the_reason(check_rules, name: str):
    text, reason = LEFT[name]
    check_rules(r.RULES, text, None, fired=0, declined=[reason])
