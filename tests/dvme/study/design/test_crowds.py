from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dvme.study.design.crowds import Crowd, links


@given(
    sides=st.lists(st.integers(-1, 3), min_size=1, max_size=12),
    members=st.lists(st.sets(st.integers(0, 11)), max_size=3),
)
def test_links__everybody_has_a_partner_on_every_other_side(sides: list[int], members: list[set[int]]) -> None:
    """And all links are within a crowd and across sides; there are at most as many as rows times sides."""
    groups = [sorted(row for row in each if row < len(sides)) for each in members]
    crowds = [Crowd(np.array(rows, dtype=np.int64), 0.9995, name) for rows, name in zip(groups, "abc", strict=False)]
    pairs, cosines, backbones = links(crowds, np.array(sides))
    linked = {(one, two) for one, two in pairs.tolist()}
    assert len(linked) == len(pairs) == len(cosines) == len(backbones)
    within = {(a, b) for rows in groups for a in rows for b in rows if a < b}
    assert linked <= {(a, b) for a, b in within if sides[a] != sides[b] and min(sides[a], sides[b]) >= 0}
    for rows in groups:
        assert sum(pair[0] in rows and pair[1] in rows for pair in linked) <= 4 * sum(map(len, groups))
        for row in rows:
            for side in {sides[other] for other in rows} - {sides[row], -1}:
                partners = {a + b - row for a, b in linked if row in {a, b}}
                assert sides[row] < 0 or any(sides[other] == side for other in partners)
