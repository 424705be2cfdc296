from __future__ import annotations

from collections.abc import Callable

import pytest

from dvme.runtime import set_thresholds

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
