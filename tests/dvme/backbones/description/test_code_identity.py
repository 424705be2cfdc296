"""A model of one's own has another fingerprint when its code or its arguments are others."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from small_networks import NARROW
from torch import nn

from dvme.backbones import BackboneSpec, Preprocess, get_spec
from dvme.backbones.description.code_identity import is_plain, plain_argument
from dvme.backbones.loading.model import load_backbone
from dvme.extraction.models import provenance

FILE = """
import torch
from torch import nn
from dvme.backbones import BackboneSpec, Preprocess

class Net(nn.Module):
    def __init__(self, scale=1.0, **more):
        super().__init__()
        self.scale, self.more = scale, more
        self.register_buffer("w", torch.eye(3))

    def forward(self, x):
        return FORWARD

def spec(**arguments):
    return BackboneSpec(name="net", method="ours", architecture="LABEL", dim=3, pooling="model",
        preprocess=Preprocess(resize=4, crop=4), checkpoint=None, licence="MIT", paper="ours",
        source="built", build=lambda: Net(**arguments))

plain = spec()
scaled = spec(scale=2.0)
listed = spec(sizes=[1, 2, {"a": torch.float32}])
"""
MEAN = "self.scale * x.mean((2, 3)) @ self.w"


@pytest.fixture
def digest(tmp_path: Path) -> Callable[..., str]:
    """Of the fingerprint of a spec in a file."""

    def find(attribute: str = "plain", forward: str = MEAN, label: str = "net-1.1", name: str = "net.py") -> str:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(FILE.replace("FORWARD", forward).replace("LABEL", label))
        return load_backbone(get_spec(f"{path}:{attribute}")).fingerprint("float32").digest

    return find


def test_fingerprint__code_counts(digest: Callable[..., str]) -> None:
    assert digest() == digest()
    assert digest(forward=f"({MEAN}).relu()") != digest()
    assert digest(label="net-1.2") != digest()


def test_fingerprint__arguments_count(digest: Callable[..., str]) -> None:
    assert len({digest(), digest("scaled"), digest("listed")}) == 3


def test_fingerprint__place_and_process_do_not_count(digest: Callable[..., str], tmp_path: Path) -> None:
    here = digest()
    assert digest(name="elsewhere/other.py") == here
    assert digest("listed") != here
    code = (
        "import sys; from dvme.backbones import get_spec; from dvme.backbones.loading.model import load_backbone\n"
        "print(load_backbone(get_spec(sys.argv[1])).fingerprint('float32').digest)"
    )
    command = [sys.executable, "-c", code, f"{tmp_path / 'net.py'}:plain"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == here


def test_fingerprint__a_model_that_refers_to_itself(tmp_path: Path) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.options: dict[str, Any] = {"again": []}
            self.options["again"].append(self.options)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.mean(dim=(2, 3))

    spec = BackboneSpec(
        name="tied",
        method="ours",
        architecture="tied",
        dim=3,
        pooling="model",
        preprocess=Preprocess(resize=4, crop=4),
        checkpoint=None,
        source="built",
        build=Tied,
        licence="none",
        paper="none",
    )
    digests = {load_backbone(spec).fingerprint("float32").digest for _ in range(2)}
    assert len(digests) == 1


def test_fingerprint__callable_arguments() -> None:
    """Classes and functions have no JSON; their names do, and the source of those that are no library's."""
    spec = replace(get_spec("random"), architecture="resnet18", dim=None, preprocess=Preprocess(resize=32, crop=32))
    found = [
        load_backbone(replace(spec, architecture_args=NARROW | {"norm_layer": layer}))
        for layer in (nn.BatchNorm2d, partial(nn.BatchNorm2d, eps=0.1))
    ]
    first, second = (backbone.fingerprint("float32") for backbone in found)
    assert first.fields["architecture.norm_layer"] == "torch.nn.modules.batchnorm.BatchNorm2d"
    assert first.digest != second.digest
    assert provenance(found[0])["spec"] is None  # no file could make it again
    assert not is_plain({"norm_layer": nn.BatchNorm2d})
    assert is_plain({"img_size": [32, 32], "more": {"a": None}})


def own_activation() -> None: ...


def test_plain_argument__own_functions_have_their_source() -> None:
    assert plain_argument(own_activation).startswith("own_activation ")
    assert plain_argument((1, {"a": None})) == [1, {"a": None}]
