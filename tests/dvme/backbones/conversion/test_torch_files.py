from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from dvme.backbones.conversion.flatten import flatten
from dvme.backbones.conversion.inert import NeedsCodeError, TornError
from dvme.backbones.conversion.torch_files import PickledTensor, read_legacy, read_zip

DTYPES = [
    torch.float32,
    torch.float64,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.bool,
]
READERS: dict[str, tuple[Callable[[Path], Any], bool]] = {"zip": (read_zip, True), "legacy": (read_legacy, False)}


class Config:
    """Foreign to the reader: it becomes a record."""

    def __init__(self) -> None:
        self.lr = np.float64(0.1)


@pytest.fixture(params=READERS)
def round_trip(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Any], Any]:
    """Save with torch.save, read without it."""
    read, is_zip = READERS[request.param]

    def through(content: Any) -> Any:
        path = tmp_path / "model.pt"
        torch.save(content, path, _use_new_zipfile_serialization=is_zip)
        return read(path)

    return through


Through = Callable[[Any], Any]


def tensors(content: Any) -> dict[str, torch.Tensor]:
    return flatten(content, "x")[0]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_read__every_dtype__as_saved(round_trip: Through, dtype: torch.dtype) -> None:
    values = torch.tensor([[0, 1, 1], [1, 0, 3]]).to(dtype)
    found = tensors(round_trip({"a": values, "object": Config()}))
    assert found["a"].dtype == dtype
    assert torch.equal(found["a"], values)


def test_read__views_of_one_storage__each_its_part(round_trip: Through) -> None:
    base = torch.arange(12.0)
    content = {"t": base.view(3, 4).t(), "slice": base[5:7], "step": base[1::5], "none": base[:0], "scalar": base[3]}
    found = tensors(round_trip(content))
    assert set(found) == set(content)
    assert all(torch.equal(found[name], value) for name, value in content.items())


def test_read__parameters_and_modules__their_values(round_trip: Through) -> None:
    """A whole model, whose classes are torch's own and not imported by name."""
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Sequential(nn.Linear(2, 2, bias=False)))
    parameter = nn.Parameter(torch.ones(2))
    parameter.note = "attribute"  # type: ignore[attr-defined]
    found = tensors(round_trip({"model": model, "p": parameter, "epoch": np.int64(3)}))
    expected = {f"model.{name}": value for name, value in model.state_dict().items()} | {"p": parameter.detach()}
    assert set(found) == set(expected)
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_read__fortran_arrays_and_size__beside_tensors(round_trip: Through) -> None:
    content = round_trip({"array": np.ones((2, 3), order="F"), "size": torch.Size([2, 3])})
    assert tensors(content)["array"].tolist() == [[1.0] * 3] * 2
    assert content["size"] == (2, 3)


@pytest.mark.parametrize(
    "value",
    [
        torch.eye(2).to_sparse(),
        torch.ones(1, dtype=torch.complex64),
    ],
    ids=["sparse", "complex"],
)
@pytest.mark.filterwarnings("ignore")
def test_read__numbers_of_another_kind__need_code(round_trip: Through, value: torch.Tensor) -> None:
    with pytest.raises(NeedsCodeError):
        tensors(round_trip({"weight": torch.ones(1), "other": value}))


def test_read__untyped_rebuild__by_its_dtype(tmp_path: Path) -> None:
    """uint16 has no storage class of its own; float32 is sent the same way by hand."""
    path = tmp_path / "model.pt"
    torch.save({"a": torch.tensor([1, 2], dtype=torch.uint16)}, path)
    with pytest.raises(NeedsCodeError, match="not known here"):
        read_zip(path)
    with zipfile.ZipFile(path) as archive:
        members = {info: archive.read(info) for info in archive.infolist()}
    changed = tmp_path / "changed.pt"
    with zipfile.ZipFile(changed, "w") as archive:
        for info, data in members.items():
            archive.writestr(info.filename, data.replace(b"uint16", b"int16"))
    assert tensors(read_zip(changed))["a"].tolist() == [1, 2]


def saved(tmp_path: Path, is_zip: bool) -> tuple[Path, bytes]:
    path = tmp_path / "model.pt"
    torch.save({"a": torch.arange(5.0), "o": Config()}, path, _use_new_zipfile_serialization=is_zip)
    return path, path.read_bytes()


@pytest.mark.parametrize("way", READERS)
def test_read__every_truncation__is_torn(tmp_path: Path, way: str) -> None:
    read, is_zip = READERS[way]
    path, genuine = saved(tmp_path, is_zip)
    assert tensors(read(path))["a"].tolist() == [0, 1, 2, 3, 4]
    for n_bytes in range(0, len(genuine), 3):
        path.write_bytes(genuine[:n_bytes])
        with pytest.raises(TornError):
            read(path)


def test_read_zip__every_byte_flipped__refused_or_the_same(tmp_path: Path) -> None:
    """torch.load itself would not notice a changed value; the zip format has a checksum of it."""
    path, genuine = saved(tmp_path, True)
    n_refused = 0
    for i in range(len(genuine)):
        path.write_bytes(genuine[:i] + bytes([genuine[i] ^ 0x04]) + genuine[i + 1 :])
        try:
            assert tensors(read_zip(path))["a"].tolist() == [0, 1, 2, 3, 4]
        except (TornError, NeedsCodeError):
            n_refused += 1
    assert n_refused > 300


def hand_made(path: Path, pickled: bytes, records: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/data.pkl", pickled)
        for name, data in records.items():
            archive.writestr(f"m/{name}", data)
    return path


def view(offset: int, size: tuple[int, ...], stride: tuple[int, ...], n_values: int = 4) -> bytes:
    """The pickle of one float32 tensor, by hand: protocol 0 with one persistent id."""

    def numbers(values: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(b"I%d\n" % value for value in values) + b"t"

    pid = b"(S'storage'\nctorch\nFloatStorage\nS'0'\nS'cpu'\nI%d\ntQ" % n_values
    call = b"ctorch._utils\n_rebuild_tensor_v2\n(" + pid + b"I%d\n" % offset + numbers(size) + numbers(stride)
    return b"(dS'w'\n" + call + b"I00\nNtRs."


STORED = {"data/0": np.arange(4, dtype="<f4").tobytes()}


def test_read_zip__hand_made_view__by_strides(tmp_path: Path) -> None:
    path = hand_made(tmp_path / "m.pt", view(1, (2,), (2,)), STORED | {"byteorder": b"little"})
    assert tensors(read_zip(path))["w"].tolist() == [1.0, 3.0]


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [
        (0, (5,), (1,)),
        (3, (2,), (1,)),
        (0, (2,), (4,)),
        (-1, (1,), (1,)),
        (0, (2,), (-1,)),
        (0, (10**6, 10**6), (0, 0)),
        (0, (2,), ()),
    ],
)
def test_read_zip__view_outside_its_storage__is_torn(
    tmp_path: Path, offset: int, size: tuple[int, ...], stride: tuple[int, ...]
) -> None:
    with pytest.raises(TornError):
        read_zip(hand_made(tmp_path / "m.pt", view(offset, size, stride), STORED))


@pytest.mark.parametrize(("n_values", "records"), [(3, STORED), (10**15, STORED), (-1, STORED), (4, {})])
def test_read_zip__storage_of_another_size_or_none__is_torn(
    tmp_path: Path, n_values: int, records: dict[str, bytes]
) -> None:
    with pytest.raises(TornError, match="its storage 0"):
        read_zip(hand_made(tmp_path / "m.pt", view(0, (1,), (1,), n_values), records))


def test_read_zip__torchscript__needs_code(tmp_path: Path) -> None:
    path = hand_made(tmp_path / "m.pt", view(0, (1,), (1,)), STORED | {"constants.pkl": b""})
    with pytest.raises(NeedsCodeError, match="TorchScript"):
        read_zip(path)


def test_read_zip__big_endian__is_refused(tmp_path: Path) -> None:
    path = hand_made(tmp_path / "m.pt", view(0, (1,), (1,)), STORED | {"byteorder": b"big"})
    with pytest.raises(NeedsCodeError, match="big-endian"):
        read_zip(path)


def test_read_zip__some_other_zip__is_torn(tmp_path: Path) -> None:
    path = tmp_path / "m.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(TornError, match="without a checkpoint"):
        read_zip(path)


def test_read_legacy__storage_larger_than_the_file__is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    head = io.BytesIO()
    for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
        pickle.dump(part, head, protocol=2)
    path.write_bytes(head.getvalue() + view(0, (1,), (1,), 2**50))
    with pytest.raises(TornError, match="larger than the file"):
        read_legacy(path)


def test_rebuilt_tensors__take_no_state() -> None:
    """torch.Tensor has a __setstate__ of its own, which a file could reach."""
    tensor = PickledTensor(torch.ones(2))
    tensor.__setstate__((torch.zeros(1).untyped_storage(), 0, (100,), (1,)))
    assert tensor.tensor.shape == (2,)


@pytest.mark.parametrize(("part", "expected"), [((b"1", 1, 3), [2.0, 3.0]), ((b"1", 2, 3), None), (None, [1.0, 2.0])])
def test_read_legacy__part_of_a_storage__as_the_first_releases_wrote(
    tmp_path: Path, part: tuple[bytes, int, int] | None, expected: list[float] | None
) -> None:
    """A storage of four numbers, seen through a part of three from the second on; the tensor skips one more."""
    path = tmp_path / "m.pt"
    file = io.BytesIO()
    for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
        pickle.dump(value, file, protocol=2)
    inner = b"N" if part is None else b"(S'%s'\nI%d\nI%d\nt" % part
    file.write(view(1, (2,), (1,)).replace(b"I4\ntQ", b"I4\n" + inner + b"tQ"))
    pickle.dump(["0"], file, protocol=2)
    file.write((4).to_bytes(8, "little") + STORED["data/0"])
    path.write_bytes(file.getvalue())
    if expected is None:
        with pytest.raises(TornError, match="lies outside"):
            read_legacy(path)
    else:
        assert tensors(read_legacy(path))["w"].tolist() == expected
