"""Every built-in rule on random instances of its own pattern: what it gives computes the same."""

from __future__ import annotations

import pytest
from tersor.ir.rewrite import Rule
from tersor.testing import check_rule
from tersor.transforms.simplify import PROMISES, RULES

DEPLOY = {rule.name: rule for rule in RULES["deploy"]}

NEEDS_EXAMPLES = frozenset(
    ["affine_normalization", "compose_movement", "concat_known_elements", "constant_reshape_target",
     "constant_resize_scales", "constant_slice_bounds", "construct_with_inserted", "construct_without_erased",
     "count_known_elements", "drop_computed_neutral_operand", "drop_expand_of_mask", "drop_expand_under_broadcast",
     "drop_identity_product", "drop_softplus_threshold",
     "drop_split_into_one", "equal_split_sizes", "fold_affine_into_next", "fold_attention_scale",
     "fold_batchnorm_into_linear", "fold_norm_scale_into_next", 
     "hide_rows_in_mask",
     "inline_decided_branch", "join_adjacent_pieces", "meet_across_elementwise", "meet_across_linear",
     "flatten_projection", "merge_projections",
     "narrow_normalization", "order_channels_by_mode", "pack_heads", "raise_attention", "raise_celu", "raise_centred_normalization",
     "raise_depth_and_space", "raise_enlarging", "raise_final_state", "raise_hard_sigmoid", "raise_mean",
     "raise_rotary", "raise_softmax", "raise_sum", "reshape_instead_of_gather", "reshape_instead_of_gather_nd",
     "root_instead_of_power", "rotate_by_positions", "scale_normalization", "share_repeated_heads", "shift_normalization",
     "slice_rows_of_table", "split_heads_together", "split_instead_of_entries", "split_instead_of_slices",
     "split_to_known_elements", "take_known_element", "transpose_result_instead_of_operands", "unflatten_gemm",
     "unroll_loop", "unroll_scan", "widen_mask", "widen_rotary"]
)  # fmt: skip
"""Rules whose operands random instances do not hit: computed sizes, bodies of loops, chains of several rules. Their own
tests give them examples.
"""


@pytest.mark.parametrize("rule", [r for n, r in DEPLOY.items() if n not in NEEDS_EXAMPLES], ids=lambda r: r.name)
def test_a_rule_keeps_what_random_instances_of_it_compute(rule: Rule) -> None:
    assert check_rule(rule, count=6).fired.total() > 0


def test_only_rules_that_exist_are_left_to_their_own_tests() -> None:
    assert set(DEPLOY) >= NEEDS_EXAMPLES


def test_promises_and_levels_name_rules_once() -> None:
    for rules in (*RULES.values(), *PROMISES.values()):
        names = [rule.name for rule in rules]
        assert len(names) == len(set(names))
