"""The fixture was written by TensorFlow 2.21 (tensorflow-cpu), graph mode, `tf.compat.v1.train.Saver`.

A ResNet-50 of SimCLR's published code written out with raw variables: under the scope base_model, `conv2d[_N]/kernel`
and `batch_normalization[_N]/{gamma,beta,moving_mean,moving_variance}` numbered in creation order, the shortcut first;
fixed padding of 3 (7x7) and 1 (3x3) before strided convolutions, SAME elsewhere; 2 channels instead of 64; random
weights. Besides: head_contrastive, head_supervised, a few Momentum slots and global_step. `embeddings.npy` is what
TensorFlow computed for the images of the fixture `images`.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
import torch
from torch import Tensor

from dvme.backbones.conversion.simclr import read_simclr
from dvme.backbones.conversion.sstable import read_table
from dvme.errors import CheckpointError

PREFIX = "simclr/model.ckpt-225206"
State = dict[str, Tensor]


def test_read_simclr__genuine_checkpoint__embeds_as_tensorflow_did(
    fixtures: Path, images: Tensor, embed: Callable[[State, Tensor, bool], Tensor], resnet50_names: set[str]
) -> None:
    state, dropped, remarks = read_simclr(fixtures / PREFIX)
    assert set(state) == resnet50_names
    assert all(value.dtype == torch.float32 and value.is_contiguous() for value in state.values())
    expected = np.load(fixtures / "simclr/embeddings.npy")
    assert expected.std() > 0.1
    np.testing.assert_allclose(embed(state, images, False).numpy(), expected, rtol=1e-4, atol=1e-5)
    assert "global_step" in dropped
    assert "base_model/conv2d/kernel/Momentum" in dropped
    assert "head_contrastive/nl_0/dense/kernel" in dropped
    assert len(dropped) == 9
    assert "pads" in remarks[0]


def test_read_simclr__no_base_model__says_what_it_has(fixtures: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds no base_model/.* this has bool, empty, float16"):
        read_simclr(fixtures / "kinds/kinds")


@pytest.fixture
def edited(fixtures: Path, tmp_path: Path) -> Callable[[dict[bytes, bytes]], Path]:
    """The genuine shards beside an index of other content; the prefix."""

    def write(table: dict[bytes, bytes]) -> Path:
        prefix = shutil.copytree(fixtures / "simclr", tmp_path / "simclr") / "model.ckpt-225206"
        write_table(prefix.with_name(f"{prefix.name}.index"), table)
        return prefix

    return write


def write_table(path: Path, table: dict[bytes, bytes]) -> None:
    """A sorted table of one block, without shared prefixes; by LevelDB's description of the format."""

    def varint(value: int) -> bytes:
        return bytes([value & 0x7F | 0x80]) + varint(value >> 7) if value > 0x7F else bytes([value])

    def block(pairs: list[tuple[bytes, bytes]]) -> bytes:
        entries = b"".join(b"\0" + varint(len(key)) + varint(len(value)) + key + value for key, value in pairs)
        body = entries + bytes(4) + (1).to_bytes(4, "little") + b"\0"  # one restart at 0; uncompressed
        crc = google_crc32c.value(body)
        masked = ((crc >> 15 | crc << 17 & 0xFFFFFFFF) + 0xA282EAD8) % 2**32
        return body + masked.to_bytes(4, "little")

    data = block(sorted(table.items()))
    index = block([(max(table), varint(0) + varint(len(data) - 5))])
    footer = varint(0) + varint(0) + varint(len(data)) + varint(len(index) - 5)
    path.write_bytes(data + index + footer.ljust(40, b"\0") + (0xDB4775248B80FB57).to_bytes(8, "little"))


@pytest.fixture
def table(fixtures: Path) -> dict[bytes, bytes]:
    """The genuine index."""
    return read_table(fixtures / f"{PREFIX}.index")


Edited = Callable[[dict[bytes, bytes]], Path]
Table = dict[bytes, bytes]


def test_read_simclr__rewritten_index__reads_the_same(fixtures: Path, edited: Edited, table: Table) -> None:
    """So that what the next tests change is all that differs."""
    state, _, _ = read_simclr(edited(table))
    expected, _, _ = read_simclr(fixtures / PREFIX)
    assert all(torch.equal(state[name], value) for name, value in expected.items())


def test_read_simclr__unknown_variable__is_named(edited: Edited, table: Table) -> None:
    stranger = b"base_model/projection/conv2d/kernel"
    with pytest.raises(CheckpointError, match=f"holds {stranger.decode()}, which is no part"):
        read_simclr(edited(table | {stranger: table[b"base_model/conv2d/kernel"]}))


@pytest.mark.parametrize(
    ("missing", "complaint"),
    [
        (b"base_model/conv2d_7/kernel", "lacks some of its conv2d layers"),
        (b"base_model/conv2d_52/kernel", "has 52 convolutions and 53 normalisations"),
        (b"base_model/batch_normalization_3/beta", "has no beta of batch_normalization 3"),
    ],
)
def test_read_simclr__incomplete__says_what_is_missing(
    edited: Edited, table: Table, missing: bytes, complaint: str
) -> None:
    del table[missing]
    with pytest.raises(CheckpointError, match=complaint):
        read_simclr(edited(table))


def test_read_simclr__selective_kernels__are_refused_with_the_reason(edited: Edited, table: Table) -> None:
    """ResNet-50 with sk1: a stem of three 3x3, five convolutions a block of which four are normalised."""
    n_convs, n_norms = 3 + 16 * 5 + 4, 3 + 16 * 4 + 4
    kernel = bytes([0x08, 1, 0x12, 16, *(0x12, 2, 0x08, 3) * 3, 0x12, 2, 0x08, 1])  # float32, shape (3, 3, 3, 1)
    entries = {f"base_model/conv2d_{i}/kernel".replace("_0/", "/"): kernel for i in range(n_convs)}
    for i in range(n_norms):
        for part in ("gamma", "beta", "moving_mean", "moving_variance"):
            entries[f"base_model/batch_normalization_{i}/{part}".replace("_0/", "/")] = kernel
    selective = {name.encode(): value for name, value in entries.items()}
    with pytest.raises(CheckpointError, match=r"selective kernels \(sk1\).* take the checkpoint with sk0"):
        read_simclr(edited({b"": table[b""]} | selective))


def test_read_simclr__two_layers_in_the_other_order__shapes_disagree(edited: Edited, table: Table) -> None:
    """As if the first block's own convolution came before its shortcut."""
    one, two = b"base_model/conv2d_1/kernel", b"base_model/conv2d_2/kernel"
    with pytest.raises(CheckpointError, match=re.escape("is (2, 2, 1, 1), expected (8, 2, 1, 1)")):
        read_simclr(edited(table | {one: table[two], two: table[one]}))


def test_read_simclr__flipped_bytes__refused_or_the_same(fixtures: Path, tmp_path: Path) -> None:
    """A byte in every few hundred, of both files; heads and slots are not read, so their damage is no matter."""
    prefix = shutil.copytree(fixtures / "simclr", tmp_path / "simclr") / "model.ckpt-225206"
    expected, _, _ = read_simclr(prefix)
    n_refused = n_same = 0
    for path in (prefix.with_name(f"{prefix.name}.index"), prefix.with_name(f"{prefix.name}.data-00000-of-00001")):
        genuine = path.read_bytes()
        for i in range(0, len(genuine), len(genuine) // 60):
            path.write_bytes(genuine[:i] + bytes([genuine[i] ^ 0x40]) + genuine[i + 1 :])
            try:
                state, _, _ = read_simclr(prefix)
            except CheckpointError:
                n_refused += 1
            else:
                n_same += 1
                assert all(torch.equal(state[name], value) for name, value in expected.items())
        path.write_bytes(genuine)
    assert n_refused > 100
    assert n_refused + n_same > 115
