from __future__ import annotations

from typing import Any

import pytest

from dvme.study.design.origin import origin_kept

SPEC = {"name": "swav", "method": "swav", "remark": "", "source": "checkpoint", "pooling": "average"}


@pytest.mark.parametrize(
    ("provenance", "kept"),
    [
        ({}, {}),
        ({"created": "2026", "device": "cpu", "spec": None}, {}),
        (
            {"licence": "MIT", "paper": "", "versions": {"torch": "2.9"}, "spec": SPEC, "device": "cpu"},
            {"licence": "MIT", "versions": {"torch": "2.9"}, "method": "swav", "source": "checkpoint"},
        ),
        (
            {"imported": {"file": "x.npz", "digest": "0a", "notes": "of a patient", "n_rows": 3}},
            {"imported": {"file": "x.npz", "digest": "0a"}},
        ),
        ({"imported": True}, {}),
    ],
)
def test_origin_kept__what_tells_how_they_were_made(provenance: dict[str, Any], kept: dict[str, Any]) -> None:
    assert origin_kept(provenance) == kept
