"""`dvme backbones ...` and the options of `dvme extract` that choose and vary backbones, as typed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import typer
from command_line import assert_refused, run
from PIL import Image
from typer.testing import Result

from dvme_cli.parsing import parse_names, parse_pairs

LITE = "efficientnet-lite0"
TOML = """
name = "mine"
architecture = "test_vit"
architecture_args = { img_size = 32, depth = 4 }
pooling = "class-token"
licence = "CC-BY-NC-4.0"
remark = "made up"
[preprocess]
resize = 36
crop = 32
[checkpoint]
filename = "mine.pth"
"""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import socket

    import huggingface_hub

    def unreachable(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unreachable)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch-home"))


@pytest.fixture(scope="module")
def own_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A described backbone, its weights, a plain file, and a few images; to be read."""
    folder = tmp_path_factory.mktemp("own")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vit = timm.create_model("test_vit", num_classes=0, img_size=32, depth=4)
        resnet = timm.create_model("test_resnet", num_classes=3)
    torch.save(vit.state_dict(), folder / "mine.pth")
    torch.save({"state_dict": resnet.state_dict()}, folder / "plain.pth")
    (folder / "mine.toml").write_text(TOML)
    for index in range(6):
        images = folder / "images" / "ab"[index % 2]
        images.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30), (40 * index, 200 - 30 * index, 90)).save(images / f"{index}.png")
    return folder


@pytest.fixture
def own(own_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a copy of those files."""
    shutil.copytree(own_files, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def done(*arguments: object) -> Any:
    """The JSON of a command that succeeds."""
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def assert_wrong_usage(result: Result, *words: str) -> None:
    assert result.exit_code == 2, result.output
    text = " ".join(result.output.replace("│", " ").split())
    for word in words:
        assert word in text
    assert "Traceback" not in text


def listed(*options: str) -> dict[str, dict[str, Any]]:
    return {spec["name"]: spec for spec in done("backbones", "list", *options)}


def test_backbones__alone_is_the_table() -> None:
    result = run("backbones")
    assert result.exit_code == 0, result.output
    assert result.stdout == run("backbones", "list").stdout
    for part in ("architecture", "licence", "dino", "vit_small_patch8_224", "(!)", "(?)", "timm:NAME", "@size=448"):
        assert part in result.stdout
    assert all(len(line) <= 120 for line in result.stdout.splitlines())
    assert "…" not in result.stdout
    assert done("backbones") == done("backbones", "list")


def test_backbones__every_name_is_in_the_table() -> None:
    table = run("backbones", "list").stdout
    everything = listed()
    assert len(everything) > 50
    first_words = {line.split()[0] for line in table.splitlines() if line.split()}
    assert set(everything) <= first_words
    assert f"{len(everything)} backbones" in table


def test_backbones__filters() -> None:
    everything = listed()
    assert set(listed("--method", "dino")) == {name for name, spec in everything.items() if spec["method"] == "dino"}
    assert set(listed("--method", "DINO")) == set(listed("--method", "dino"))
    vits = listed("--arch", "ViT")
    assert set(vits) == {name for name, spec in everything.items() if "vit" in spec["architecture"]}
    assert vits
    assert len(vits) < len(everything)
    free = {spec["licence"] for spec in listed("--commercial").values()}
    assert "Apache-2.0" in free
    assert not [licence for licence in free if "NC" in licence or "research only" in licence.lower()]
    assert {spec["licence"] for spec in listed("--licence", "apache").values()} == {"Apache-2.0"}
    available = listed("--available")
    assert {"random", LITE} <= set(available)
    assert "dino" not in available
    assert {spec["availability"] for spec in available.values()} <= {"none", "package", "downloaded"}


def test_backbones__filters_together() -> None:
    found = listed("--method", "dino", "--arch", "resnet")
    assert set(found) == {"dino-resnet50"}
    table = run("backbones", "list", "--method", "dino", "--arch", "resnet").stdout
    assert "dino-resnet50" in table
    assert "swav" not in table


def test_backbones__none_of_that_kind() -> None:
    result = run("backbones", "list", "--method", "hypnosis")
    assert result.exit_code == 0
    assert result.stdout == "No backbone is of that kind; dvme backbones lists them all.\n"
    assert listed("--method", "hypnosis") == {}


def test_backbones__a_downloaded_file_is_available(tmp_path: Path) -> None:
    assert "swav" not in listed("--available")
    spec = listed()["swav"]
    folder = tmp_path / "torch-home" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / (spec["checkpoint"]["saved_as"] or spec["checkpoint"]["filename"])).touch()
    assert listed("--available")["swav"]["availability"] == "downloaded"


def test_show__what_is_known() -> None:
    result = run("backbones", "show", "dino")
    assert result.exit_code == 0, result.output
    for part in (
        "vit_small_patch8_224",
        "class-token-last-4, 1536 features",
        "short side to 256, bicubic",
        "Apache-2.0",
    ):
        assert part in result.stdout
    shown = done("backbones", "show", "dino")
    assert (shown["name"], shown["dim"], shown["availability"]) == ("dino", 1536, "download")
    assert shown["checkpoint"]["filename"] == "dino_deitsmall8_pretrain.pth"


def test_show__variation_is_canonical() -> None:
    shown = done("backbones", "show", "dino@size=448@in-chans=3@pool=average")
    assert (shown["name"], shown["dim"], shown["pooling"]) == ("dino@pool=average@size=448", None, "average")
    assert (shown["preprocess"]["crop"], shown["preprocess"]["resize"]) == (448, 512)


def test_show__described_and_timm(own: Path) -> None:
    result = run("backbones", "show", "mine.toml")
    assert result.exit_code == 0, result.output
    for part in ("test_vit (img_size=32, depth=4)", "no commercial use", "made up", "downloaded"):
        assert part in result.stdout
    assert done("backbones", "show", "timm:resnet18.a1_in1k@pool=average")["pooling"] == "average"


@pytest.mark.parametrize("name", ["list", "show", "check"])
def test_backbones__help(name: str) -> None:
    assert run("backbones", name, "--help").exit_code == 0


@pytest.mark.parametrize("field", ["method", pytest.param("name", marks=pytest.mark.slow)])
def test_show__one_of_every(field: str) -> None:
    for backbone in {spec[field]: name for name, spec in listed().items()}.values():
        assert run("backbones", "show", backbone).exit_code == 0, backbone


def test_show__unknown_names(own: Path) -> None:
    assert_refused(run("backbones", "show", "dinno"), "unknown backbone 'dinno'", "did you mean 'dino'")
    assert_refused(run("backbones", "show", "timm:resnet81"), "timm has no model 'resnet81'")
    assert_refused(run("backbones", "show", "nowhere.toml"), "nowhere.toml cannot be read as TOML: No such file")
    assert_refused(run("backbones", "show", "nowhere.py:net"), "there is no Python file nowhere.py")
    assert_refused(run("backbones", "show", "dino@pool=max"), "pool=max is not known; choose one of average")
    assert_refused(run("backbones", "show", "hf-hub:lab/net"), "cannot fetch config.json of lab/net")
    assert_wrong_usage(run("backbones", "show"))


def test_check__good(own: Path) -> None:
    result = run("backbones", "check", f"{LITE}@size=96")
    assert result.exit_code == 0, result.output
    for part in ("fits tf_efficientnet_lite0, strictly", "left over: _fc (2)", "untrained", "dimensions", "1,280"):
        assert part in result.stdout
    assert "Nothing looks broken" in result.stdout
    assert "Broken" not in result.stdout
    assert not result.stderr
    report = done("backbones", "check", "mine", "--weights", "plain.pth", "--arch", "test_resnet")
    assert (report["problems"], report["architecture"], report["left_over"]) == ([], "test_resnet", {"fc": 2})


def test_check__broken(own: Path) -> None:
    state = torch.load(own / "mine.pth")
    torch.save({key: torch.zeros_like(value) for key, value in state.items()}, own / "zero.pth")
    result = run("backbones", "check", "mine.toml", "--weights", "zero.pth")
    assert result.exit_code == 1
    assert "Broken: the scale is off" in result.stdout
    assert "Nothing looks broken" not in result.stdout
    as_json = run("backbones", "check", "mine.toml", "--weights", "zero.pth", "--json")
    assert as_json.exit_code == 1
    assert len(json.loads(as_json.stdout)["problems"]) == 2


def test_check__refused(own: Path) -> None:
    assert_refused(run("backbones", "check", "mine.toml", "--weights", "no.pth"), "no.pth: there is no such file")
    assert_refused(run("backbones", "check", "mine.toml", "--weights", "images"), "that is a folder, not a file")
    assert_refused(
        run("backbones", "check", "mine.toml", "--weights", "plain.pth"), "does not fit", "missing keys", "TOML"
    )
    assert_refused(run("backbones", "check", "mine.toml", "--weights", "mine.toml"), "mine.toml")
    assert_refused(run("backbones", "check", "mine", "--weights", "plain.pth", "--arch", "resnet81"), "did you mean")
    assert_refused(run("backbones", "check", "dino"), "dino_deitsmall8_pretrain.pth is not here")
    assert_refused(run("backbones", "check", f"{LITE}@pool=class-token"), "has no class token", "pool=average")
    assert_refused(run("backbones", "check", "mine.toml", "--device", "tpu7"), "device 'tpu7' cannot be used")


def test_convert__trust_is_warned_of_and_a_missing_file_is_one_line(own: Path) -> None:
    assert_refused(run("backbones", "convert", "no.pth"), "no.pth")
    trusted = run("backbones", "convert", "no.pth", "--trust")
    assert_refused(trusted, "no.pth")
    assert "--trust: unpickling a file runs whatever code its author put into it" in trusted.stderr
    assert "whatever code" not in run("backbones", "convert", "no.pth").stderr
    assert not list(own.glob("*.safetensors"))


def extract(*options: str, backbones: str = "mine.toml") -> Result:
    return run("extract", "images", "c.zarr", "--backbones", backbones, *options)


REALLY = [
    ["--pool", "class-and-mean", "--image-size", "64"],
    ["--preprocess", "interpolation=bicubic", "--in-chans", "1"],
]


@pytest.mark.parametrize(
    ("options", "name", "dim"),
    [
        (["--pool", "average"], "mine@pool=average", 64),
        (["--pool", "class-token"], "mine", 64),
        (["--pool", "class-and-mean", "--image-size", "64"], "mine@pool=class-and-mean@size=64", 128),
        (["--image-size", "32"], "mine", 64),
        (["--in-chans", "1"], "mine@in-chans=1", 64),
        (["--in-chans", "3"], "mine", 64),
        (["--preprocess", "resize=40,mode=squash"], "mine@resize=40@mode=squash", 64),
        (["--preprocess", "mean=0.5:0.4:0.3, std=0.25"], "mine@mean=0.5:0.4:0.3@std=0.25:0.25:0.25", 64),
        (["--preprocess", "interpolation=bicubic", "--in-chans", "1"], "mine@in-chans=1@interpolation=bicubic", 64),
        (["--precision", "bf16"], "mine@precision=bf16", 64),
        (["--precision", "float32"], "mine", 64),
    ],
)
def test_extract__variations(options: list[str], name: str, dim: int, own: Path) -> None:
    """Two of them really, the others as planned."""
    if options not in REALLY:
        planned = extract(*options, "--plan", "--json")
        assert planned.exit_code == 0, planned.output
        (item,) = json.loads(planned.stdout)["backbones"]
        assert (item["backbone"], item["dim"]) == (name, dim)
        return
    result = extract(*options, "--json")
    assert result.exit_code == 0, result.output
    (outcome,) = json.loads(result.stdout)["outcomes"]
    assert (outcome["backbone"], outcome["dim"], outcome["computed"]) == (name, dim, 6)
    assert [item["backbone"] for item in done("info", "c.zarr")["backbones"]] == [name]


def test_extract__options_are_for_every_backbone_and_a_names_own_stay(own: Path) -> None:
    backbones = f"mine.toml,mine.toml@size=48@precision=bf16,{LITE}@pool=model@precision=float32"
    result = extract("--image-size", "64", "--precision", "fp16", "--plan", "--json", backbones=backbones)
    assert result.exit_code == 0, result.output
    found = [item["backbone"] for item in json.loads(result.stdout)["backbones"]]
    assert found == ["mine@size=64@precision=fp16", "mine@size=48@precision=bf16", f"{LITE}@pool=model@size=64"]


def test_extract__architecture(own: Path) -> None:
    options = ("--arch", "ours=test_resnet", "--weights", "ours=plain.pth", "--image-size", "32")
    result = extract(*options, backbones="ours")
    assert result.exit_code == 0, result.output
    assert "ours@size=32" in result.stdout
    again = extract(*options, backbones="ours")
    assert "Every embedding was reused; nothing was computed." in again.stdout
    planned = extract(*options, "--pool", "average", "--plan", "--json", backbones="ours")
    assert json.loads(planned.stdout)["backbones"][0]["backbone"] == "ours@pool=average@size=32"


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--pool", "max"], ["pool=max is not known; choose one of average, class-token"]),
        (["--image-size", "0"], ["size=0 is not possible; pass a whole number above 0"]),
        (["--image-size", "33"], ["mine@size=33 has patches of 16 pixels, which do not fill 33; try 32 or 48"]),
        (["--image-size", "-5"], ["size=-5 is not possible"]),
        (["--in-chans", "4"], ["in-chans=4 is not possible; choose 3, or 1 for grey"]),
        (["--preprocess", "resize=20"], ["crop 32 must be within 1 and resize 20"]),
        (["--preprocess", "mode=stretch"], ["mode=stretch is not known; choose one of center, squash"]),
        (["--preprocess", "mean=dark"], ["mean=dark is no number"]),
        (["--preprocess", "mean=0.5:0.5:0.5", "--in-chans", "1"], ["mean has 3 values and std 1"]),
        (["--precision", "half"], ["precision=half is not known; choose one of float32, tf32, bf16, fp16"]),
        (["--precision", "tf32", "--device", "cpu"], ["mine@precision=tf32 computes in TF32, which cpu does not have"]),
        (["--arch", "ours=test_resnet"], ["--arch names ours, but --backbones does not; name it there too"]),
        (["--weights", "ours=plain.pth"], ["--weights names ours, but --backbones does not; name it there too"]),
        (["--weights", "mine=no.pth"], ["no.pth: there is no such file"]),
        (["--weights", "mine=plain.pth"], ["does not fit"]),
    ],
)
def test_extract__refused_and_nothing_written(options: list[str], parts: list[str], own: Path) -> None:
    assert_refused(extract(*options), *parts)
    assert_refused(extract(*options, "--plan"), *parts)
    assert not list(own.glob("*.zarr*"))


@pytest.mark.parametrize(
    ("backbones", "options", "parts"),
    [
        ("ours", [], ["unknown backbone 'ours'", "--arch"]),
        ("ours", ["--arch", "ours=resnet81"], ["there is no such architecture; did you mean"]),
        ("ours", ["--arch", "ours=test_resnet"], ["the weights of ours", "--weights ours=PATH"]),
        ("dino", ["--arch", "dino=test_resnet"], ["dino is a backbone that dvme knows; choose another name"]),
        ("mine.toml,mine.toml@size=32", [], ["a backbone is named twice"]),
        ("random", ["--weights", "random=plain.pth"], ["random is untrained and takes no weights"]),
        (LITE, ["--pool", "class-token"], ["has no class token for 'class-token'; choose pool=average"]),
    ],
)
def test_extract__backbones_refused(backbones: str, options: list[str], parts: list[str], own: Path) -> None:
    assert_refused(extract(*options, backbones=backbones), *parts)
    assert not list(own.glob("*.zarr*"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--preprocess", "crop"], ["--preprocess crop is not KEY=VALUE with one of resize, crop"]),
        (["--preprocess", "size=64"], ["--preprocess size=64 is not KEY=VALUE"]),
        (["--preprocess", ""], ["--preprocess is empty"]),
        (["--arch", "ours"], ["--arch ours is not NAME=ARCHITECTURE"]),
        (["--arch", "=resnet18"], ["is not NAME=ARCHITECTURE"]),
        (["--weights", "mine="], ["--weights mine= is not NAME=PATH"]),
        (["--weights", "mine@size=64=mine.pth"], ["takes names without variations; pass --weights mine=PATH"]),
        (["--image-size", "large"], ["--image-size"]),
        (["--in-chans", "one"], ["--in-chans"]),
    ],
)
def test_extract__wrong_usage_and_nothing_written(options: list[str], words: list[str], own: Path) -> None:
    assert_wrong_usage(extract(*options), *words)
    assert not list(own.glob("*.zarr*"))


def test_extract__backbones_that_are_none(own: Path) -> None:
    assert_wrong_usage(extract(backbones=" , "), "--backbones is empty")


def test_parse_pairs__revision_of_a_hub_model_is_no_variation() -> None:
    assert parse_pairs(["hf-hub:lab/net@v1=a.pth"], "--weights", "PATH") == {"hf-hub:lab/net@v1": "a.pth"}
    with pytest.raises(typer.BadParameter, match="pass --weights dino=PATH"):
        parse_pairs(["dino@pool=average=a.pth"], "--weights", "PATH")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a,b", ["a", "b"]),
        (' a , b@size=64 ,"x,y" , c', ["a", "b@size=64", "x,y", "c"]),
        ('"x,y",dino', ["x,y", "dino"]),
        ('"x,y"', ["x,y"]),
        ('"a ""b"", c"', ['a "b", c']),
        ("mine.toml,own.py:gabor", ["mine.toml", "own.py:gabor"]),
    ],
)
def test_parse_names__a_comma_in_a_name(text: str, names: list[str]) -> None:
    assert parse_names(text, "--backbones") == names


@pytest.mark.parametrize("text", ['"x,y', 'a,"b', '"'])
def test_parse_names__a_quote_that_is_not_closed(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="has quotes that do not close; a name with a comma"):
        parse_names(text, "--backbones")


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("mine.toml@size=64", "mine.toml=mine.pth"),
        ("mine.toml@size=64", "mine=mine.pth"),
        ("mine.toml@size=64", "mine.toml@size=64=mine.pth"),
        ("mine.toml", "mine=mine.pth"),
    ],
)
def test_check__weights_by_name(name: str, weights: str, own: Path) -> None:
    result = run("backbones", "check", name, "--weights", weights)
    assert result.exit_code == 0, result.output
    assert ": mine.pth fits test_vit" in result.stdout


@pytest.mark.parametrize("arch", ["test_resnet", "x=test_resnet", "x@size=64=test_resnet"])
def test_check__weights_of_an_architecture_by_name(arch: str, own: Path) -> None:
    result = run("backbones", "check", "x@size=64", "--arch", arch, "--weights", "x=plain.pth")
    assert result.exit_code == 0, result.output
    assert "Dead dimensions" in result.stdout or "dead dimensions                               0" in result.stdout


@pytest.mark.parametrize("arch", ["y=test_resnet", "x=", "=test_resnet"])
def test_check__architecture_of_another_backbone(arch: str, own: Path) -> None:
    assert_wrong_usage(run("backbones", "check", "x", "--arch", arch, "--weights", "plain.pth"), "pass --arch x=")


def test_weights_of_two_kinds_are_told_in_one_line(own: Path) -> None:
    """A training checkpoint with the average beside the weights of its last step."""
    states = [torch.load("mine.pth"), {key: value * 0.5 for key, value in torch.load("mine.pth").items()}]
    torch.save({"state_dict": states[0], "state_dict_ema": states[1]}, "both.pth")
    told = "eights are taken from state_dict_ema (the average over training), not from state_dict; a TOML file with"
    checked = run("backbones", "check", "mine.toml", "--weights", "both.pth")
    assert f"W{told}" in " ".join(checked.stdout.split())
    assert "left over: state_dict (" in checked.stdout
    extracted = run("extract", "images", "c.zarr", "--backbones", "mine.toml", "--weights", "mine=both.pth")
    assert f"mine: w{told}" in " ".join(extracted.stdout.split())
    converted = run("backbones", "convert", "both.pth")
    assert f"w{told}" in " ".join(converted.stdout.split())


def test_check__a_model_of_ones_own_has_no_untrained_twin() -> None:
    gabor = f"{Path(__file__).parents[2] / 'examples' / 'own_backbone.py'}:gabor"
    result = run("backbones", "check", gabor)
    assert result.exit_code == 0, result.output
    assert "untrained" not in result.stdout
    assert done("backbones", "check", gabor)["untrained"] is None


def test_check__dead_dimensions_are_explained(own: Path) -> None:
    report = done("backbones", "check", f"{LITE}@size=64")
    assert report["features"]["n_dead"] > 0
    lines = run("backbones", "check", f"{LITE}@size=64").stdout.splitlines()
    assert lines[-2].startswith("Dead dimensions: ")
    assert lines[-1] == "Nothing looks broken."


def test_convert__what_needs_none_is_left_alone(own: Path) -> None:
    result = run("backbones", "convert", "plain.pth")
    assert result.exit_code == 0, result.output
    assert "plain.pth loads as it is: nothing to convert, nothing written" in result.stdout
    assert not list(own.glob("*.safetensors"))
    assert done("backbones", "convert", "plain.pth")["is_written"] is False
    assert run("backbones", "convert", "plain.pth", "--force").exit_code == 0
    assert (own / "plain.pth.safetensors").is_file()


def test_weights__that_are_something_else(own: Path) -> None:
    (own / "page.pth").write_text("<html>404</html>")
    for command in (["check", "mine.toml", "--weights", "page.pth"], ["convert", "page.pth"]):
        assert_refused(run("backbones", *command), "page.pth is a web page, perhaps an error")
