"""`dvme.adapt` from images to a backbone of one's own, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dvme
from dvme.backbones.loading.registry import get_spec
from dvme.backbones.own.trained_on import keys_of_images, read_trained_on
from dvme.errors import DataError, DvmeError, OptionError, UnknownNameError
from dvme.extraction.pictures import read_pictures
from dvme.heads.tuned.on_images import embedded
from dvme.runtime import Runtime
from dvme_cache import EmbeddingCache
from dvme_cache.identity import content_id

LITE, RESNET = "efficientnet-lite0@size=32", "timm:test_resnet@size=32"
RUNTIME = Runtime(device="cpu")
FILES = {"x.toml", "x.safetensors", "x.trained_on", "x.json"}


def adapt(images: Path, out: Path, backbone: str = RESNET, method: str = "simclr", **given: Any) -> Any:
    settings = {"epochs": 1, "batch_size": 8, "random_weights": None if backbone == LITE else 1, "runtime": RUNTIME}
    return dvme.adapt(images, backbone, method, out, **settings | given)


def beside(out: Path) -> set[str]:
    return {path.name for path in out.parent.iterdir() if path.name.startswith((out.stem, f".{out.stem}"))}


def test_adapt__writes_a_backbone_that_extract_takes(pairs: Path, tmp_path: Path) -> None:
    """Real weights, further trained: their own name and fingerprint, the base beside them."""
    out, lines = tmp_path / "x.toml", list[str]()
    report = adapt(pairs, out, LITE, "micle", announce=lines.append)
    assert beside(out) == FILES
    assert (report.n_files, report.n_images, report.n_groups, report.n_left_out, report.n_test) == (24, 20, 10, 4, 4)
    assert (report.n_epochs, report.n_steps, report.n_resumed, report.is_transductive) == (1, 3, 0, False)
    assert report.augment == "photo"
    assert lines[0] == "20 images of 10 groups to train on; left out: 4 test images"
    assert [line.partition(":")[0] for line in lines[2:4]] == ["before the first epoch", "epoch 1 of 1"]
    spec = get_spec(str(out))
    assert spec.name == report.backbone
    assert spec.name.startswith("efficientnet-lite0-size-32-micle-")
    assert spec.method == "supervised+micle"
    assert spec.adapted_from == LITE
    assert spec.remark == "efficientnet-lite0@size=32 adapted by micle on 20 images for 1 epoch"
    seen = sorted(path for path in tmp_path.glob("*.png"))
    ids = np.frombuffer(b"".join(content_id(path.read_bytes()) for path in seen), np.uint8).reshape(24, 16)
    is_tested = [number // 2 % 6 == 0 for number in range(24)]
    np.testing.assert_array_equal(
        read_trained_on(spec).without_labels, np.sort(keys_of_images(ids[~np.array(is_tested)]))
    )
    epochs = json.loads((tmp_path / "x.json").read_text())
    assert [each["epoch"] for each in epochs["epochs"]] == [0, 1]
    assert epochs["asked"]["method"] == "micle"
    dvme.extract(pairs, tmp_path / "c.zarr", backbones=[LITE, str(out)], runtime=RUNTIME)
    cache = EmbeddingCache.open(tmp_path / "c.zarr")
    base, own = (cache.embeddings(name) for name in (LITE, spec.name))
    assert base.fingerprint.fields["weights"] != own.fingerprint.fields["weights"]
    assert own.fingerprint.fields["weights"].startswith(spec.name.rpartition("-")[2])
    assert np.abs(base.read(np.arange(24)) - own.read(np.arange(24))).max() > 1e-3


@pytest.mark.parametrize("name", ["timm:test_vit@size=64@in-chans=1", f"{RESNET}@in-chans=1"])
def test_adapt__keeps_embeddings_of_other_sizes_and_of_grey_input(pairs: Path, tmp_path: Path, name: str) -> None:
    """What extraction gives is what the last look saw, up to rounding."""
    from dvme.adaptation.start import Begun

    ended: list[Begun] = []
    run = Begun.run
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Begun, "run", lambda self, *given, **named: (ended.append(self), run(self, *given, **named))[1])
        report = adapt(pairs, tmp_path / "x.toml", name)
    (begun,) = ended
    pictures = read_pictures(begun.images.work, begun.spec, RUNTIME, lambda *_: None, 1 << 30)
    expected = embedded(begun.model, pictures, np.arange(20))
    dvme.extract(pairs, tmp_path / "c.zarr", backbones=[report.out], runtime=RUNTIME)
    cache = EmbeddingCache.open(tmp_path / "c.zarr")
    rows = [cache.samples.content_ids.index(own.tobytes()) for own in begun.images.contents]
    found = cache.embeddings(report.backbone).read(np.array(rows))
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
    spec = get_spec(report.out)
    assert (spec.licence, spec.adapted_from) == ("not stated", ""), "random weights are nobody's"


def test_adapt__goes_on_from_weights_that_were_adapted_before_and_remembers_their_images(
    pairs: Path, class_folders: Path, tmp_path: Path
) -> None:
    first = adapt(class_folders, tmp_path / "first.toml", without_test=True)
    second = adapt(pairs, tmp_path / "x.toml", first.out, "supervised", random_weights=None, transductive=False)
    known, both = (read_trained_on(get_spec(each.out)).keys for each in (first, second))
    assert len(known) == 36
    assert len(both) == 36 + 20
    assert np.isin(known, both).all()
    assert not get_spec(second.out).is_transductive
    third = adapt(pairs, tmp_path / "y.toml", transductive=True)
    assert get_spec(third.out).is_transductive
    assert third.is_transductive
    assert third.n_left_out == 0
    assert get_spec(third.out).remark.endswith("those of a test part among them")
    assert adapt(class_folders, tmp_path / "z.toml", third.out, random_weights=None, without_test=True).is_transductive


def test_adapt__resumes_after_an_interrupt_and_removes_what_it_kept(pairs: Path, tmp_path: Path) -> None:
    whole = adapt(pairs, tmp_path / "whole.toml", epochs=2)
    assert whole.backbone.startswith("test_resnet-size-32-random-simclr-")
    out = tmp_path / "x.toml"

    def interrupt(line: str) -> None:
        if line.startswith("epoch 1"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        adapt(pairs, out, epochs=2, announce=interrupt)
    assert beside(out) == {"x.toml.training"}
    with pytest.raises(OptionError, match=r"of another temperature was begun here \(0.1, now 0.2\)"):
        adapt(pairs, out, epochs=2, temperature=0.2)
    report = adapt(pairs, out, epochs=2)
    assert (report.n_resumed, report.backbone) == (1, whole.backbone)
    assert (tmp_path / "x.safetensors").read_bytes() == (tmp_path / "whole.safetensors").read_bytes()
    assert (tmp_path / "x.trained_on").read_bytes() == (tmp_path / "whole.trained_on").read_bytes()
    assert str(report.looks) == str(whole.looks)
    assert beside(out) == FILES
    with pytest.raises(OptionError, match=r"x\.toml is there already; name another file, or pass force=True"):
        adapt(pairs, out)
    other = adapt(pairs, out, force=True, epochs=2, seed=1)
    assert (other.n_resumed, beside(out)) == (0, FILES)
    assert other.backbone != whole.backbone, "another seed gives other weights"


def test_adapt__leaves_the_old_backbone_where_it_fails(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "x.toml"
    adapt(pairs, out)
    before = {name: (tmp_path / name).read_bytes() for name in FILES}
    with monkeypatch.context() as patch:
        patch.setattr("dvme.adaptation.writing.write_trained_on", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
        with pytest.raises(OSError, match="full"):
            adapt(pairs, out, force=True, seed=1)
    assert beside(out) == FILES | {"x.toml.training"}
    assert {name: (tmp_path / name).read_bytes() for name in FILES} == before


def test_adapt__leaves_out_what_cannot_be_decoded(pairs: Path, tmp_path: Path) -> None:
    (tmp_path / "05.png").write_bytes(b"no image")
    lines: list[str] = []
    report = adapt(pairs, tmp_path / "x.toml", announce=lines.append)
    assert report.n_images == 19
    assert [Path(each).name for each in report.unread] == ["05.png"]
    assert any(line.startswith("1 image cannot be used and left out, such as") for line in lines)
    assert len(read_trained_on(get_spec(report.out)).keys) == 19


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ({"out": "x.txt"}, OptionError, "does not end in .toml"),
        ({"out": "no/x.toml"}, OptionError, "no is not a folder; make it first"),
        ({"method": "byol"}, UnknownNameError, "choose from simclr, micle, gmml, supervised"),
        ({"augment": "ct"}, UnknownNameError, "augment 'ct' is not known; choose from xray, photo, pathology"),
        ({"backbone": "efficientnet-lite9"}, UnknownNameError, "efficientnet-lite0"),
        ({"backbone": f"{LITE}@precision=bf16"}, DataError, "computes in bf16, and weights are trained in float32"),
        ({"backbone": f"{LITE}@view=1"}, DataError, "it is a view of the images"),
        ({"method": "gmml"}, OptionError, "test_resnet@size=32 is none; name a vision transformer"),
        ({"without_test": True}, OptionError, "declares 4 test images; leave out without_test"),
        ({"runtime": Runtime(device="cpu", memory=1)}, OptionError, "takes about .* bytes .* pass a smaller size"),
        (
            {"runtime": Runtime(device="cpu", memory=20_000_000), "batch_size": 4096},
            OptionError,
            "with minibatches of 20, .* pass batch_size=[0-9]+, or more",
        ),
        ({"weights": {"other": "x.pt"}}, OptionError, "weights names other"),
        ({"seed": -1}, DvmeError, "seed"),
        ({"random_weights": -1}, OptionError, "random_weights -1 is not possible; pass a whole number from 0"),
    ],
)
def test_adapt__refuses_in_one_line_and_leaves_nothing(
    pairs: Path, tmp_path: Path, given: dict[str, Any], kind: type[Exception], message: str
) -> None:
    given = {"out": "x.toml"} | given
    out = tmp_path / given.pop("out")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(kind, match=message) as raised:
        adapt(pairs, out, **given)
    assert "\n" not in str(raised.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_adapt__refuses_models_that_python_builds(pairs: Path, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "from dvme.backbones import BackboneSpec, Preprocess\n"
        "small = Preprocess(resize=32, crop=32)\n"
        "mine = BackboneSpec(name='mine', method='m', architecture='mine', dim=None, pooling='model', licence='l',"
        " paper='p', preprocess=small, checkpoint=None, source='built', build=print)\n"
    )
    with pytest.raises(DataError, match="mine cannot be adapted and described in a TOML file, for Python builds it"):
        adapt(pairs, tmp_path / "x.toml", f"{tmp_path / 'own.py'}:mine", random_weights=None)


def test_adapt__refuses_what_no_file_can_say_before_training(pairs: Path, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "from torch.nn import ReLU\n"
        "from dvme.backbones import BackboneSpec, Preprocess\n"
        "small = Preprocess(resize=32, crop=32)\n"
        "mine = BackboneSpec(name='mine', method='m', architecture='test_resnet', pooling='average', "
        "architecture_args={'act_layer': ReLU}, dim=None, licence='l', paper='p', "
        "preprocess=small, checkpoint=None, source='random')\n"
    )
    lines: list[str] = []
    with pytest.raises(DataError, match=r"act_layer is <class .*which a TOML file cannot say"):
        adapt(pairs, tmp_path / "x.toml", f"{tmp_path / 'own.py'}:mine", announce=lines.append)
    assert not any("epoch" in line for line in lines)
    assert not beside(tmp_path / "x.toml")


def test_adapt__keeps_out_of_a_folder_of_the_users(pairs: Path, tmp_path: Path) -> None:
    (tmp_path / "x.toml.training").mkdir()
    (tmp_path / "x.toml.training" / "notes.txt").write_text("mine")
    with pytest.raises(OptionError, match=r"x\.toml\.training is for the last epoch"):
        adapt(pairs, tmp_path / "x.toml")
    assert (tmp_path / "x.toml.training" / "notes.txt").read_text() == "mine"


def test_adapt__several_labels_are_learned_and_watched(tmp_path: Path, save_image: Callable[..., Path]) -> None:
    rows = ["image,findings,split"]
    for number in range(16):
        save_image(tmp_path / f"{number}.png", seed=number, level=number % 2)
        finding = ("Mass", "Mass|Edema", "No Finding", "Edema")[number % 4]
        rows.append(f"{number}.png,{finding},{'test' if number < 2 else 'val' if number > 11 else 'train'}")
    (tmp_path / "m.csv").write_text("\n".join(rows))
    columns = dvme.Columns(label="findings", label_separator="|")
    report = adapt(tmp_path / "m.csv", tmp_path / "x.toml", method="supervised", columns=columns)
    assert 0.0 <= report.looks[-1]["knn"] <= 1.0
    assert report.n_images == 14
