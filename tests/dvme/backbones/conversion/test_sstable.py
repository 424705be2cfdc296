from __future__ import annotations

from pathlib import Path

import pytest

from dvme.backbones.conversion.sstable import masked_crc32c, read_table, read_varint
from dvme.errors import CheckpointError


@pytest.mark.parametrize(
    ("data", "value"), [(b"\x00", 0), (b"\x7f", 127), (b"\xac\x02", 300), (b"\xff" * 9 + b"\x01", 2**64 - 1)]
)
def test_read_varint__protobufs_examples(data: bytes, value: int) -> None:
    assert read_varint(data, 0) == (value, len(data))


@pytest.mark.parametrize("data", [b"", b"\x80", b"\xff" * 10 + b"\x01", b"\xff" * 9 + b"\x02"])
def test_read_varint__endless_or_too_long__says_so(data: bytes) -> None:
    with pytest.raises(ValueError, match="a number"):
        read_varint(data, 0)


def test_masked_crc32c__of_the_standard_check_value() -> None:
    """The check value of CRC-32C is 0xE3069283; rotated right by 15 and moved by LevelDB's delta."""
    rotated = (0xE3069283 >> 15) | ((0xE3069283 << 17) & 0xFFFFFFFF)
    assert masked_crc32c(b"123456789") == (rotated + 0xA282EAD8) % 2**32


def test_read_table__genuine_index__sorted_keys(fixtures: Path) -> None:
    keys = list(read_table(fixtures / "kinds/kinds.index"))
    names = [b"bool", b"empty", b"float16", b"float32", b"float64", b"int32", b"int64"]
    assert keys == [b"", *names, b"scope/deep/value", b"scope/deep/value_1", b"text"]


def test_read_table__every_byte_flipped__refused_or_the_same(fixtures: Path, tmp_path: Path) -> None:
    """What may be flipped unnoticed: the unused meta index, and the padding of the footer."""
    path = tmp_path / "model.index"
    genuine = (fixtures / "kinds/kinds.index").read_bytes()
    expected = read_table(fixtures / "kinds/kinds.index")
    n_refused = 0
    for i in range(len(genuine)):
        for bit in (0x01, 0x80):
            path.write_bytes(genuine[:i] + bytes([genuine[i] ^ bit]) + genuine[i + 1 :])
            try:
                assert read_table(path) == expected
            except CheckpointError:
                n_refused += 1
    assert n_refused > len(genuine)


def test_read_table__every_truncation__is_refused(fixtures: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.index"
    genuine = (fixtures / "kinds/kinds.index").read_bytes()
    for n_bytes in range(len(genuine)):
        path.write_bytes(genuine[:n_bytes])
        with pytest.raises(CheckpointError, match=r"model\.index is not the index of a TensorFlow V2 checkpoint"):
            read_table(path)


def with_first_block(genuine: bytes, change: bytes) -> bytes:
    """The first block, which starts the file, ends where the meta index begins: its trailer is made anew."""
    end, _ = read_varint(genuine, len(genuine) - 48)
    kind = change or genuine[end - 5 : end - 4]
    crc = masked_crc32c(genuine[: end - 5] + kind)
    return genuine[: end - 5] + kind + crc.to_bytes(4, "little") + genuine[end:]


def test_read_table__snappy__is_refused_by_name(fixtures: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.index"
    genuine = (fixtures / "kinds/kinds.index").read_bytes()
    assert with_first_block(genuine, b"") == genuine
    path.write_bytes(with_first_block(genuine, b"\x01"))
    with pytest.raises(CheckpointError, match="snappy"):
        read_table(path)


def test_read_table__unsorted_keys__are_refused(fixtures: Path, tmp_path: Path) -> None:
    """The checksum is right, the first variable is renamed to come last."""
    path = tmp_path / "model.index"
    genuine = (fixtures / "kinds/kinds.index").read_bytes()
    path.write_bytes(with_first_block(genuine.replace(b"bool", b"zool", 1), b""))
    with pytest.raises(CheckpointError, match="not sorted"):
        read_table(path)


def test_read_table__no_file__says_so(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read: No such file"):
        read_table(tmp_path / "model.index")
