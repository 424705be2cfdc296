from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dvme.errors import OptionError
from dvme.runtime import Runtime, set_thresholds

TRIM, MMAP = -1, -3
"""Of malloc.h."""
MIB = 1 << 20


def mallopt(largest: int, settings: dict[int, int]) -> Callable[[int, int], int]:
    """That of a C library which takes a mapping threshold up to `largest` bytes, by glibc's `do_set_mmap_threshold`."""

    def call(parameter: int, value: int) -> int:
        if parameter == MMAP and value > largest:
            return 0
        settings[parameter] = value
        return 1

    return call


@pytest.mark.parametrize(
    ("largest", "expected"),
    [
        (2**63, {MMAP: 1024 * MIB, TRIM: 2**31 - 1}),  # glibc 2.35
        (32 * MIB, {MMAP: 32 * MIB, TRIM: 2**31 - 1}),  # 2.34: HEAP_MAX_SIZE / 2
        (MIB // 2, {}),  # of 32 bits
    ],
)
def test_set_thresholds__as_much_as_the_library_takes(largest: int, expected: dict[int, int]) -> None:
    settings: dict[int, int] = {}
    assert set_thresholds(mallopt(largest, settings)) == bool(expected)
    assert settings == expected


@pytest.mark.parametrize("device", ["cuda:0,cuda:1", "xpu:1,xpu:0,xpu:2", "cpu", "cuda", "auto"])
def test_runtime__one_device_or_several_of_a_kind(device: str) -> None:
    assert Runtime(device=device).device == device


@pytest.mark.parametrize("device", ["cuda:0,cuda:0", "cuda:0,xpu:1", "cuda,cuda:1", "auto,cuda:0", "cpu,cpu"])
def test_runtime__devices_that_cannot_be_used_together(device: str) -> None:
    with pytest.raises(OptionError, match=r"cannot be used together; name several of one kind by number"):
        Runtime(device=device)


@pytest.mark.parametrize("device", ["cuda:0,", ",", "cuda:0,,cuda:1"])
def test_runtime__a_comma_too_many(device: str) -> None:
    with pytest.raises(OptionError, match=r"have two in a row; name each device once"):
        Runtime(device=device)


@pytest.mark.parametrize("device", ["cuda:0,abc", "cuda:x"])
def test_runtime__devices_that_there_are_not(device: str) -> None:
    with pytest.raises(OptionError, match=r"device '.*' cannot be used; try"):
        Runtime(device=device)


@pytest.mark.parametrize("given", [{"ray_address": "head:6379"}, {"ray_cpus": 2}])
def test_runtime__what_is_of_a_cluster_goes_with_one(given: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=r"ray_\w+=.* is for a Ray cluster; pass engine='ray'"):
        Runtime(**given)
    Runtime(engine="ray", **given)
