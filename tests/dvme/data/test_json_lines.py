"""JSON Lines, with pandas as the peer."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from dvme.data import load_samples
from dvme.data.tables import read_table
from dvme.errors import DataError


def test_read_objects__exact_text(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text(
        '\ufeff{"image": "a.png", "label": 836000000000000000000000000000000000001, "x": 12.0}\r\n\n'
        '{"image": " b.png", " x ": null, "label": true}\n{"label": "007", "image": "c.png", "x": 0.5, "y": NaN}',
        encoding="utf-8",
    )
    with pytest.raises(DataError, match="has more than one column 'x'"):
        read_table(tmp_path / "m.jsonl")
    text = (tmp_path / "m.jsonl").read_text(encoding="utf-8-sig").replace('" x "', '"X"')
    (tmp_path / "m.jsonl").write_text(text, encoding="utf-16")
    table = read_table(tmp_path / "m.jsonl")
    assert (table.names, table.n_rows) == (["image", "label", "x", "X", "y"], 3)
    assert table.texts("image") == ["a.png", "b.png", "c.png"]
    assert table.texts("label") == ["836000000000000000000000000000000000001", "True", "007"]
    assert (table.texts("x"), table.texts("X"), table.texts("y")) == (["12", "", "0.5"], [""] * 3, [""] * 3)


def test_load_samples__what_pandas_wrote(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).touch()
    frame = pd.DataFrame({"image": ["a.png", "b.png"], "label": [1, 2], "group": ["é\u2028", None]})
    frame.to_json(tmp_path / "m.jsonl", orient="records", lines=True, force_ascii=False)
    samples = load_samples(tmp_path / "m.jsonl")
    assert (samples.labels, samples.groups) == (["1", "2"], ["é", ""])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"image": "a.png"}\n{"image": "b.png"', "line 2 is no JSON .*; write an object on each line"),
        ('[{"image": "a.png"}]', "line 1 is no object; write an object on each line"),
        ('{"image": "a.png", "image": "b.png"}', "line 1 is no JSON .one name has two values.;"),
        ("", "no column 'image'"),
    ],
)
def test_read_objects__refused_in_one_line(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text(text)
    with pytest.raises(DataError, match=said) as caught:
        load_samples(tmp_path / "m.jsonl")
    assert "\n" not in str(caught.value)


def test_read_objects__lists_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text('{"image": "a.png", "label": ["x", "y"]}')
    table = read_table(tmp_path / "m.jsonl")
    with pytest.raises(DataError, match=r"has a column 'label' with a value of type list, which is no text; choose"):
        table.texts("label")
