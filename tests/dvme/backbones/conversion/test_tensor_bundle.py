"""The fixtures were written by TensorFlow 2.21 (tensorflow-cpu), graph mode, `tf.compat.v1.train.Saver`.

`kinds` holds the variables of EXPECTED and two that cannot be converted, created in turn on /cpu:0 and /cpu:1 and
saved with sharded=True, so in two shards. `sliced` holds one variable of (4, 2), made with
`fixed_size_partitioner(2)`.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from dvme.backbones.conversion.tensor_bundle import open_bundle
from dvme.errors import CheckpointError

EXPECTED = {
    "empty": np.zeros((0, 4), np.float32),
    "float16": np.array([[0.5], [7.0]], np.float16),
    "float32": np.arange(6, dtype=np.float32).reshape(1, 2, 3),
    "float64": np.array([1.5, -2.25]),
    "int32": np.array([-1, 2**31 - 1], np.int32),
    "int64": np.array(-(2**40)),
    "scope/deep/value": np.array(3.5, np.float32),
    "scope/deep/value_1": np.array(4.5, np.float32),
}


@pytest.fixture
def kinds(fixtures: Path, tmp_path: Path) -> Path:
    """A copy to damage; the prefix."""
    return shutil.copytree(fixtures / "kinds", tmp_path / "kinds") / "kinds"


def test_read__every_kind_of_number__as_tensorflow_wrote_it(kinds: Path) -> None:
    bundle = open_bundle(kinds)
    assert bundle.n_shards == 2
    assert set(bundle.entries) == {*EXPECTED, "bool", "text"}
    for name, expected in EXPECTED.items():
        found = bundle.read(name)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected, strict=True)


@pytest.mark.parametrize(("name", "kind"), [("bool", "bool"), ("text", "string")])
def test_read__no_numbers__is_refused_by_kind(kinds: Path, name: str, kind: str) -> None:
    with pytest.raises(CheckpointError, match=f"{name} in .* holds {kind}"):
        open_bundle(kinds).read(name)


def test_open_bundle__partitioned_variable__is_refused(fixtures: Path) -> None:
    with pytest.raises(CheckpointError, match="partitioned into slices"):
        open_bundle(fixtures / "sliced/sliced")


def test_read__every_byte_of_the_shards_flipped__refused_or_the_same(kinds: Path) -> None:
    bundle = open_bundle(kinds)
    n_refused = 0
    for shard in sorted(kinds.parent.glob("*.data-*")):
        genuine = shard.read_bytes()
        for i in range(len(genuine)):
            shard.write_bytes(genuine[:i] + bytes([genuine[i] ^ 0x10]) + genuine[i + 1 :])
            for name, expected in EXPECTED.items():
                try:
                    np.testing.assert_array_equal(bundle.read(name), expected)
                except CheckpointError as error:
                    n_refused += 1
                    assert "damaged" in str(error)  # noqa: PT017 - both outcomes are right
        shard.write_bytes(genuine)
    assert n_refused == sum(value.nbytes for value in EXPECTED.values())


def test_read__truncated_shard__says_where(kinds: Path) -> None:
    shard = kinds.with_name("kinds.data-00000-of-00002")
    shard.write_bytes(shard.read_bytes()[:30])
    with pytest.raises(CheckpointError, match=r"kinds\.data-00000-of-00002 ends before float64"):
        open_bundle(kinds).read("float64")


def test_read__missing_shard__is_named(kinds: Path) -> None:
    kinds.with_name("kinds.data-00001-of-00002").unlink()
    with pytest.raises(CheckpointError, match=r"kinds\.data-00001-of-00002 is missing"):
        open_bundle(kinds).read("int32")
