"""What a paper says of its heads: what each is, with its settings, and how what was left open was chosen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dvme.heads import SEGMENTS, UNETS, base_name, segments
from dvme.heads.fusion.networks import DROPOUT
from dvme.heads.neighbours.recall import least_recall
from dvme.paper.about_training import finetuned, of_findings, trained_by_protocol, trained_conv, trained_unet
from dvme.paper.material import Material
from dvme.paper.wording import UNKNOWN, all_of, cited, coded, numbers_text, sentences
from dvme.text import METRIC_NAMES

Settings = Mapping[str, Any]

PROJECTIONS = "the embeddings of all backbones, each projected to 512 values"
NETWORKS = {
    "linear-adam": "a linear classifier",
    "dvme": f"a fusion by attention among the single values of {PROJECTIONS}",
    "dvme-tokens": f"a fusion by attention of eight heads among {PROJECTIONS} and taken as one token",
    "dvme-noattn": f"a linear classifier on {PROJECTIONS}",
    "mlp": "one hidden layer on the embeddings of all backbones, with as many parameters as a fusion by attention",
}
"""Heads that are trained by minibatches of embeddings."""
OF_TRUONG = ("dvme", "dvme-noattn")
WITH_DROPOUT = ("dvme", "dvme-tokens", "mlp")


def about_heads(material: Material) -> str:
    """One paragraph."""
    targets, said = material.manifest.targets, list[str]()
    least = least_recall((cell.head, chosen) for cell in material.summary.cells for chosen in cell.chosen)
    for name, (each, methods) in material.heads.items():
        is_of_findings = targets.is_multilabel and not targets.is_segmentation
        settings = of_findings(each["settings"]) if is_of_findings else each["settings"]
        what = _what(base_name(str(each["head"])), settings, material.metric)
        said.append(f"{coded([name])}, {_where(methods)}, is {what}{_approximate(least.get(name))}.")
    return sentences(said)


def _where(methods: Sequence[Sequence[str]]) -> str:
    """`on a and b, each by itself`, or `on a and b together`."""
    single = [own[0] for own in methods if len(own) == 1]
    together = [own for own in methods if len(own) > 1]
    where = [f"on {coded(single)}{', each by itself' if len(single) > 1 else ''}"] if single else []
    return all_of([*where, *(f"on {coded(own)} together" for own in together)])


def _what(base: str, settings: Settings, metric: str) -> str:
    inner = base.removeprefix(SEGMENTS)
    if base in UNETS:
        return trained_unet(base, settings)
    if base.startswith("finetune"):
        return finetuned(base, settings)
    if inner == "conv" and segments(base):
        return trained_conv(settings)
    if segments(base):
        return _of_tokens(inner, settings, metric)
    told: dict[str, Callable[[Settings, str], str]] = {
        "linear": _linear,
        "knn": _knn,
        "concat": _concat,
        "mean-logits": _mean_logits,
        **dict.fromkeys(NETWORKS, _network),
    }
    if base not in told:
        return f"a head of our own {UNKNOWN}"
    return told[base](settings, metric)


def _linear(settings: Settings, metric: str) -> str:
    del metric
    what = "L2-regularised logistic regression, fitted to its optimum"
    if settings.get("link", "softmax") == "cumulative":
        what = (
            f"L2-regularised regression by proportional odds {cited('mccullagh1980regression')}, fitted to its optimum"
        )
    strengths = numbers_text(settings["strengths"])
    chosen = f"the penalty {'was' if len(settings['strengths']) == 1 else 'had the lowest log loss on validation, of'}"
    scale = "relative to the training embeddings' mean squared distance from their mean"
    cuts = "; the expected grade was cut into classes where quadratic kappa on validation was largest"
    return f"{what}; {chosen} {strengths} {scale}{cuts if settings.get('tune') == 'kappa' else ''}"


def _knn(settings: Settings, metric: str) -> str:
    what = f"the vote of the k nearest training images by cosine, each weighted by exp(similarity / 0.07) {_of_knn()}"
    ks, by = settings["neighbours"], str(settings["choose_by"])
    if len(ks) == 1:
        return f"{what}; k is {ks[0]}"
    called = METRIC_NAMES.get(metric if by == "study" else by, by)
    errors = float(settings["standard_errors"])
    margin = f"{errors:g} standard error{'' if errors == 1 else 's'} of the difference"
    doubt = f"not worse than the best by more than {margin}" if errors else "not worse than any other"
    return f"{what}; k is the largest of {numbers_text(ks)} that is {doubt} in {called} on validation"


def _of_knn() -> str:
    return cited("wu2018unsupervised", "caron2021emerging", "douze2024faiss")


def _approximate(chosen: Settings | None) -> str:
    """What is said of neighbours of which a few were missed; nothing of an exact search."""
    if chosen is None:
        return ""
    probed = f"{chosen['n_probes']:,} of {chosen['n_lists']:,} inverted lists of each bank"
    measured = f"{chosen['recall']:.3f} (lower end of the 95% interval {chosen['recall_low']:.3f})"
    sample = f"of the {chosen['recall_at']:,} nearest of {chosen['recall_queries']:,} sampled images"
    what = f"neighbours were searched approximately, in {probed} {cited('douze2024faiss')}"
    return f"; {what}, with a recall of {measured} {sample}"


def _concat(settings: Settings, metric: str) -> str:
    one = _linear(settings["linear"], metric)
    return f"one regression on all embeddings side by side, each scaled to length 1: {one}"


def _mean_logits(settings: Settings, metric: str) -> str:
    return f"the mean of the logits of one regression on each backbone: {_linear(settings['linear'], metric)}"


def _network(settings: Settings, metric: str) -> str:
    del metric
    name = str(settings["name"])
    source = f" {cited('truong2021transferable')}" if name in OF_TRUONG else ""
    dropout = f", with dropout of {DROPOUT:g}" if name in WITH_DROPOUT else ""
    return f"{NETWORKS[name]}{source}{dropout}; {trained_by_protocol(settings['protocol'])}"


def _of_tokens(inner: str, settings: Settings, metric: str) -> str:
    """A head of embeddings on the tokens of images."""
    own = _what(inner, settings["of"], metric)
    tokens = f"{settings['tokens']} tokens of each training image, drawn with equal numbers of each class"
    return (
        f"a classifier of tokens by the share of each class in their cell, learned from up to {tokens} and weighted to "
        f"undo that: {own}. Probabilities of cells were brought to the pixels of the mask bilinearly"
    )
