"""Which backbones a run means, which file each of them gets, and what is kept of where it came from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from dvme import Runtime
from dvme.backbones import Preprocess, get_spec
from dvme.backbones.description.variation import vary
from dvme.backbones.loading.model import load_backbone
from dvme.backbones.own.custom import spec_from_mapping
from dvme.errors import DataError, OptionError, UnknownNameError, WeightsError
from dvme.extraction.models import Choice, check_dtype, check_fingerprints, load_known, provenance, recall_backbones
from dvme_cache import EmbeddingCache, FingerprintMismatchError

SMALL = Preprocess(resize=32, crop=32)
CPU = Runtime(device="cpu")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def names_of(choice: Choice) -> list[str]:
    return [spec.name for spec in choice.specs()]


def refused(choice: Choice, kind: type[Exception] = OptionError) -> str:
    with pytest.raises(kind) as caught:
        choice.specs()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_choice__names_become_canonical() -> None:
    choice = Choice(names=["dino@size=448@pool=average", "dino@size=224", "supervised"])
    assert names_of(choice) == ["dino@pool=average@size=448", "dino", "supervised"]
    assert choice.specs()[0] == get_spec("dino@pool=average@size=448")


def test_choice__nothing_named() -> None:
    assert "no backbone is named; pass backbones=" in refused(Choice(names=[]))


@pytest.mark.parametrize(
    "names",
    [
        ["dino", "dino"],
        ["dino", "dino@size=224"],
        ["dino@pool=average@size=64", "supervised", "dino@size=64@pool=average"],
    ],
)
def test_choice__one_named_twice_however_it_is_written(names: list[str]) -> None:
    assert refused(Choice(names=names)) == f"a backbone is named twice in {','.join(names)}; name each once"


def test_choice__a_variation_is_another_backbone() -> None:
    assert names_of(Choice(names=["dino", "dino@size=64"])) == ["dino", "dino@size=64"]


def test_choice__unknown_name() -> None:
    assert "did you mean 'swav'" in refused(Choice(names=["swaw"]), UnknownNameError)
    assert "crop 224 must be within 1 and resize 10" in refused(Choice(names=["swav@resize=10"]))


def test_choice__weights_by_base_or_by_the_whole_name(tmp_path: Path) -> None:
    names = ["dino", "dino@size=64", "swav"]
    choice = Choice(names=names, weights={"dino": "a.pth", "dino@size=64": tmp_path / "b.pth"})
    files = {spec.name: choice.file_of(spec) for spec in choice.specs()}
    assert files == {"dino": Path("a.pth"), "dino@size=64": tmp_path / "b.pth", "swav": None}


def test_choice__weights_of_the_base_serve_a_variation_alone() -> None:
    choice = Choice(names=["dino@in-chans=1"], weights={"dino": "a.pth"})
    assert choice.file_of(choice.specs()[0]) == Path("a.pth")


def test_choice__weights_of_a_hub_model_at_a_revision(tmp_path: Path) -> None:
    spec = replace(get_spec("timm:resnet18@size=64"), name="hf-hub:lab/net@v1.0@size=64")
    assert Choice(names=[], weights={"hf-hub:lab/net@v1.0": "a.pth"}).file_of(spec) == Path("a.pth")
    assert Choice(names=[], weights={"hf-hub:lab/net": "a.pth"}).file_of(spec) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": {"swav": "x"}}, "weights names swav, but backbones does not; name it"),
        ({"weights": {"swav": "x", "dino": "y", "byol": "z"}}, "weights names byol, swav, but backbones does not"),
        ({"architectures": {"mine": "resnet18"}}, "architectures names mine, but backbones does not; name it"),
    ],
)
def test_choice__options_for_what_is_not_named(options: dict[str, Any], message: str) -> None:
    assert refused(Choice(names=["dino"], **options)).startswith(message)


def test_choice__architecture_of_a_file() -> None:
    choice = Choice(
        names=["mine", "mine@size=64", "dino"], weights={"mine": "a.pth"}, architectures={"mine": "resnet18"}
    )
    mine, small, dino = choice.specs()
    assert (mine.name, mine.architecture, mine.pooling) == ("mine", "resnet18", "model")
    assert (small.name, small.preprocess.crop) == ("mine@size=64", 64)
    assert dino == get_spec("dino")
    assert [choice.file_of(spec) for spec in (mine, small, dino)] == [Path("a.pth"), Path("a.pth"), None]


def test_choice__architecture_for_a_known_name() -> None:
    message = refused(Choice(names=["dino"], architectures={"dino": "resnet18"}), DataError)
    assert message == "architectures: dino is a backbone that dvme knows; choose another name"


def test_choice__architecture_that_there_is_not() -> None:
    choice = Choice(names=["mine"], architectures={"mine": "resnet81"})
    assert "architectures={'mine': 'resnet81'}: there is no such architecture; did you mean" in refused(
        choice, UnknownNameError
    )


def test_recall_backbones__each_with_its_file(tmp_path: Path) -> None:
    model = timm.create_model("test_resnet", num_classes=3)
    torch.save(model.state_dict(), tmp_path / "w.pth")
    choice = Choice(
        names=["mine@size=32", "random@size=32", "mine@size=32@in-chans=1"],
        weights={"mine": tmp_path / "w.pth"},
        architectures={"mine": "test_resnet"},
    )
    mine, random, grey = load_known(recall_backbones(choice, CPU))
    assert [item.spec.name for item in (mine, random, grey)] == [
        "mine@size=32",
        "random@size=32",
        "mine@size=32@in-chans=1",
    ]
    assert (mine.dim, random.dim) == (model.num_features, 2048)
    assert len({item.weights_hash for item in (mine, random, grey)}) == 3
    assert str(mine.device) == "cpu"


def test_recall_backbones__file_that_is_missing(tmp_path: Path) -> None:
    choice = Choice(names=["swav@size=32"], weights={"swav": tmp_path / "no.pth"})
    with pytest.raises(WeightsError, match="there is no such file"):
        load_known(recall_backbones(choice, CPU))


def test_check_dtype__refused() -> None:
    check_dtype("float16")
    with pytest.raises(OptionError, match="dtype 'bfloat16' is not known; choose one of float32, float16"):
        check_dtype("bfloat16")


def untrained(**changes: Any) -> Any:
    return load_backbone(
        replace(get_spec("random"), architecture="test_resnet", dim=None, preprocess=SMALL, **changes), device="cpu"
    )


def test_check_fingerprints__names_what_differs(tmp_path: Path) -> None:
    model = untrained()
    with EmbeddingCache.writing(tmp_path / "c.zarr") as store:
        store.ensure_embeddings(
            "random", model.fingerprint("float32"), dim=model.dim, dtype="float32", provenance=provenance(model)
        )
        check_fingerprints(store, [model, untrained(name="another")], lambda _: "float32")
        with pytest.raises(FingerprintMismatchError, match="pooling: cached 'average', asked 'model'"):
            check_fingerprints(store, [untrained(pooling="model")], lambda _: "float32")
        with pytest.raises(FingerprintMismatchError, match="dtype: cached 'float32', asked 'float16'"):
            check_fingerprints(store, [model], lambda _: "float16")


def test_provenance__is_plain_and_makes_the_specification_again() -> None:
    model = untrained(name="mine")
    kept = json.loads(json.dumps(provenance(model), allow_nan=False))
    assert spec_from_mapping(kept["spec"], source="cache") == model.spec
    assert kept["versions"]["timm"] == timm.__version__
    assert (kept["device"], kept["licence"]) == ("cpu", "none")


def test_provenance__of_what_only_code_can_make() -> None:
    def build() -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())

    spec = replace(
        get_spec("random"), name="net", dim=3, pooling="model", source="built", build=build, preprocess=SMALL
    )
    kept = provenance(load_backbone(spec, device="cpu"))
    assert kept["spec"] is None
    assert json.dumps(kept)


@pytest.mark.parametrize("options", [{}, {"in-chans": "1"}, {"pool": "model", "size": "64"}])
def test_provenance__of_variations(options: dict[str, str]) -> None:
    model = untrained()
    spec = vary(model.spec, options)
    kept = json.loads(json.dumps(provenance(load_backbone(spec, device="cpu"))))["spec"]
    assert spec_from_mapping(kept, source="cache") == spec
