"""What is said of the fits of a study."""

from __future__ import annotations

from dvme.study.fit_notices import convergence_notice


def test_convergence_notice__counts_by_head() -> None:
    fits = [("linear", {"is_converged": False})] * 2 + [("linear", {"is_converged": True}), ("knn", {"k": 5})]
    fits += [("concat", {"is_converged": False})]
    line = "fits that did not converge: 2 of linear, 1 of concat; their scores may lie a little low"
    assert convergence_notice(fits) == [line]
    assert convergence_notice(fits[2:4]) == []
