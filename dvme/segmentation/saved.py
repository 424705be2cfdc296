"""Heads that segment as folders of `dvme.heads.saving`, beside all others: by name, and how they are built again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dvme import heads
from dvme.backbones.loading.fingerprints import fingerprint_of
from dvme.errors import DataError
from dvme.heads import UNETS, Head, segments, with_settings
from dvme.heads.saved_head import SavedHead
from dvme.heads.saving import WEIGHTS, Kinds, check_answer
from dvme.heads.saving import load_head as load_known
from dvme.segmentation.fitting import fitted_class
from dvme.segmentation.heads import full_name, head_of
from dvme.segmentation.unet.fitted import FittedUnet
from dvme.segmentation.unet.head import Unet, unet_head, unet_name


def load_head(folder: str | Path) -> SavedHead:
    """Read a saved head back, whether it classifies images or makes masks of them.

    Raises:
        DataError: if the folder is not a head, is torn or was changed, or is of another dvme.
        EnvironmentMismatchError: of a U-Net, if smp is not installed.

    Example:
        >>> head = dvme.load_head("run/heads/linear--dino")
        >>> head.classes
        ('dark', 'light')
    """
    return load_known(folder, KINDS)


def named(head: Head) -> str:
    """The name with the settings that differ from the defaults, of any head that segments."""
    return unet_name(head) if isinstance(head, Unet) else full_name(head)


def _fitted_class(name: str) -> Any:
    if not segments(name):
        return heads.fitted_class(name)
    return FittedUnet if name in UNETS else fitted_class(name)


def _head_of(name: str, settings: Mapping[str, Any]) -> Head:
    if not segments(name):
        return heads.head_of(name, settings)
    if name not in UNETS:
        return head_of(name, settings)
    head: Head = with_settings(unet_head(name), settings)
    return head


def _check(path: Path, saved: SavedHead) -> None:
    """Refuse what tells other classes than are named."""
    if not segments(saved.name):
        check_answer(path, saved)
        return
    for fold in saved.folds:
        if fold.head.names != saved.classes:
            told, stated = ", ".join(fold.head.names), ", ".join(saved.classes)
            raise DataError(
                f"{path} is damaged: it names the classes {stated}, its {WEIGHTS} has {told}; save it again"
            )
    if isinstance(saved.head, Unet):
        _check_input(path, saved, saved.head.size)


def _check_input(path: Path, saved: SavedHead, size: int) -> None:
    """Refuse U-Nets that see images otherwise than the backbone by whose name they go, but for the size."""
    sized = dict.fromkeys(("preprocess.resize", "preprocess.crop"), size) if size else {}
    told = saved.fingerprints[0].with_fields(sized)
    for fold in saved.folds:
        seen = fingerprint_of(fold.head.spec, weights="", dim=0, dtype="")
        for name, own, stated in seen.differences(told):
            if name.startswith(("preprocess.", "reading.")):
                message = f"{path} is a U-Net whose images have {name} {own!r}, and its backbone's have {stated!r}"
                raise DataError(f"{message}; save it again")


KINDS = Kinds(_fitted_class, _head_of, _check)
