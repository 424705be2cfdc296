from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from dvme.heads.tuned.finetune import Finetune
from dvme.paper.about_heads import about_heads
from dvme.paper.material import Material
from dvme.training.recipe import Recipe
from dvme.training.schedule import TrainingProtocol

FUSION = {"name": "dvme", "protocol": asdict(TrainingProtocol())}


def said(run: Path, head: str, settings: dict[str, Any]) -> str:
    """Of one head on the first backbone of a run."""
    material = Material.of(run)
    backbone = material.described["backbones"][0]["name"]
    method = {"head": head, "name": head, "backbones": [backbone], "settings": settings}
    return about_heads(replace(material, described={**material.described, "methods": [method]}))


def test_about_heads__how_minibatches_were_drawn(small_study: Path, several: Path) -> None:
    """An image with several findings is drawn for its rarest one; fine-tuning draws such images in random order."""
    assert ", with every class equally often where the classes differ in number, for 30" in said(
        small_study / "run", "dvme", FUSION
    )
    drawn = "with images of every finding equally often, each by its rarest, where these differ in number, for 30"
    assert drawn in said(several / "run", "dvme", FUSION)
    shuffled = FUSION | {"protocol": asdict(TrainingProtocol(sampling="shuffled"))}
    assert ", in random order, for 30" in said(several / "run", "dvme", shuffled)
    tuned = asdict(Finetune())
    assert "minibatches of 32 images in random order" in said(several / "run", "finetune", tuned)
    assert "minibatches of 32 images with every class equally often where" in said(
        small_study / "run", "finetune", tuned
    )


def test_about_heads__fine_tuning(small_study: Path) -> None:
    text = said(small_study / "run", "finetune", asdict(Finetune()))
    assert "began as the linear head of the same images [@kumar2022finetuning]: AdamW at a rate of 3e-05" in text
    assert "from images mirrored left to right in half of the cases, turned by up to 7 degrees and cut to" in text
    assert "rate and epoch were chosen by the validation loss, of weights averaged exponentially over 1 epoch," in text
    settings = asdict(Finetune(protocol="truong2021", recipe=Recipe(layers="last-2", average_epochs=0.0)))
    text = said(small_study / "run", "finetune", settings)
    assert ", after the protocol of [@truong2021transferable]: AdamW" in text
    assert "; the last 2 layers learned, from images" in text
    assert "averaged" not in text


def test_about_heads__how_k_was_chosen(small_study: Path) -> None:
    settings = {"neighbours": [1, 5], "choose_by": "study", "standard_errors": 1.0}
    text = said(small_study / "run", "knn", settings)
    assert "k is the largest of 1 and 5 that is not worse than the best by more than 1 standard error of the" in text
    assert "the difference in AUC on validation." in text
    assert "by more than 2 standard errors of" in said(small_study / "run", "knn", settings | {"standard_errors": 2.0})
    assert "that is not worse than any other in AUC" in said(
        small_study / "run", "knn", settings | {"standard_errors": 0}
    )


def test_about_heads__an_approximate_search_with_its_lowest_recall(small_study: Path) -> None:
    material = Material.of(small_study / "run")
    chosen = {"recall_at": 200, "recall_queries": 500, "n_probes": 8, "n_lists": 1000}
    lowest = chosen | {"recall": 0.9951, "recall_low": 0.9912}
    of_head = replace(material.summary.cells[0], head="knn", chosen=[lowest | {"recall_low": 0.993}, lowest])
    settings = {"neighbours": [5], "choose_by": "study", "standard_errors": 1.0}
    method = {"head": "knn", "name": "knn", "backbones": ["one"], "settings": settings}
    described = {**material.described, "methods": [method]}
    text = about_heads(replace(material, described=described, summary=replace(material.summary, cells=[of_head])))
    assert "; neighbours were searched approximately, in 8 of 1,000 inverted lists of each bank [@douze2024" in text
    assert "a recall of 0.995 (lower end of the 95% interval 0.991) of the 200 nearest of 500 sampled images." in text
    assert "approximately" not in about_heads(replace(material, described=described))


def test_about_heads__one_of_somebody_s_own(small_study: Path) -> None:
    assert said(small_study / "run", "mine`s", {}).startswith("`` mine`s ``, on `one`, is a head of our own [cite].")
