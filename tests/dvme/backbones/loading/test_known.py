"""What is kept of a load is recalled for the same bytes, description, sources and libraries only."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dvme.backbones import BackboneSpec, get_spec
from dvme.backbones.loading import known
from dvme.backbones.loading.known import FOLDER, Facts, Place, place_of
from dvme.errors import WeightsError
from dvme.runtime import kept_folder

FACTS = Facts("0123456789abcdef" * 2, 1280)
"""Made up: nothing is loaded here."""
SPEC = get_spec("efficientnet-lite0")
LONG_AGO = 10**18


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def file(tmp_path: Path, home: Path) -> Path:
    """A weights file that has long been there, of which facts are kept."""
    del home
    path = tmp_path / "w.pth"
    path.write_bytes(b"weights of a network")
    os.utime(path, ns=(LONG_AGO, LONG_AGO))
    place(path).keep(FACTS)
    return path


def place(file: Path | None, spec: BackboneSpec = SPEC) -> Place:
    found = place_of(spec, file)
    assert found is not None
    return found


def entry() -> Path:
    (path,) = kept_folder(FOLDER).iterdir()
    return path


def test_recall__what_was_kept(file: Path) -> None:
    assert place(file).recall() == FACTS
    assert entry().parent.stat().st_mode & 0o077 == 0


def test_recall__of_a_backbone_without_a_file(home: Path) -> None:
    assert place(None, get_spec("random")).recall() is None
    place(None, get_spec("random")).keep(FACTS)
    assert place(None, get_spec("random")).recall() == FACTS
    assert place(None, get_spec("random@size=96")).recall() is None
    assert home.is_dir()


def test_recall__the_same_bytes_touched_or_copied_over(file: Path) -> None:
    file.touch()
    assert place(file).recall() == FACTS
    other = file.with_name("copy.pth")
    other.write_bytes(file.read_bytes())
    other.replace(file)
    assert place(file).recall() == FACTS


@pytest.mark.parametrize("content", [b"weights of A network", b"weights of a network and more", b""])
def test_recall__not_of_other_bytes_of_the_same_age(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    os.utime(file, ns=(LONG_AGO, LONG_AGO))
    assert place(file).recall() is None


def test_recall__a_file_that_was_just_written_is_read_again(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its times may be those of the next write as well: with a frozen clock they are."""
    young = known._seen(file)
    monkeypatch.setattr(known, "_seen", lambda _: young)
    assert place(file).recall() == FACTS
    file.write_bytes(b"weights of A network")
    assert place(file).recall() is None


def test_recall__a_file_that_has_long_been_there_is_not_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "SETTLED_NS", -(10**18))
    place(file).keep(Facts("f" * 32, 7))
    file.chmod(0)
    seen = json.loads(entry().read_text())["seen"]
    monkeypatch.setattr(known, "_seen", lambda _: tuple(seen))
    monkeypatch.setattr(Place, "_digest", lambda _: pytest.fail("the file was read"))
    assert place(file).recall() == Facts("f" * 32, 7)


@pytest.mark.parametrize(
    "other",
    [
        replace(SPEC, pooling="model"),
        replace(SPEC, architecture_args={"drop_rate": 0.5}),
        get_spec("efficientnet-lite0@size=96"),
        get_spec("efficientnet-lite1"),
    ],
    ids=["pooling", "arguments", "size", "backbone"],
)
def test_recall__not_under_another_description(file: Path, other: BackboneSpec) -> None:
    assert place(file, other).recall() is None


def test_recall__not_with_other_libraries_sources_or_machines(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        ("installed", lambda name: f"another {name}"),
        ("_sources", lambda: "other code"),
        ("platform", type("Other", (), {"node": lambda: "elsewhere", "machine": lambda: "arm"})),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(known, name, value)
            assert place(file).recall() is None
    assert place(file).recall() == FACTS


def test_sources__change_with_any_file_of_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("loading/known.py", "zoo/vit.py"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("one")
    monkeypatch.setattr(known, "__file__", str(tmp_path / "loading/known.py"))
    digest: Callable[[], str] = known._sources.__wrapped__
    first = digest()
    (tmp_path / "zoo" / "vit.py").write_text("two")
    assert digest() != first


@pytest.mark.parametrize("damage", ["", "{}", "[]", "null", '{"seal": 1}', "\x00\xff", "cut", "other number", "gone"])
def test_recall__damage_of_the_memory_costs_time_alone(file: Path, damage: str) -> None:
    path, content = entry(), entry().read_text()
    if damage == "gone":
        path.unlink()
        path.mkdir()
    else:
        changed = {"cut": content[:-9], "other number": content.replace("1280", "1281")}
        path.write_text(changed.get(damage, damage))
    assert place(file).recall() is None
    place(file).keep(FACTS)
    assert damage == "gone" or place(file).recall() == FACTS


def test_keep__nowhere_to_write(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    place(file).keep(FACTS)
    assert place(file).recall() is None


def test_keep__not_if_the_file_changed_meanwhile(file: Path) -> None:
    before = place(file)
    file.write_bytes(b"weights of another one")
    before.keep(Facts("f" * 32, 7))
    assert place(file).recall() is None
    assert place(file) != before


@pytest.mark.parametrize(
    "spec",
    [
        replace(SPEC, source="built", build=lambda: None, checkpoint=None),
        replace(SPEC, source="hub", checkpoint=None),
        replace(SPEC, architecture_args={"checkpoint_path": "elsewhere.pth"}),
        replace(SPEC, architecture_args={"act_layer": print}),
        get_spec("dino"),
    ],
    ids=["built", "hub", "reads another file", "own code", "not here"],
)
def test_place_of__what_must_be_loaded(spec: BackboneSpec, home: Path) -> None:
    assert place_of(spec) is None
    assert not home.exists()


def test_place_of__file_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="there is no such file"):
        place_of(SPEC, tmp_path / "missing.pth")
