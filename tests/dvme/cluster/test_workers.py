from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from work import DEADLY, REFUSED, make_squares, make_threads

from dvme.cluster import Cluster, Share
from dvme.errors import ClusterError, OptionError

pytestmark = pytest.mark.ray


def _name(number: int) -> str:
    return f"number {number}"


def test_work_off__a_killed_worker_costs_only_what_it_was_at(two_workers: Cluster, tmp_path: Path) -> None:
    done = list(two_workers.work_off(range(12), partial(make_squares, tmp_path), share=Share(), named=_name))
    assert sorted(done) == [(number, (number**2, "1")) for number in range(12)]
    assert (tmp_path / "7").exists()


@pytest.mark.slow
def test_work_off__what_takes_down_every_worker_is_named(two_workers: Cluster) -> None:
    found: list[int] = []
    with pytest.raises(ClusterError, match=r"^number -1 took down 3 workers one after the other \(.*\); give a worker"):
        found.extend(
            position
            for position, _ in two_workers.work_off([1, 2, DEADLY, 3], make_squares, share=Share(2), named=_name)
        )
    assert set(found) <= {0, 1, 3}
    assert {0, 1} <= set(found)


def test_work_off__errors_arrive_as_themselves_and_threads_are_cores(two_workers: Cluster) -> None:
    with pytest.raises(ValueError, match=r"^no number below 0$"):
        list(two_workers.work_off([REFUSED], make_squares, share=Share(), named=_name))
    assert list(two_workers.work_off([1], make_threads, share=Share(2), named=_name)) == [(0, 2)]
    with pytest.raises(OptionError, match=r"no machine of .* has 3 cores for a worker; .*pass ray_cpus=2 or fewer"):
        list(two_workers.work_off([1], make_squares, share=Share(3), named=_name))
    assert list(two_workers.work_off([], make_squares, share=Share(3), named=_name)) == []
