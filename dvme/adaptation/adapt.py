"""`dvme adapt`: a backbone trained further on the user's own images, as a backbone of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dvme.adaptation.images import check_images, counts_line, list_images
from dvme.adaptation.places import check_describable, check_out, places_of, training_folder
from dvme.adaptation.settings import settings_of
from dvme.arguments import public
from dvme.data import Columns
from dvme.defaults import SEED
from dvme.errors import UnknownNameError
from dvme.extraction.models import Choice
from dvme.runtime import Progress, Runtime, automatic
from dvme.seeds import checked_seed
from dvme.shown.result import Shown, some_lines
from dvme.text import counted
from dvme.training.checkpoints import Epochs
from dvme.training.recipe import STRONG

if TYPE_CHECKING:
    from dvme.adaptation.watch import Look


@dataclass(frozen=True, repr=False)
class AdaptReport(Shown):
    """What was adapted, and how it went; `to_frame()` has a row for each epoch, from 0."""

    out: str
    """The TOML."""
    backbone: str
    """Name of the adapted backbone."""
    base: str
    method: str
    augment: str
    n_files: int
    """Listed."""
    n_images: int
    """Distinct ones that were trained on or watched."""
    n_groups: int | None
    """They are of; None where no group is known."""
    n_left_out: int
    """Images that were left out: those of the test part, and others of their groups."""
    n_test: int
    """Images of the declared test part."""
    is_transductive: bool
    """Whether images of a test part may be among those trained on."""
    settings: dict[str, Any]
    looks: list[dict[str, Any]]
    """Epoch by epoch, from 0: loss, spread, effective rank, kNN AUC."""
    n_steps: int
    n_resumed: int
    """Epochs that an earlier call had ended."""
    seconds: float
    """In training and looking, that of earlier calls included."""
    files: dict[str, str]
    """What was written."""
    unread: dict[str, str] = field(default_factory=dict)
    """Files that could not be read, and why."""
    remarks: list[str] = field(default_factory=list)

    @property
    def n_epochs(self) -> int:
        """That the weights were trained for."""
        return len(self.looks) - 1

    def to_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return asdict(self) | {"n_epochs": self.n_epochs}

    def _lines(self) -> list[str]:
        images, epochs = counted(self.n_images, "image"), counted(self.n_epochs, "epoch")
        first = f"{self.backbone} is {self.base}, adapted by {self.method} on {images} for {epochs}"
        return [first, f"{self.out} describes it, as dvme.extract takes it", *some_lines(self.remarks)]

    def _records(self) -> list[dict[str, Any]]:
        return list(self.looks)


@public
def adapt(  # noqa: PLR0913 - the command's options, one to one
    images: str | Path,
    backbone: str,
    method: str,
    out: str | Path,
    *,
    columns: Columns | None = None,
    image_root: str | Path | None = None,
    skip_missing: bool = False,
    transductive: bool = False,
    without_test: bool = False,
    augment: str | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    temperature: float | None = None,
    random_weights: int | None = None,
    weights: Mapping[str, str | Path] | None = None,
    architectures: Mapping[str, str] | None = None,
    seed: int = SEED,
    force: bool = False,
    runtime: Runtime | None = None,
    progress: Progress = automatic,
    announce: Callable[[str], None] | None = None,
) -> AdaptReport:
    """Train all weights of a backbone further on images of the user's, and write them as a backbone of its own.

    The leak rule: images of the declared test part are left out, and so are all images of their groups; where none is
    declared, nothing is done. No study then tests the backbone on what it was trained on: a list of the images goes
    with it. Weights that are asked for are all or nothing: a training that collapses writes none.

    After every epoch its state is kept beside `out`, in FILE.toml.training; the same call goes on from there, on the
    CPU to the bit. Of the images each content counts once.

    Args:
        images: a folder, a table, an archive, or SET:FOLDER, as `dvme.extract` takes them.
        backbone: what to begin with, as `dvme.extract` takes it.
        method: `simclr`: two views of an image are to be alike; `micle`: two images of a group; `gmml`: masked groups
            of patches are restored (vision transformers); `supervised`: the labels are learned.
        out: the TOML to write, FILE.toml; FILE.safetensors, FILE.trained_on and FILE.json (its epochs) come beside it.
        columns: a manifest's columns; `split` says which images are train, val or test.
        image_root: where a manifest's relative paths start.
        skip_missing: leave images out that a manifest names and that are not there, instead of refusing.
        transductive: train on all images, those of a test part too; every table of a study then says so.
        without_test: there is no test part among these images: all are trained on, and no study tests on them.
        augment: `xray`, `photo` or `pathology`: how strong views differ. None: xray if all images are grey, else photo.
        epochs: None, as of the following: by method, see `dvme.adaptation.settings.settings_of`.
        batch_size: pairs of views of a minibatch, or images where a method shows each once.
        learning_rate: after the warm-up.
        temperature: of the contrastive loss.
        random_weights: a seed: begin with random weights of the architecture, for a control with the same steps.
        weights: a local checkpoint by backbone name.
        architectures: the architecture of a torchvision-style checkpoint, by a backbone name of one's own.
        seed: of order, augmentation, dropout and the head's first weights.
        force: replace files that are there, and an adaptation in another way that was begun there.
        runtime: device, workers, memory for pixels.
        progress: told (stage, done, total); the stages are `hash`, `load`, `read` and `adapt`, in epochs.
        announce: told what is trained on, and a line after every epoch.

    Raises:
        DataError, UnknownNameError, WeightsError, CheckpointError, OptionError: each says in one line what is wrong and
            what to do.

    Example:
        >>> settings = {"epochs": 1, "without_test": True}
        >>> report = dvme.adapt("images", "efficientnet-lite0@size=32", "simclr", "mine.toml", **settings)
        >>> report.out, report.n_epochs
        ('mine.toml', 1)
    """
    numbers: dict[str, Any] = {"epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate}
    ask = partial(settings_of, method, **numbers, temperature=temperature, seed=seed)
    ask()
    if augment is not None and augment not in STRONG:
        raise UnknownNameError(f"augment {augment!r} is not known; choose from {', '.join(STRONG)}")
    first_seed = None if random_weights is None else checked_seed(random_weights, "random_weights")
    runtime, say = runtime or Runtime(), announce or (lambda _: None)
    choice = Choice(names=[backbone], weights=weights or {}, architectures=architectures or {})
    (spec,) = choice.specs()
    place = check_out(out, force=force)
    check_describable(spec)
    said = {"skip_missing": skip_missing, "transductive": transductive, "without_test": without_test}
    listed = list_images(images, columns, image_root, method=method, **said)
    from dvme.adaptation.start import Source, begin, load_first
    from dvme.adaptation.writing import description, write_result

    source = Source(spec, choice.file_of(spec), first_seed)
    loaded = load_first(source, ask(n_images=listed.n_at_most), runtime, progress)
    found = listed.identified(runtime, partial(progress, "hash"))
    settings = ask(n_images=len(found))
    check_images(found, settings)
    folder, n_told = training_folder(place), len(found.remarks)
    for line in (counts_line(found), *found.remarks):
        say(line)
    begun = begin(loaded, found, source, settings, augment, folder, runtime, progress)
    found, kept = begun.images, Epochs(folder)
    for line in found.remarks[n_told:]:
        say(line)

    def look(seen: Look) -> None:
        progress("adapt", seen.epoch, settings.epochs)
        say(seen.line(settings.epochs))

    description(place, begun)  # what no file can say is refused before it is trained
    course = begun.run(kept, look, force=force)
    adapted = write_result(place, begun, course)
    kept.clear()
    if course.doubt:
        say(course.doubt)
    return AdaptReport(
        out=os.fspath(place),
        backbone=adapted.name,
        base=spec.name,
        method=method,
        augment=begun.augment,
        n_files=found.n_files,
        n_images=len(found),
        n_groups=int(found.groups.max()) + 1 if found.has_groups else None,
        n_left_out=int(found.leak.is_out.sum()),
        n_test=found.leak.n_test,
        is_transductive=adapted.is_transductive,
        settings=settings.plain(),
        looks=[seen.plain() for seen in course.looks],
        n_steps=course.n_steps,
        n_resumed=course.n_resumed,
        seconds=course.seconds,
        files={what: os.fspath(each) for what, each in places_of(place).items()},
        unread=found.unread,
        remarks=[*found.remarks, *filter(None, [course.doubt])],
    )
