"""Streams into shards: any order, any block size, every shard once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dvme.errors import DataError
from dvme.upkeep.committing import commit_blocks
from dvme_cache import EmbeddingCache, Embeddings, Fingerprint, content_id

N_ROWS, DIM = 300, 2


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("committing") / "c.zarr"
    with EmbeddingCache.writing(path) as store:
        store.samples.add([content_id(b"%d" % row) for row in range(N_ROWS)], [f"{row}.png" for row in range(N_ROWS)])
    return path


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_commit_blocks__what_is_wanted_lies_in_its_row(data: st.DataObject, cache: Path) -> None:
    rows = np.array(data.draw(st.lists(st.integers(0, N_ROWS - 1), unique=True, min_size=1)))
    if data.draw(st.booleans()):
        rows = np.sort(rows)
    is_wanted = np.array(data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows))))
    size = data.draw(st.integers(1, len(rows)))
    features = (rows[:, None] + np.array([[0.5, -0.25]])).astype(np.float32)
    failed = {int(row): f"row {row}" for row in rows[::5]}
    with EmbeddingCache.writing(cache) as store:
        store.remove_embeddings("x")
        made = store.ensure_embeddings("x", Fingerprint({}), dim=DIM, dtype="float32", provenance={})
        blocks = lambda: (features[start : start + size] for start in range(0, len(rows), size))  # noqa: E731
        told = list(commit_blocks(made, rows, blocks, is_wanted=is_wanted, reasons=failed))
    assert told == sorted(told)
    assert (told or [0])[-1] == is_wanted.sum()
    wanted = rows[is_wanted]
    done = np.array([row for row in wanted.tolist() if row not in failed], dtype=np.int64)
    states = made.states()
    assert (np.flatnonzero(states == 1) == np.sort(done)).all()
    assert np.flatnonzero(states == 2).tolist() == sorted(set(wanted.tolist()) & set(failed))
    np.testing.assert_array_equal(made.read(done), (done[:, None] + np.array([[0.5, -0.25]])).astype(np.float32))
    assert all(made.reasons()[row] == failed.get(row, "") for row in wanted.tolist())


def test_commit_blocks__every_shard_is_written_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards: list[int] = []
    commit = Embeddings.commit

    def counted(self: Embeddings, rows: np.ndarray, *arguments: object) -> None:
        shards.append(int(rows[0]) // self.shard_rows)
        commit(self, rows, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Embeddings, "commit", counted)
    rows = np.random.default_rng(0).permutation(N_ROWS)
    features = np.ones((N_ROWS, DIM), dtype=np.float16)
    with EmbeddingCache.writing(cache) as store:
        made = store.ensure_embeddings("once", Fingerprint({}), dim=DIM, dtype="float16", provenance={})
        blocks = lambda: (features[start : start + 7] for start in range(0, N_ROWS, 7))  # noqa: E731
        list(commit_blocks(made, rows, blocks, is_wanted=np.ones(N_ROWS, dtype=bool), reasons={}))
    assert shards == list(range(made.n_shards))


def test_commit_blocks__stream_that_ends_early(cache: Path) -> None:
    with EmbeddingCache.writing(cache) as store:
        made = store.ensure_embeddings("short", Fingerprint({}), dim=DIM, dtype="float32", provenance={})
        blocks = lambda: iter([np.ones((100, DIM), dtype=np.float32)])  # noqa: E731
        with pytest.raises(DataError, match="became shorter while it was imported"):
            list(commit_blocks(made, np.arange(N_ROWS), blocks, is_wanted=np.ones(N_ROWS, dtype=bool), reasons={}))
    assert int((made.states() == 1).sum()) == made.shard_rows
