from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from dvme.training.checkpoints import Epochs


def state(value: float = 1.0) -> dict[str, Any]:
    strided = torch.arange(24.0).reshape(1, 2, 3, 4).to(memory_format=torch.channels_last) * value
    return {"epoch": 3, "loss": float("inf"), "none": None, "words": ["a", "b"], "net": {"w": strided}}


def test_epochs__what_is_written_is_read_back_with_its_strides(tmp_path: Path) -> None:
    Epochs(tmp_path / "a" / "b").write(state())
    found = Epochs(tmp_path / "a" / "b").read()
    assert found is not None
    weights, expected = found.pop("net")["w"], state()["net"]["w"]
    assert torch.equal(weights, expected)
    assert weights.stride() == expected.stride() != expected.contiguous().stride()
    assert found == {name: value for name, value in state().items() if name != "net"}


def test_epochs__an_optimizer_goes_on_from_its_state(tmp_path: Path) -> None:
    def steps(net: nn.Module, optimizer: torch.optim.Optimizer, n: int) -> None:
        for number in range(n):
            optimizer.zero_grad()
            (net(torch.full((3, 2), number + 1.0)) ** 2).sum().backward()
            optimizer.step()

    def fresh() -> tuple[nn.Module, torch.optim.Optimizer]:
        net = nn.Linear(2, 2)
        net.load_state_dict({"weight": torch.eye(2), "bias": torch.ones(2)})
        return net, torch.optim.AdamW(net.parameters(), lr=0.1)

    once, optimizer = fresh()
    steps(once, optimizer, 2)
    Epochs(tmp_path).write({"net": once.state_dict(), "optimizer": optimizer.state_dict()})
    steps(once, optimizer, 2)
    again, other = fresh()
    found = Epochs(tmp_path).read()
    assert found is not None
    again.load_state_dict(found["net"])
    other.load_state_dict(found["optimizer"])
    steps(again, other, 2)
    assert all(torch.equal(a, b) for a, b in zip(once.parameters(), again.parameters(), strict=True))


def test_epochs__states_of_several_names_and_clear(tmp_path: Path) -> None:
    epochs = Epochs(tmp_path / "one")
    assert epochs.read() is None
    epochs.clear()
    epochs.write({"epoch": 1})
    epochs.write({"epoch": 2})
    epochs.write({"epoch": 1}, "best")
    assert (epochs.read(), epochs.read("best")) == ({"epoch": 2}, {"epoch": 1})
    assert sorted(each.name for each in (tmp_path / "one").iterdir()) == ["best.pt", "last.pt"]
    epochs.clear()
    assert (epochs.read(), list(tmp_path.iterdir())) == (None, [])


def test_epochs__without_a_folder_nothing_is_kept() -> None:
    epochs = Epochs(None)
    epochs.write({"epoch": 1})
    epochs.clear()
    assert (epochs.read(), epochs.seconds) == (None, 0.0)


def test_epochs__a_torn_file_is_as_absent(tmp_path: Path) -> None:
    Epochs(tmp_path).write(state())
    path = tmp_path / "last.pt"
    whole = path.read_bytes()
    values = whole.index(torch.arange(4.0)[1:].numpy().tobytes()[:4])
    for torn in (b"", whole[:1], whole[: len(whole) // 2], whole[:-1], whole[:values] + b"\xff" + whole[values + 1 :]):
        path.write_bytes(torn)
        assert Epochs(tmp_path).read() is None
    path.write_bytes(whole)
    assert Epochs(tmp_path).read() is not None


def test_epochs__a_foreign_file_is_as_absent_and_nothing_of_it_runs(tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "harm"),)

    path = tmp_path / "last.pt"
    torch.save({"epoch": Attack()}, path)
    assert Epochs(tmp_path).read() is None
    torch.save([1, 2], path)
    assert Epochs(tmp_path).read() is None
    path.write_bytes(pickle.dumps({"epoch": 1}))
    assert Epochs(tmp_path).read() is None
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("note.txt", "no state")
    assert Epochs(tmp_path).read() is None
    assert not (tmp_path / "harm").exists()


def test_epochs__a_write_that_fails_leaves_the_state_before(tmp_path: Path) -> None:
    Epochs(tmp_path).write({"epoch": 1})
    with pytest.raises(AttributeError, match="local"):
        Epochs(tmp_path).write({"epoch": lambda: None})
    assert Epochs(tmp_path).read() == {"epoch": 1}
    assert list(tmp_path.iterdir()) == [tmp_path / "last.pt"]


def test_epochs__a_file_that_cannot_be_read_is_not_taken_for_torn(tmp_path: Path) -> None:
    (tmp_path / "last.pt").mkdir()
    with pytest.raises(IsADirectoryError):
        Epochs(tmp_path).read()
