"""What the help says: the tour of the package, and an example of every public function, run as it stands."""

from __future__ import annotations

import doctest
import inspect
import io
import operator
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import dvme
from dvme import cache
from dvme.shown.result import MOST_LINES as MOST_LINES_SHOWN
from dvme.shown.result import Shown
from dvme_cache import EmbeddingCache, Fingerprint

MODULES = ("cache", "report")
OWN = [name for name in dvme.__all__ if name not in MODULES]
PUBLIC = [*OWN, *(f"cache.{name}" for name in cache.__all__ if name.islower()), "report.learning_curve"]
N_IMAGES, MOST_LINES = 40, 3


@pytest.fixture(scope="module")
def prepared(
    tmp_path_factory: pytest.TempPathFactory,
    save_image: Callable[..., Path],
    make_features: Callable[..., NDArray[Any]],
) -> Iterator[Path]:
    """The folder in which the examples are typed: images, their cache, a finished run, and what else they name."""
    root = tmp_path_factory.mktemp("examples")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        for level, name in enumerate(("dark", "light")):
            for index in range(N_IMAGES // 2):
                save_image(root / "images" / name / f"{index:02d}.png", seed=100 * level + index, level=2 * level)
        dvme.extract("images", "my.zarr", backbones=["efficientnet-lite0"])
        with EmbeddingCache.writing("my.zarr") as store:
            values = make_features((store.column("label") == "light").astype(np.int64), 0.5, 0)
            made_up = Fingerprint({"weights": "made up"})
            table = store.ensure_embeddings("dino", made_up, dim=8, dtype="float32", provenance={})
            for shard in table.pending_shards():
                table.commit(shard, values[shard], {})
        dvme.sweep("my.zarr", "run", heads=["linear", "concat"], options={"sizes": "8,full", "n_folds": 2})
        shutil.copytree("run", "other-run")
        lines = [f"{path.relative_to(root)},{path.parent.name}" for path in sorted((root / "images").rglob("*.png"))]
        Path("labels.csv").write_text("\n".join(["image,label", *lines]))
        np.savez("vectors.npz", features=values[:6], ids=np.array([f"{index}.png" for index in range(6)]))
        for index in range(3):
            save_image(root / "aptos2019" / "train_images" / f"a{index}.png", seed=200 + index)
        Path("aptos2019/train.csv").write_text("id_code,diagnosis\na0,0\na1,2\na2,0\n")
        yield root


def _examples(name: str) -> doctest.DocTest:
    text = operator.attrgetter(name)(dvme).__doc__ or ""
    return doctest.DocTestParser().get_doctest(inspect.cleandoc(text), {"dvme": dvme}, name, None, None)


@pytest.mark.parametrize("name", PUBLIC)
def test_example__runs(prepared: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(prepared)
    test, said = _examples(name), io.StringIO()
    assert 0 < len(test.examples) <= MOST_LINES
    done = doctest.DocTestRunner(verbose=False).run(test, out=said.write, clear_globs=False)
    assert done.failed == 0, said.getvalue()
    for value in test.globs.values():
        if isinstance(value, Shown):
            _assert_shown(value)


def _assert_shown(result: Shown) -> None:
    """In each of its forms, and in none of them pages long."""
    assert len(repr(result)) < 3000
    assert len(repr(result).splitlines()) <= MOST_LINES_SHOWN + 1
    assert len(result._repr_html_()) < 20_000
    assert len(result.to_frame().columns) == len({*result.to_frame().columns})
    assert "\\begin{tabular}" in result.to_latex()
    assert result.to_markdown().startswith("|")


def test_tour__fits_a_screen_and_leaves_no_function_out() -> None:
    lines = (dvme.__doc__ or "").strip().splitlines()
    assert 25 <= len(lines) <= 40
    indented = [re.match(r" {4}([\w, .]+?) {2,}", line) for line in lines]
    shown = {name for found in indented if found for name in re.findall(r"\w+", found[1])}
    assert shown <= {*dvme.__all__}
    assert {name for name in OWN if name.islower()} - {"silent"} <= shown


def test_public_sets__each_is_a_line() -> None:
    for each in dvme.public_sets():
        assert repr(each).startswith(f"PublicSet: {each.name}, ")
        assert "\n" not in repr(each)
        _assert_shown(each)
