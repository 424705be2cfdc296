"""Bundles of a few rows, and what they hold as plain values to compare."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dvme.upkeep.formats.bundle import BackboneHeader, Bundle, EmbeddedRows, Header, row_slices, text_array

MakeBundle = Callable[..., Bundle]
Contents = Callable[[Bundle], dict[str, Any]]


@pytest.fixture(autouse=True)
def skip_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the disk."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture(scope="session")
def make_bundle() -> MakeBundle:
    """A bundle of n rows; every third row failed and every seventh is pending, for every backbone."""

    def make(n_rows: int = 10, backbones: dict[str, tuple[int, str]] | None = None, **columns: list[str]) -> Bundle:
        backbones = {"dino": (3, "float16"), "timm:a/b": (2, "float32")} if backbones is None else backbones
        digests = [hashlib.blake2b(b"%d" % row, digest_size=16).digest() for row in range(n_rows)]
        rng = np.random.default_rng(n_rows)
        embeddings, headers = {}, []
        for name, (dim, dtype) in backbones.items():
            states = np.array(
                [2 if row % 3 == 2 else 0 if row % 7 == 6 else 1 for row in range(n_rows)], dtype=np.uint8
            )
            features = rng.standard_normal((n_rows, dim)).astype(dtype)
            features[states != 1] = np.nan
            reasons = text_array(["not an image, or torn" if state == 2 else "" for state in states])
            embeddings[name] = EmbeddedRows(
                states, reasons, lambda table=features: (table[window] for window in row_slices(len(table)))
            )
            headers.append(BackboneHeader(name, dim, dtype, {"weights": name, "size": 224}, {"created": "today"}))
        values = {name: text_array(column) for name, column in columns.items()}
        return Bundle(
            header=Header(n_rows, tuple(values), tuple(headers)),
            content_ids=np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, 16),
            paths=text_array([f"class/{row}.png" for row in range(n_rows)]),
            columns=values,
            embeddings=embeddings,
        )

    return make


@pytest.fixture(scope="session")
def contents() -> Contents:
    """Everything in a bundle as plain values; features as their bytes, except where there are none."""

    def plain(bundle: Bundle) -> dict[str, Any]:
        embeddings = {}
        for name, rows in bundle.embeddings.items():
            features = np.concatenate(list(rows.blocks()))
            assert np.isnan(features[rows.states != 1]).all()
            embeddings[name] = (
                rows.states.tolist(),
                rows.reasons.tolist(),
                features.shape,
                features.dtype.name,
                np.ascontiguousarray(features[rows.states == 1]).tobytes(),
            )
        return {
            "header": bundle.header,
            "content_ids": bundle.content_ids.tolist(),
            "paths": bundle.paths.tolist(),
            "columns": {name: values.tolist() for name, values in bundle.columns.items()},
            "embeddings": embeddings,
        }

    return plain
