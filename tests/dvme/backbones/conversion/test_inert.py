from __future__ import annotations

import copyreg
import io
import os
import pickle
import subprocess
import sys
import types
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dvme.backbones.conversion.inert import Inert, Known, NeedsCodeError, TornError, load_inert
from dvme.backbones.conversion.torch_files import TORCH_REBUILDERS


def load(data: bytes) -> Any:
    return load_inert(io.BytesIO(data), TORCH_REBUILDERS)


class Call:
    """Pickled, it is the call of any function."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.function, self.args = function, args

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.args


def payloads(witness: Path) -> dict[str, bytes]:
    """Pickles each of which creates the file when unpickled as usual, by another way."""
    code = f"open({str(witness)!r}, 'w').close()"
    command = f"touch {witness}"
    quoted = repr(str(witness)).encode()
    return {
        "os.system": pickle.dumps(Call(os.system, command)),
        "eval": pickle.dumps(Call(eval, code)),
        "exec, protocol 0": pickle.dumps(Call(exec, code), protocol=0),
        "exec, protocol 2": pickle.dumps({"state_dict": [Call(exec, code)]}, protocol=2),
        "subprocess": pickle.dumps(Call(subprocess.call, ["touch", str(witness)])),
        "getattr chain": b"cbuiltins\ngetattr\n(cbuiltins\n__import__\n(S'os'\ntRS'system'\ntR(S'"
        + command.encode()
        + b"'\ntR.",
        "dotted name": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c"
        + bytes([len(command)])
        + command.encode()
        + b"\x85R.",
        "instance opcode": b"(S'" + command.encode() + b"'\nios\nsystem\n.",
        "object opcode": b"(cos\nsystem\nS'" + command.encode() + b"'\no.",
        "map": b"c__builtin__\nlist\n(c__builtin__\nmap\n(cos\nsystem\n(lS'" + command.encode() + b"'\natRtR.",
        "open": b"c__builtin__\nopen\n(V" + quoted.strip(b"'") + b"\nVw\ntR.",
    }


WAYS = list(payloads(Path("x")))


@pytest.mark.parametrize("way", WAYS)
def test_load_inert__malicious__nothing_is_executed(way: str, tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    load(payloads(witness)[way])
    assert not witness.exists()


@pytest.mark.parametrize("way", WAYS)
def test_payloads__unpickled_as_usual__do_execute(way: str, tmp_path: Path) -> None:
    """Else the test above would prove nothing. In a process of its own."""
    witness = tmp_path / "witness"
    code = "import pickle, sys; pickle.loads(sys.stdin.buffer.read())"
    subprocess.run([sys.executable, "-c", code], input=payloads(witness)[way], check=False, capture_output=True)
    assert witness.exists()


def test_load_inert__no_module_is_imported() -> None:
    before = set(sys.modules)
    record = load(b"cwsgiref.simple_server\nWSGIServer\n(I1\ntR.")
    assert isinstance(record, Inert)
    assert (type(record).origin, record.args) == ("wsgiref.simple_server.WSGIServer", (1,))
    assert set(sys.modules) == before


class Config:
    def __init__(self) -> None:
        self.lr, self.steps = 0.1, [1, 2]


class Slotted:
    __slots__ = ("a",)


class Bag(dict[str, int]):
    pass


class Rows(list[int]):
    pass


@pytest.mark.parametrize("protocol", range(6))
def test_load_inert__foreign_objects__are_records(protocol: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Objects with a dict, with slots, dicts and lists of a class: all of a module that is gone when they are read."""
    slotted = Slotted()
    slotted.a = 5  # type: ignore[attr-defined]
    classes = [Config, Bag, Rows] + [Slotted] * (protocol >= 2)
    module = types.ModuleType("gone")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "gone", module)
        for kind in classes:
            setattr(module, kind.__name__, kind)
            patch.setattr(kind, "__module__", "gone")
        values = [Config(), Bag(x=1), Rows([7, 8]), *([slotted] if protocol >= 2 else [])]
        data = pickle.dumps(values, protocol=protocol)
    config, bag, rows, *others = load(data)
    assert dict(config.children())["lr"] == 0.1
    assert dict(config.children())["steps"] == [1, 2]
    assert [dict(other.children())["a"] for other in others] == [5] * (protocol >= 2)
    if protocol >= 2:
        assert bag.children() == [("x", 1)]
        assert rows.children() == [(0, 7), (1, 8)]
        assert type(rows).origin == "gone.Rows"


def test_load_inert__ordered_dict_with_attributes__as_torch_writes_state_dicts() -> None:
    state = OrderedDict(a=1)
    state._metadata = {"": {"version": 1}}  # type: ignore[attr-defined]
    assert load(pickle.dumps(state)) == OrderedDict(a=1)


@pytest.mark.parametrize(
    "data",
    [
        b"cnumpy\ndtype\n(N}S'name'\nS'os.system'\nstb.",
        b"ctorch._utils\n_rebuild_parameter\n}S'_call'\nI0\nsb.",
        b"ctorch\nFloatStorage\n}S'value'\nI0\nsb.",
        b"ccollections\nOrderedDict\n(N}S'update'\nI0\nstb.",
        b"cargparse\nNamespace\n(N}S'origin'\nI0\nstb.",
    ],
)
def test_load_inert__state_set_on_what_a_name_means__is_refused(data: bytes) -> None:
    with pytest.raises(NeedsCodeError):
        load(data)
    known = TORCH_REBUILDERS["torch._utils._rebuild_parameter"]
    assert isinstance(known, Known)
    assert known("a tensor", True, None) == "a tensor"


def test_load_inert__extension_codes__are_refused_even_if_registered() -> None:
    copyreg.add_extension("os", "system", 0x7ABC)
    try:
        with pytest.raises(NeedsCodeError, match="EXT2"):
            load(b"\x80\x02\x83\xbc\x7a.")
    finally:
        copyreg.remove_extension("os", "system", 0x7ABC)


def test_load_inert__persistent_ids__are_refused() -> None:
    with pytest.raises(NeedsCodeError, match="outside"):
        load(b"\x80\x02X\x01\x00\x00\x00aQ.")
    with pytest.raises(NeedsCodeError, match="outside"):
        load(b"Pabc\n.")


@pytest.mark.parametrize("data", [b"", b"\x80", b"\x80\x02}q", b"no pickle at all", b"\x80\x04N", b"\x1f\x8b\x08\x00"])
def test_load_inert__no_whole_pickle__is_torn(data: bytes) -> None:
    with pytest.raises(TornError):
        load(data)


def test_load_inert__every_truncation__is_torn() -> None:
    data = pickle.dumps({"a": [1, 2.5, "text"], "b": Config()}, protocol=4)
    for n_bytes in range(len(data)):
        with pytest.raises(TornError):
            load(data[:n_bytes])


def test_load_inert__memo_index_far_ahead__is_refused_before_memory_is_taken() -> None:
    with pytest.raises(TornError, match="memo"):
        load(b"\x80\x02Nr\xff\xff\xff\x7f.")


@pytest.mark.parametrize("data", [b"(I1\nI2\ndI3\na.", b"NR.", b"I1\n(tR.", b"N(tR.", b"\x80\x02cos\nsystem\n)R)\x81."])
def test_load_inert__instructions_that_do_not_fit__need_code(data: bytes) -> None:
    with pytest.raises((NeedsCodeError, TornError)):
        load(data)


def test_load_inert__two_in_one_file__each_in_turn() -> None:
    file = io.BytesIO(pickle.dumps([1]) + pickle.dumps({"b": 2}))
    assert load_inert(file, {}) == [1]
    assert load_inert(file, {}) == {"b": 2}


def test_children__collisions_are_kept_apart() -> None:
    record = load(b"cgone\nConfig\n(I1\ntR}S'args.0'\nI2\nsb.")
    assert record.children() == [("args.0", 1), ("args.0", 2)]
