"""How the text of a paper is put together: citations, lists, and a mark where something is not known."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from dvme.paper.bibliography import works

UNKNOWN = "[cite]"
"""Where a work is to be cited that dvme does not know."""
CITED = re.compile(r"(?<=[\[ ])@([a-z][\w-]*)")
"""A key as Pandoc's Markdown has it: `[@he2016deep; @caron2021emerging]`."""
MARKUP = re.compile(r"[\\`*\[\]<>$@~^&|]|(?<![^\W_])_|_(?![^\W_])")
"""What Pandoc or GitHub may take for more than a letter; an underscore between letters or digits is none of it."""


def cited(*keys: str) -> str:
    """`[@he2016deep; @caron2021emerging]`; the mark without any."""
    known = list(dict.fromkeys(key for key in keys if key))
    return f"[{'; '.join(f'@{key}' for key in known)}]" if known else UNKNOWN


def keys_in(text: str) -> list[str]:
    """The works that a text cites, each once, in the order of their keys."""
    return sorted({key for key in CITED.findall(text) if key in works()})


def all_of(items: Sequence[str], *, last: str = "and") -> str:
    """`a`, `a and b`, `a, b and c`; or with another word before the last one."""
    return f" {last} ".join(part for part in (", ".join(items[:-1]), *items[-1:]) if part)


def literal(text: str) -> str:
    r"""A name that a user gave, of a class or a file, on one line, such that Markdown shows it: `\<script\>`."""
    return MARKUP.sub(r"\\\g<0>", " ".join(text.split()))


def coded(names: Iterable[str]) -> str:
    """Names as they are typed, all of them: a paper leaves out none."""
    return all_of([_code(" ".join(name.split())) for name in names])


def numbers_text(values: Sequence[float], *, last: str = "and") -> str:
    """`0.1`, or `1e-06, 1e-05 and 0.1`; of more than seven values the number of them and both ends."""
    shown = [f"{value:g}" for value in values]
    return all_of(shown, last=last) if len(shown) <= 7 else f"{len(shown)} values from {shown[0]} to {shown[-1]}"


def mean_text(value: float) -> str:
    """`1,200`, or `96.5` where a mean over draws is no whole number."""
    return f"{value:,.1f}".removesuffix(".0")


def sentences(parts: Iterable[str]) -> str:
    """Those that say something, one after the other."""
    return " ".join(part for part in parts if part)


def _code(name: str) -> str:
    """Between more backticks than the name has one after the other."""
    longest = max(map(len, re.findall("`+", name)), default=0)
    fence, space = "`" * (longest + 1), " " if longest else ""
    return f"{fence}{space}{name}{space}{fence}"
