"""The heads that are trained by minibatches: which jobs go together, and what a fitted one can do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, TypedDict

import numpy as np
from numpy.typing import NDArray

from dvme.errors import DataError
from dvme.heads.fitting.cells import constant_labels
from dvme.heads.fitting.jobs import Embedded, FittedHead, Job
from dvme.heads.fusion.networks import (
    DVME,
    MLP,
    WIDTH,
    LinearNetwork,
    Network,
    NoAttention,
    Tokens,
    count_parameters,
)
from dvme.json_values import rebuilt
from dvme.runtime import Progress, Runtime, keep_freed_memory
from dvme.training.schedule import TrainingProtocol
from dvme.vectors import spans
from dvme_cache.deferred import deferred

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from dvme.heads.fusion.batched_training import TrainingJob
else:
    torch = deferred("torch")

NETWORKS: Mapping[str, Network] = {
    "linear-adam": LinearNetwork(),
    "dvme": DVME(),
    "dvme-noattn": NoAttention(),
    "dvme-tokens": Tokens(),
    "mlp": MLP(),
}
"""Architectures by the name of their head."""
COPIES = 6
"""Of the parameters: themselves, gradients, two moments, the best so far, and one in passing."""
ACTIVATIONS = 64
"""Values that a sample holds for each of its tokens between forward and backward, at most."""
CPU_GROUP_BYTES = 1 << 27
"""What a group may hold on a CPU, where more jobs at once than its caches can feed are slower, not faster."""
PREDICTED_ROWS = 256


class Choice(TypedDict, total=False):
    """What validation chose of a training; nothing of a network that was not trained here."""

    epoch: int
    """From 1; whose parameters these are. 0 if no epoch had a finite validation loss: then they mean nothing."""
    n_epochs: int
    """Trained."""
    validation_loss: float
    """The watched one; nan without validation rows."""
    constant_labels: list[int]
    """Of several labels those of which training knows one value only, or none."""


@dataclass(frozen=True)
class FittedNetwork:
    """A trained network on the CPU."""

    name: str
    """Of its head."""
    dims: tuple[int, ...]
    """D_m of each backbone."""
    n_classes: int
    """C, or L."""
    parameters: Mapping[str, Tensor]
    """Under torch's names and in its layouts, without the axis of jobs."""
    chosen: Mapping[str, Any]
    """See Choice."""
    is_multilabel: bool = False
    """Whether probabilities are independent."""

    def predict_proba(self, blocks: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """(B, C) softmax of the logits; of several labels their sigmoid."""
        probabilities: NDArray[Any] = np.exp(self.log_proba(blocks))
        return probabilities

    def log_proba(self, blocks: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """(B, C) float64 logarithms of the same."""
        network, parameters = NETWORKS[self.name], self._stacked()
        parts = [np.empty((0, self.n_classes))]
        with torch.no_grad():
            for some in _row_parts(blocks):
                logits = network.logits(parameters, some, lambda hidden: hidden)[0]
                logits = logits.double()
                logs = (
                    torch.nn.functional.logsigmoid(logits) if self.is_multilabel else torch.log_softmax(logits, dim=-1)
                )
                parts.append(logs.numpy())
        return np.concatenate(parts)

    def hidden(self, blocks: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """The layer that the class is read from, without dropout: what `classifier` takes.

        Args:
            blocks: (B, D_m) embeddings, as `predict_proba` takes them.

        Returns:
            (B, H): H is 512 for `dvme` and `dvme-tokens`, after LayerNorm, Linear and ReLU; 512 M for `dvme-noattn`,
            its projections; for `mlp` the width that matches the parameters of `dvme`.

        Raises:
            ValueError: if the head has no layer between the embeddings and the classes.
        """
        if self.name == "linear-adam":
            raise ValueError(f"{self.name} reads the class from the embeddings themselves; it has no hidden layer")
        network, parameters = NETWORKS[self.name], self._stacked()
        parts = [np.empty((0, parameters["classifier.weight"].shape[-1]), dtype=np.float32)]
        with torch.no_grad():
            parts += [network.hidden(parameters, some)[0].numpy() for some in _row_parts(blocks)]
        return np.concatenate(parts)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The parameters; they load into the paper's own module.

        Source: Truong et al. 2021, appendix E.
        """
        return {name: value.numpy() for name, value in self.parameters.items()}

    def settings(self) -> dict[str, Any]:
        """See FittedHead."""
        several = {"is_multilabel": True} if self.is_multilabel else {}
        own = {"name": self.name, "dims": list(self.dims), "n_classes": self.n_classes, "chosen": dict(self.chosen)}
        return own | several

    @classmethod
    def restored(cls, settings: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> FittedNetwork:
        """See FittedHead."""
        parameters = {name: torch.from_numpy(np.array(value)) for name, value in arrays.items()}
        dims, n_classes = tuple(settings["dims"]), settings["n_classes"]
        chosen, is_multilabel = rebuilt(Choice, settings["chosen"]), settings.get("is_multilabel", False)
        return cls(settings["name"], dims, n_classes, parameters, chosen, is_multilabel)

    def _stacked(self) -> dict[str, Tensor]:
        """The parameters as those of J = 1 heads."""
        return {name: value[None] for name, value in self.parameters.items()}


@dataclass(frozen=True)
class NetworkHead:
    """A network under a protocol.

    Example:
        >>> dvme.NetworkHead("dvme").is_fusion
        True
    """

    name: str
    """One of NETWORKS."""
    protocol: TrainingProtocol = field(default_factory=TrainingProtocol)
    revision: ClassVar[int] = 1

    @property
    def is_fusion(self) -> bool:
        """See Head."""
        return self.name != "linear-adam"

    @staticmethod
    def fit_together(
        jobs: Sequence[Job], data: Embedded, runtime: Runtime, progress: Progress
    ) -> Iterator[tuple[int, FittedHead]]:
        """Train all jobs of one architecture and shape at once, in groups that fit the memory budget."""
        from dvme.heads.fusion.batched_training import train_together

        device = runtime.torch_device()
        budget = runtime.memory_budget(device)
        if device == "cpu":
            keep_freed_memory()
            budget = min(budget, CPU_GROUP_BYTES)
        kinds: dict[tuple[str, tuple[int, ...], int], list[int]] = {}
        prepared, n_trained = _training_jobs(jobs, data, device), 0
        for index, (job, own) in enumerate(zip(jobs, prepared, strict=True)):
            kind = job.head.name, data.dims(job.backbones), own.protocol.batch_size
            kinds.setdefault(kind, []).append(index)
        for (name, dims, batch_size), members in kinds.items():
            size = max(1, budget // bytes_per_job(NETWORKS[name], dims, data.n_classes, batch_size))
            # Jobs of like length share a group, so that none idles.
            members.sort(key=lambda index: -len(jobs[index].train))
            for start in range(0, len(members), size):
                some = members[start : start + size]
                trained = train_together(
                    NETWORKS[name],
                    dims,
                    data.n_classes,
                    [prepared[index] for index in some],
                    tell=partial(_tell, progress, f"train {name}", n_trained, len(jobs)),
                )
                n_trained += len(some)
                for index, (parameters, course) in zip(some, trained, strict=True):
                    chosen = Choice(epoch=course.best_epoch, n_epochs=course.n_epochs, validation_loss=course.best_loss)
                    _check_trained(jobs[index], parameters, chosen)
                    if data.is_multilabel:
                        cells = data.labels[jobs[index].train]
                        chosen["constant_labels"] = constant_labels(cells)
                        _silence(parameters, np.isnan(cells).all(axis=0))
                    yield index, FittedNetwork(name, dims, data.n_classes, parameters, chosen, data.is_multilabel)


def _training_jobs(jobs: Sequence[Job], data: Embedded, device: str) -> list[TrainingJob]:
    """The jobs as the engine takes them; embeddings are brought to the device once, in float32."""
    from dvme.heads.fusion.batched_training import TrainingJob

    tensors: dict[str, Tensor] = {}
    blocks: dict[tuple[str, ...], list[Tensor]] = {}
    weights = np.ones(len(data.labels)) if data.weights is None else data.weights.astype(np.float64)
    truth = data.truth_of(np.arange(len(data.labels))) if data.is_multilabel else data.labels
    found = []
    for job in jobs:
        assert isinstance(job.head, NetworkHead)
        for name in job.backbones:
            if name not in tensors:
                values = np.ascontiguousarray(data.embeddings[name], dtype=np.float32)
                tensors[name] = torch.from_numpy(values).to(device)
        own = blocks.setdefault(job.backbones, [tensors[name] for name in job.backbones])
        rows = job.train, job.validation
        found.append(TrainingJob(own, data.labels, *rows, job.seed, job.head.protocol, weights, truth, data.n_views))
    return found


def _silence(parameters: Mapping[str, Tensor], is_unknown: NDArray[Any]) -> None:
    """A probability of a half for (L,) labels that training knows nothing of: their outputs are as they were drawn."""
    for name in ("classifier.weight", "classifier.bias"):
        parameters[name][torch.from_numpy(is_unknown)] = 0.0


def _row_parts(blocks: Sequence[NDArray[Any]]) -> Iterator[list[Tensor]]:
    """Embeddings (1, b, D_m) of a few rows at a time, so that activations stay small however many rows there are."""
    for rows in spans(len(blocks[0]), 1, PREDICTED_ROWS):
        yield [torch.from_numpy(np.asarray(block[rows], dtype=np.float32))[None] for block in blocks]


def _check_trained(job: Job, parameters: Mapping[str, Tensor], chosen: Choice) -> None:
    """Refuse a network whose training diverged: its predictions would be taken for a weak head's."""
    is_finite = all(bool(value.isfinite().all()) for value in parameters.values())
    if not chosen["epoch"] or not is_finite:
        what = "its parameters are not finite" if chosen["epoch"] else "no epoch had a finite validation loss"
        raise DataError(
            f"{job.head.name} on {'+'.join(job.backbones)} diverged: {what}; rescale its embeddings, or leave it out"
        )


def _tell(progress: Progress, stage: str, before: int, total: int, n_ended: int) -> None:
    progress(stage, before + n_ended, total)


def bytes_per_job(network: Network, dims: Sequence[int], n_classes: int, batch_size: int) -> int:
    """What a job holds while it is trained."""
    n_tokens = WIDTH * len(dims)
    per_sample = 2 * sum(dims) + ACTIVATIONS * n_tokens
    return 4 * (COPIES * count_parameters(network.shapes(dims, n_classes)) + batch_size * per_sample)
