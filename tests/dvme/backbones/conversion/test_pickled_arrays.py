from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dvme.backbones.conversion.inert import Inert, NeedsCodeError, TornError, load_inert
from dvme.backbones.conversion.pickled_arrays import ARRAY_REBUILDERS, PickledArray


def load(data: bytes) -> Any:
    return load_inert(io.BytesIO(data), ARRAY_REBUILDERS)


ARRAYS = {
    "float32": np.arange(6, dtype=np.float32).reshape(1, 2, 3),
    "float16": np.array([0.5, -2], np.float16),
    "float64": np.array([[1e300]]),
    "int64": np.array([-(2**62), 3]),
    "uint8": np.arange(5, dtype=np.uint8),
    "bool": np.array([True, False]),
    "scalar array": np.array(7, np.int32),
    "empty": np.zeros((0, 3), np.float32),
    "fortran": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
    "strided": np.arange(12, dtype=np.int16).reshape(3, 4)[::2, 1:],
    "big endian": np.array([1.5, -2.5], ">f4"),
}


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", ARRAYS)
def test_array__every_protocol__numpys_own_values(name: str, protocol: int) -> None:
    array = load(pickle.dumps(ARRAYS[name], protocol=protocol))
    assert isinstance(array, PickledArray)
    assert array.tensor is not None
    assert array.tensor.is_contiguous()
    expected = ARRAYS[name].astype(ARRAYS[name].dtype.newbyteorder("="))
    np.testing.assert_array_equal(array.tensor.numpy(), expected, strict=True)


@pytest.mark.parametrize("spelling", [b"numpy.core", b"numpy._core"])
def test_array__both_spellings_of_numpy__are_known(spelling: bytes) -> None:
    data = pickle.dumps(ARRAYS["float32"], protocol=2).replace(b"numpy._core", spelling)
    assert load(data).tensor.shape == (1, 2, 3)


def test_array__written_by_python_2__bytes_as_text() -> None:
    """cnumpy.core.multiarray _reconstruct, as protocol 0 of Python 2 spells it; the bytes are BINSTRING."""
    raw = np.array([1.5, 200.25], "<f4").tobytes()
    head = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(I2\nt"
    dtype = b"cnumpy\ndtype\n(S'f4'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbI00\n"
    assert load(head + dtype + b"U\x08" + raw + b"tb.").tensor.tolist() == [1.5, 200.25]


@pytest.mark.parametrize(
    "array",
    [np.array([{"a": 1}, None]), np.array(["text"]), np.array([b"x"]), np.zeros(2, [("a", "f4")]), np.array([1j])],
)
@pytest.mark.parametrize("protocol", [2, 5])
def test_array__no_plain_numbers__is_no_tensor(array: np.ndarray[Any, Any], protocol: int) -> None:
    assert load(pickle.dumps(array, protocol=protocol)).tensor is None


def test_scalar__is_a_record() -> None:
    assert isinstance(load(pickle.dumps(np.float32(3))), Inert)


def state(dtype: bytes, shape: bytes, raw: bytes) -> bytes:
    """A hand-made array of version 1, C order."""
    head = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n"
    return head + shape + b"cnumpy\ndtype\n(S'" + dtype + b"'\nI0\nI1\ntRI00\nU" + bytes([len(raw)]) + raw + b"tb."


def test_array__raw_pointers_as_objects__are_not_followed() -> None:
    """numpy itself would take these 8 bytes for the address of a Python object, were the flags forged as well."""
    assert load(state(b"O", b"(I1\nt", b"\x10\x20\x30\x40\x50\x60\x70\x00")).tensor is None


@pytest.mark.parametrize(("shape", "n_bytes"), [(b"(I3\nt", 8), (b"(I1000000000\nI1000000000\nt", 4), (b"(t", 0)])
def test_array__bytes_do_not_fill_the_shape__is_torn(shape: bytes, n_bytes: int) -> None:
    with pytest.raises(TornError, match="bytes for the shape"):
        load(state(b"f4", shape, bytes(n_bytes)))


@pytest.mark.parametrize("shape", [b"(I-1\nt", b"N", b"(S'a'\nt"])
def test_array__shape_that_is_none__is_torn(shape: bytes) -> None:
    with pytest.raises(TornError, match="without a shape"):
        load(state(b"f4", shape, bytes(4)))


@pytest.mark.parametrize("protocol", [2, 4])
def test_jax_arrays__genuine_file__values_without_jax(fixtures: Path, protocol: int) -> None:
    """Written by jax 0.10.2 and dill 0.4.1; the lambda and the namespace become records."""
    content = load((fixtures / f"byol/jax_arrays_protocol{protocol}.pkl").read_bytes())
    found = {name: array.tensor for name, array in content["params"].items()}
    assert found["float32"].tolist() == [[0.0, 0.25, 0.5], [0.75, 1.0, 1.25]]
    assert found["bfloat16"].dtype == torch.bfloat16
    assert found["bfloat16"].tolist() == [1.5, -2.0, 3.0]
    assert (found["int32"].dtype, found["int32"].tolist()) == (torch.int32, 7)
    assert isinstance(content["lambda"], Inert)
    assert dict(content["namespace"].children())["weight"].tensor.tolist() == [1.0, 1.0]


def test_encode__any_other_codec__is_refused() -> None:
    with pytest.raises(NeedsCodeError, match="encodes text"):
        load(b"c_codecs\nencode\n(Vabc\nVzip\ntR.")
