"""Images are identified while backbones are loaded; what ends one side ends the other, as one error."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from threading import Event, Timer, active_count
from types import SimpleNamespace
from typing import Any

import pytest

import dvme
from dvme.data.stamps import Stamps, Vouched, now, stamp_of
from dvme.errors import DataError, OptionError, WeightsError
from dvme.extraction import beginning
from dvme_cache import content_id

LITE, OTHER = "efficientnet-lite0@size=32", "efficientnet-lite0@size=48"
CPU = dvme.Runtime(device="cpu", workers=2)
WAIT = 60.0
"""Seconds after which a test fails that would wait for ever."""
Load = Callable[..., Any]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], None]:
    """Have something done before backbones are loaded."""
    real = beginning.load_known

    def first(do: Callable[[], None]) -> None:
        def loading(*given: Any) -> Any:
            do()
            return real(*given)

        monkeypatch.setattr(beginning, "load_known", loading)

    return first


@pytest.fixture
def read_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Path], None]], None]:
    """Have something done before an image is read."""
    read = Path.read_bytes

    def first(do: Callable[[Path], None]) -> None:
        def reading(self: Path) -> bytes:
            if self.suffix == ".png":
                do(self)
            return read(self)

        monkeypatch.setattr(Path, "read_bytes", reading)

    return first


def test_begin_run__images_are_hashed_while_backbones_load(
    class_folders: Path, tmp_path: Path, load: Callable[..., None], read_of: Callable[..., None]
) -> None:
    is_hashed, is_loading = Event(), Event()
    read_of(lambda path: is_loading.wait(WAIT) or pytest.fail("no load") if path.name == "05.png" else is_hashed.set())

    def loading() -> None:
        assert is_hashed.wait(WAIT)
        is_loading.set()

    load(loading)
    told: list[tuple[str, int, int]] = []
    dvme.extract(class_folders, tmp_path / "c.zarr", backbones=[LITE], runtime=CPU, progress=lambda *x: told.append(x))
    assert ("hash", 36, 36) in told
    assert [each for each in told if each[0] == "load"] == [("load", 0, 1), ("load", 1, 1)]
    # Known by now: loaded as soon as one image is new, while the others wait for that.
    is_hashed.clear()
    is_loading.clear()
    (class_folders / "dark" / "02.png").write_bytes((class_folders / "dark" / "00.png").read_bytes() + b"\0")
    report = dvme.extract(class_folders, tmp_path / "c.zarr", backbones=[LITE], runtime=CPU)
    assert report.outcomes[0].computed == 1


def test_begin_run__an_error_of_the_load_ends_the_hashing(
    class_folders: Path, tmp_path: Path, load: Callable[..., None], read_of: Callable[..., None]
) -> None:
    names: list[str] = []
    has_failed = Event()

    def reading(path: Path) -> None:
        names.append(path.name)
        has_failed.wait(WAIT)

    def failing() -> None:
        has_failed.set()
        raise WeightsError("no such weights")

    read_of(reading)
    load(failing)
    n_threads = active_count()
    with pytest.raises(WeightsError, match="no such weights"):
        dvme.extract(class_folders, tmp_path / "c.zarr", backbones=[LITE], runtime=CPU)
    assert len(names) < 36
    assert active_count() == n_threads
    assert not (tmp_path / "c.zarr").exists()


def test_begin_run__an_interrupt_waits_for_no_more_files_that_cannot_be_read(
    class_folders: Path, tmp_path: Path, load: Callable[..., None], read_of: Callable[..., None]
) -> None:
    """A network share that is gone may take long to say so, for each of its files."""
    begun, ended, asked = Event(), Event(), list[Path]()

    def gone(path: Path) -> None:
        asked.append(path)
        begun.set()
        assert ended.wait(WAIT)
        raise OSError(5, "Input/output error")

    def interrupt() -> None:
        assert begun.wait(WAIT)
        Timer(0.5, ended.set).start()
        raise KeyboardInterrupt

    read_of(gone)
    load(interrupt)
    with pytest.raises(KeyboardInterrupt):
        dvme.extract(class_folders, tmp_path / "c.zarr", backbones=[LITE], runtime=CPU)
    assert len(asked) <= 2


def test_begin_run__an_error_of_the_hashing_ends_the_load(
    class_folders: Path, tmp_path: Path, load: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in list(class_folders.rglob("*.png")):
        path.unlink()
        path.symlink_to(path.parent / "nowhere")
    has_ended = Event()
    identify = beginning.identify

    def ending(*given: Any, **named: Any) -> Any:
        try:
            return identify(*given, **named)
        finally:
            has_ended.set()

    monkeypatch.setattr(beginning, "identify", ending)
    load(lambda: has_ended.wait(WAIT))
    loaded = []
    monkeypatch.setattr("dvme.backbones.loading.model.load_backbone", lambda *_, **__: loaded.append(1))
    with pytest.raises(DataError, match=r"none of 36 files can be used; dark/00\.png: cannot be read"):
        dvme.extract(class_folders, tmp_path / "c.zarr", backbones=[LITE, OTHER], runtime=CPU)
    assert not loaded


def test_begin_run__a_full_disk_is_told_before_anything_is_loaded(
    class_folders: Path, tmp_path: Path, load: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    load(lambda: pytest.fail("loaded"))
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=0))
    with pytest.raises(
        OptionError, match=r"cannot be written to \(No space left on device\); make room, or name another place"
    ):
        dvme.extract(class_folders, tmp_path / "c.zarr", backbones=[LITE], runtime=CPU)


def test_begin_run__an_interrupt_ends_both(class_folders: Path, tmp_path: Path, load: Callable[..., None]) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    load(interrupted)
    n_threads = active_count()
    with pytest.raises(KeyboardInterrupt):
        dvme.extract(class_folders, tmp_path / "c.zarr", backbones=[LITE], runtime=CPU)
    assert active_count() == n_threads
    assert not (tmp_path / "c.zarr").exists()


def test_extract__trust_mtime(
    class_folders: Path, tmp_path: Path, read_of: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dvme.data.stamps.SETTLED_NS", -1)
    given: dict[str, Any] = {"backbones": [LITE], "runtime": CPU, "trust_mtime": True}
    assert dvme.plan_extraction(class_folders, tmp_path / "c.zarr", **given).n_rows == 36
    kept = Stamps.of(os.path.realpath(class_folders))
    assert kept.recall(next(class_folders.rglob("*.png"))) is None, "a plan keeps nothing"
    first = dvme.extract(class_folders, tmp_path / "c.zarr", **given)
    names: list[str] = []
    read_of(lambda path: names.append(path.name))
    again = dvme.extract(class_folders, tmp_path / "c.zarr", **given)
    assert (first.outcomes[0].computed, again.outcomes[0].reused, names) == (36, 36, [])
    assert (first.n_trusted, again.n_trusted) == (0, 36)
    plan = dvme.plan_extraction(class_folders, tmp_path / "c.zarr", **given)
    assert (plan.n_rows, plan.backbones[0].reused, names) == (36, 36, [])
    assert dvme.extract(class_folders, tmp_path / "c.zarr", backbones=[LITE], runtime=CPU).n_trusted is None
    assert len(names) == 36, "only where it is asked for"


def test_extract__what_was_vouched_for_wrongly_shows_when_it_is_decoded(
    class_folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dvme.data.stamps.SETTLED_NS", -1)
    given: dict[str, Any] = {"backbones": [LITE], "runtime": CPU, "trust_mtime": True}
    dvme.extract(class_folders, tmp_path / "c.zarr", **given)
    target = class_folders / "grey" / "03.png"
    before = content_id(target.read_bytes())
    target.write_bytes(target.read_bytes() + b"\0")
    stamps = Stamps.of(os.path.realpath(class_folders))
    for path in class_folders.rglob("*.png"):
        stamps.recall(path)
    stamps.note(target, stamp_of(target), now(), Vouched(before, is_dicom=False))  # as where no time tells
    stamps.save()
    given["backbones"] = [OTHER]
    wrong = dvme.extract(class_folders, tmp_path / "c.zarr", **given)
    assert (wrong.n_new, wrong.outcomes[0].computed) == (0, 35)
    assert wrong.outcomes[0].reasons == {"grey/03.png": "changed after it was listed; run again"}
    right = dvme.extract(class_folders, tmp_path / "c.zarr", **given)
    assert (right.n_new, right.outcomes[0].computed, right.outcomes[0].failed) == (1, 1, 0)
