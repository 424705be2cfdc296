from __future__ import annotations

import pytest

from dvme.backbones.description.layers import layer_numbers, layers_of
from dvme.errors import OptionError


@pytest.mark.parametrize(
    ("typed", "spelling", "numbers"),
    [
        ("last", "last", (12,)),
        ("last-1", "last", (12,)),
        ("last-4", "last-4", (9, 10, 11, 12)),
        ("last-012", "last-12", tuple(range(1, 13))),
        ("12", "12", (12,)),
        ("9+3+12+6+3", "3+6+9+12", (3, 6, 9, 12)),
        ("03+3", "3", (3,)),
    ],
)
def test_layers_of__one_spelling(typed: str, spelling: str, numbers: tuple[int, ...]) -> None:
    assert layers_of(typed) == spelling == layers_of(spelling)
    assert layer_numbers(spelling, 12, "net") == numbers


@pytest.mark.parametrize(
    "typed", ["", "0", "-1", "1.5", "1,2", "1 2", "1+", "+1", "first", "last-0", "last-", "last4", "LAST", "²", "99999"]
)
def test_layers_of__refuses_what_no_layers_are(typed: str) -> None:
    with pytest.raises(OptionError, match=r"is not possible; pass last, last-4 or layers such as"):
        layers_of(typed)


@pytest.mark.parametrize("layers", ["13", "1+13", "last-13"])
def test_layer_numbers__names_those_that_exist(layers: str) -> None:
    with pytest.raises(OptionError, match="net has layers 1 to 12"):
        layer_numbers(layers, 12, "net")
