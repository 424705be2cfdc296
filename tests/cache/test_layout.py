"""Shard sizes, folder names, and which files are kept twice: by hand and as invariants."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dvme_cache.layout import backbone_names, copy_of, encoded, is_kept_twice, shard_rows


@pytest.mark.parametrize(
    ("n_rows", "rows"),
    [
        (0, 64),
        (1, 64),
        (800, 64),
        (2_624, 64),
        (16_384, 64),  # 256 shards of 64 exactly
        (16_640, 128),  # 65 rows a shard would do: the next power of two
        (1_000_000, 4_096),  # 3,906
        (100_000_000, 32_768),  # 390,625, more than a shard may hold
    ],
)
def test_shard_rows__by_hand(n_rows: int, rows: int) -> None:
    assert shard_rows(n_rows) == rows


@pytest.mark.parametrize(
    ("n_rows", "row_bytes", "rows"),
    [
        (1_000_000, 2048 * 4, 4_096),  # 32 MiB: as ever
        (100_000_000, 2048 * 2, 32_768),  # 128 MiB exactly
        (800, 196 * 384 * 2, 64),  # 10 MB
        (1_000_000, 196 * 384 * 2, 512),  # 891 fit, the power of two below
        (800, 4 * 1024 * 768 * 4, 8),  # 12.6 MB a row: 10 fit
        (800, 1 << 27, 1),
        (800, 1 << 30, 1),  # one row at least
    ],
)
def test_shard_rows__of_long_rows_a_shard_has_128_mib_at_most(n_rows: int, row_bytes: int, rows: int) -> None:
    assert shard_rows(n_rows, row_bytes) == rows
    assert shard_rows(n_rows, row_bytes, asked=1) == 1
    assert shard_rows(n_rows, row_bytes, asked=10**6) == max(1, (1 << 27) // row_bytes)


@given(st.integers(0, 10**9))
def test_shard_rows__is_a_bounded_power_of_two(n_rows: int) -> None:
    rows = shard_rows(n_rows)
    assert rows in {64 << power for power in range(10)}  # 64 to 32,768
    if 64 < rows < 32_768:
        assert 128 <= n_rows / rows <= 260


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("m", "m"),
        ("timm:resnet18.a1_in1k", "timm%3Aresnet18.a1_in1k"),
        ("hf-hub:a/b", "hf-hub%3Aa%2Fb"),
        ("100%", "100%25"),
        ("ä b", "%C3%A4%20b"),
        (".", "%2E"),
        ("..", "%2E%2E"),
        (".m.partial", "%2Em%2Epartial"),
        ("zarr.json", "zarr%2Ejson"),
    ],
)
def test_encoded__by_hand(name: str, folder: str) -> None:
    assert encoded(name) == folder
    assert unquote(folder) == name


@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=9)
    | st.text("%:/25AFa.", min_size=1, max_size=9)
)
@example("\\")
def test_encoded__round_trips_as_one_harmless_folder(name: str) -> None:
    folder = encoded(name)
    assert unquote(folder) == name
    assert folder.isascii()
    assert not set(folder) & set("/:\\\0")
    assert folder not in {".", "..", "zarr.json"}


@given(st.text("%:/2Ea.", min_size=1, max_size=6), st.text("%:/2Ea.", min_size=1, max_size=6))
def test_encoded__never_gives_two_names_one_folder(one: str, other: str) -> None:
    assert (encoded(one) == encoded(other)) == (one == other)


@pytest.mark.parametrize(
    ("key", "is_twice"),
    [
        ("zarr.json", True),
        ("samples/content_id/c/0/0", True),
        ("tables/00000001/label/c/0", True),
        ("tables/00000001/c/c/0", True),
        ("embeddings/zarr.json", True),
        ("embeddings/m/reason/zarr.json", True),
        ("embeddings/m/features/c/0/0", False),
        ("embeddings/m/reason/c/0", False),
        ("copies/zarr.json", False),
        pytest.param("embeddings/c/zarr.json", True),
        pytest.param("embeddings/c/state/zarr.json", True),
        ("embeddings/c/state/c/0", False),
    ],
)
def test_is_kept_twice__all_but_chunks_of_embeddings(key: str, is_twice: bool) -> None:
    assert is_kept_twice(key) is is_twice
    assert not is_kept_twice(copy_of(key)), "a copy has no copy"


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ('{"attributes": {"backbones": ["swav", "dino"]}}', ["dino", "swav"]),
        ('{"attributes": {}}', []),
        ("[]", []),
        ("no JSON", []),
        (None, []),
    ],
)
def test_backbone_names__of_whatever_lies_there(content: str | None, names: list[str], tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "embeddings").mkdir()
        (tmp_path / "embeddings" / "zarr.json").write_text(content)
    assert backbone_names(tmp_path) == names
