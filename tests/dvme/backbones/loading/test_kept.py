from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dvme.backbones import get_spec
from dvme.backbones.loading.kept import kept_names, kept_spec
from dvme.backbones.own.custom import spec_from_architecture, spec_to_mapping
from dvme.errors import DataError, UnknownNameError
from dvme_cache import EmbeddingCache, Embeddings, Fingerprint


@pytest.fixture
def kept(tmp_path: Path) -> Callable[..., Embeddings]:
    """Embeddings of a name, in a cache of no images, with what it says of the spec and how they were made."""

    def make(name: str, made: str = "a", **provenance: object) -> Embeddings:
        with EmbeddingCache.writing(tmp_path / "c.zarr") as cache:
            cache.ensure_embeddings(name, Fingerprint({made: "x"}), dim=2, dtype="float32", provenance=provenance)
        return EmbeddingCache.open(tmp_path / "c.zarr").embeddings(name)

    return make


def test_kept_names__variations_in_any_order(tmp_path: Path) -> None:
    names = ["dino@dense=last@size=64", "dino", "x@y"]
    with EmbeddingCache.writing(tmp_path / "c.zarr") as cache:
        for name in names:
            cache.ensure_embeddings(name, Fingerprint({"a": "x"}), dim=2, dtype="float32", provenance={})
    cache = EmbeddingCache.open(tmp_path / "c.zarr")
    assert kept_names(cache, ["dino@size=64@dense=last", "x@y", "swav@size=32@pool=max", "dino"]) == [
        names[0],
        "x@y",
        "swav@size=32@pool=max",
        "dino",
    ]


def test_kept_spec__a_known_name_stands_for_what_it_says_now(kept: Callable[..., Embeddings]) -> None:
    old = replace(get_spec("dino"), method="of an older version")
    assert kept_spec(kept("dino@size=64", spec=spec_to_mapping(old))) == get_spec("dino@size=64")
    assert kept_spec(kept("random")) == get_spec("random")


def test_kept_spec__the_users_own_is_what_the_cache_kept(kept: Callable[..., Embeddings]) -> None:
    own = spec_from_architecture("mine", "test_resnet")
    assert kept_spec(kept("mine", spec=spec_to_mapping(own))) == own


def test_kept_spec__of_nothing_known(kept: Callable[..., Embeddings]) -> None:
    with pytest.raises(UnknownNameError, match="unknown backbone 'imported'"):
        kept_spec(kept("imported", spec=None))


@pytest.mark.parametrize("field", ["imported", "made_by"])
def test_kept_spec__of_imported_embeddings(kept: Callable[..., Embeddings], field: str) -> None:
    """Whose name, however near to one that is known, is no backbone's."""
    with pytest.raises(DataError, match=r"^mine was imported, and no model of it is known$"):
        kept_spec(kept("mine", field))
    assert kept_spec(kept("dino", field)) == get_spec("dino")
