"""Names, lists and settings as callers write them: taken for what they mean, or refused in one line."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from light import light
from numpy.typing import NDArray

import dvme
from dvme.arguments import head_names, listed, names
from dvme.errors import ArgumentError, OptionError
from dvme.heads import get_head

N = 40
LABELS = np.arange(N) % 2


@pytest.fixture(scope="module")
def cache(
    tmp_path_factory: pytest.TempPathFactory,
    write_embeddings: Callable[..., Path],
    make_features: Callable[..., NDArray[Any]],
) -> Path:
    features = {name: make_features(LABELS, 1.0, seed) for seed, name in enumerate(("dino", "swav"))}
    root = tmp_path_factory.mktemp("arguments")
    return write_embeddings(root / "c.zarr", features, label=[f"{label}" for label in LABELS])


@pytest.mark.parametrize(
    "given",
    [
        ["dino", "swav"],
        ("dino", "swav"),
        (name for name in ("dino", "swav")),
        iter(["dino", "swav"]),
        np.array(["dino", "swav"]),
        pd.Series(["dino", "swav"]),
        {"dino": 1, "swav": 2}.keys(),
        [Path("dino"), "swav"],
    ],
    ids=lambda given: type(given).__name__,
)
def test_names__several_of_any_kind(given: Any) -> None:
    found = names(given, "backbones")
    assert found == ("dino", "swav")
    assert {type(name) for name in found} == {str}


def test_names__a_text_or_a_path_is_one() -> None:
    assert names("dino", "backbones") == ("dino",)
    assert names(Path("my/model.toml"), "backbones") == ("my/model.toml",)
    assert head_names("linear", "heads") == ("linear",)
    assert head_names(get_head("knn"), "heads") == (get_head("knn"),)


@pytest.mark.parametrize("given", [None, 5, b"dino", {"dino": 1}, {"dino"}, ["dino", 5], [["dino"]], np.array("dino")])
def test_names__anything_else_is_one_line(given: Any) -> None:
    for taken, what in ((names, "backbones"), (listed, "class_order")):
        with pytest.raises(ArgumentError, match=f"^{what} takes .*such as") as caught:
            taken(given, what)
        assert isinstance(caught.value, TypeError)
        assert "\n" not in str(caught.value)
    with pytest.raises(ArgumentError, match=re.escape("class_order takes a list of names such as ['none', ")):
        listed("abc", "class_order")


def test_probe__takes_a_head_a_backbone_and_settings_as_text(cache: Path) -> None:
    head = light("linear")[0]
    alone = dvme.probe(cache, heads=head, backbones="dino", n_folds=2, runtime={"device": "cpu"})  # type: ignore[arg-type]
    listed_ = dvme.probe(cache, heads=[head], backbones=["dino"], n_folds=2, runtime=dvme.Runtime(device="cpu"))
    timeless = [
        replace(each, seconds={}, cells=[replace(cell, seconds=0.0) for cell in each.cells])
        for each in (alone, listed_)
    ]
    assert timeless[0].to_json() == timeless[1].to_json()
    assert [(row.backbones, row.head) for row in alone.rows] == [(("dino",), head)]
    assert dvme.probe(cache, heads=get_head("knn"), n_folds=2).rows[0].head == "knn"  # type: ignore[arg-type]


def test_options__take_texts() -> None:
    assert dvme.SubsetOptions(sizes="10, 50%,full").sizes == ("10", "50%", "full")  # type: ignore[arg-type]
    assert dvme.SubsetOptions(sizes=10).sizes == ("10",)  # type: ignore[arg-type]
    assert dvme.SubsetOptions(sizes=[10, "full"]).sizes == ("10", "full")  # type: ignore[arg-type]
    assert dvme.SubsetOptions(sizes=np.array([10, 20])).sizes == ("10", "20")  # type: ignore[arg-type]
    assert dvme.PageOptions(methods="pca").methods == ("pca",)


def test_load_samples__columns_as_a_mapping(tmp_path: Path, save_image: Callable[..., Path]) -> None:
    save_image(tmp_path / "a.png", seed=0)
    (tmp_path / "m.csv").write_text("image,diagnosis\na.png,sick\n")
    samples = dvme.load_samples(tmp_path / "m.csv", {"label": "diagnosis"})  # type: ignore[arg-type]
    assert list(samples.labels) == ["sick"]


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("extract", {"backbones": None}, "backbones takes a name, or a list of names such as ['dino', 'swav'], not None"),
    (
        "extract",
        {"backbones": "dino", "columns": "diagnosis"},
        "columns takes a dvme.Columns, or a mapping with any of",
    ),
    ("extract", {"backbones": "dino", "columns": {"labels": "x"}}, "image, label, split, group, label_separator"),
    ("extract", {"backbones": "dino", "class_order": "none,mild"}, "class_order takes a list"),
    ("extract", {"backbones": "dino", "weights": "dino=x.pth"}, "weights takes a mapping of names to values"),
    ("plan_extraction", {"backbones": 5}, "backbones takes a name"),
    ("probe", {"heads": b"linear"}, "heads takes a head, or a list of heads such as ['linear', 'knn'], not b'linear'"),
    ("probe", {"by": 3}, "by takes a name, or a list of names such as ['sex', 'age:0-40-60-120'], not 3"),
    ("probe", {"heads": {"linear"}}, "a set has no order"),
    ("probe", {"runtime": "cpu"}, "runtime takes a dvme.Runtime, or a mapping with any of device, batch_size"),
    ("sweep", {"options": {"size": "full"}}, "options takes a dvme.SubsetOptions, or a mapping with any of sizes"),
    ("sweep", {"backbones": b"dino"}, "backbones takes a name"),
    ("subsets", {"backbones": 1.5}, "backbones takes a name"),
    ("viz", {"options": ["pca"]}, "options takes a dvme.PageOptions"),
    ("write_report", {"options": "pca"}, "options takes a dvme.PageOptions"),
    (
        "predict",
        {"submission": "id_code,diagnosis"},
        "submission takes a list of names such as ['id_code', 'diagnosis']",
    ),
    ("compare", {"stands_for": "swav=dino"}, "stands_for takes a mapping"),
    ("explain", {"runtime": 3}, "runtime takes a dvme.Runtime"),
    ("cache.verify", {"backbones": 0}, "backbones takes a name"),
    ("cache.label", {"columns": {"keep": 3}}, "keep takes a name, or a list of names such as ['age', 'sex'], not 3"),
    ("cache.export", {"backbones": [1]}, "not 1 (int) in it"),
    ("cache.prune", {"columns": "file"}, "columns takes a dvme.Columns"),
    ("cache.import_embeddings", {"class_order": [0, 1]}, "not 0 (int) in it"),
]


@pytest.mark.parametrize(("function", "given", "said"), REFUSED)
def test_public_functions__refuse_before_they_look_at_a_file(
    function: str, given: dict[str, Any], said: str, tmp_path: Path
) -> None:
    places: dict[str, Any] = {
        "extract": (tmp_path / "images", tmp_path / "c.zarr"),
        "plan_extraction": (tmp_path / "images", tmp_path / "c.zarr"),
        "sweep": (tmp_path / "c.zarr", tmp_path / "run"),
        "predict": (tmp_path / "head", tmp_path / "images"),
        "explain": (tmp_path / "head", tmp_path / "c.zarr"),
        "cache.export": (tmp_path / "c.zarr", tmp_path / "e.h5"),
        "cache.prune": (tmp_path / "c.zarr", tmp_path / "images"),
        "cache.import_embeddings": (tmp_path / "e.h5", tmp_path / "c.zarr"),
    }
    out = {"out": tmp_path / "out"} if function in {"viz", "write_report", "predict"} else {}
    module, _, name = function.rpartition(".")
    called = getattr(dvme.cache if module else dvme, name)
    with pytest.raises(ArgumentError) as caught:
        called(*places.get(function, (tmp_path / "c.zarr",)), **out, **given)
    assert said in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_public_functions__none_is_the_default(cache: Path) -> None:
    assert len(dvme.probe(cache, heads="knn", backbones=None, runtime=None, n_folds=2).rows) == 2
    with pytest.raises(OptionError, match="is no head"):
        dvme.probe(cache, heads=[5])  # type: ignore[list-item]
    with pytest.raises(TypeError, match=r"probe\(\) got an unexpected keyword argument 'head'"):
        dvme.probe(cache, head="knn")  # type: ignore[call-arg]
    assert "Train heads on cached embeddings" in (dvme.probe.__doc__ or "")
