"""Every built-in rule on random instances of its own pattern, or on graphs grown for it: what it gives computes the
same, in every form of the instance.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from tersor.ir import Graph, Model
from tersor.ir.inference import infer
from tersor.ir.rewrite import Rewriter, Rule
from tersor.testing import check_rule
from tersor.transforms.simplify import PROMISES, RULES

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "safety"))  # modules that tests share, in no package
import graphs
import motifs
import moved
import written

DEPLOY = {rule.name: rule for rule in RULES["deploy"]}

GROWN = {
    motifs.affine: ["fold_affine_into_next", "fold_shift_into_linear"],
    motifs.bare_attention: ["raise_attention"],
    motifs.normalization: ["raise_centred_normalization"],
    motifs.pieces: ["split_instead_of_slices"],
    motifs.products: ["merge_projections"],
    motifs.softmax: ["raise_softmax"],
    moved.across_elementwise: ["meet_across_elementwise"],
    moved.around_products: ["meet_across_linear", "unflatten_gemm"],
    moved.counted: ["reshape_instead_of_gather", "reshape_instead_of_gather_nd", "slice_rows_of_table"],
    moved.decided: ["inline_decided_branch"],
    moved.joined_pieces: ["join_adjacent_pieces"],
    moved.loops: ["unroll_loop"],
    moved.moved_pieces: ["compose_movement"],
    moved.scans: ["unroll_scan"],
    moved.sequence_values: ["concat_known_elements", "construct_with_inserted", "construct_without_erased",
                            "count_known_elements", "split_to_known_elements", "take_known_element"],
    moved.stated_sizes: ["constant_resize_scales", "constant_slice_bounds", "drop_split_into_one", "equal_split_sizes",
                         "resize_of_all_axes"],
    moved.uniform_operands: ["drop_computed_neutral_operand", "drop_expand_under_broadcast"],
    written.attentions: ["drop_expand_of_mask", "pack_heads", "share_repeated_heads"],
    written.cleared_attention: ["hide_rows_in_mask"],
    written.formulas: ["raise_mean", "raise_sum"],
    written.group_norms: ["constant_reshape_target"],
    written.half_norms: ["narrow_normalization"],
    written.more_activations: ["raise_hard_sigmoid"],
    written.packed_projection: ["fold_attention_scale", "split_heads_together", "split_instead_of_entries"],
    written.pixels: ["raise_depth_and_space", "raise_enlarging"],
    written.recurrent: ["raise_final_state"],
    written.rotations: ["raise_rotary", "widen_rotary"],
    written.scaled_norms: ["affine_normalization", "fold_batchnorm_into_linear", "fold_norm_scale_into_next",
                           "shift_normalization"],
    written.weights: ["drop_identity_product"],
    written.windowed_projection: ["flatten_projection"],
}  # fmt: skip
"""What grows graphs for rules that random instances do not hit: computed sizes, regions, chains of several operators."""

EXAMPLES = {name: grow for grow, names in GROWN.items() for name in names}

NEEDS_EXAMPLES = frozenset(
    ["capture_unchanged", "compare_the_other_way", "drop_requantization", "drop_softplus_threshold", "drop_unused_captures", "drop_unused_results",
     "gather_from_operand_of_concat", "hoist_from_branches", "hoist_from_iterations", "meet_across_axes",
     "meet_across_constants", "meet_across_movement", "merge_directions", "merge_equal_results", "merge_repetitions", "order_channels_by_mode", "pad_inside_maximum",
     "raise_cache", "raise_causal", "raise_celu", "reduce_before_transpose", "reshape_result_instead_of_operands", "reuse_outer_value",
     "root_instead_of_power", "rotate_by_positions", "scale_normalization", "scatter_everything", "split_before_transpose",
     "split_operands_of_concat", "transpose_in_product", "transpose_joined_instead_of_parts",
     "transpose_product_instead_of_factors", "transpose_result_instead_of_operands", "unflatten_product", "widen_mask"]
)  # fmt: skip
"""Rules that neither hits soon. Their own tests give them examples, most of them to check_rule."""

MOST = 250
"""Graphs that are grown for one on which a rule fires."""


class Found(Exception):
    """A graph on which the rule fires."""


def grown(rule: Rule) -> Graph:
    """A graph on which the rule fires, the same one every time."""

    @settings(
        max_examples=MOST, derandomize=True, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(graphs.models(most=1, growers=(EXAMPLES[rule.name],)))
    def look(model: Model) -> None:
        copy = model.graph.clone()
        inference = infer(copy)
        if Rewriter([rule]).run(copy, infer=inference.node, sizes=inference.contents_of).fired:
            raise Found(model.graph)

    with pytest.raises(Found) as found:
        look()
    return found.value.args[0]


@pytest.mark.parametrize(
    "rule", [r for n, r in DEPLOY.items() if n not in NEEDS_EXAMPLES and n not in EXAMPLES], ids=lambda r: r.name
)
def test_a_rule_keeps_what_random_instances_of_it_compute(rule: Rule) -> None:
    assert check_rule(rule, count=6).fired.total() > 0


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_rule_keeps_what_a_graph_grown_for_it_computes(name: str) -> None:
    report = check_rule(DEPLOY[name], examples=[grown(DEPLOY[name])], count=0, tolerance=1e-4)
    assert report.fired["as drawn"]


def test_only_rules_that_exist_are_left_to_their_own_tests() -> None:
    assert set(DEPLOY) >= NEEDS_EXAMPLES | set(EXAMPLES)


def test_the_page_on_simplification_names_rules_that_exist() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "simplify.md").read_text()
    rows = [line.split("|") for line in page.split("## What other tools do")[1].split("Not done here")[0].splitlines()]
    named = {name for row in rows if len(row) == 4 for name in re.findall(r"`([a-z_]+)`", row[2])}
    sweeps = {"fold_constants", "rebuild_sizes", "erase_dead", "merge_common", "raising"}
    assert len(named) > 60
    assert named <= set(DEPLOY) | sweeps


def test_promises_and_levels_name_rules_once() -> None:
    for rules in (*RULES.values(), *PROMISES.values()):
        names = [rule.name for rule in rules]
        assert len(names) == len(set(names))
