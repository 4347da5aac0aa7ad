"""The shape rules as a specification: operands, node, type of the result."""

from __future__ import annotations

import pytest
from tersor.ir import Graph, InvalidModelError, parse, to_text, verify
from tersor.ir.inference import infer


def inferred(inputs: str, node: str, constants: str = "", ranges: str = "", outputs: int = 1) -> str:
    """The printed types of a node's outputs, separated by spaces."""
    names = ", ".join(f"%y{i}" for i in range(outputs))
    exits = ", ".join(f"y{i}" for i in range(outputs))
    text = f"graph ({inputs}) -> ({exits}) {ranges} {{ {constants}\n {names} = {node}\n return {names} }}"
    graph = parse(text)
    infer(graph)
    verify(graph)
    return types(graph)


def types(graph: Graph) -> str:
    """Types of the last node's outputs as they are printed, fresh symbols numbered from 0."""
    row = [line for line in to_text(graph).splitlines() if " = " in line and "@" not in line.split(" = ")[0]][-1]
    return row.rsplit(" : ", 1)[1].split("   #")[0].replace(", ", " ")


ELEMENTWISE = [
    ("%x: f32[N,3]", "Relu(%x)", "f32[N,3]"),
    ("%x: f16[*]", "Relu(%x)", "f16[*]"),
    ("%x: f32[N,3], %y: f32[3]", "Add(%x, %y)", "f32[N,3]"),
    ("%x: f32[N,1], %y: f32[1,M]", "Mul(%x, %y)", "f32[N,M]"),
    ("%x: f32[N,3], %y: f32[N,1]", "Equal(%x, %y)", "bool[N,3]"),
    ("%x: f32[N], %y: f32[7]", "Add(%x, %y)", "f32[7]"),
    ("%x: f32[N], %y: f32[M]", "Add(%x, %y)", "f32[?0]"),
    ("%x: f32[N], %y: f32[M], %z: f32[5]", "Sum(%x, %y, %z)", "f32[5]"),
    ("%x: f32[S], %y: f32[min(512,S)]", "Add(%x, %y)", "f32[S]"),
    ("%c: bool[N,1], %x: f16[], %y: f16[4]", "Where(%c, %x, %y)", "f16[N,4]"),
    ("%x: f32[N]", "Cast(%x) {to=7}", "i64[N]"),
    ("%x: f32[N], %y: f16[]", "CastLike(%x, %y)", "f16[N]"),
    ("%x: f32[N,3], %s: f32[], %z: i8[]", "QuantizeLinear(%x, %s, %z)", "i8[N,3]"),
    ("%x: f32[N,3], %s: f32[]", "QuantizeLinear(%x, %s)", "u8[N,3]"),
    ("%x: i8[N,3], %s: f16[]", "DequantizeLinear(%x, %s)", "f16[N,3]"),
    ("%x: f32[2,3], %s: f32[1]", "PRelu(%x, %s)", "f32[2,3]"),
    ("%x: f32[B,S,8], %w: f32[8]", "RMSNormalization(%x, %w)", "f32[B,S,8]"),
    ("%x: f32[B,S,8]", "Swish(%x)", "f32[B,S,8]"),
]

MOVEMENT = [
    ("%x: f32[B,197,768]", "Reshape(%x, i64[2]{-1,768})", "f32[197*B,768]"),
    ("%x: f32[B,S,768]", "Reshape(%x, i64[4]{0,0,12,64})", "f32[B,S,12,64]"),
    ("%x: f32[B,S,768]", "Reshape(%x, i64[4]{0,-1,12,64})", "f32[B,S,12,64]"),
    ("%x: f32[B,S+1,768]", "Reshape(%x, i64[3]{0,-1,64})", "f32[B,12*S+12,64]"),
    ("%x: f32[N,5]", "Reshape(%x, i64[2]{-1,2})", "f32[2*N+((N)//(2)),2]"),
    ("%x: f32[0,3]", "Reshape(%x, i64[2]{0,5}) {allowzero=1}", "f32[0,5]"),
    ("%x: f32[*]", "Reshape(%x, i64[2]{-1,5})", "f32[?0,5]"),
    ("%x: f32[2,3], %s: i64[2]", "Reshape(%x, %s)", "f32[?0,?1]"),
    ("%x: f32[2,3], %s: i64[K]", "Reshape(%x, %s)", "f32[*]"),
    ("%x: f32[A,B,C]", "Transpose(%x)", "f32[C,B,A]"),
    ("%x: f32[A,B,C]", "Transpose(%x) {perm=[1,2,0]}", "f32[B,C,A]"),
    ("%x: f32[A,B,C]", "Flatten(%x) {axis=2}", "f32[A*B,C]"),
    ("%x: f32[]", "Flatten(%x) {axis=0}", "f32[1,1]"),
    ("%x: f32[A,1,C]", "Squeeze(%x, i64[1]{1})", "f32[A,C]"),
    ("%x: f32[2,1,3]", "Squeeze(%x)", "f32[2,3]"),
    ("%x: f32[A,1,3]", "Squeeze(%x)", "f32[*]"),
    ("%x: f32[A,B]", "Unsqueeze(%x, i64[2]{0,-1})", "f32[1,A,B,1]"),
    ("%x: f32[A,3], %y: f32[B,3]", "Concat(%x, %y) {axis=0}", "f32[A+B,3]"),
    ("%x: f32[A,N], %y: f32[B,3]", "Concat(%x, %y) {axis=0}", "f32[A+B,3]"),
    ("%x: f32[A,3], %y: f32[*]", "Concat(%x, %y) {axis=0}", "f32[?0,3]"),
    ("%x: f32[A,1,3]", "Expand(%x, i64[3]{2,5,1})", "f32[2,5,3]"),
    ("%x: f32[A,3]", "Tile(%x, i64[2]{2,3})", "f32[2*A,9]"),
    ("%x: f32[N,8,H,W]", "DepthToSpace(%x) {blocksize=2}", "f32[N,2,2*H,2*W]"),
    ("%x: f32[N,2,4,W]", "SpaceToDepth(%x) {blocksize=2}", "f32[N,8,2,((W)//(2))]"),
    ("%x: f32[N,8]", "Shape(%x)", "i64[2]"),
    ("%x: f32[N,8,4]", "Shape(%x) {start=1, end=-1}", "i64[1]"),
    ("%x: f32[N,8]", "Size(%x)", "i64[]"),
]

CONTRACTION = [
    ("%x: f32[B,S,768], %w: f32[768,N]", "MatMul(%x, %w)", "f32[B,S,N]"),
    ("%x: f32[B,12,S,64], %w: f32[B,12,64,T]", "MatMul(%x, %w)", "f32[B,12,S,T]"),
    ("%x: f32[64], %w: f32[64]", "MatMul(%x, %w)", "f32[]"),
    ("%x: f32[B,S,64], %w: f32[64]", "MatMul(%x, %w)", "f32[B,S]"),
    ("%x: u8[N,4], %w: i8[4,5]", "MatMulInteger(%x, %w)", "i32[N,5]"),
    ("%x: f32[4,N], %w: f32[5,4]", "Gemm(%x, %w) {transA=1, transB=1}", "f32[N,5]"),
    ("%x: f32[B,H,S,D], %w: f32[B,H,T,D]", 'Einsum(%x, %w) {equation="bhsd,bhtd->bhst"}', "f32[B,H,S,T]"),
    ("%x: f32[B,S,4], %w: f32[4,5]", 'Einsum(%x, %w) {equation="...i,ij->...j"}', "f32[B,S,5]"),
    ("%x: f32[I,J], %w: f32[J,K]", 'Einsum(%x, %w) {equation="ij,jk"}', "f32[I,K]"),
    (
        "%x: f32[N,3,224,W], %w: f32[64,3,7,7]",
        "Conv(%x, %w) {strides=[2,2], pads=[3,3,3,3]}",
        "f32[N,64,112,((W+1)//(2))]",
    ),
    ("%x: f32[N,8,16,16], %w: f32[8,1,3,3]", 'Conv(%x, %w) {group=8, auto_pad="SAME_UPPER"}', "f32[N,8,16,16]"),
    ("%x: f32[N,8,16], %w: f32[4,8,3]", "Conv(%x, %w) {dilations=[2]}", "f32[N,4,12]"),
    ("%x: f32[*], %w: f32[4,8,3]", "Conv(%x, %w)", "f32[?0,4,?1]"),
    ("%x: f32[N,8,H,W], %w: f32[8,4,2,2]", "ConvTranspose(%x, %w) {strides=[2,2]}", "f32[N,4,2*H,2*W]"),
    ("%x: u8[N,3,8,8], %w: i8[4,3,3,3]", "ConvInteger(%x, %w)", "i32[N,4,6,6]"),
]

REDUCTION = [
    ("%x: f32[N,8,H,W]", "GlobalAveragePool(%x)", "f32[N,8,1,1]"),
    ("%x: f32[N,8,12,W]", "MaxPool(%x) {kernel_shape=[2,2], strides=[2,2]}", "f32[N,8,6,((W)//(2))]"),
    ("%x: f32[N,8,6,6]", "AveragePool(%x) {kernel_shape=[3,3], strides=[2,2], ceil_mode=1}", "f32[N,8,3,3]"),
    ("%x: f32[N,8,W]", "MaxPool(%x) {kernel_shape=[3], strides=[2], ceil_mode=1}", "f32[N,8,((W)//(2))]"),
    ("%x: f32[N,8,W]", "MaxPool(%x) {kernel_shape=[1], strides=[2], ceil_mode=1, pads=[0,1]}", "f32[N,8,?0]"),
    ("%x: f32[N,8,W]", "ReduceMean(%x, i64[1]{-1})", "f32[N,8,1]"),
    ("%x: f32[N,8,W]", "ReduceSum(%x, i64[2]{0,2}) {keepdims=0}", "f32[8]"),
    ("%x: f32[N,8,W]", "ReduceMax(%x) {keepdims=0}", "f32[]"),
    ("%x: f32[N,8]", "ReduceMax(%x) {noop_with_empty_axes=1}", "f32[N,8]"),
    ("%x: f32[N,8], %a: i64[1]", "ReduceMax(%x, %a)", "f32[?0,?1]"),
    ("%x: f32[N,8], %a: i64[1]", "ReduceMax(%x, %a) {keepdims=0}", "f32[?0]"),
    ("%x: f32[N,8,W]", "ArgMax(%x) {axis=1, keepdims=0}", "i64[N,W]"),
]

INDEXING = [
    ("%x: f32[V,64], %i: i64[B,S]", "Gather(%x, %i)", "f32[B,S,64]"),
    ("%x: f32[N,8,4]", "Gather(%x, i64[]{0}) {axis=1}", "f32[N,4]"),
    ("%x: f32[N,8], %i: i64[N,3]", "GatherElements(%x, %i) {axis=1}", "f32[N,3]"),
    ("%x: f32[A,B,C], %i: i64[K,2]", "GatherND(%x, %i)", "f32[K,C]"),
    ("%x: f32[A,B,C], %i: i64[A,K,1]", "GatherND(%x, %i) {batch_dims=1}", "f32[A,K,C]"),
    ("%x: f32[N,8]", "Slice(%x, i64[1]{2}, i64[1]{9223372036854775807}, i64[1]{1})", "f32[N,6]"),
    ("%x: f32[N,8]", "Slice(%x, i64[1]{-1}, i64[1]{-9223372036854775807}, i64[1]{1}, i64[1]{-2})", "f32[N,4]"),
    ("%x: f32[N,8]", "Slice(%x, i64[1]{0}, i64[1]{5}, i64[1]{0})", "f32[min(5,N),8]"),
    ("%x: f32[N,8]", "Slice(%x, i64[1]{1}, i64[1]{9223372036854775807}, i64[1]{0})", "f32[max(0,N-1),8]"),
    ("%x: f32[N,8]", "Slice(%x, i64[1]{-3}, i64[1]{2147483647}, i64[1]{0})", "f32[min(3,N),8]"),
    ("%x: f32[N,8], %a: i64[1]", "Slice(%x, %a, i64[1]{5}, i64[1]{0})", "f32[?0,8]"),
    ("%x: f32[N,8], %a: i64[1]", "Slice(%x, i64[1]{0}, i64[1]{5}, %a)", "f32[?0,?1]"),
    ("%x: f32[N,8]", "NonZero(%x)", "i64[2,?0]"),
    ("%i: i64[B,S], %v: f32[2]", "OneHot(%i, i64[]{10}, %v)", "f32[B,S,10]"),
    ("%i: i64[B,S], %v: f16[2]", "OneHot(%i, i64[]{10}, %v) {axis=1}", "f16[B,10,S]"),
    ("%x: f32[N,8]", "Pad(%x, i64[4]{0,1,2,3})", "f32[N+2,12]"),
    ("%x: f32[N,8]", "Pad(%x, i64[2]{1,3}, _, i64[1]{-1})", "f32[N,12]"),
    ("%x: f32[N,8]", "Pad(%x, i64[4]{0,-1,0,-1})", "f32[N,6]"),
    ("%x: f32[N,3,H,20]", "Resize(%x, _, f32[4]{1,1,2,2})", "f32[N,3,2*H,40]"),
    ("%x: f32[N,3,H,21]", "Resize(%x, _, f32[4]{1,1,0.5,0.5})", "f32[N,3,((H)//(2)),10]"),
    ("%x: f32[N,3,H,W]", "Resize(%x, _, _, i64[2]{7,9}) {axes=[2,3]}", "f32[N,3,7,9]"),
    ("%b: f32[1,N,4], %s: f32[1,C,N]", "NonMaxSuppression(%b, %s)", "i64[?0,3]"),
    ("", "Range(i64[]{0}, i64[]{10}, i64[]{3})", "i64[4]"),
    ("%n: i64[]", "Range(i64[]{0}, %n, i64[]{3})", "i64[?0]"),
    ("", "ConstantOfShape(i64[2]{2,3})", "f32[2,3]"),
    ("%s: i64[2]", "ConstantOfShape(%s) {value=tensor i64[1] = [7]}", "i64[?0,?1]"),
    ("%x: f32[N,3,H,W], %g: f32[N,7,9,2]", "GridSample(%x, %g)", "f32[N,3,7,9]"),
]

MULTIPLE = [
    ("%x: f32[N,8]", "Split(%x) {axis=1, num_outputs=3}", 3, "f32[N,3] f32[N,3] f32[N,2]"),
    ("%x: f32[N,8]", "Split(%x, i64[2]{2,6}) {axis=1}", 2, "f32[N,2] f32[N,6]"),
    ("%x: f32[4*N,8]", "Split(%x) {num_outputs=2}", 2, "f32[2*N,8] f32[2*N,8]"),
    ("%x: f32[N,8]", "Split(%x) {num_outputs=3}", 3, "f32[?0,8] f32[?1,8] f32[?2,8]"),
    ("%x: f32[N,8]", "TopK(%x, i64[1]{3})", 2, "f32[N,3] i64[N,3]"),
    ("%x: f32[N,8]", "Dropout(%x)", 2, "f32[N,8] bool[N,8]"),
    ("%x: f32[N,8]", "DynamicQuantizeLinear(%x)", 3, "u8[N,8] f32[] u8[]"),
    ("%x: f16[B,S,8], %g: f16[8]", "LayerNormalization(%x, %g)", 3, "f16[B,S,8] f32[B,S,1] f32[B,S,1]"),
    ("%x: f32[N,8]", "Unique(%x) {axis=1}", 4, "f32[N,?0] i64[?1] i64[8] i64[?2]"),
    (
        "%x: f32[T,B,40], %w: f32[2,512,40], %r: f32[2,512,128]",
        'LSTM(%x, %w, %r) {hidden_size=128, direction="bidirectional"}',
        3,
        "f32[T,2,B,128] f32[2,B,128] f32[2,B,128]",
    ),
    (
        "%x: f32[B,T,40], %w: f32[1,384,40], %r: f32[1,384,128]",
        "GRU(%x, %w, %r) {hidden_size=128, layout=1}",
        2,
        "f32[B,T,1,128] f32[B,1,128]",
    ),
    (
        "%q: f32[B,S,768], %k: f32[B,S,768], %p: f32[B,12,P,64]",
        "Attention(%q, %k, %k, _, %p, %p) {q_num_heads=12, kv_num_heads=12}",
        3,
        "f32[B,S,768] f32[B,12,P+S,64] f32[B,12,P+S,64]",
    ),
    (
        "%q: f32[B,32,S,64], %k: f32[B,8,T,64]",
        "Attention(%q, %k, %k)",
        1,
        "f32[B,32,S,64]",
    ),
]

ROWS = [*ELEMENTWISE, *MOVEMENT, *CONTRACTION, *REDUCTION, *INDEXING]


@pytest.mark.parametrize(("inputs", "node", "expected"), ROWS, ids=[f"{r[1]}:{r[0]}" for r in ROWS])
def test_a_node_has_the_type_that_its_operator_says(inputs: str, node: str, expected: str) -> None:
    assert inferred(inputs, node) == expected


@pytest.mark.parametrize(("inputs", "node", "count", "expected"), MULTIPLE, ids=[r[1] for r in MULTIPLE])
def test_every_output_has_its_type(inputs: str, node: str, count: int, expected: str) -> None:
    assert inferred(inputs, node, outputs=count) == expected


def test_symbols_that_are_at_least_two_settle_a_broadcast() -> None:
    assert inferred("%x: f32[N], %y: f32[M]", "Add(%x, %y)", ranges="where N in [2,]") == "f32[N]"


def test_symbols_that_are_at_least_one_shorten_a_slice_without_clamping() -> None:
    node = "Slice(%x, i64[1]{1}, i64[1]{9223372036854775807})"
    assert inferred("%x: f32[N]", node, ranges="where N in [1,]") == "f32[N-1]"


MISFITS = [
    ("%x: f32[3], %y: f32[4]", "Add(%x, %y)", "expected sizes that broadcast against 3, found 4"),
    ("%x: f32[N,3], %y: f32[4,5]", "MatMul(%x, %y)", "expected an inner size of 3, found 4"),
    ("%x: f32[N,3,8,8], %w: f32[4,5,3,3]", "Conv(%x, %w)", "expected input channels 3, found 5"),
    ("%x: f32[N,3,8], %w: f32[4,3,3,3]", "Conv(%x, %w)", "expected a kernel of the input's rank 3, found rank 4"),
    ("%x: f32[N,3,2,2], %w: f32[4,3,5,5]", "Conv(%x, %w)", "expected a window no larger than the padded input"),
    ("%x: f32[2,3]", "Reshape(%x, i64[2]{4,-1})", "expected a number of elements that 4 divides, found 6"),
    ("%x: f32[2,3]", "Reshape(%x, i64[2]{4,2})", "expected a shape with as many elements as [2, 3], found [4, 2]"),
    ("%x: f32[N,3]", "Reshape(%x, i64[2]{0,4})", "expected a shape with as many elements"),
    ("%x: f32[2,3]", "Reshape(%x, i64[2]{-1,-1})", "expected one -1"),
    ("%x: f32[2,3]", "Transpose(%x) {perm=[0,0]}", "expected a permutation of 2 axes"),
    ("%x: f32[2,3]", "Squeeze(%x, i64[1]{1})", "expected axis 1 of size 1, found 3"),
    ("%x: f32[2,3]", "Softmax(%x)\n %z = Gather(%x, i64[]{0}) {axis=5}", "expected an axis between -2 and 1, found 5"),
    ("%x: f32[2,3], %y: f32[2]", "Concat(%x, %y) {axis=0}", "expected operands of one rank"),
    (
        "%x: f32[2,3], %y: f32[2,4]",
        "Concat(%x, %y) {axis=0}",
        "expected axis 1 of every operand to have size 3, found 4",
    ),
    ("%x: f32[2,3]", "TopK(%x, i64[]{2})", "expected K with one axis, found 0 of them"),
    ("%x: f32[2,3]", "TopK(%x, i64[1]{4})", "expected at most 3 elements, found 4"),
    ("%x: f32[2,3]", "Pad(%x, i64[2]{1,1})", "expected 4 pads, found 2"),
    ("%x: f32[N,3,8]", "MaxPool(%x) {kernel_shape=[2], strides=[0]}", "expected strides and dilations of at least 1"),
    ("%x: f32[2,3]", "Resize(%x)", "expected scales or sizes"),
]


@pytest.mark.parametrize(("inputs", "node", "why"), MISFITS, ids=[r[1] for r in MISFITS])
def test_operands_that_contradict_each_other_are_an_error_that_says_where_and_why(
    inputs: str, node: str, why: str
) -> None:
    graph = parse(f"graph ({inputs}) -> (y) {{ %y = {node}   # head.block @ net.py:7\n return %y }}")
    with pytest.raises(InvalidModelError) as error:
        infer(graph)
    assert why in error.value.why
    assert node.split("(", maxsplit=1)[0] in error.value.where or "Gather" in error.value.where


def test_the_error_names_the_place_in_the_users_model() -> None:
    graph = parse(
        "graph (%x: f32[3], %y: f32[4]) -> (y) { %z = Add(%x, %y) : ?   # head.block @ net.py:7\n return %z }"
    )
    with pytest.raises(InvalidModelError) as error:
        infer(graph)
    assert "head.block" in error.value.where
    assert "%x: f32[3], %y: f32[4]" in error.value.why
