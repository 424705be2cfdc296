"""What of a file is read: fields in one spelling, part of a backbone's name and of its fingerprint."""

from __future__ import annotations

import pytest

from dvme.backbones.description.variation import vary
from dvme.backbones.loading.fingerprints import fingerprint_of
from dvme.backbones.loading.registry import get_spec
from dvme.data.reading import Reading
from dvme.errors import OptionError


@pytest.mark.parametrize(
    ("field", "given", "kept"),
    [
        ("range", "declared", "declared"),
        ("range", "12bit", "12bit"),
        ("range", "percentile:0.50:99.5", "percentile:0.5:99.5"),
        ("range", "percentile:0:100.0", "percentile:0:100"),
        ("voi", "lut", "lut"),
        ("voi", "01", "1"),
        ("frame", "middle", "middle"),
        ("frame", "007", "7"),
    ],
)
def test_reading__one_spelling_in_name_and_fingerprint(field: str, given: str, kept: str) -> None:
    assert Reading(**{field: given}).set_fields == {field: kept}
    spec = vary(get_spec("random"), {field: given})
    assert spec.name == f"random@{field}={kept}"
    plain, varied = (fingerprint_of(each, weights="w", dim=3, dtype="float16") for each in (get_spec("random"), spec))
    assert plain.differences(varied) == [(f"reading.{field}", None, kept)]


@pytest.mark.parametrize(
    ("field", "given"),
    [
        *[("range", each) for each in ("", "8bit", "33bit", "full")],
        *[("range", each) for each in ("percentile:5:5", "percentile:1", "percentile:0:101")],
        *[("voi", each) for each in ("", "second", "-1", "1.0")],
        *[("frame", each) for each in ("", "last", "-1", "each")],
    ],
)  # fmt: skip
def test_reading__says_what_may_be(field: str, given: str) -> None:
    with pytest.raises(OptionError, match=f"{field}={given} is not possible; choose "):
        vary(get_spec("random"), {field: given})


def test_reading__nothing_set_adds_nothing() -> None:
    assert Reading().set_fields == {}
    assert vary(get_spec("random"), {"range": "12bit"}).preprocess == get_spec("random").preprocess
