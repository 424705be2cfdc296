"""Backbones that users describe: TOML, Python, installed packages, and an architecture's name."""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from small_networks import NARROW
from torch import Tensor

from dvme.backbones import BackboneSpec, Checkpoint, Layout, Preprocess, get_spec, listed
from dvme.backbones.loading.building import build_model
from dvme.backbones.loading.model import hash_weights
from dvme.backbones.own.custom import (
    installed_names,
    installed_spec,
    spec_from_architecture,
    spec_from_mapping,
    spec_from_toml,
    spec_to_mapping,
)
from dvme.backbones.own.own_python import spec_from_python
from dvme.backbones.zoo import ZOO
from dvme.errors import CheckpointError, DataError, DvmeError, UnknownNameError

GOOD = """
name = "mine"
architecture = "resnet18"
pooling = "average"
dim = 512
method = "moco"
licence = "MIT"
paper = "ours"

[architecture_args]
drop_rate = 0.5

[preprocess]
resize = 73
crop = 64
interpolation = "bicubic"
mode = "squash"
mean = [0.5, 0.5, 0.5]
std = [0.25, 0.25, 0.25]

[checkpoint]
filename = "mine.pth"
nesting = ["state_dict"]
keep = 'module\\.'
drop = 'module\\.fc\\.'
rename = [["^a", "b"], ["c$", "d"]]
"""
MINIMAL = """
name = "mine"
architecture = "resnet18"
architecture_args = {channels = [64, 16, 16, 24]}
pooling = "average"
[checkpoint]
filename = "mine.pth"
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write(text: str, name: str = "own.toml") -> Path:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return write


def refused(call: Callable[[], object], kind: type[Exception] = DataError) -> str:
    with pytest.raises(kind) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_spec_from_toml__every_field(write: Callable[..., Path]) -> None:
    assert spec_from_toml(write(GOOD)) == BackboneSpec(
        name="mine",
        method="moco",
        architecture="resnet18",
        architecture_args={"drop_rate": 0.5},
        dim=512,
        pooling="average",
        preprocess=Preprocess(
            resize=73, crop=64, interpolation="bicubic", mode="squash", mean=(0.5,) * 3, std=(0.25,) * 3
        ),
        checkpoint=Checkpoint(
            filename="mine.pth",
            url="",
            nesting=("state_dict",),
            keep=r"module\.",
            drop=r"module\.fc\.",
            rename=(("^a", "b"), ("c$", "d")),
        ),
        licence="MIT",
        paper="ours",
        is_verified=False,
    )


def test_spec_from_toml__minimal_has_imagenets_preprocessing_and_is_unverified(write: Callable[..., Path]) -> None:
    spec = get_spec(str(write(MINIMAL)))
    assert spec.preprocess == Preprocess()
    assert (spec.dim, spec.licence, spec.paper, spec.is_verified) == (None, "not stated", "not stated", False)
    assert get_spec(str(write("is_verified = true\n" + MINIMAL))).is_verified


def test_spec_from_toml__variations(write: Callable[..., Path]) -> None:
    spec = get_spec(f"{write(GOOD)}@size=128@pool=model")
    assert (spec.name, spec.pooling, spec.dim) == ("mine@pool=model@size=128", "model", None)
    assert (spec.preprocess.crop, spec.preprocess.resize) == (128, 146)
    half = write(GOOD.replace("dim = 512", 'dim = 512\nprecision = "bf16"'), "half.toml")
    found = [get_spec(f"{half}{end}") for end in ("", "@precision=fp16", "@precision=float32")]
    assert [(each.name, each.precision) for each in found] == [
        ("mine", "bf16"),
        ("mine@precision=fp16", "fp16"),
        ("mine@precision=float32", "float32"),
    ]


def test_spec_from_toml__a_weights_file_beside_it_is_found(
    write: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = spec_from_toml(write(MINIMAL)).checkpoint
    assert checkpoint is not None
    assert checkpoint.filename == "mine.pth"
    state = timm.create_model("resnet18", num_classes=0, **NARROW).state_dict()
    torch.save(state, tmp_path / "mine.pth")
    monkeypatch.chdir(tmp_path)
    spec = get_spec("own.toml")
    monkeypatch.chdir("/")  # found from anywhere afterwards
    assert build_model(spec).path == tmp_path / "mine.pth"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("dim = 512", "dims = 512"), "unknown field 'dims'; did you mean 'dim'?"),
        (("dim = 512", "zzz = 1"), "unknown field 'zzz'; known: name, method, architecture"),
        (("dim = 512", 'build = "x"'), "unknown field 'build'"),
        (("crop = 64", "corp = 64"), ", [preprocess]: unknown field 'corp'; did you mean 'crop'?"),
        (("nesting =", "nestin ="), ", [checkpoint]: unknown field 'nestin'; did you mean 'nesting'?"),
        (("dim = 512", 'dim = "many"'), "dim: Input should be a valid integer"),
        (('"average"', '"mean"'), "pooling: Input should be 'average', 'class-token'"),
        (("dim = 512", 'precision = "half"'), "precision: Input should be 'float32', 'tf32', 'bf16' or 'fp16'"),
        (("crop = 64", "crop = 640"), "preprocess: crop 640 must be within 1 and resize 73"),
        (("crop = 64", 'crop = "big"'), "preprocess.crop: Input should be a valid integer"),
        (("[0.25, 0.25, 0.25]", "[0.25, 0.25]"), "mean has 3 values and std 2"),
        (("[0.25, 0.25, 0.25]", "[0.25, 0.25, 0]"), "must be above 0"),
        (('["state_dict"]', '"state_dict"'), "checkpoint.nesting: Input should be a valid tuple"),
        (('[["^a", "b"], ["c$", "d"]]', '[["^a"]]'), "checkpoint.rename.0.1: Field required"),
        (("drop_rate = 0.5", "=="), "cannot be read as TOML: "),
        (('name = "mine"\n', ""), "name"),
        (('architecture = "resnet18"\n', ""), "architecture"),
        (('pooling = "average"\n', ""), "pooling"),
        (('filename = "mine.pth"\n', ""), "checkpoint.filename"),
        (('name = "mine"', "name = 3"), "name: Input should be a valid string (given: 3)"),
        (("keep = 'module\\.'", 'keep = "(x"'), "is no regular expression"),
        (("rename =", '[[checkpoint.other_layouts]]\nnestin = ["x"]\nrename ='), "did you mean 'nesting'?"),
        (("dim = 512", 'source = "built"'), "source = 'built' is not for a TOML file"),
        (("dim = 512", 'source = "hub"'), "source = 'hub' is not for a TOML file"),
        (('name = "mine"', 'name = ""'), "the name '' will not do"),
        (('name = "mine"', 'name = "a,b"'), "the name 'a,b' will not do"),
        (('name = "mine"', 'name = "m@size=64"'), "the name 'm@size=64' will not do"),
        (('name = "mine"', 'name = "supervised"'), "supervised is a backbone that dvme knows"),
    ],
)
def test_spec_from_toml__refused_naming_file_and_field(
    change: tuple[str, str], message: str, write: Callable[..., Path]
) -> None:
    assert change[0] in GOOD
    path = write(GOOD.replace(*change))
    text = refused(lambda: spec_from_toml(path))
    assert text.startswith(str(path))
    assert message in text


@pytest.mark.parametrize("section", ["preprocess = 3", "checkpoint = 'mine.pth'"])
def test_spec_from_toml__section_that_is_none(section: str, write: Callable[..., Path]) -> None:
    path = write(f'name = "mine"\narchitecture = "resnet18"\npooling = "model"\n{section}\nsource = "random"\n')
    assert section.partition(" ")[0] in refused(lambda: spec_from_toml(path))


def test_spec_from_toml__without_a_checkpoint(write: Callable[..., Path]) -> None:
    text = MINIMAL.partition("[checkpoint]")[0]
    message = refused(lambda: spec_from_toml(write(text)))
    assert "there is no [checkpoint]; add one, or say source = 'timm' or 'random'" in message
    spec = spec_from_toml(write(text + 'source = "random"\n'))
    assert (spec.source, spec.checkpoint) == ("random", None)


def test_spec_from_toml__file_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    missing = tmp_path / "missing.toml"
    expected = f"{missing} cannot be read as TOML: No such file or directory"
    assert refused(lambda: get_spec(str(missing))) == expected
    (tmp_path / "folder.toml").mkdir()
    assert "cannot be read as TOML: Is a directory" in refused(lambda: spec_from_toml(tmp_path / "folder.toml"))
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    assert "cannot be read as TOML: " in refused(lambda: spec_from_toml(tmp_path / "bytes.toml"))


@pytest.mark.parametrize("spec", ZOO, ids=lambda spec: spec.name)
def test_spec_to_mapping__and_back_through_json(spec: BackboneSpec) -> None:
    plain = spec_to_mapping(spec)
    assert spec_from_mapping(plain, source="memory") == spec
    read = json.loads(json.dumps(plain, allow_nan=False))
    again = spec_from_mapping(read, source="json")
    assert again == spec
    assert hash(again.preprocess) == hash(spec.preprocess)  # tuples again, not lists


@pytest.mark.parametrize(
    "name", ["dino@pool=class-token@size=448", "supervised@in-chans=1@precision=bf16", "timm:resnet18"]
)
def test_spec_to_mapping__of_variations_and_timm(name: str) -> None:
    spec = get_spec(name)
    assert spec_from_mapping(json.loads(json.dumps(spec_to_mapping(spec))), source="json") == spec


def test_spec_from_mapping__layouts_inside_a_checkpoint() -> None:
    for spec in (get_spec("mae"), spec_from_architecture("mine", "resnet18")):
        again = spec_from_mapping(json.loads(json.dumps(spec_to_mapping(spec))), source="json")
        assert again == spec
        assert again.checkpoint is not None
        assert all(isinstance(layout, Layout) for layout in again.checkpoint.other_layouts)
    assert again.checkpoint.wrapping == "usual"


PYTHON = """
import torch
from dvme.backbones import BackboneSpec, Preprocess, get_spec

def net():
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 5))

def spec(**more):
    return BackboneSpec(name="net", method="ours", architecture="net", dim=5, pooling="model",
        preprocess=Preprocess(resize=2, crop=2), checkpoint=None, licence="MIT", paper="ours",
        **(dict(source="built", build=net) | more))

made = spec()
without_build = spec(build=None)
number = 3
def two():
    return 2
"""


def test_spec_from_python__object_and_function(write: Callable[..., Path]) -> None:
    path = write(PYTHON, "net.py")
    made, called = get_spec(f"{path}:made"), get_spec(f"{path}:spec")
    assert made == called
    assert made.name == "net"
    assert build_model(made).model(torch.zeros(1, 3, 2, 2)).shape == (1, 5)
    assert get_spec(f"{path}:made@mean=0.5").preprocess.mean == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("text", "attribute", "message"),
    [
        (PYTHON, "number", "{path}:number is int, not a dvme.backbones.BackboneSpec"),
        (PYTHON, "two", "{path}:two is int, not a dvme.backbones.BackboneSpec"),
        (
            PYTHON,
            "without_build",
            "{path}:without_build: source 'built' needs build, a function that returns the model",
        ),
        ("def (", "made", "{path} cannot be run: SyntaxError: "),
        ("import no_such_module_anywhere", "made", "{path} cannot be run: ModuleNotFoundError: No module named"),
        ("1 / 0", "made", "{path} cannot be run: ZeroDivisionError: division by zero"),
        ("def spec():\n    raise KeyError('x')\n", "spec", "{path}:spec failed with KeyError: 'x'"),
        (None, "made", "{path}:made: there is no Python file {path}"),
    ],
)
def test_spec_from_python__refused(
    text: str | None, attribute: str, message: str, write: Callable[..., Path], tmp_path: Path
) -> None:
    path = tmp_path / "gone.py" if text is None else write(text, "net.py")
    for find in (spec_from_python, get_spec):
        assert message.format(path=path) in refused(lambda: find(f"{path}:{attribute}"))  # noqa: B023 - called at once


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Lay a package with entry points into a folder of sys.path, as pip lays it into site-packages."""

    def install(module: str, entry_points: str) -> None:
        site = tmp_path / "site"
        info = site / "their_backbones-1.0.dist-info"
        info.mkdir(parents=True)
        (site / "their_backbones.py").write_text(module)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-backbones\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[dvme.backbones]\n{entry_points}")
        monkeypatch.syspath_prepend(str(site))
        monkeypatch.delitem(sys.modules, "their_backbones", raising=False)
        importlib.invalidate_caches()

    yield install  # type: ignore[misc]
    sys.modules.pop("their_backbones", None)


def test_installed_spec__object_and_function_under_their_entry_points_name(
    install: Callable[[str, str], None],
) -> None:
    assert installed_names() == []
    install(PYTHON, "their-net = their_backbones:made\nmade-up = their_backbones:spec\n")
    assert installed_names() == ["made-up", "their-net"]
    spec = get_spec("their-net")
    assert (spec.name, spec.architecture) == ("their-net", "net")
    assert get_spec("made-up@mean=0.5").name == "made-up@mean=0.5:0.5:0.5"
    assert [item.name for item in listed(method="ours")] == ["made-up", "their-net"]
    assert "their-net" in {item.name for item in listed(is_available=True)}
    assert installed_spec("their") is None


def test_installed_spec__near_miss_is_suggested(install: Callable[[str, str], None]) -> None:
    install(PYTHON, "their-net = their_backbones:made\n")
    assert "did you mean 'their-net'" in refused(lambda: get_spec("thier-net"), UnknownNameError)


def test_installed_spec__what_is_no_spec(install: Callable[[str, str], None]) -> None:
    install(PYTHON, "three = their_backbones:number\nhollow = their_backbones:without_build\n")
    assert "entry point their_backbones:number is int, not a" in refused(lambda: get_spec("three"))
    assert "source 'built' needs build" in refused(lambda: get_spec("hollow"))


def test_installed_spec__the_zoo_comes_first(install: Callable[[str, str], None]) -> None:
    install(PYTHON, "dino = their_backbones:made\n")
    assert get_spec("dino").architecture == "vit_small_patch8_224"
    assert [spec.name for spec in listed()].count("dino") == 1


@pytest.fixture(scope="module")
def resnet(randomise: Callable[..., Any]) -> Any:
    return randomise(timm.create_model("resnet18", num_classes=7, **NARROW))


@pytest.fixture(scope="module")
def resnet_hash(resnet: Any) -> str:
    model = timm.create_model("resnet18", num_classes=0, **NARROW)
    model.load_state_dict({key: value for key, value in resnet.state_dict().items() if not key.startswith("fc.")})
    return hash_weights(model)


State = dict[str, Tensor]


def narrow() -> BackboneSpec:
    return replace(spec_from_architecture("mine", "resnet18"), architecture_args=NARROW)


def prefixed(prefix: str) -> Callable[[State], Any]:
    return lambda state: {f"{prefix}{key}": value for key, value in state.items()}


def under(key: str, prefix: str = "") -> Callable[[State], Any]:
    return lambda state: {"epoch": 3, key: prefixed(prefix)(state), "arch": "resnet18"}


def headless(state: State) -> State:
    return {key: value for key, value in state.items() if not key.startswith("fc.")}


@pytest.mark.parametrize(
    "nest",
    [
        prefixed(""),
        headless,
        prefixed("module."),
        prefixed("backbone."),
        prefixed("model."),
        prefixed("encoder."),
        prefixed("module.backbone."),
        under("state_dict"),
        under("model"),
        under("state_dict", "module."),
        under("model", "module.encoder."),
        under("state_dict", "model."),
    ],
)
def test_spec_from_architecture__usual_nestings(
    nest: Callable[[State], Any], resnet: Any, resnet_hash: str, tmp_path: Path
) -> None:
    torch.save(nest(resnet.state_dict()), tmp_path / "mine.pth")
    loaded = build_model(narrow(), tmp_path / "mine.pth")
    assert hash_weights(loaded.model) == resnet_hash
    assert {key.rpartition("fc.")[2] for key in loaded.left_over} in ({"weight", "bias"}, set())
    assert all("fc." in key for key in loaded.left_over)
    assert len(loaded.used) == len(headless(resnet.state_dict()))


def test_spec_from_architecture__safetensors(resnet: Any, resnet_hash: str, tmp_path: Path) -> None:
    save_file(prefixed("state_dict.module.")(resnet.state_dict()), tmp_path / "mine.safetensors")
    loaded = build_model(narrow(), tmp_path / "mine.safetensors")
    assert hash_weights(loaded.model) == resnet_hash


@pytest.mark.parametrize(
    ("architecture", "classifier"), [("test_vit", "head."), ("mobilenetv3_small_050", "classifier.")]
)
def test_spec_from_architecture__every_usual_classifier_is_left_over(
    architecture: str, classifier: str, randomise: Callable[..., Any], tmp_path: Path
) -> None:
    model = randomise(timm.create_model(architecture, num_classes=3))
    torch.save(model.state_dict(), tmp_path / "mine.pth")
    loaded = build_model(spec_from_architecture("mine", architecture), tmp_path / "mine.pth")
    assert sorted(loaded.left_over) == [f"{classifier}bias", f"{classifier}weight"]
    model.reset_classifier(0)
    assert hash_weights(loaded.model) == hash_weights(model)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda state: state | {"projector.weight": torch.zeros(1)}, "unexpected keys projector.weight"),
        (prefixed("module.encoder_q."), "missing keys conv1.weight"),
        (lambda state: {key: value for key, value in state.items() if key != "bn1.weight"}, "missing keys bn1.weight"),
        (lambda state: state | {"bn1.weight": torch.zeros(3)}, "wrong shapes bn1.weight (3,) instead of (64,)"),
        (lambda state: state | {"module.bn1.weight": torch.zeros(64)}, "unexpected keys module.bn1.weight"),
    ],
)
def test_spec_from_architecture__strange_keys_are_refused(
    change: Callable[[State], Any], named: str, resnet: Any, tmp_path: Path
) -> None:
    torch.save(change(resnet.state_dict()), tmp_path / "mine.pth")
    assert named in refused(lambda: build_model(narrow(), tmp_path / "mine.pth"), CheckpointError)


def test_spec_from_architecture__other_file_of_the_same_name(resnet: Any, tmp_path: Path) -> None:
    torch.save(resnet.state_dict(), tmp_path / "mine.pth")
    spec = replace(spec_from_architecture("mine", "resnet34"), architecture_args=NARROW)
    assert "missing keys layer1.2.conv1.weight" in refused(
        lambda: build_model(spec, tmp_path / "mine.pth"), CheckpointError
    )


def test_spec_from_architecture__what_is_assumed() -> None:
    spec = spec_from_architecture("mine", "resnet18")
    assert (spec.name, spec.pooling, spec.dim, spec.preprocess) == ("mine", "model", None, Preprocess())
    assert not spec.is_verified
    assert spec.remark
    assert replace(spec, name="x").checkpoint == spec.checkpoint


@pytest.mark.parametrize(
    ("architecture", "hint"),
    [("resnet81", "did you mean 'resnet18'?"), ("qqqqzzzz", "timm.list_models() lists them")],
)
def test_spec_from_architecture__unknown(architecture: str, hint: str) -> None:
    text = refused(lambda: spec_from_architecture("mine", architecture), UnknownNameError)
    assert text == f"architectures={{'mine': '{architecture}'}}: there is no such architecture; {hint}"


def test_spec_from_python__dataclass_in_the_file(tmp_path: Path) -> None:
    """`dataclass` looks its module up by name, so the file must be a module that can be found."""
    (tmp_path / "net.py").write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass, replace\n"
        "from dvme.backbones import get_spec\n\n@dataclass\nclass Size:\n    x: int = 1\n\n"
        "spec = replace(get_spec('random'), name='mine')\n"
    )
    assert spec_from_python(f"{tmp_path}/net.py:spec").name == "mine"


@pytest.mark.parametrize(
    ("build", "says"), [(lambda: None, "build returned NoneType"), (lambda: 1 / 0, "build failed")]
)
def test_build_model__build_that_fails(build: Callable[[], Any], says: str) -> None:
    spec = replace(get_spec("random"), name="mine", source="built", build=build)
    assert says in refused(lambda: build_model(spec))


def test_listed__a_broken_package_is_told_of_and_left_out(install: Callable[[str, str], None]) -> None:
    install("", "broken = no_such_module:spec\n")
    problems: list[str] = []
    assert "broken" not in [spec.name for spec in listed(tell=problems.append)]
    assert len(problems) == 1
    assert problems[0].startswith("entry point broken = no_such_module:spec cannot be loaded: ModuleNotFoundError: ")


def test_spec_from_architecture__norm_in_the_head_is_no_classifier(tmp_path: Path) -> None:
    torch.save(timm.create_model("test_convnext", num_classes=3).state_dict(), tmp_path / "w.pth")
    loaded = build_model(spec_from_architecture("mine", "test_convnext"), tmp_path / "w.pth")
    assert set(loaded.left_over) == {"head.fc.weight", "head.fc.bias"}


BARE = 'name = "x"\narchitecture = "resnet18"\narchitecture_args = {channels = [64, 16, 16, 24]}\npooling = "average"\n'


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("[checkpoint]\nfilename = 'a'\nother_layouts = 3\n", "write tables, each under [[checkpoint.other_layouts]]"),
        ("[checkpoint]\nfilename = 'a'\nother_layouts = [3]\n", "other_layouts is [3]"),
        ("[checkpoint]\nfilename = 'a'\nrename = [['^conv1', '\\2']]\n", "checkpoint: '\\\\2' cannot replace"),
        ("[checkpoint]\nfilename = 'a'\npackage = ''\n", "nowhere that dvme knows of"),
        ("[checkpoint]\nfilename = 'a'\npackage = 'no.such'\n", "published in the package no.such"),
        ("[checkpoint]\nfilename = 'sub/a'\nurl = 'file:///nowhere'\n", "cannot be fetched from file:///nowhere"),
        ("[checkpoint]\nfilename = 'a'\nurl = 'nonsense'\n", "cannot be fetched from nonsense"),
        ("source = 'timm'\n", "timm publishes no weights for 'nothing.nowhere'"),
        ("source = 'timm'\n# vovnet57a", "timm publishes no weights for 'vovnet57a'"),
        ("source = 'random'\n# resnet_of_tomorrow", "there is no such architecture"),
        ("source = 'random'\narchitecture_args = {nonsense = 1}\n", "cannot be built with (nonsense=1)"),
    ],
)
def test_spec_from_toml__one_line_for_what_cannot_load(
    more: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch-home"))
    other = more.partition("# ")[2] or ("nothing.nowhere" if "timm" in more else "resnet18")
    text = BARE.replace("resnet18", other)
    if other != "resnet18" or "nonsense" in more:
        text = re.sub("architecture_args.*\n", "", text)
    (tmp_path / "own.toml").write_text(text + more)
    with pytest.raises(DvmeError) as caught:
        build_model(get_spec(f"{tmp_path}/own.toml"))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("more", ["", 'package = "numpy"\n', 'saved_as = "other.pth"\n', 'url = "file:///x"\n'])
def test_spec_from_toml__the_file_beside_it_comes_first(more: str, tmp_path: Path) -> None:
    torch.save(dict(timm.create_model("resnet18", num_classes=0, **NARROW).state_dict()), tmp_path / "r18.pth")
    (tmp_path / "own.toml").write_text(f'{BARE}[checkpoint]\nfilename = "r18.pth"\n{more}')
    assert build_model(get_spec(f"{tmp_path}/own.toml")).path == tmp_path / "r18.pth"


def test_spec_from_toml__two_addresses_of_one_file_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everyone calls it model.pth, and all downloads share a folder."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch-home"))
    loaded = {}
    for seed, name in enumerate(("a", "b")):
        (tmp_path / name).mkdir()
        torch.manual_seed(seed)
        torch.save(
            dict(timm.create_model("resnet18", num_classes=0, **NARROW).state_dict()), tmp_path / name / "model.pth"
        )
        address = (tmp_path / name / "model.pth").as_uri()
        text = f'{BARE}[checkpoint]\nfilename = "model.pth"\nurl = "{address}"\n'
        (tmp_path / f"{name}.toml").write_text(text)
        loaded[name] = build_model(get_spec(f"{tmp_path}/{name}.toml"))
    assert hash_weights(loaded["a"].model) != hash_weights(loaded["b"].model)
    assert [item.path.parent for item in loaded.values() if item.path] == [tmp_path / "torch-home/hub/checkpoints"] * 2
