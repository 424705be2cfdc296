"""What a paper says of its images: how many, of what, how they were divided, and what was left out."""

from __future__ import annotations

import numpy as np

from dvme.paper.material import Material
from dvme.paper.wording import all_of, cited, literal, mean_text, numbers_text, sentences
from dvme.study.design.manifest import SubsetManifest
from dvme.study.design.sizes import FULL
from dvme.text import counted

OWN_SPLIT, NO_TEST_PART, ABSENT = "your split", "no test part", "count as absent"
"""What a plan and a notice say: that the split is a user's, that it has no test part, what became of empty cells."""
BALANCED, STRATIFIED, NATURAL = "balanced", "stratified", "natural"
BALANCES = {
    BALANCED: "with equally many images of each class, as far as there were as many",
    STRATIFIED: "with the class shares of the whole",
    NATURAL: "at random",
}
NEAR_DUPLICATES = "on no side of the split, or all but the same as others there"
"""Why images take no part where near-duplicates were dropped: a run does not keep which of them were."""
OF_LABELS = "stratified by all labels at once"
"""How images that may have several are drawn, unless `natural` is asked for."""


def about_data(material: Material) -> str:
    """One paragraph."""
    return sentences(
        [
            _images(material),
            _groups(material),
            _left_out(material),
            _unknown(material),
            _divided(material),
            _sizes(material),
            _duplicates(material),
        ]
    )


def _images(material: Material) -> str:
    targets = material.manifest.targets.at(material.manifest.taking_part)
    task = targets.task
    each = all_of([f"{literal(name)} ({count:,})" for name, count in zip(task.classes, task.counts, strict=True)])
    n_images = counted(len(targets), "image")
    if task.is_segmentation:
        what = counted(len(task.classes), "class", "classes")
        return f"{n_images} with segmentation masks of {what} took part; by class, images in which it occurs: {each}."
    if task.is_multilabel:
        what = counted(len(task.classes), "finding")
        return f"{n_images} labelled for {what} took part; by finding, images that have it: {each}."
    order = ", in this order" if task.has_grades else ""
    return f"{n_images} of {len(task.classes)} classes{order} took part: {each}."


def _groups(material: Material) -> str:
    if not material.is_grouped:
        return "No groups of images, such as those of a patient, were known."
    n_groups, n_test = material.described.get("n_groups"), material.n_test_groups
    whole = "Images of a group, such as those of a patient, were on one side of every split"
    if n_test is None:
        return f"{whole}; no test image had a group."
    counts = f"there were {n_groups:,} groups, {n_test:,} of them" if n_groups else f"{n_test:,} groups were"
    return f"{whole}; {counts} in the test set."


def _left_out(material: Material) -> str:
    n_unsplit = len(material.manifest.images) - len(material.manifest.taking_part)
    why = NEAR_DUPLICATES if material.policy.get("drop_duplicates") else "on no side of the split"
    reasons = material.summary.n_left_out | ({why: n_unsplit} if n_unsplit else {})
    if not reasons:
        return ""
    return f"Left out were images {all_of([f'{reason} ({count:,})' for reason, count in reasons.items()])}."


def _unknown(material: Material) -> str:
    """What became of findings that somebody was uncertain of, or said nothing of."""
    targets = material.manifest.targets.at(material.manifest.taking_part)
    if not targets.is_multilabel or targets.is_segmentation:
        return ""
    is_unknown, said = np.isnan(targets.values), list[str]()
    learned = targets.learned[is_unknown]
    is_taught = ~np.isnan(learned)
    if is_taught.any():
        values = numbers_text(np.unique(np.round(learned[is_taught].astype(np.float64), 6)).tolist())
        which = f"{counted(int(is_taught.sum()), 'cell')} of findings that readers were not certain of"
        rest = "heads were neither chosen nor tested on them."
        said.append(f"{which} {cited('irvin2019chexpert')} were learned as {values}; {rest}")
    if not is_taught.all():
        n_silent = counted(int((~is_taught).sum()), "cell")
        said.append(f"{n_silent} of findings that were empty, or that readers were not certain of, took no part.")
    if any(ABSENT in line for line in material.summary.notices):
        said.append("Empty cells counted as absent.")
    return sentences(said)


def _divided(material: Material) -> str:
    manifest, plan = material.manifest, material.summary.plan
    n_test, n_pool = len(manifest.test), len(manifest.taking_part) - len(manifest.test)
    if plan.startswith(OWN_SPLIT):
        part = "its validation part, for it has no test part" if NO_TEST_PART in plan else "its test part"
        first = f"The split was the data set's own: {part} ({counted(n_test, 'image')}) served as the test set."
    else:
        whole = ", whole groups together" if material.is_grouped else ""
        drawn = f"at random, stratified{whole}, with seed {material.policy.get('seed', 0)}"
        n_all = len(manifest.images)  # near-duplicates are left out after the split
        n_pool = n_all - n_test
        first = f"{n_test:,} of {n_all:,} images were held out as the test set, {drawn}."
    return f"{first} {_folded(manifest, n_pool)}"


def _folded(manifest: SubsetManifest, n_pool: int) -> str:
    n_repeats, n_folds = (max(getattr(draw, name) for draw in manifest.draws) for name in ("repeat", "fold"))
    if has_one_validation_set(manifest):
        part = f"Its validation part ({len(manifest.draws[0].validation):,})"
        n_draws, is_one = counted(len(manifest.draws), "draw"), manifest.is_one_draw(manifest.largest)
        same = " At the largest size these are the same images, and heads differ by their seeds." if is_one else ""
        return f"{part} was the one to choose on, for {n_draws} of training images.{same}"
    times = f", anew in each of {n_repeats} repeats" if n_repeats > 1 else ""
    return (
        f"The other {n_pool:,} were divided into {n_folds} stratified folds{times}; each fold in turn was the one to "
        "choose on, for heads that were trained on the others."
    )


def has_one_validation_set(manifest: SubsetManifest) -> bool:
    """Whether all draws choose on the same images: then folds are draws of training images."""
    return len({frozenset(draw.validation.tolist()) for draw in manifest.draws}) == 1


def _sizes(material: Material) -> str:
    columns = material.summary.columns
    trained = all_of([mean_text(column.n_train) for column in columns])
    chosen = all_of([mean_text(column.n_validation) for column in columns])
    if [column.name.partition(" ")[0] for column in columns] == [FULL]:
        return f"Heads were trained on {trained} images and chosen on {chosen} (means over the draws)."
    balance = str(material.policy.get("balance", NATURAL))
    is_by_labels = material.manifest.targets.is_multilabel and balance != NATURAL
    how = OF_LABELS if is_by_labels else BALANCES.get(balance, balance)
    nested = " A subset is part of the larger ones of its draw." if len(columns) > 1 else ""
    drawn = f"Heads were trained on subsets of {trained} images, drawn {how}"
    return f"{drawn}, and chosen on {chosen} (means over the draws).{nested}"


def _duplicates(material: Material) -> str:
    cosine = material.policy.get("drop_duplicates")
    if not cosine or cosine is True:  # asked for, and there were none
        return ""
    part = material.policy.get("approximate_duplicates")
    some = f" They were searched for approximately in the embeddings of {all_of(part)}." if part else ""
    return (
        "Left out of training were images that all but coincide with one to choose or to test on, and left out of "
        f"validation those that do with one to test on (cosine of embeddings above {cosine:g}).{some}"
    )
