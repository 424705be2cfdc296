from __future__ import annotations

import argparse
import os
import pickle
import shutil
import sys
import tarfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from dvme.backbones.conversion.converting import Conversion, convert
from dvme.backbones.weights.checkpoint import read_checkpoint
from dvme.errors import CheckpointError


class Evil:
    """Creates a file when it is unpickled, and gives a number."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.witness),)


class Hidden:
    """A tensor that only code gives back."""

    def __reduce__(self) -> tuple[Any, ...]:
        return eval, ("__import__('torch').full((2,), 3.0)",)


class HiddenArrays:
    """Arrays that only code gives back, one of them of numbers that PyTorch has not."""

    def __reduce__(self) -> tuple[Any, ...]:
        ones = "__import__('numpy').ones"
        return eval, (f"{{'wide': {ones}(3, 'longdouble'), 'big': {ones}(2, '>f4')}}",)


def vissl() -> dict[str, Any]:
    """As VISSL saves: nested, with numpy scalars and objects of its configuration."""
    weight = torch.arange(6.0).reshape(2, 3)
    trunk = OrderedDict(
        {"_feature_blocks.conv1.weight": weight, "_feature_blocks.tied": weight, "steps": torch.tensor(5)}
    )
    model = {"trunk": trunk, "heads": OrderedDict({"0.clf.weight": weight.t()})}
    state = {"train": True, "base_model": {"model": model, "meta": {"args": argparse.Namespace(lr=0.1)}}}
    return {"phase_idx": np.int64(999), "loss": np.float64(0.5), "classy_state_dict": state}


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder / "flat.safetensors"


def is_untouched(target: Path) -> bool:
    return not list(target.parent.iterdir())


@pytest.mark.parametrize("is_zip", [True, False])
def test_convert__vissl__flat_names_nothing_run(tmp_path: Path, target: Path, is_zip: bool) -> None:
    source = tmp_path / "model.torch"
    torch.save(vissl(), source, _use_new_zipfile_serialization=is_zip)
    with pytest.raises(CheckpointError, match="holds Python objects"):
        read_checkpoint(source)
    found = convert(source, target)
    prefix = "classy_state_dict.base_model.model"
    assert found == Conversion(
        format="pickle",
        n_tensors=4,
        dropped=["phase_idx", "loss", "classy_state_dict.train", "classy_state_dict.base_model.meta"],
        remarks=[],
        had_to_trust=False,
    )
    weight = torch.arange(6.0).reshape(2, 3)
    expected = {
        f"{prefix}.trunk._feature_blocks.conv1.weight": weight,
        f"{prefix}.trunk._feature_blocks.tied": weight,
        f"{prefix}.trunk.steps": torch.tensor(5),
        f"{prefix}.heads.0.clf.weight": weight.t(),
    }
    written = read_checkpoint(target)
    assert set(written) == set(expected)
    assert all(torch.equal(written[name], value) for name, value in expected.items())
    assert [path.name for path in target.parent.iterdir()] == [target.name]


@pytest.mark.parametrize("is_zip", [True, False])
@pytest.mark.parametrize("is_trusted", [False, True])
def test_convert__malicious_beside_tensors__is_never_run(
    tmp_path: Path, target: Path, is_zip: bool, is_trusted: bool
) -> None:
    """Its tensors can be had without, so that not even trust runs it."""
    source, witness = tmp_path / "model.pt", tmp_path / "witness"
    torch.save({"w": torch.ones(2), "evil": Evil(witness)}, source, _use_new_zipfile_serialization=is_zip)
    found = convert(source, target, is_trusted=is_trusted)
    assert (found.n_tensors, found.dropped, found.had_to_trust) == (1, ["evil"], False)
    assert not witness.exists()


@pytest.mark.parametrize("way", ["zip", "legacy", "plain"])
def test_convert__tensors_only_by_code__run_with_trust_and_not_without(tmp_path: Path, target: Path, way: str) -> None:
    source, witness = tmp_path / "model.pkl", tmp_path / "witness"
    content = {"w": Hidden(), "evil": Evil(witness)}
    if way == "plain":
        source.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, source, _use_new_zipfile_serialization=way == "zip")
    told = r"needs unpickling: .*; that runs whatever code the file contains, pass is_trusted=True only for a file"
    with pytest.raises(CheckpointError, match=told):
        convert(source, target)
    assert not witness.exists()
    assert is_untouched(target)
    found = convert(source, target, is_trusted=True)
    assert witness.exists()
    assert found.had_to_trust
    assert (found.format, found.n_tensors, found.dropped) == ("pickle", 1, ["evil"])
    assert load_file(target)["w"].tolist() == [3.0, 3.0]


def test_convert__trusted_code_fails__one_line(tmp_path: Path, target: Path) -> None:
    source = tmp_path / "model.pkl"
    source.write_bytes(b"cno_such_module\nfunction\n(tR.")
    with pytest.raises(CheckpointError, match="cannot be unpickled: No module named 'no_such_module'"):
        convert(source, target, is_trusted=True)
    assert is_untouched(target)


def test_convert__loads_as_it_is__writes_nothing_unless_forced(tmp_path: Path, target: Path) -> None:
    source = tmp_path / "model.pth"
    base = torch.arange(4.0)
    torch.save({"state_dict": {"a": base[:2], "b": base}, "epoch": 3}, source)
    found = convert(source, target)
    assert "not needed" in found.remarks[0]
    assert not found.is_written
    assert is_untouched(target)
    found = convert(source, target, force=True)
    assert found.is_written
    assert (found.n_tensors, found.dropped, found.had_to_trust) == (2, ["epoch"], False)
    assert {name: value.tolist() for name, value in load_file(target).items()} == {
        "state_dict.a": [0, 1],
        "state_dict.b": [0, 1, 2, 3],
    }


def test_convert__plain_pickle_of_arrays__as_moco_and_caffe2_publish(tmp_path: Path, target: Path) -> None:
    source = tmp_path / "model.pkl"
    content = {"model": {"conv1.weight": np.ones((2, 1), np.float32)}, "__author__": "X", "matching_heuristics": True}
    source.write_bytes(pickle.dumps(content, protocol=2))
    found = convert(source, target)
    assert (found.format, found.dropped) == ("pickle", ["__author__", "matching_heuristics"])
    assert load_file(target)["model.conv1.weight"].tolist() == [[1.0], [1.0]]


NAMES = [
    "model.ckpt-225206",
    "model.ckpt-225206.index",
    "model.ckpt-225206.data-00000-of-00001",
    "model.ckpt-225206.meta",
    "",
]


@pytest.mark.parametrize("name", NAMES)
def test_convert__tensorflow__by_prefix_file_or_folder(fixtures: Path, target: Path, name: str) -> None:
    found = convert(fixtures / "simclr" / name, target)
    assert (found.format, found.n_tensors, len(found.dropped), found.had_to_trust) == ("tensorflow", 265, 9, False)
    written = load_file(target)
    assert written["conv1.weight"].shape == (2, 3, 7, 7)


def test_convert__haiku__writes_what_embeds_as_haiku_did(
    fixtures: Path, target: Path, images: Tensor, embed: Callable[..., Tensor]
) -> None:
    before = set(sys.modules)  # torch itself imports dill where it is installed
    found = convert(fixtures / "byol/pretrain_res50x1.pkl", target)
    assert (found.format, found.n_tensors, found.had_to_trust) == ("haiku", 265, False)
    expected = np.load(fixtures / "byol/embeddings.npy")
    np.testing.assert_allclose(embed(load_file(target), images, True).numpy(), expected, rtol=1e-4, atol=1e-5)
    assert {"haiku", "jax", "dill", "tensorflow"}.isdisjoint(sys.modules.keys() - before)


def test_convert__folder_with_two_checkpoints__names_them(fixtures: Path, tmp_path: Path, target: Path) -> None:
    shutil.copytree(fixtures / "kinds", tmp_path / "two")
    shutil.copytree(fixtures / "sliced", tmp_path / "two", dirs_exist_ok=True)
    with pytest.raises(CheckpointError, match=r"its indices are kinds\.index, sliced\.index; name one"):
        convert(tmp_path / "two", target)


@pytest.mark.parametrize("is_trusted", [False, True])
@pytest.mark.parametrize("n_bytes", [0, 10, 300, 1000])
@pytest.mark.parametrize("is_zip", [True, False])
def test_convert__truncated__fetch_it_again(
    tmp_path: Path, target: Path, is_zip: bool, n_bytes: int, is_trusted: bool
) -> None:
    source = tmp_path / "model.torch"
    torch.save(vissl(), source, _use_new_zipfile_serialization=is_zip)
    source.write_bytes(source.read_bytes()[:n_bytes])
    with pytest.raises(CheckpointError, match="fetch it again") as caught:
        convert(source, target, is_trusted=is_trusted)
    assert "\n" not in str(caught.value)
    assert is_untouched(target)


def test_convert__truncated_haiku__fetch_it_again(fixtures: Path, tmp_path: Path, target: Path) -> None:
    source = tmp_path / "pretrain.pkl"
    source.write_bytes((fixtures / "byol/pretrain_res50x1.pkl").read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match=r"pretrain\.pkl cannot be read as a checkpoint: .*; fetch it again"):
        convert(source, target)


def test_convert__existing_target__only_with_overwrite(fixtures: Path, target: Path) -> None:
    target.write_text("old")
    with pytest.raises(CheckpointError, match="exists already"):
        convert(fixtures / "simclr", target)
    assert target.read_text() == "old"
    assert convert(fixtures / "simclr", target, overwrite=True).n_tensors == 265
    assert len(load_file(target)) == 265


def test_convert__error_with_overwrite__the_old_file_stays(fixtures: Path, target: Path) -> None:
    target.write_text("old")
    with pytest.raises(CheckpointError, match="partitioned"):
        convert(fixtures / "sliced", target, overwrite=True)
    assert target.read_text() == "old"


def test_convert__target_of_another_suffix_or_nowhere__is_refused(fixtures: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"ends in \.safetensors"):
        convert(fixtures / "simclr", tmp_path / "flat.pt")
    with pytest.raises(CheckpointError, match="in no existing folder"):
        convert(fixtures / "simclr", tmp_path / "no/flat.safetensors")
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(CheckpointError, match="is a folder"):
        convert(fixtures / "simclr", tmp_path / "folder.safetensors", overwrite=True)


def test_convert__target_is_the_source__is_refused(tmp_path: Path) -> None:
    path = tmp_path / "misnamed.safetensors"
    torch.save({"a": torch.ones(1)}, path)
    with pytest.raises(CheckpointError, match="is the source itself"):
        convert(path, path, overwrite=True)
    assert not convert(path, tmp_path / "other.safetensors").is_written  # it loads as it is, by what it holds


def test_convert__no_source__says_so(tmp_path: Path, target: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        convert(tmp_path / "model.pkl", target)
    with pytest.raises(CheckpointError, match="its indices are none"):
        convert(tmp_path, target)


def test_convert__full_disk__leaves_nothing(tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    source = tmp_path / "model.pt"
    torch.save({"a": torch.ones(1), "args": argparse.Namespace()}, source)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match=r"cannot be written: .*No space left"):
        convert(source, target)
    assert is_untouched(target)


def test_convert__tar_of_the_first_releases__needs_trust(tmp_path: Path, target: Path) -> None:
    source = tmp_path / "model.pt"
    with tarfile.open(source, "w") as archive:
        archive.add(__file__, "storages")
    with pytest.raises(CheckpointError, match="needs unpickling: it is of the tar format"):
        convert(source, target)


def test_convert__flat_names_collide__says_which(tmp_path: Path, target: Path) -> None:
    source = tmp_path / "model.pt"
    torch.save({"a.b": torch.ones(1), "a": {"b": torch.ones(1)}}, source)
    with pytest.raises(CheckpointError, match=r"two tensors for the flat name a\.b"):
        convert(source, target)
    assert is_untouched(target)


def test_convert__file_mode_follows_the_umask(tmp_path: Path, target: Path) -> None:
    source = tmp_path / "model.pt"
    torch.save({"w": torch.ones(2), "args": argparse.Namespace()}, source)
    before = os.umask(0o022)
    try:
        convert(source, target)
        assert target.stat().st_mode & 0o777 == 0o644
        os.umask(0o027)
        convert(source, target, overwrite=True)
        assert target.stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(before)


def test_convert__numbers_that_no_tensor_holds__are_left_out(tmp_path: Path, target: Path) -> None:
    source = tmp_path / "model.pkl"
    source.write_bytes(pickle.dumps({"arrays": HiddenArrays()}))
    found = convert(source, target, is_trusted=True)
    assert (found.dropped, found.had_to_trust) == (["arrays.wide"], True)
    assert load_file(target)["arrays.big"].tolist() == [1.0, 1.0]


def test_convert__sparse__says_what_cannot_be_written(tmp_path: Path, target: Path) -> None:
    source = tmp_path / "model.pt"
    torch.save({"a": torch.ones(2, 2).to_sparse(), "w": torch.ones(1)}, source)
    with pytest.raises(CheckpointError, match=r"dense tensors of plain numbers, not a \(sparse\)") as caught:
        convert(source, target, force=True)
    assert "free space" not in str(caught.value)
    assert is_untouched(target)
