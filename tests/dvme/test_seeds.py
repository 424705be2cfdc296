"""Every public function and class of options that takes a seed refuses the same ones, before it does anything else."""

from __future__ import annotations

import ast
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

import dvme
from dvme.errors import OptionError
from dvme.report.options import PageOptions
from dvme.seeds import checked_seed
from dvme.stats import draw, resample_weights
from dvme.stats.draws import jackknife_weights
from dvme.study.design.options import SubsetOptions

TAKES: dict[str, Callable[..., Any]] = {
    "probe": partial(dvme.probe, "nowhere.zarr", heads="linear"),
    "verify": partial(dvme.cache.verify, "nowhere.zarr"),
    "adapt": partial(dvme.adapt, "nowhere", "efficientnet-lite0", "simclr", "nowhere.toml"),
    "subsets": lambda seed: dvme.subsets("nowhere.zarr", options=cast("SubsetOptions", {"seed": seed})),
    "SubsetOptions": SubsetOptions,
    "PageOptions": PageOptions,
    "draw": partial(draw, np.array([0, 1])),
    "resample_weights": partial(resample_weights, np.array([0, 1]), None),
    "jackknife_weights": partial(jackknife_weights, np.array([0, 1]), None),
}


@pytest.mark.parametrize("name", TAKES)
@pytest.mark.parametrize("seed", [-1, 2**32, 1.0, True, np.True_, "3", np.int64(-1), np.nan], ids=repr)
def test_seed__not_possible(name: str, seed: Any) -> None:
    with pytest.raises(OptionError, match=r"^seed .* is not possible; pass a whole number from 0 to 4,294,967,295$"):
        TAKES[name](seed=seed)


def test_seed__no_command_that_takes_one_is_missing_above() -> None:
    takes = set()
    for path in Path(dvme.__file__).parent.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        functions = ast.walk(ast.parse(text)) if "@public" in text else ()
        for each in functions:
            if isinstance(each, ast.FunctionDef) and "public" in map(ast.unparse, each.decorator_list):
                takes |= {each.name} if "seed" in {given.arg for given in each.args.kwonlyargs} else set()
    assert takes == {"adapt", "probe", "verify"}


@pytest.mark.parametrize("seed", [0, 2**32 - 1, np.uint32(7), np.int64(2**32 - 1), np.uint64(1)], ids=repr)
def test_checked_seed__is_an_int(seed: Any) -> None:
    found = checked_seed(seed)
    assert type(found) is int
    assert found == int(seed)
    assert type(SubsetOptions(seed=seed).seed) is int
    assert PageOptions(seed=seed).seed == int(seed)
