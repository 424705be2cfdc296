"""Seals and checksums, against published vectors, a slow CRC, and coreutils."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from dvme_cache import Fingerprint, content_id
from dvme_cache.sealing import crc32c, is_sound, row_checksums, sealed

DIGEST = Fingerprint({"weights": "abc"}).digest
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-9, 9, width=16) | st.text("aä\U0001f98b\n", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=3),
    max_leaves=6,
)
DOCUMENTS = st.fixed_dictionaries(
    {"zarr_format": st.just(3), "attributes": st.dictionaries(st.text("ab", max_size=2), JSON, max_size=3)},
    optional={"shape": st.lists(st.integers(0, 9), max_size=2)},
)


def slow_crc32c(data: bytes) -> int:
    """Bit-reflected CRC by table: polynomial 0x1EDC6F41, so 0x82F63B78 reflected; Castagnoli et al. 1993."""
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ 0x82F63B78 * (byte & 1)  # noqa: PLW2901
        table.append(byte)
    register = 0xFFFFFFFF
    for byte in data:
        register = register >> 8 ^ table[(register ^ byte) & 0xFF]
    return register ^ 0xFFFFFFFF


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"123456789", 0xE3069283),  # the check value of CRC-32/ISCSI in the catalogue of parametrised CRCs
        (b"", 0),
        (bytes(32), 0x8A9136AA),  # RFC 3720, appendix B.4, this and the next three
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
    ],
)
def test_crc32c__published_vectors(data: bytes, value: int) -> None:
    assert crc32c(data) == value
    assert crc32c(np.frombuffer(data, dtype=np.uint8)) == value
    assert slow_crc32c(data) == value, "the slow version of these tests is right, too"


@given(st.binary(max_size=300))
def test_crc32c__equals_a_slow_version(data: bytes) -> None:
    assert crc32c(data) == slow_crc32c(data)


def test_sealed__equals_b2sum_of_the_key_and_canonical_json() -> None:
    r"""`printf 'samples/zarr.json\n{"attributes":{"n":2},"b":[1,"\\u00e4"]}' | b2sum -l 128`."""
    document = '{"b": [1, "ä"],\n "attributes": {"n": 2, "seal": "an older one"}}'.encode()
    content = json.loads(sealed("samples/zarr.json", document))
    assert content == {"b": [1, "ä"], "attributes": {"n": 2, "seal": "2a08bba9a88cad93c7a4e3a4d15e6328"}}


def test_sealed__a_document_without_attributes_gets_them() -> None:
    r"""`printf 'zarr.json\n{"attributes":{}}' | b2sum -l 128`."""
    assert json.loads(sealed("zarr.json", b"{}")) == {"attributes": {"seal": "9365552c78ceb7a495948ab72e368012"}}


@given(DOCUMENTS)
def test_sealed__again_changes_nothing(document: dict[str, Any]) -> None:
    once = sealed("a/zarr.json", json.dumps(document).encode())
    assert sealed("a/zarr.json", once) == once
    assert is_sound("a/zarr.json", once)


@given(DOCUMENTS)
def test_is_sound__whatever_the_formatting(document: dict[str, Any]) -> None:
    content = json.loads(sealed("a/zarr.json", json.dumps(document).encode()))
    backwards = dict(reversed(content.items()))
    assert is_sound("a/zarr.json", json.dumps(backwards, separators=(",", ":"), ensure_ascii=False).encode())


@pytest.mark.parametrize("other", ["zarr.json", "b/zarr.json", "a/a/zarr.json", "copies/a/zarr.json", "a/zarr.json "])
def test_is_sound__a_document_stands_in_for_no_other(other: str) -> None:
    assert not is_sound(other, sealed("a/zarr.json", b"{}"))


@given(DOCUMENTS, DOCUMENTS)
def test_is_sound__another_content_breaks_the_seal(one: dict[str, Any], other: dict[str, Any]) -> None:
    content = json.loads(sealed("a/zarr.json", json.dumps(one).encode()))
    changed = json.loads(sealed("a/zarr.json", json.dumps(other).encode()))
    is_same = json.dumps(content, sort_keys=True) == json.dumps(changed, sort_keys=True)
    changed["attributes"]["seal"] = content["attributes"]["seal"]
    assert is_sound("a/zarr.json", json.dumps(changed).encode()) == is_same


@given(DOCUMENTS, st.data())
def test_is_sound__a_flipped_bit_breaks_the_seal_or_changes_nothing(
    document: dict[str, Any], data: st.DataObject
) -> None:
    """Nothing changes where an escape such as \\u00e4 becomes \\u00E4."""
    whole = sealed("a/zarr.json", json.dumps(document).encode())
    bit = data.draw(st.integers(0, 8 * len(whole) - 1))
    flipped = bytearray(whole)
    flipped[bit // 8] ^= 1 << bit % 8
    if is_sound("a/zarr.json", bytes(flipped)):
        assert json.loads(flipped) == json.loads(whole)


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"{", b"[]", b"3", b"null", b"\xff\xfe", bytes(600), b"{}", b'{"attributes": {}}'),
        *(b'{"attributes": []}', b'{"attributes": null}', b'{"attributes": {"seal": null}}', b'{"attributes": "seal"}'),
    ],
)
def test_is_sound__no_sealed_document(data: bytes) -> None:
    assert not is_sound("a/zarr.json", data)


@given(st.binary(max_size=60), st.data())
def test_is_sound__a_chunk_ends_in_its_crc32c(content: bytes, data: st.DataObject) -> None:
    whole = content + slow_crc32c(content).to_bytes(4, "little")
    assert is_sound("samples/path/c/0", whole)
    bit = data.draw(st.integers(0, 8 * len(whole) - 1))
    flipped = bytearray(whole)
    flipped[bit // 8] ^= 1 << bit % 8
    assert not is_sound("samples/path/c/0", bytes(flipped))
    assert not is_sound("samples/path/c/0", whole[: data.draw(st.integers(0, 3))])
    assert not is_sound("samples/path/c/0", content + slow_crc32c(content + b"x").to_bytes(4, "little"))


ROWS = npst.arrays(st.sampled_from(["<f4", "<f2"]), st.tuples(st.integers(1, 5), st.integers(1, 9)))


@given(ROWS, st.binary(min_size=16, max_size=16))
def test_row_checksums__by_hand(rows: np.ndarray[Any, Any], image: bytes) -> None:
    """crc32c(row) ^ first four bytes of the image's id ^ first four of the fingerprint's digest."""
    ids = np.array([np.frombuffer(image, dtype=np.uint8) ^ row for row in range(len(rows))], dtype=np.uint8)
    expected = [
        slow_crc32c(row.tobytes())
        ^ int.from_bytes(identity.tobytes()[:4], "little")
        ^ int.from_bytes(bytes.fromhex(DIGEST[:8]), "little")
        for row, identity in zip(rows, ids, strict=True)
    ]
    checksums = row_checksums(rows, ids, DIGEST)
    assert checksums.dtype == np.uint32
    assert checksums.tolist() == expected
    assert row_checksums(rows[::-1], ids[::-1], DIGEST).tolist() == expected[::-1], "strided rows"
    assert row_checksums(np.asfortranarray(rows), ids, DIGEST).tolist() == expected


def test_row_checksums__tell_images_models_signs_and_elements_apart() -> None:
    rows = np.array([[1, 2, 3], [1, 2, 3], [1, 3, 2], [1, 2, -3], [0.0, 2, 3], [-0.0, 2, 3]], dtype=np.float32)
    ids = np.array([np.frombuffer(content_id(bytes([image])), dtype=np.uint8) for image in (0, 1, 0, 0, 0, 0)])
    checksums = [*row_checksums(rows, ids, DIGEST), *row_checksums(rows, ids, Fingerprint({"weights": "abd"}).digest)]
    assert len({int(checksum) for checksum in checksums}) == 12
