"""What an adaptation leaves: a backbone of the user's own, as a TOML, its weights, its images and its epochs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from dvme.adaptation.course import Course
from dvme.adaptation.places import places_of
from dvme.adaptation.start import Begun
from dvme.backbones.description.spec import BackboneSpec, Checkpoint
from dvme.backbones.loading.model import hash_weights
from dvme.backbones.own.trained_on import TrainedOn, read_trained_on, write_trained_on
from dvme.backbones.own.writing import spec_to_toml
from dvme.files import written_aside
from dvme.json_values import as_json
from dvme.text import counted
from dvme_cache.files import sync

NAME_DIGITS = 8


def adapted_spec(begun: Begun, files: Mapping[str, str]) -> BackboneSpec:
    """The spec of a trained network, named after its weights.

    A model whose input was changed, in size or to grey, is described as what it is now, for its weights are loaded
    before anything is changed.

    Args:
        begun: with the network as it ended.
        files: names of what lies beside the TOML.
    """
    base, network, method = begun.spec, begun.model.network, begun.settings.method
    stem = re.sub(r"[^A-Za-z0-9._+-]+", "-", base.name.removeprefix("timm:")).strip("-.")
    random = "random-" if begun.is_random else ""
    is_transductive = begun.images.leak.is_transductive or (base.is_transductive and not begun.is_random)
    on = f"{method} on {counted(len(begun.images), 'image')} for {counted(begun.settings.epochs, 'epoch')}"
    seen = ", those of a test part among them" if is_transductive else ""
    return replace(
        base,
        name=f"{stem}-{random}{method}-{hash_weights(network)[:NAME_DIGITS]}",
        method=method if begun.is_random else f"{base.method}+{method}",
        architecture_args=begun.arguments,
        dim=begun.model.dim,
        checkpoint=Checkpoint(filename=files["weights"], url=""),
        source="checkpoint",
        licence="not stated" if begun.is_random else base.licence,
        is_verified=False,
        remark=f"{'random weights' if begun.is_random else base.name} adapted by {on}{seen}",
        trained_on=files["trained_on"],
        is_transductive=is_transductive,
        adapted_from="" if begun.is_random else base.name,
    )


def description(out: Path, begun: Begun) -> tuple[BackboneSpec, str]:
    """The spec of the network as it is now, and the text of its TOML.

    Raises:
        DataError: if a TOML file cannot say it.
    """
    spec = adapted_spec(begun, {what: place.name for what, place in places_of(out).items()})
    return spec, spec_to_toml(spec)


def write_result(out: Path, begun: Begun, course: Course) -> BackboneSpec:
    """Write all files aside, then put them in place; a TOML that is there goes first, so that none has other weights.

    Returns:
        What the TOML says.
    """
    from safetensors.torch import save

    places, network = places_of(out), begun.model.network
    spec, text = description(out, begun)
    state = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    epochs = {"backbone": spec.name, "asked": dict(begun.asked), "seconds": course.seconds}
    epochs |= {"epochs": [look.plain() for look in course.looks]}
    before = TrainedOn.nothing() if begun.is_random else read_trained_on(begun.spec)
    known = before.and_of(begun.images.contents, has_labels=begun.settings.method == "supervised")
    with ExitStack() as stack:
        aside = {what: stack.enter_context(written_aside(place)) for what, place in reversed(places.items())}
        aside["weights"].write_bytes(save(state))  # save_file leaves a file of its own after a kill
        write_trained_on(aside["trained_on"], known)
        aside["epochs"].write_text(as_json(epochs, indent=1) + "\n", encoding="utf-8")
        aside["toml"].write_text(text, encoding="utf-8")
        for each in aside.values():
            sync(each)
        out.unlink(missing_ok=True)
    return spec
