from __future__ import annotations

import pytest
from markdown_it import MarkdownIt

from dvme.paper.wording import UNKNOWN, all_of, cited, coded, keys_in, literal, mean_text, numbers_text, sentences


def test_cited__each_once_and_a_mark_without_any() -> None:
    assert cited("he2016deep") == "[@he2016deep]"
    assert cited("he2016deep", "", "zarr", "he2016deep") == "[@he2016deep; @zarr]"
    assert cited() == cited("") == UNKNOWN == "[cite]"


def test_keys_in__only_works_that_are_known() -> None:
    text = "By [@zarr; @he2016deep], again [@zarr], of someone@he2016deep.org and [@nobody2020], [cite]."
    assert keys_in(text) == ["he2016deep", "zarr"]
    assert keys_in("") == []


@pytest.mark.parametrize(
    ("items", "text"), [([], ""), (["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")]
)
def test_all_of__as_a_list_in_a_sentence(items: list[str], text: str) -> None:
    assert all_of(items) == text


def test_coded__names_on_one_line() -> None:
    assert coded(["a", "b\nc"]) == "`a` and `b c`"


def test_numbers_text__a_few_or_both_ends() -> None:
    assert numbers_text([0.1]) == "0.1"
    assert numbers_text([1e-6, 0.5, 3]) == "1e-06, 0.5 and 3"
    assert numbers_text([*range(1, 9)]) == "8 values from 1 to 8"


def test_mean_text__without_a_nought() -> None:
    assert (mean_text(1200), mean_text(96.5), mean_text(20.0)) == ("1,200", "96.5", "20")


def test_sentences__those_that_say_something() -> None:
    assert sentences(["A.", "", "B."]) == "A. B."


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("<script>x</script> & co", r"\<script\>x\</script\> \& co"),
        ("[@he2016deep] $x$ ~a~ ^b^ *c* d|e `f` \\g", r"\[\@he2016deep\] \$x\$ \~a\~ \^b\^ \*c\* d\|e \`f\` \\g"),
        ("very_good", "very_good"),
        ("_all_ __two__", r"\_all\_ \_\_two\_\_"),
        ("5% #1\n(new)", "5% #1 (new)"),
    ],
)
def test_literal__is_what_another_parser_shows(name: str, shown: str) -> None:
    assert literal(name) == shown
    (block,) = (each for each in MarkdownIt("commonmark").parse(f"Of {literal(name)}.") if each.type == "inline")
    assert {part.type for part in block.children or ()} <= {"text", "text_special"}
    assert "".join(part.content for part in block.children or ()) == f"Of {' '.join(name.split())}."
    assert keys_in(literal(name)) == []


def test_coded__a_name_with_backticks() -> None:
    assert coded(["a`b", "``", "c"]) == "`` a`b ``, ``` `` ``` and `c`"
