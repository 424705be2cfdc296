"""What is told of a call's progress, to whom, and that it never goes back."""

from __future__ import annotations

import io
import os
import pty
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from light import light
from once import linked
from rich.console import Console
from rich.progress import Progress as RichProgress

import dvme
from dvme.progress import _columns, bars, lines, unit_of, watched
from dvme.runtime import Progress, automatic, silent

Told = list[tuple[str, int, int]]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """A clock that moves when it is told to."""
    now = [0.0]
    monkeypatch.setattr("dvme.progress.time.monotonic", lambda: now[0])

    def move(seconds: float) -> None:
        now[0] += seconds

    return move


def test_lines__images_have_a_pace_and_jobs_have_none(clock: Callable[[float], None]) -> None:
    said: list[str] = []
    tell = lines(said.append)
    tell("hash", 0, 100)
    clock(5)
    tell("hash", 10, 100)  # too soon for a line
    clock(20)
    tell("hash", 50, 100)
    clock(25)
    tell("hash", 100, 100)
    tell("sweep", 0, 30)
    clock(30)
    tell("sweep", 0, 30)
    clock(30)
    tell("sweep", 20, 30)
    clock(1)
    tell("sweep", 30, 30)
    assert said == [
        "hash: 0 of 100 images",
        "hash: 50 of 100 images, 2.0/s, 25 s left",
        "hash: 100 of 100 images",
        "sweep: 0 of 30 jobs",
        "sweep: 0 of 30 jobs, 30 s so far",
        "sweep: 20 of 30 jobs, 60 s so far",
        "sweep: 30 of 30 jobs",
    ]


def test_bars__say_what_is_counted() -> None:
    shown = io.StringIO()
    with bars(Console(file=shown, width=100, force_terminal=True, color_system=None)) as tell:
        for done in range(5):
            tell("sweep", done, 40)
            tell("dino", 10 * done, 400)
            tell("[bold]c", done, 4)
    last = shown.getvalue().splitlines()[::-1]
    sweep, dino = (next(line for line in last if name in line) for name in ("sweep", "dino"))
    assert "4/40" in sweep
    assert "jobs" in sweep
    assert "left" not in sweep
    assert "/s" not in sweep
    assert "40/400" in dino
    assert "images" in dino
    assert any("[bold]c" in line for line in last)


def test_bars__of_a_call_that_tells_nothing_leave_no_line() -> None:
    shown = io.StringIO()
    with bars(Console(file=shown, width=100, force_terminal=True, color_system=None)):
        pass
    assert not shown.getvalue()


def test_bars__at_the_end_the_speed_is_that_of_all() -> None:
    shown = io.StringIO()
    with bars(Console(file=shown, width=100, force_terminal=True, color_system=None)) as tell:
        tell("dino", 0, 100)
        time.sleep(0.5)
        tell("dino", 50, 100)  # a slow half
        for done in range(51, 101):
            tell("dino", done, 100)
    speed = float(next(line for line in shown.getvalue().splitlines()[::-1] if "/s" in line).split("/s")[0].split()[-1])
    assert 50 < speed < 200


@pytest.mark.parametrize(
    ("stage", "unit"),
    [
        ("sweep", "jobs"),
        ("probe", "jobs"),
        ("fit", "jobs"),
        ("score the second", "cells"),
        ("tsne maps", "maps"),
        ("compare images", "backbones"),
        ("efficientnet-lite0@size=32", "images"),
        ("hash", "images"),
    ],
)
def test_unit_of__what_a_stage_counts(stage: str, unit: str) -> None:
    assert unit_of(stage) == unit


def test_watched__silent_where_nobody_watches_and_where_it_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    def own(stage: str, done: int, total: int) -> None:
        del stage, done, total

    for given, expected in ((automatic, silent), (None, silent), (silent, silent), (own, own)):
        with watched(given) as tell:
            assert tell is expected
            tell("hash", 1, 2)
    assert capsys.readouterr() == ("", "")


@contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], str]]:
    """A terminal in the place of stderr, and all that came to stand in it."""
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w", encoding="utf-8") as stream, monkeypatch.context() as patched:
        patched.setenv("TERM", "xterm")
        patched.setattr(sys, "stderr", stream)

        def shown() -> str:
            print("the end", file=stream, flush=True)
            said = b""
            while b"the end" not in said:
                said += os.read(ours, 65536)
            return said.decode().replace("the end", "").strip()

        yield shown
    os.close(ours)


def test_public_functions__show_bars_in_a_terminal_by_default(
    small_study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with terminal(monkeypatch) as shown:
        dvme.cache.verify(small_study / "c.zarr", progress=None)  # type: ignore[arg-type]
        dvme.cache.verify(small_study / "c.zarr", progress=dvme.silent)
        assert not shown()
        dvme.cache.verify(small_study / "c.zarr")
        said = shown()
    assert "shards" in said
    assert "━" in said


@pytest.mark.parametrize("call", ["sweep", "probe", "compare", "explain", "viz", "verify", "export"])
def test_public_functions__tell_a_fixed_total_and_never_less(call: str, small_study: Path, tmp_path: Path) -> None:
    study = linked(small_study, tmp_path / "study")
    cache, run = study / "c.zarr", study / "run"
    pca = {"methods": ["pca", "tsne"], "thumbnails": True}
    told: Told = []

    def note(stage: str, done: int, total: int) -> None:
        told.append((stage, done, total))

    calls: dict[str, Callable[[Progress], object]] = {
        "sweep": lambda tell: dvme.sweep(
            cache,
            tmp_path / "again",
            heads=light("knn", "mean-logits", "mlp"),
            options={"sizes": "50%,full", "n_folds": 2},  # type: ignore[arg-type]
            progress=tell,
        ),
        "probe": lambda tell: dvme.probe(cache, heads=light("linear", "concat"), n_folds=2, progress=tell),
        "compare": lambda tell: dvme.compare(run, run, progress=tell),
        "explain": lambda tell: dvme.explain(next((run / "heads").iterdir()), cache, retrain=True, progress=tell),
        "viz": lambda tell: dvme.viz(cache, out=tmp_path / "v.html", options=pca, progress=tell),  # type: ignore[arg-type]
        "verify": lambda tell: dvme.cache.verify(cache, progress=tell),
        "export": lambda tell: dvme.cache.export(cache, tmp_path / "e.h5", progress=tell),
    }
    calls[call](note)
    stages = dict.fromkeys(stage for stage, _, _ in told)
    assert stages
    for stage in stages:
        dones = [done for each, done, _ in told if each == stage]
        totals = {total for each, _, total in told if each == stage}
        assert len(totals) == 1, stage
        assert dones == sorted(dones), stage
        assert dones[-1] == totals.pop(), stage
    if call == "sweep":
        assert ("sweep", 0, 16) in told  # knn on two backbones, two fusions; two sizes, two folds
        assert [*stages][-1] == "score"
    if call == "probe":
        assert ("probe", 6, 6) in told  # linear on two backbones, concat; two folds
        assert [*stages][-1] == "score"


def test_lines__the_end_of_a_stage_is_told_once() -> None:
    said: list[str] = []
    tell = lines(said.append)
    for done in (0, 3, 3, 3):
        tell("sweep", done, 3)
    assert said == ["sweep: 0 of 3 jobs", "sweep: 3 of 3 jobs"]


def test_lines__at_most_one_of_a_stage_in_ten_seconds_but_the_first_and_the_last(
    clock: Callable[[float], None],
) -> None:
    said: list[str] = []
    tell = lines(said.append)
    for done in range(500, 601):  # gone on with
        tell("dino", done, 600)
        tell("load", done - 500, 100)
        clock(0.25)
    assert said == [
        "dino: 500 of 600 images",
        "load: 0 of 100 backbones",
        "dino: 540 of 600 images, 4.0/s, 15 s left",
        "load: 40 of 100 backbones, 10 s so far",
        "dino: 580 of 600 images, 4.0/s, 5 s left",
        "load: 80 of 100 backbones, 20 s so far",
        "dino: 600 of 600 images",
        "load: 100 of 100 backbones",
    ]


@pytest.mark.parametrize("width", [60, 80, 100])
def test_bars__names_and_numbers_are_whole_in_every_terminal(width: int) -> None:
    name, now, shown = "timm:vit_small_patch16_224.dino@size=160", [0.0], io.StringIO()
    console = Console(file=shown, width=width)
    told = RichProgress(*_columns(width), console=console, get_time=lambda: now[0])
    task = told.add_task(name, total=100_000, unit="images")
    for second in (1, 2):
        now[0] = second
        told.update(task, completed=10_000 * second)
    console.print(told.get_renderable())
    rows = shown.getvalue().splitlines()
    assert max(map(len, rows)) <= width
    stop = rows[0].index("━" if width >= 80 else " 20000/100000")
    assert "".join(row[:stop].strip() for row in rows) == name
    assert " 20000/100000" in rows[0]
    assert "10,000.0/s, 8 s left" in rows[0]
    assert "…" not in shown.getvalue()


def test_watched__a_dumb_terminal_is_told_in_lines(small_study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(monkeypatch) as shown:
        monkeypatch.setenv("TERM", "dumb")
        dvme.cache.verify(small_study / "c.zarr")
        said = shown()
    assert "shards: " in said
    assert "━" not in said
    assert "\x1b" not in said
