"""What users type, taken apart."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer

import dvme

if TYPE_CHECKING:
    from dvme.report.options import PageOptions
    from dvme.runtime import Runtime
    from dvme.study.design.options import SubsetOptions


def typed(**given: Any) -> dict[str, Any]:
    """What was typed; of what was not, the library's own default holds."""
    return {name: value for name, value in given.items() if value is not None}


def runtime_of(*, memory: float | None = None, **given: Any) -> Runtime:
    """How to compute, by the fields of dvme.Runtime; `memory` in GiB."""
    return dvme.Runtime(memory=None if memory is None else int(memory * 2**30), **given)


def subset_options(*, sizes: str | None, **given: Any) -> SubsetOptions | None:
    """The options that were typed; None if there are none, so that a subset file may stand in for all of them."""
    known = typed(sizes=None if sizes is None else tuple(parse_names(sizes, "--sizes")), **given)
    return dvme.SubsetOptions(**known) if known else None


def page_options(*, methods: str, **given: Any) -> PageOptions:
    """How a page is to be, by the fields of dvme.PageOptions."""
    return dvme.PageOptions(methods=parse_names(methods, "--method"), **typed(**given))


def optional_names(text: str | None, option: str) -> list[str] | None:
    """As `parse_names`; None is None."""
    return None if text is None else parse_names(text, option)


def columns_of(**given: Any) -> dvme.Columns:
    """Columns of a table, by the fields of dvme.Columns; those that name several are parted at commas."""
    several = {"keep": "--keep-col", "dicom": "--dicom-columns", "mask": "--mask-col"}
    return dvme.Columns(**typed(**given | {name: optional_names(given.get(name), several[name]) for name in several}))


def parse_names(text: str, option: str) -> list[str]:
    """Split `a,b,c`; a name in double quotes may have commas, as in a CSV: `"x,y",dino`."""
    try:
        line = re.sub(r'"\s+(?=,|$)', '"', " ".join(text.split()))  # blanks between a closing quote and the comma
        cells = next(csv.reader([line], skipinitialspace=True, strict=True), [])
    except csv.Error as error:
        message = f"""{option} {text} has quotes that do not close; a name with a comma is '"x,y",dino'"""
        raise typer.BadParameter(message) from error
    names = [name.strip() for name in cells if name.strip()]
    if not names:
        raise typer.BadParameter(f"{option} is empty; give names separated by commas")
    return names


def site_options(*, test: Sequence[str] | None, label_map: Sequence[str] | None, score: str | None) -> dict[str, Any]:
    """What is asked of other sites, by the parameters of `dvme.probe` and `dvme.sweep`; nothing where it is nothing."""
    names: dict[str, list[str]] = {}
    for pair in label_map or ():
        ours, separator, theirs = (part.strip() for part in pair.partition("="))
        if not separator or not ours or not theirs:
            raise typer.BadParameter(f"--map {pair} is not OURS=THEIRS")
        names.setdefault(ours, []).append(theirs)
    weights: dict[str, float] = {}
    for part in parse_names(score, "--score") if score is not None else ():
        name, _, weight = part.rpartition("=")
        try:
            weights[name] = float(weight)
        except ValueError:
            name = ""
        if not name:
            raise typer.BadParameter(f"--score {part} is not NAME=WEIGHT, such as private=0.51")
    return typed(test=test or None, label_map=names or None, score=weights or None)


def parse_order(text: str | None) -> list[str] | None:
    """Split `none,mild,severe`; nothing between quotes is an order of no classes, None is None."""
    return None if text is None else parse_names(text, "--class-order") if text.strip() else []


def parse_pairs(pairs: Sequence[str], option: str, what: str) -> dict[str, str]:
    """Parse repeated `NAME=VALUE` options; messages call the value `what`."""
    from dvme.backbones.description.variation import KEYS

    parsed: dict[str, str] = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator or not name or not value:
            raise typer.BadParameter(f"{option} {pair} is not NAME={what}")
        base, _, last = name.rpartition("@")
        if last in KEYS:
            raise typer.BadParameter(f"{option} takes names without variations; pass {option} {base}={what}")
        parsed[name] = value
    return parsed


def parse_shares(texts: Sequence[str] | None, option: str) -> dict[str, float] | None:
    """Parse repeated `NAME=0.12`; a number alone is of every other name, which is "" here."""
    found = dict[str, float]()
    for text in texts or ():
        name, separator, value = (part.strip() for part in text.rpartition("="))
        try:
            number = float(value)
        except ValueError:
            number = None
        if number is None or (separator and not name):
            raise typer.BadParameter(f"{option} {text} is neither a number nor NAME=NUMBER, such as 0.1")
        if name in found:
            raise typer.BadParameter(f"{option} is given twice for {name or 'all'}; give it once")
        found[name] = number
    return found or None


def vary_names(names: Sequence[str], *, preprocess: str | None, **given: Any) -> list[str]:
    """Write the options that vary every backbone, by the keys of names, into these; what a name says itself stays."""
    from dvme.backbones.description.variation import PREPROCESS_KEYS, vary_name

    options = {key.replace("_", "-"): f"{value}" for key, value in given.items() if value is not None}
    for part in parse_names(preprocess, "--preprocess") if preprocess is not None else []:
        key, separator, value = part.partition("=")
        if not separator or key not in PREPROCESS_KEYS:
            message = f"--preprocess {part} is not KEY=VALUE with one of {', '.join(PREPROCESS_KEYS)}"
            raise typer.BadParameter(message)
        options[key] = value
    return [vary_name(name, options) for name in names]


def parse_range(text: str | None, bits: int | None) -> str | None:
    """How a name says a range of grey: `percentile:0.5:99.5` of `percentile=0.5,99.5`, `12bit` of 12 bits."""
    if text is not None and bits is not None:
        raise typer.BadParameter(f"--bits {bits} is a range itself; leave out --range {text}")
    return f"{bits}bit" if bits is not None else None if text is None else re.sub(r"\s*[=,]\s*", ":", text.strip())


def parse_frame(text: str | None) -> tuple[str | None, str | None]:
    """What is a row, and what a backbone reads of one with several frames: (`each`, None) or (None, `middle`)."""
    if text is None or text in {"each", "middle"} or text.isdecimal():
        return (text, None) if text == "each" else (None, text)
    raise typer.BadParameter(f"--frame {text} is not possible; pass each, middle, or a number from 0 on")
