"""Text for terminals whose encoding lacks some of its characters: another spelling in place of a traceback."""

from __future__ import annotations

import codecs
import sys

SPELLED = {
    "±": "+/-",
    "≠": "!=",
    "≤": "<=",
    "≥": ">=",
    "\N{MULTIPLICATION SIGN}": "x",
    "…": "...",
    "─": "-",
    "━": "-",
    "\N{EN DASH}": "-",
    "—": "-",
    "→": "->",
    "\N{RIGHT SINGLE QUOTATION MARK}": "'",
    "\N{NO-BREAK SPACE}": " ",
}
"""What dvme writes beyond ASCII, and what the libraries that print for it do."""
HANDLER = "dvme-spelled"


def _spell(error: UnicodeError) -> tuple[str, int]:
    """A handler of the codecs: the spelling of a character, or its escape."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lost = error.object[error.start : error.end]
    escaped = (SPELLED.get(one) or one.encode("ascii", "backslashreplace").decode() for one in lost)
    return "".join(escaped), error.end


codecs.register_error(HANDLER, _spell)


def drawable(text: str, encoding: str) -> str:
    """The text with what an encoding cannot say spelled in ASCII, so that its width is known before it is laid out."""
    return text.encode(encoding, HANDLER).decode(encoding)


def spell_what_is_lost() -> None:
    """Let stdout and stderr spell what they cannot encode; a handler that the user asked for stays."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None and stream.errors in {"strict", "surrogateescape", "backslashreplace"}:
            reconfigure(errors=HANDLER)
