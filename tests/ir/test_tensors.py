"""Tensors: mapped files, packing, lazy expressions and their rows."""

import os
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tersor.ir import Dense, DType, FileSlice, InvalidModelError, Lazy, MappedFile, Tensor
from tersor.ir.tensors import binary, cast, lazy, quantize, raw_bytes, reshape, spilled, take, transpose
from tersor.ir.tensors.base import pack, unpack


def matrix(rows: int = 6, columns: int = 4, seed: int = 0) -> Dense:
    return Dense(np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32))


def test_a_file_slice_reads_unaligned_data_and_rows(tmp_path: Path):
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    path = tmp_path / "w"
    path.write_bytes(b"xyz" + array.tobytes() + b"tail")
    tensor = FileSlice(MappedFile(path), 3, 48, DType.F32, (3, 4))
    np.testing.assert_array_equal(tensor.numpy(), array)
    np.testing.assert_array_equal(tensor.rows(1, 3), array[1:3])
    assert b"".join(tensor.blocks(7)) == array.tobytes()
    assert tensor.same_as(Dense(array))


def test_a_file_slice_that_does_not_fit_its_file_is_refused(tmp_path: Path):
    path = tmp_path / "w"
    path.write_bytes(b"1234")
    with pytest.raises(InvalidModelError, match="does not fit"):
        FileSlice(MappedFile(path), 0, 8, DType.F32, (2,))


def test_a_file_that_changed_under_the_map_is_an_error_not_a_crash(tmp_path: Path):
    path = tmp_path / "w"
    path.write_bytes(bytes(8192))
    tensor = FileSlice(MappedFile(path), 0, 8192, DType.U8, (8192,))
    os.truncate(path, 10)
    with pytest.raises(InvalidModelError, match="changed"):
        tensor.numpy()


@given(st.sampled_from([DType.I4, DType.U4, DType.I2, DType.U2]), st.lists(st.integers(-2, 1), max_size=9))
def test_narrow_integers_pack_and_unpack(dtype: DType, numbers: list[int]):
    array = np.array([n if dtype.is_signed else n + 2 for n in numbers], np.int8).astype(dtype.numpy)
    packed = pack(array, dtype.bits)
    assert packed.size == dtype.file_bytes(len(numbers))
    np.testing.assert_array_equal(unpack(packed, dtype, len(numbers)).astype(np.int8), array.astype(np.int8))


def test_int4_is_low_nibble_first():
    assert raw_bytes(np.array([1, -1, 3], ml_dtypes.int4), DType.I4).tobytes() == bytes([0xF1, 0x03])


EXPRESSIONS = {
    "add": lambda a: binary("add", a, matrix(seed=1)),
    "broadcast over rows": lambda a: binary("mul", a, Dense(np.float32([1, 2, 3, 4]))),
    "broadcast a first axis of one": lambda a: binary("mul", a, Dense(np.float32([[1, 2, 3, 4]]))),
    "scale per row": lambda a: binary("div", a, Dense(np.float32([[1], [2], [3], [4], [5], [6]]))),
    "number": lambda a: binary("sub", 1.0, a),
    "sqrt of square": lambda a: Lazy("sqrt", [binary("mul", a, a)]),
    "take rows": lambda a: take(a, [4, 0, 2], 0),
    "take columns": lambda a: take(a, [3, 1], 1),
    "take of a product": lambda a: take(binary("mul", a, a), [5, 1], 0),
    "take of a transpose": lambda a: take(take(transpose(a, (1, 0)), [3, 0, 1], 0), [5, 2, 4], 1),
    "transpose": lambda a: transpose(a, (1, 0)),
    "transpose of a sum": lambda a: transpose(binary("add", a, 1.0), (1, 0)),
    "reshape": lambda a: reshape(a, (3, 8)),
    "slice": lambda a: Lazy("slice", [a], axis=0, start=1, stop=5),
    "slice columns": lambda a: Lazy("slice", [a], axis=1, start=1, stop=3),
    "concat": lambda a: Lazy("concat", [a, a], axis=0),
    "matmul": lambda a: Lazy("matmul", [a, transpose(a, (1, 0))]),
    "cast": lambda a: cast(a, DType.F16),
    "cast, then arithmetic": lambda a: binary("mul", cast(a, DType.F16), 3.0),
    "quantize per row": lambda a: quantize(a, Dense(np.float32([0.1] * 6)), Dense(np.zeros(6, np.int8)), 0),
    "quantize per column": lambda a: quantize(
        a, Dense(np.float32([0.1, 0.2, 0.3, 0.4])), Dense(np.zeros(4, np.int8)), 1
    ),
    "sum": lambda a: Lazy("sum", [a], axes=(1,)),
}


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_rows_and_blocks_of_an_expression_are_those_of_its_value(name: str):
    tensor = EXPRESSIONS[name](matrix())
    assert isinstance(tensor, Tensor)
    whole = tensor.numpy()
    assert whole.shape == tensor.shape
    assert whole.dtype == tensor.dtype.numpy
    fresh = EXPRESSIONS[name](matrix())
    np.testing.assert_array_equal(fresh.rows(1, 3), whole[1:3])
    assert b"".join(bytes(b) for b in fresh.blocks(16)) == whole.tobytes()


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_a_large_expression_that_is_computed_in_parts_is_the_same(name: str, monkeypatch):
    whole = EXPRESSIONS[name](matrix()).numpy()
    monkeypatch.setattr(lazy, "PART", 5)
    np.testing.assert_array_equal(EXPRESSIONS[name](matrix()).numpy(), whole)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("perm", [(2, 1, 0), (0, 1, 2), (1, 0, 2)])
def test_taking_from_a_transposed_tensor(perm: tuple[int, ...], axis: int):
    array = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    got = take(transpose(Dense(array), perm), [2, 0], axis)
    np.testing.assert_array_equal(got.numpy(), np.take(np.ascontiguousarray(array.transpose(perm)), [2, 0], axis))


def test_an_expression_is_rounded_once():
    x = Dense(np.float32([1.0]))
    tiny = binary("sub", binary("add", x, 1e-9), x)
    assert tiny.numpy()[0] == pytest.approx(1e-9, rel=1e-6), "in single precision the sum would have lost it"


def test_weights_are_not_read_until_they_are_asked_for(tmp_path: Path):
    path = tmp_path / "w"
    path.write_bytes(bytes(4096))
    tensor = take(binary("mul", FileSlice(MappedFile(path), 0, 4096, DType.F32, (32, 32)), 2.0), [1, 2], 0)
    os.truncate(path, 0)
    with pytest.raises(InvalidModelError, match="changed"):
        tensor.numpy()


def test_quantize_saturates_and_rounds_to_even():
    x = Dense(np.float32([[0.5, 1.5, 2.5, 1000.0, -1000.0]]))
    made = quantize(x, Dense(np.float32(1.0)), Dense(np.int8(0)), 0)
    assert made.numpy().tolist() == [[0, 2, 2, 127, -128]]


def test_digests_depend_on_type_shape_and_contents():
    a = np.zeros(4, np.float32)
    digests = {Dense(x).digest for x in (a, a.astype(np.float64), a.reshape(2, 2), a + 1)}
    assert len(digests) == 4


def test_a_value_does_not_depend_on_what_was_asked_for_before():
    """Reading an inner expression must not round it for the outer one."""

    def build() -> tuple[Tensor, Tensor]:
        inner = binary("div", Dense(np.float32([1.0, 2.0])), 3.0)
        return inner, binary("mul", inner, 3e7)

    inner, outer = build()
    inner.numpy()
    _, untouched = build()
    np.testing.assert_array_equal(outer.numpy(), untouched.numpy())


def test_a_cast_takes_its_operand_as_it_is_stored():
    third = binary("div", Dense(np.float32([1.0])), 3.0)
    assert cast(third, DType.F64).numpy()[0] == np.float64(np.float32(1 / 3))


def test_a_filler_is_the_one_element_of_small_tensors_that_have_no_other():
    assert Dense(np.full((2, 3), 7, np.int8)).filler == np.int8(7)
    assert Dense(np.array([1.0, 2.0], np.float32)).filler is None
    assert Dense(np.zeros((0, 3), np.float32)).filler is None
    assert Dense(np.zeros((4, 3), np.float32)[:, 1]).filler == 0
    assert Dense(np.array([0.0, -0.0], np.float32)).filler is None
    assert np.isnan(Dense(np.full(4, np.nan, np.float32)).filler)
    assert Dense(np.zeros(1 << 15, np.float32)).filler is None


@pytest.mark.parametrize("dtype", [DType.F32, DType.I4, DType.BOOL])
def test_a_spilled_tensor_is_what_it_was_and_leaves_no_file(dtype: DType, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    array = np.arange(6).reshape(2, 3).astype(dtype.numpy)
    tensor = spilled(array, dtype)
    assert isinstance(tensor, FileSlice)
    assert list(tmp_path.iterdir()) == []
    assert (tensor.numpy() == array).all()
    assert tensor.same_as(Dense(array, dtype))


def test_without_a_place_for_temporary_files_a_tensor_stays_in_memory(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    assert isinstance(spilled(np.ones(3, np.float32), DType.F32), Dense)


def test_a_spill_that_fails_half_way_leaves_no_file(tmp_path: Path, monkeypatch):
    def full(path: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("tersor.ir.tensors.stored.MappedFile", full)
    assert isinstance(spilled(np.ones(3, np.float32), DType.F32), Dense)
    assert list(tmp_path.iterdir()) == []
