"""`dvme cite` as it is typed."""

from __future__ import annotations

from command_line import run, strict

import dvme


def test_cite__in_words_as_bibtex_and_as_json() -> None:
    citation = dvme.cite()
    words, bibtex, as_json = run("cite"), run("cite", "--bibtex"), run("cite", "--json")
    assert words.exit_code == bibtex.exit_code == as_json.exit_code == 0
    assert words.stdout == f"{citation.text}\n"
    assert bibtex.stdout == f"{citation.bibtex}\n"
    assert strict(as_json.stdout) == citation.to_json()
