"""Which layers of a backbone dense features are of, as its name has them: `last`, `last-4` or `3+6+9+12`."""

from __future__ import annotations

import re

from dvme.errors import OptionError

LAST = "last"
HOW = "pass last, last-4 or layers such as 3+6+9+12"
_LAST = re.compile(r"last(?:-(0*[1-9]\d{0,3}))?")


def layers_of(value: str) -> str:
    """Layers in their one spelling: `last-1` is `last`, and numbers ascend and are there once.

    Args:
        value: `last`, `last-4`, or numbers from 1 on with `+` between them.

    Raises:
        OptionError: if it is none of these.
    """
    last = _LAST.fullmatch(value)
    if last is not None:
        n_layers = int(last[1] or 1)
        return LAST if n_layers == 1 else f"{LAST}-{n_layers}"
    parts = value.split("+")
    if not all(part.isascii() and part.isdecimal() and len(part) < 5 and int(part) > 0 for part in parts):
        raise OptionError(f"dense={value} is not possible; {HOW}")
    return "+".join(f"{number}" for number in sorted({int(part) for part in parts}))


def layer_numbers(layers: str, n_layers: int, name: str) -> tuple[int, ...]:
    """The numbers of layers, from 1 on and ascending.

    Args:
        layers: in the spelling of `layers_of`.
        n_layers: how many the backbone has.
        name: of the backbone.

    Raises:
        OptionError: naming those that exist.
    """
    last = _LAST.fullmatch(layers)
    if last is not None:
        count = int(last[1] or 1)
        numbers = tuple(range(n_layers - count + 1, n_layers + 1))
    else:
        numbers = tuple(int(part) for part in layers.split("+"))
    if not 1 <= numbers[0] <= numbers[-1] <= n_layers:
        raise OptionError(f"dense={layers} is not possible; {name} has layers 1 to {n_layers}")
    return numbers
