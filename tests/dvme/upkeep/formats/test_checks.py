"""A bundle that no cache can hold is refused, whichever file it came from."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dvme.upkeep.formats.bundle import Bundle
from dvme.upkeep.formats.checks import check_rows, checked_blocks

MakeBundle = Callable[..., Bundle]


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("content_ids", lambda ids: ids[:-1], r"content ids have shape \(9, 16\), its header says 10 rows"),
        ("content_ids", lambda ids: ids * 0, "all zeros or all ones"),
        ("content_ids", lambda ids: ids | 0xFF, "all zeros or all ones"),
        ("content_ids", lambda ids: ids[[0, *range(9)]], "stands in two rows"),
        ("content_ids", lambda ids: ids.astype(np.int64), "dtype int64"),
        ("paths", lambda paths: paths[:4], r"first_seen has shape \(4,\)"),
        ("paths", lambda paths: np.where(paths == paths[0], "", paths), "path is empty"),
        ("columns", lambda _: {"content_id": np.array(["a"], dtype=object)}, r"content_id has shape \(1,\)"),
    ],
)
def test_check_rows__impossible_rows(
    name: str, change: Callable[[Any], Any], message: str, make_bundle: MakeBundle
) -> None:
    bundle = make_bundle(10)
    check_rows(bundle)
    with pytest.raises(ValueError, match=message):
        check_rows(dataclasses.replace(bundle, **{name: change(getattr(bundle, name))}))


def test_check_rows__no_rows(make_bundle: MakeBundle) -> None:
    with pytest.raises(ValueError, match="it has no rows"):
        check_rows(make_bundle(0))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("states", np.full(10, 3, dtype=np.uint8), "a state that is none of pending, done, failed"),
        ("reasons", np.array(["x"], dtype=object), r"dino:reason has shape \(1,\)"),
    ],
)
def test_check_rows__impossible_states(field: str, value: Any, message: str, make_bundle: MakeBundle) -> None:
    bundle = make_bundle(10)
    rows = dataclasses.replace(bundle.embeddings["dino"], **{field: value})
    with pytest.raises(ValueError, match=message):
        check_rows(dataclasses.replace(bundle, embeddings={**bundle.embeddings, "dino": rows}))


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (np.zeros((10, 4), dtype=np.float16), "another shape or dtype"),
        (np.zeros((10, 3), dtype=np.float32), "another shape or dtype"),
        (np.zeros((11, 3), dtype=np.float16), "another shape or dtype"),
        (np.zeros((9, 3), dtype=np.float16), "9 rows of features, its header says 10"),
        (np.full((10, 3), np.inf, dtype=np.float16), "not finite for an image that is done: class/0.png"),
    ],
)
def test_checked_blocks__other_features_than_promised(block: Any, message: str, make_bundle: MakeBundle) -> None:
    bundle = make_bundle(10)
    rows = dataclasses.replace(bundle.embeddings["dino"], blocks=lambda: iter([block]))
    other = dataclasses.replace(bundle, embeddings={**bundle.embeddings, "dino": rows})
    with pytest.raises(ValueError, match=message):
        list(checked_blocks(other, other.header.backbones[0]))
