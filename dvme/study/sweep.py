"""`dvme sweep`: how many labels a task needs, and whether a fusion is really better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from dvme.arguments import public
from dvme.defaults import AT, METRIC, SWEEP_HEADS
from dvme.errors import OptionError, parameter
from dvme.heads import Head
from dvme.runtime import Progress, Runtime, automatic
from dvme.study.conduct import Question, conduct
from dvme.study.design.options import SubsetOptions
from dvme.study.operation import Operation
from dvme.study.outcome import StudyReport


@public
def sweep(  # noqa: PLR0913 - the command's options, one to one
    cache: str | Path,
    out: str | Path,
    *,
    heads: Sequence[str | Head] = SWEEP_HEADS,
    backbones: Sequence[str] | None = None,
    controls: bool = True,
    subsets: str | Path | None = None,
    options: SubsetOptions | None = None,
    metric: str = METRIC,
    at: str = AT,
    prevalence: float | Mapping[str, float] | None = None,
    runtime: Runtime | None = None,
    progress: Progress = automatic,
) -> StudyReport:
    """Fit every head on every subset, and compare them on one test set.

    Hyper-parameters, early stopping and every baseline are chosen on validation images; the test set is used once per
    number. A job that is finished in the run's folder is not fitted again, whatever stopped the call before. The heads
    of the largest size are kept in `out`/heads, for `dvme explain` and `dvme predict`.

    Args:
        cache: path of a cache.
        out: the run's folder; made, or gone on with.
        heads: names, with settings where they differ from the defaults (`knn@k=5:20`), or heads. Most are fitted on
            each backbone; a fusion takes all of them at once.
        backbones: names of backbones in the cache; None: all of them.
        controls: beside a fusion by attention, also `linear` on every single backbone and the fusions without it.
        subsets: a manifest made by `dvme subsets`; None: drawn from the cache with `options`.
        options: how subsets are drawn; not together with `subsets`.
        metric: of METRICS, what the table, the marks and the verdicts are about; `knn` chooses its k by it.
        at: what the operating point of a finding, or of a class against the others, reaches on validation.
        prevalence: of the findings where the head is to be used, for predictive values: one for all, or by finding.
        runtime: device and memory budget.
        progress: told (stage, done, total); by default bars in a terminal or a notebook, `dvme.silent`: none.

    Raises:
        DataError, OptionError, UnknownNameError, CacheError: each says what is wrong and what to do.
    """
    if subsets is not None and options is not None:
        others = parameter("sizes") + ", " + parameter("n_folds") + " and the like"
        raise OptionError("a subset file is a whole study: leave out " + others + " beside " + parameter("subsets"))
    question = Question(
        command="sweep",
        cache=cache,
        heads=heads,
        backbones=backbones,
        controls=controls,
        options=options,
        subsets=subsets,
        metric=metric,
        operation=Operation.of(at, prevalence),
        out=out,
    )
    return conduct(question, runtime or Runtime(), progress)
