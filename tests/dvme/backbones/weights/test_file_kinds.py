"""Files that were saved in a checkpoint's place are named for what they are."""

from __future__ import annotations

import gzip
import io
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from dvme.backbones.conversion.converting import convert
from dvme.backbones.weights.checkpoint import read_checkpoint
from dvme.backbones.weights.file_kinds import foreign_kind
from dvme.errors import CheckpointError


def zipped(*names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, b"content")
    return file.getvalue()


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 97\n"
FOREIGN = {
    "": (b"", "is empty; fetch it again"),
    "html": (b"  <!DOCTYPE html><html><body>404</body></html>", "is a web page, perhaps an error or a login page"),
    "text": (("Zugriff verweigert: Übertragung\n" * 99).encode(), "is a text file"),
    "pointer": (POINTER, "is a Git LFS pointer, not the file it stands for; fetch that with git lfs pull"),
    "pdf": (b"%PDF-1.7 \x00", "is a PDF document"),
    "gzip": (gzip.compress(b"weights"), "is a gzip archive, not a checkpoint; unpack it"),
    "zip": (zipped("net/model.pth", "net/readme.txt"), "is a zip archive (of net/model.pth, net/readme.txt), not a"),
    "npz": (zipped("a.npy", "b.npy"), "is a file of NumPy arrays (.npz), not a checkpoint"),
    "script": (
        zipped("net/data.pkl", "net/constants.pkl", "net/code/net.py"),
        "is a TorchScript program, not a checkpoint",
    ),
    "onnx": (b"\x08\x07\x12\x07pytorch\x1a\x052.0.1", "is an ONNX model, not a checkpoint"),
    "zstd": (b"\x28\xb5\x2f\xfd\x04\x00", "is a Zstandard archive, not a checkpoint; unpack it"),
    "sentence": (b"Not found.", "is a text file, perhaps an error page or a Git LFS pointer, not a checkpoint"),
}


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_read_checkpoint__what_is_none(kind: str, suffix: str, tmp_path: Path) -> None:
    data, message = FOREIGN[kind]
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(data)
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    assert str(caught.value).startswith(f"{path} {message}")
    assert "convert" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["w.bin", "w.pth", "w.safetensors", "w", "pytorch_model.bin.1"])
def test_read_checkpoint__by_what_a_file_holds_whatever_it_is_called(name: str, tmp_path: Path) -> None:
    state = {"a.weight": torch.arange(6.0).reshape(2, 3), "{": torch.ones(1)}
    for save in (save_file, torch.save, lambda *args: torch.save(*args, _use_new_zipfile_serialization=False)):
        save(state, tmp_path / name)
        found = read_checkpoint(tmp_path / name)
        assert found.keys() == state.keys()
        assert all(torch.equal(found[key], value) for key, value in state.items())
    save_file(state, tmp_path / name)
    with pytest.raises(CheckpointError, match=r"needs no conversion: it is a \.safetensors file"):
        convert(tmp_path / name, tmp_path / "out.safetensors")


@pytest.mark.parametrize("name", ["w.bin", "w.safetensors"])
def test_read_checkpoint__a_torn_safetensors_file(name: str, tmp_path: Path) -> None:
    save_file({"a": torch.ones(100)}, tmp_path / name)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-40])
    with pytest.raises(CheckpointError, match=r"cannot be read as a checkpoint: .*; fetch it again"):
        read_checkpoint(tmp_path / name)


def test_convert__what_is_no_checkpoint(tmp_path: Path) -> None:
    for name in ("picture.png", "picture.jpg"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
        kind = "a PNG image" if name.endswith("png") else "a JPEG image"
        with pytest.raises(CheckpointError, match=f"{name} is {kind}, not a checkpoint; fetch the checkpoint again"):
            convert(tmp_path / name, tmp_path / "out.safetensors")
    (tmp_path / "pointer.pth").write_bytes(POINTER)
    with pytest.raises(CheckpointError, match="is a Git LFS pointer"):
        convert(tmp_path / "pointer.pth", tmp_path / "out.safetensors", is_trusted=True)
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize("protocol", range(6))
def test_foreign_kind__pickles_are_none(protocol: int, tmp_path: Path) -> None:
    path = tmp_path / "weights.pkl"
    path.write_bytes(pickle.dumps({"a": [1, 2.5, "text"]}, protocol=protocol))
    assert foreign_kind(path) is None


def test_foreign_kind__checkpoints_are_none(tmp_path: Path) -> None:
    state = {"w": torch.ones(2)}
    torch.save(state, tmp_path / "zip.pth")
    torch.save(state, tmp_path / "legacy.pth", _use_new_zipfile_serialization=False)
    save_file(state, tmp_path / "w.safetensors")
    assert [foreign_kind(path) for path in tmp_path.iterdir()] == [None] * 3


def test_read_checkpoint__a_flipped_bit(tmp_path: Path) -> None:
    """PyTorch writes checksums and never compares them: 1.0 would be 1.3e36."""
    path = tmp_path / "weights.pth"
    torch.save({"w": torch.ones(64)}, path)
    data = bytearray(path.read_bytes())
    place = bytes(data).find(torch.ones(8).numpy().tobytes())
    data[place + 3] = 0x7B
    path.write_bytes(data)
    assert torch.load(path)["w"].max() > 1e30  # as it would be without the check
    with pytest.raises(CheckpointError, match=r"is damaged: Bad CRC-32 for file 'weights/data/0'; fetch it again"):
        read_checkpoint(path)


def test_read_checkpoint__saved_without_checksums(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"w": torch.ones(64)}, tmp_path / "weights.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    assert read_checkpoint(tmp_path / "weights.pth")["w"].sum() == 64
