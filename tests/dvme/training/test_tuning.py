from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from dvme.errors import DataError, OptionError
from dvme.training.augmentations import AUGMENTATIONS, applied, varied
from dvme.training.batches import epoch_order
from dvme.training.epochs import Lesson
from dvme.training.motions import drawn, moved
from dvme.training.pictures import Pictures
from dvme.training.recipe import Recipe
from dvme.training.tuning import Course, tune

N, SQUARE, CROP = 48, 12, 10
LONG = Recipe(average_epochs=0.0, learning_rates=(0.03,), max_epochs=12, batch_size=8, layer_decay=1.0)
QUICK = Recipe(average_epochs=0.0, learning_rates=(0.01,), max_epochs=3, batch_size=9, layer_decay=1.0, degrees=5.0)


class Net(nn.Module):
    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        layers = nn.Conv2d(1, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2), nn.ReLU()
        self.body = nn.Sequential(*layers, nn.Dropout(dropout))

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.body(images / 255.0 - 0.5).mean(dim=(2, 3))
        return features


class Classifier(nn.Linear):
    def __init__(self, n_outputs: int = 2, learns: list[bool] | None = None) -> None:
        super().__init__(8, n_outputs)
        self.register_buffer("learns", torch.tensor([True] * n_outputs if learns is None else learns))


def nets(n_outputs: int = 2, dropout: float = 0.0, learns: list[bool] | None = None) -> tuple[Net, Classifier]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model, classifier = Net(dropout), Classifier(n_outputs, learns)
        with torch.no_grad():
            model(torch.rand(32, 1, CROP, CROP) * 255)  # statistics
        return model, classifier


def stripes(seed: int = 0, **changed: Any) -> Lesson:
    """Classes are the direction of stripes, which neither flips nor small turns change."""
    rng = np.random.default_rng(seed)
    labels = np.arange(N) % 2
    wave = np.sin(np.arange(SQUARE) * 2.0 + rng.uniform(0, 6, (N, 1))) * 60 + 128
    across = np.repeat(wave[:, None], SQUARE, axis=1)
    pixels = np.where(labels[:, None, None] == 1, across, across.transpose(0, 2, 1)) + rng.normal(0, 20, across.shape)
    squares = pixels.clip(0, 255).astype(np.uint8)[..., None]
    pictures = Pictures(np.ascontiguousarray(squares[:, 1:-1, 1:-1]), squares)
    made = Lesson(pictures, np.arange(32), np.arange(32, N), labels, labels, np.ones(N))
    return replace(made, **changed)


def told(lesson: Lesson, recipe: Recipe, seed: int = 1, **made: Any) -> tuple[Course, list[tuple[int, int]]]:
    heard: list[tuple[int, int]] = []
    course = tune(*nets(**made), lesson, recipe, seed, lambda done, of: heard.append((done, of)))
    return course, heard


def tuned(lesson: Lesson, recipe: Recipe, seed: int = 1, **made: Any) -> Course:
    return told(lesson, recipe, seed, **made)[0]


def state_of(course: Course) -> dict[str, Tensor]:
    return {**course.model_state, **{f"classifier.{name}": value for name, value in course.classifier_state.items()}}


def is_same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return list(first) == list(second) and all(torch.equal(value, second[name]) for name, value in first.items())


@contextmanager
def steps() -> Iterator[list[list[float]]]:
    """The learning rates of every optimizer at each of its steps."""
    seen: list[list[float]] = []
    handle = register_optimizer_step_post_hook(
        lambda optimizer, *_: seen.append([group["lr"] for group in optimizer.param_groups])
    )
    try:
        yield seen
    finally:
        handle.remove()


def validation_loss(course: Course, lesson: Lesson, n_outputs: int = 2) -> float:
    model, classifier = Net().eval(), Classifier(n_outputs)
    model.load_state_dict(course.model_state)
    classifier.load_state_dict(course.classifier_state)
    images = torch.from_numpy(lesson.pictures.crops[lesson.validation]).permute(0, 3, 1, 2).float()
    logits = classifier(model(images)).detach().double().numpy()
    logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    own = -logs[np.arange(len(logs)), lesson.truth[lesson.validation]]
    weights = lesson.weights[lesson.validation]
    return float((own * weights).sum() / weights.sum())


def test_tune__a_small_problem_is_learned() -> None:
    lesson = stripes()
    before = nets()
    course, heard = told(lesson, replace(LONG, learning_rates=(1e-5, 0.03)))
    assert (course.learning_rate, course.epoch > 0) == (0.03, True)
    assert course.validation_loss < 0.3, "chance is 0.69"
    assert course.validation_loss == pytest.approx(validation_loss(course, lesson), abs=1e-6)
    assert heard[-1] == (24, 24)
    assert [done for done, _ in heard] == sorted({done for done, _ in heard})
    assert course.n_trained == sum(value.numel() for module in before for value in module.parameters())


def test_tune__equals_a_plain_loop() -> None:
    """One minibatch after the other, with torch's own cross entropy and a rate for all."""
    rng = np.random.default_rng(0)
    weights = rng.uniform(0.5, 2.0, N)
    lesson, seed = stripes(weights=weights, validation=np.arange(0)), 7
    recipe = replace(QUICK, weight_decay=0.0, batch_norm="updated", sampling="shuffled", warmup_epochs=0.5)
    model, classifier = nets()
    values = [*model.parameters(), *classifier.parameters()]
    optimizer, step, n_steps = torch.optim.AdamW(values, weight_decay=0.0), 0, 12
    for epoch in (1, 2, 3):
        order_rng, motion_rng = (np.random.default_rng(np.random.SeedSequence([seed, use, epoch])) for use in (0, 1))
        order = epoch_order(lesson.targets[lesson.train], "shuffled", order_rng)
        for rows in (order[:8], order[8:16], order[16:24], order[24:]):
            warm = {0: 1 / 3, 1: 2 / 3}
            rate = 0.01 * warm.get(step, (1 + math.cos(math.pi * (step - 2) / (n_steps - 2))) / 2)
            squares = torch.from_numpy(lesson.pictures.squares[rows]).permute(0, 3, 1, 2).float()
            logits = classifier(model(moved(squares, drawn(8, recipe, motion_rng), CROP)))
            each = nn.functional.cross_entropy(logits, torch.from_numpy(lesson.targets[rows]), reduction="none")
            shares = torch.from_numpy(weights[rows] / weights[rows].sum())
            optimizer.param_groups[0]["lr"] = rate
            optimizer.zero_grad()
            (each * shares).sum().backward()
            optimizer.step()
            step += 1
    course = tuned(lesson, recipe, seed)
    assert (course.epoch, course.n_epochs, course.learning_rate) == (3, 3, 0.01)
    assert math.isnan(course.validation_loss)
    plain = [*model.state_dict().values(), *classifier.state_dict().values()]
    for found, expected in zip(state_of(course).values(), plain, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=2e-5)


def test_tune__the_optimizer_has_every_rate_at_every_step() -> None:
    lesson = stripes(validation=np.arange(32, 36))
    recipe = replace(QUICK, layer_decay=0.5, learning_rates=(0.001, 0.004), stop_patience=3, weight_decay=0.1)
    with steps() as seen:
        tuned(lesson, recipe)
    assert len(seen) == 2 * 3 * 4
    for number, found in enumerate(seen):
        rate, step = (0.001, 0.004)[number // 12], number % 12
        factor = (step + 1) / 5 if step < 4 else (1 + math.cos(math.pi * (step - 4) / 8)) / 2
        expected = [rate * factor * share for share in (0.125, 0.25, 0.5, 1.0)]  # of three layers and the classifier
        assert sorted(set(found)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("batch_norm", "is_still"), [("auto", True), ("frozen", True), ("updated", False)])
def test_tune__frozen_statistics_keep_their_bits(batch_norm: Any, is_still: bool) -> None:
    before = nets()[0].state_dict()
    after = tuned(
        stripes(validation=np.arange(0)), replace(QUICK, batch_norm=batch_norm, average_epochs=1.0)
    ).model_state
    for name in ("body.1.running_mean", "body.1.running_var", "body.1.num_batches_tracked"):
        assert torch.equal(before[name], after[name]) is is_still
    assert not torch.equal(before["body.1.weight"], after["body.1.weight"])


def test_tune__same_seed_same_bits_and_nothing_else_moves() -> None:
    lesson, recipe = stripes(), replace(QUICK, learning_rates=(0.003, 0.01), average_epochs=0.5)
    model, classifier = nets(dropout=0.3)
    before = [value.clone() for module in (model, classifier) for value in module.state_dict().values()]
    torch.manual_seed(1)
    random_state = torch.get_rng_state()
    first = tune(model, classifier, lesson, recipe, 4, lambda *_: None)
    assert torch.equal(random_state, torch.get_rng_state())
    after = [value for module in (model, classifier) for value in module.state_dict().values()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert all(value.grad is None for value in model.parameters())
    torch.manual_seed(2)
    np.random.seed(2)  # noqa: NPY002
    second = tune(model, classifier, lesson, recipe, 4, lambda *_: None)
    assert is_same(state_of(first), state_of(second))
    assert replace(first, model_state={}, classifier_state={}) == replace(second, model_state={}, classifier_state={})
    assert not is_same(state_of(first), state_of(tuned(lesson, recipe, 5, dropout=0.3)))


def test_tune__dropout_is_of_the_seed() -> None:
    """Without validation, and with nothing else that is random."""
    lesson = stripes(validation=np.arange(0))
    recipe = replace(QUICK, flips="none", degrees=0.0, least_scale=1.0, batch_size=32)
    with_dropout = [state_of(tuned(lesson, recipe, seed, dropout=0.5)) for seed in (1, 2)]
    without = [state_of(tuned(lesson, recipe, seed)) for seed in (1, 2)]
    spread, none = (
        max((a[name] - b[name]).abs().max().item() for name in a if a[name].is_floating_point())
        for a, b in (with_dropout, without)
    )
    assert none < 1e-4 < spread


def test_tune__a_rate_alone_is_what_it_is_among_others() -> None:
    """The same start, order and motions for all."""
    lesson = stripes()
    recipe = replace(QUICK, learning_rates=(1e-6, 0.01))
    together, alone = tuned(lesson, recipe), tuned(lesson, replace(recipe, learning_rates=(0.01,)))
    assert together.learning_rate == 0.01
    assert is_same(state_of(together), state_of(alone))


def test_tune__the_start_can_be_the_best() -> None:
    lesson = stripes()
    good = tuned(lesson, LONG)
    model, classifier = nets()
    model.load_state_dict(good.model_state)
    classifier.load_state_dict(good.classifier_state)
    heard: list[tuple[int, int]] = []
    absurd = replace(QUICK, learning_rates=(1e3, 1e30), stop_patience=2, max_epochs=9)
    course = tune(model, classifier, lesson, absurd, 0, lambda *each: heard.append(each))
    assert (course.epoch, course.n_epochs) == (0, 2)
    assert math.isnan(course.learning_rate)
    assert course.validation_loss == pytest.approx(good.validation_loss, abs=1e-6)
    assert is_same(state_of(course), state_of(good))
    assert heard[-1] == (18, 18)


def test_tune__what_diverges_without_validation_is_refused() -> None:
    lesson = stripes(validation=np.arange(0))
    with pytest.raises(
        DataError, match=r"training diverged: .* at the learning rate of 1e\+30; choose lower learning_r"
    ):
        tuned(lesson, replace(QUICK, learning_rates=(1e30,)))


def test_tune__validation_rows_move_no_weight() -> None:
    recipe = replace(QUICK, max_epochs=2, warmup_epochs=0.0, batch_norm="updated", average_epochs=0.5)
    lesson = stripes()
    other = Pictures(lesson.pictures.crops.copy(), lesson.pictures.squares.copy())
    other.crops[32:] = other.crops[32:][:, ::-1]
    other.squares[32:] = 0
    nowhere = lesson.targets.copy()
    nowhere[32:] = 0
    courses = [
        tuned(lesson, recipe),
        tuned(replace(lesson, pictures=other, targets=nowhere, weights=np.where(np.arange(N) < 32, 1.0, 3.0)), recipe),
        tuned(replace(lesson, validation=np.arange(0)), recipe),
    ]
    assert [course.epoch for course in courses] == [2, 2, 2]
    assert courses[0].validation_loss != courses[1].validation_loss
    assert is_same(state_of(courses[0]), state_of(courses[1]))
    assert is_same(state_of(courses[0]), state_of(courses[2]))


def test_tune__without_validation_the_middle_rate_is_trained_to_its_end() -> None:
    lesson = stripes(validation=np.arange(0))
    course, heard = told(lesson, replace(QUICK, learning_rates=(0.1, 0.01, 0.001), stop_patience=1))
    assert (course.learning_rate, course.epoch, course.n_epochs) == (0.01, 3, 3)
    assert heard == [(1, 3), (2, 3), (3, 3)]


def test_tune__several_labels_with_what_is_unknown_or_constant() -> None:
    lesson = stripes()
    cells = np.stack([lesson.targets, np.ones(N), 1 - lesson.targets], axis=1).astype(np.float32)
    cells[::3, 0] = math.nan
    cells[5] = math.nan
    several = replace(lesson, targets=cells, truth=cells)
    course = tuned(several, LONG, n_outputs=3, learns=[True, False, True])
    assert 0 < course.validation_loss < 0.3
    assert all(value.isfinite().all() for value in state_of(course).values())


def test_tune__a_class_that_training_lacks_is_not_watched() -> None:
    lesson = stripes()
    truth = lesson.truth.copy()
    truth[40:] = 2
    course = tuned(replace(lesson, truth=truth), QUICK, n_outputs=3, learns=[True, True, False])
    shorter = tuned(replace(lesson, validation=np.arange(32, 40)), QUICK, n_outputs=3, learns=[True, True, False])
    assert course.validation_loss == shorter.validation_loss
    assert is_same(state_of(course), state_of(shorter))


def test_tune__oversampled_classes_are_drawn_evenly() -> None:
    """Eight of a class against two: a constant picture, so that only the intercept can learn the shares."""
    labels = np.array([0] * 8 + [1] * 2)
    pictures = Pictures(np.full((10, CROP, CROP, 1), 99, np.uint8), np.full((10, SQUARE, SQUARE, 1), 99, np.uint8))
    lesson = Lesson(pictures, np.arange(10), np.arange(0), labels, labels, np.ones(10))
    shares: dict[str, NDArray[Any]] = {}
    for sampling in ("auto", "shuffled"):
        recipe = Recipe(learning_rates=(0.05,), max_epochs=60, batch_size=10, sampling=sampling)  # type: ignore[arg-type]
        course = tuned(lesson, recipe)
        model, classifier = Net().eval(), Classifier()
        model.load_state_dict(course.model_state)
        classifier.load_state_dict(course.classifier_state)
        shares[sampling] = classifier(model(pictures.plain(np.array([0])))).softmax(dim=1).detach().numpy()[0]
    assert shares["auto"] == pytest.approx([0.5, 0.5], abs=0.02)
    assert shares["shuffled"] == pytest.approx([0.8, 0.2], abs=0.02)


def test_tune__statistics_of_single_images_are_refused() -> None:
    with pytest.raises(OptionError, match="needs minibatches of two images or more"):
        tuned(stripes(train=np.arange(1)), replace(QUICK, batch_norm="updated"))
    assert tuned(stripes(train=np.arange(1)), QUICK).epoch >= 0


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_tune__architectures_of_timm(name: str) -> None:
    import timm

    size = 32
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = (
            timm.create_model(name, num_classes=0, img_size=size)
            if "vit" in name
            else timm.create_model(name, num_classes=0)
        )
        classifier = nn.Linear(model.num_features, 2)
    classifier.register_buffer("learns", torch.ones(2, dtype=torch.bool))
    rng = np.random.default_rng(0)
    pictures = Pictures(*(rng.integers(0, 256, (8, side, side, 3), dtype=np.uint8) for side in (size, 36)))
    labels = np.arange(8) % 2
    lesson = Lesson(pictures, np.arange(4), np.arange(4, 8), labels, labels, np.ones(8))
    course = tune(model, classifier, lesson, Recipe(learning_rates=(1e-4,), max_epochs=2), 0, lambda *_: None)
    assert course.n_trained == sum(value.numel() for part in (model, classifier) for value in part.parameters())
    model.load_state_dict(course.model_state)
    assert math.isfinite(course.validation_loss)
    assert all(value.is_contiguous() for value in course.model_state.values())


def test_tune__rates_fall_on_a_plateau() -> None:
    """At a rate of 0 the loss never moves: every epoch after the first is one without progress."""
    recipe = replace(QUICK, learning_rates=(1e-12,), schedule="plateau", plateau_patience=1, max_epochs=6)
    recipe = replace(recipe, warmup_epochs=0.0, plateau_factor=0.5, stop_patience=6)
    with steps() as seen:
        tuned(stripes(), recipe)
    by_epoch = [each[0] / 1e-12 for each in seen[::4]]
    assert by_epoch == pytest.approx([1.0, 1.0, 1.0, 0.5, 0.5, 0.25])


def test_tune__rates_fall_epoch_by_epoch_as_torchs_cosine() -> None:
    recipe = replace(QUICK, learning_rates=(0.01,), schedule="epoch-cosine", warmup_epochs=0.0, max_epochs=4)
    with steps() as seen:
        tuned(stripes(validation=np.arange(0)), recipe)
    peer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.01)
    schedule, expected = torch.optim.lr_scheduler.CosineAnnealingLR(peer, T_max=4), []
    for _ in range(4):
        expected += 4 * [peer.param_groups[0]["lr"]]
        peer.step()
        schedule.step()
    assert [each[0] for each in seen] == pytest.approx(expected)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_tune__equals_a_plain_loop_of_the_other_optimizers(optimizer: Any) -> None:
    lesson = stripes(validation=np.arange(0))
    recipe = replace(QUICK, optimizer=optimizer, weight_decay=0.1, schedule="constant", warmup_epochs=0.0, flips="none")
    recipe = replace(recipe, degrees=0.0, least_scale=1.0, sampling="shuffled", max_epochs=2, batch_size=32)
    model, classifier = nets()
    values = [*model.parameters(), *classifier.parameters()]
    own = [
        {"params": [v for v in values if v.ndim > 1]},
        {"params": [v for v in values if v.ndim == 1], "weight_decay": 0.0},
    ]
    if optimizer == "adam":
        plain: torch.optim.Optimizer = torch.optim.Adam(own, lr=0.01, weight_decay=0.1)
    else:
        plain = torch.optim.SGD(own, lr=0.01, weight_decay=0.1, momentum=0.9)
    squares = torch.from_numpy(lesson.pictures.squares[:32]).permute(0, 3, 1, 2).float()
    shown = nn.functional.interpolate(squares, CROP, mode="bilinear", align_corners=False)
    for _ in range(2):
        plain.zero_grad()
        nn.functional.cross_entropy(classifier(model.eval()(shown)), torch.from_numpy(lesson.targets[:32])).backward()
        plain.step()
    course = tuned(lesson, recipe)
    expected = [*model.state_dict().values(), *classifier.state_dict().values()]
    for found, value in zip(state_of(course).values(), expected, strict=True):
        torch.testing.assert_close(found, value, rtol=1e-3, atol=2e-4)


def test_tune__the_last_layers_alone_change() -> None:
    before = nets()[0].state_dict()
    course = tuned(stripes(validation=np.arange(0)), replace(QUICK, layers="last-1", batch_norm="updated"))
    for name, value in before.items():
        assert torch.equal(value, course.model_state[name]) is (not name.startswith("body.3")), name
    assert course.n_trained == 8 * 8 * 9 + 8 + 18


def test_tune__products_in_bfloat16_leave_all_else_in_float32() -> None:
    lesson = stripes()
    full, halved = (tuned(lesson, replace(QUICK, precision=each)) for each in ("float32", "bf16"))  # type: ignore[arg-type]
    assert is_same(state_of(full), state_of(tuned(lesson, QUICK))), "auto on a CPU"
    differs = max(
        (value.double() - state_of(full)[name].double()).abs().max().item() for name, value in state_of(halved).items()
    )
    assert 1e-6 < differs < 0.05
    assert all(value.dtype in {torch.float32, torch.int64, torch.bool} for value in state_of(halved).values())
    assert halved.validation_loss == pytest.approx(validation_loss(halved, lesson), abs=1e-6)


@pytest.mark.gpu
def test_tune__products_on_cuda_are_in_bfloat16_unless_asked_otherwise() -> None:
    lesson, device = stripes(), torch.device("cuda")
    found = {}
    for precision in ("auto", "bf16", "float32"):
        modules = [module.to(device) for module in nets()]
        recipe = replace(QUICK, precision=precision)  # type: ignore[arg-type]
        found[precision] = tune(modules[0], modules[1], lesson, recipe, 1, lambda *_: None)
    loss = {name: course.validation_loss for name, course in found.items()}
    assert loss["auto"] == pytest.approx(loss["bf16"], abs=1e-3)
    assert loss["float32"] == pytest.approx(tuned(lesson, QUICK).validation_loss, abs=1e-3)
    halved, full = (state_of(found[name]) for name in ("auto", "float32"))
    assert max((value.double() - full[name].double()).abs().max().item() for name, value in halved.items()) > 1e-6


def test_tune__strong_augmentation_is_that_of_its_name() -> None:
    """One step on the images that `applied` gives for the same numbers, by a plain loop."""
    lesson = stripes(validation=np.arange(0))
    recipe = replace(QUICK, augment="xray", optimizer="sgd", schedule="constant", warmup_epochs=0.0, max_epochs=1)
    recipe = replace(recipe, sampling="shuffled", batch_size=32, weight_decay=0.0)
    course = tuned(lesson, recipe, seed=3)
    model, classifier = nets()
    order_rng, motion_rng = (np.random.default_rng(np.random.SeedSequence([3, use, 1])) for use in (0, 1))
    rows = epoch_order(lesson.targets[lesson.train], "shuffled", order_rng)
    squares = torch.from_numpy(lesson.pictures.squares[rows]).permute(0, 3, 1, 2).float()
    shown = applied(squares, varied(len(rows), AUGMENTATIONS["xray"], motion_rng), CROP)
    loss = nn.functional.cross_entropy(classifier(model.eval()(shown)), torch.from_numpy(lesson.targets[rows]))
    loss.backward()
    for name, value in classifier.named_parameters():
        assert value.grad is not None
        torch.testing.assert_close(course.classifier_state[name], value.detach() - 0.01 * value.grad)
