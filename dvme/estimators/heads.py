"""One estimator for each head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any, Literal, get_args

from numpy.typing import ArrayLike, NDArray

from dvme.errors import OptionError
from dvme.estimators.base import HeadClassifier, estimator
from dvme.estimators.indicator import ClassWeight
from dvme.heads import Head
from dvme.heads.exact.linear import ARGMAX, SOFTMAX, FittedLinear, Linear
from dvme.heads.fusion.controls import Concat, MeanLogits
from dvme.heads.fusion.network_head import NetworkHead
from dvme.heads.neighbours.knn import AUTO, KNN, NEIGHBOURS
from dvme.training.batches import Sampling
from dvme.training.schedule import TrainingProtocol

Attention = Literal["values", "tokens", "none"]
HEAD_OF_ATTENTION: dict[str, str] = {"values": "dvme", "tokens": "dvme-tokens", "none": "dvme-noattn"}
PROTOCOL = TrainingProtocol()


@estimator
class LinearProbe(HeadClassifier):
    """Exact L2 logistic regression, head `linear`. See HeadClassifier for what is common.

    Example:
        >>> data = dvme.open("my.zarr")
        >>> fitted = dvme.LinearProbe().fit(data["dino"][:], data.labels)
        >>> fitted.predict(data["dino"][:2]).shape
        (2,)
    """

    strengths: Sequence[float] | None = None
    """Penalties to choose from, see `dvme.heads.exact.linear.STRENGTHS`; None: those."""
    class_weight: ClassWeight = None
    """How often rows of a class count, in learning and in choosing: `balanced`, each class as much as another; a dict
    of weights by class; of several labels `balanced`, each for itself, or a list of such dicts of 0 and 1."""
    link: str = SOFTMAX
    """`softmax`; or `cumulative` for classes that are grades, numbers in order. See `dvme.heads.exact.linear`."""
    tune: str = ARGMAX
    """What `predict` gives: `argmax`, the most probable class; or `kappa` for grades: the expected grade is cut where
    quadratic kappa on the validation rows is largest."""

    def decision_function(self, X: ArrayLike) -> NDArray[Any]:
        """(B, C) logits of (B, D) embeddings; of two classes (B,), the second's less the first's.

        Of several labels (B, L) log odds. By cumulative link (B, C - 1) log odds of a grade above each but the last.
        """
        (features,) = self._checked_blocks(X)
        assert isinstance(self.head_, FittedLinear)
        logits = self.head_.logits(features)
        is_pair = len(self.classes_) == 2 and self._indicator_dtype is None
        return logits[:, 1] - logits[:, 0] if is_pair else logits

    def _head(self) -> Head:
        return replace(_linear_head(self.strengths), link=self.link, tune=self.tune)


@estimator
class KNNProbe(HeadClassifier):
    """Weighted nearest neighbours by cosine, head `knn`. See HeadClassifier for what is common.

    Example:
        >>> data = dvme.open("my.zarr")
        >>> fitted = dvme.KNNProbe().fit(data["dino"][:], data.labels)
        >>> fitted.predict(data["dino"][:2]).shape
        (2,)
    """

    neighbours: Sequence[int] = NEIGHBOURS
    """Values of k to choose from."""
    choose_by: str = "auc"
    """Metric on validation that k is chosen by; `accuracy` as in DINO's protocol."""
    standard_errors: float = 1.0
    """How many of the difference from the best k a larger one may be worse; 0 as in DINO's protocol."""
    search: str = AUTO
    """`exact`; or `ivf`, approximate, with its recall in `chosen_`; or `auto`: `ivf` from 250,000 rows."""
    device: str = "auto"
    """Where to search; a GPU is used with faiss-gpu only."""

    def _head(self) -> Head:
        return KNN(self.neighbours, self.choose_by, self.standard_errors, self.search)


@estimator
class ConcatProbe(HeadClassifier):
    """Exact logistic regression on all blocks, each row of a block scaled to length 1, head `concat`.

    See HeadClassifier for what is common.

    Example:
        >>> data = dvme.open("my.zarr")
        >>> fitted = dvme.ConcatProbe().fit(data["dino"][:], data.labels)
        >>> fitted.predict(data["dino"][:2]).shape
        (2,)
    """

    blocks: Sequence[int] | None = None
    """Columns of each backbone, in order; None: all of one."""
    strengths: Sequence[float] | None = None
    """As of LinearProbe."""
    class_weight: ClassWeight = None
    """As of LinearProbe."""

    def _head(self) -> Head:
        return Concat(linear=_linear_head(self.strengths))


@estimator
class MeanLogitsEnsemble(HeadClassifier):
    """One exact logistic regression per block, logits averaged, head `mean-logits`.

    See HeadClassifier for what is common.

    Example:
        >>> data = dvme.open("my.zarr")
        >>> fitted = dvme.MeanLogitsEnsemble().fit(data["dino"][:], data.labels)
        >>> fitted.predict(data["dino"][:2]).shape
        (2,)
    """

    blocks: Sequence[int] | None = None
    """Columns of each backbone, in order; None: all of one."""
    strengths: Sequence[float] | None = None
    """As of LinearProbe; each block chooses its own."""
    class_weight: ClassWeight = None
    """As of LinearProbe."""

    def _head(self) -> Head:
        return MeanLogits(linear=_linear_head(self.strengths))


@estimator
class LinearAdamProbe(HeadClassifier):
    """A linear classifier trained by minibatches, head `linear-adam`. See HeadClassifier for what is common.

    It and the other trained heads take the fields of `dvme.training.schedule.TrainingProtocol`.

    Example:
        >>> data = dvme.open("my.zarr")
        >>> fitted = dvme.LinearAdamProbe(min_epochs=1, max_epochs=2).fit(data["dino"][:], data.labels)
        >>> fitted.predict_proba(data["dino"][:2]).shape
        (2, 2)
    """

    learning_rate: float = PROTOCOL.learning_rate
    """Of Adam, at the start."""
    batch_size: int = PROTOCOL.batch_size
    """Rows of a minibatch."""
    min_epochs: int = PROTOCOL.min_epochs
    """Epochs before which nothing stops early."""
    max_epochs: int = PROTOCOL.max_epochs
    """Epochs after which training ends."""
    plateau_factor: float = PROTOCOL.plateau_factor
    """What the learning rate is multiplied with on a plateau."""
    plateau_patience: int = PROTOCOL.plateau_patience
    """Epochs without progress that are tolerated before that."""
    stop_patience: int = PROTOCOL.stop_patience
    """Epochs without a new best after which training stops."""
    sampling: Sampling = PROTOCOL.sampling
    """`shuffled`, `oversampled`, or `auto`: oversampled where the classes differ in number."""
    device: str = "auto"
    """Where to train, a torch device; `auto`: a GPU if there is one."""

    def _head(self) -> Head:
        return self._network_head("linear-adam")

    def _network_head(self, name: str) -> Head:
        own = {field.name: getattr(self, field.name) for field in fields(TrainingProtocol)}
        return NetworkHead(name, TrainingProtocol(**own))


@estimator
class MLPFusion(LinearAdamProbe):
    """A network with as many parameters as DVME but no attention, head `mlp`. See HeadClassifier, LinearAdamProbe.

    Example:
        >>> data = dvme.open("my.zarr")
        >>> fitted = dvme.MLPFusion(min_epochs=1, max_epochs=2).fit(data["dino"][:], data.labels)
        >>> fitted.predict_proba(data["dino"][:2]).shape
        (2, 2)
    """

    blocks: Sequence[int] | None = None
    """Columns of each backbone, in order; None: all of one."""

    def _head(self) -> Head:
        return self._network_head("mlp")


@estimator
class DVMEClassifier(LinearAdamProbe):
    """Dynamic visual meta-embeddings, head `dvme` or a variant. See HeadClassifier, LinearAdamProbe.

    Source: Truong et al. 2021, section 5.6.

    Example:
        >>> data = dvme.open("my.zarr")
        >>> fitted = dvme.DVMEClassifier(min_epochs=1, max_epochs=2).fit(data["dino"][:], data.labels)
        >>> fitted.predict_proba(data["dino"][:2]).shape
        (2, 2)
    """

    blocks: Sequence[int] | None = None
    """Columns of each backbone, in order; None: all of one."""
    attention: Attention = "values"
    """Among the projected `values` (the paper's), among backbones as `tokens`, or `none` (its ablation)."""

    def _head(self) -> Head:
        if self.attention not in HEAD_OF_ATTENTION:
            raise OptionError(
                f"attention {self.attention!r} is not known; choose from {', '.join(get_args(Attention))}"
            )
        return self._network_head(HEAD_OF_ATTENTION[self.attention])


def _linear_head(strengths: Sequence[float] | None) -> Linear:
    return Linear() if strengths is None else Linear(strengths=strengths)
