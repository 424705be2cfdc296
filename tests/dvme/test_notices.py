from __future__ import annotations

import copy
import pickle

from dvme.errors import Text, parameter
from dvme.notices import Aside, asides, told_apart


def test_aside__stays_one_with_its_parameters() -> None:
    line = Aside("pass " + parameter("out"))
    for each in (line, copy.copy(line), copy.deepcopy(line), pickle.loads(pickle.dumps(line))):
        assert isinstance(each, Aside)
        assert each.spelled(lambda own: f"--{own.name}") == "pass --out"
    assert not isinstance(copy.copy(Text("x")), Aside)


def test_told_apart__comes_back_from_plain_texts() -> None:
    kept = asides(["decides", Aside("does not")])
    assert kept == ("does not",)
    assert asides(told_apart(["decides", "does not"], kept)) == kept
