"""How heads and backbones that learn by minibatches were trained, from the settings that a run keeps of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dvme.paper.wording import cited, numbers_text
from dvme.text import counted

Settings = Mapping[str, Any]

PAPERS = {
    "truong2021": "truong2021transferable",
    "taher2021": "taher2021systematic",
    "azizi2021": "azizi2021big",
    "krones2026": "krones2026pretraining",
    "krones2026-sgd": "krones2026pretraining",
}
"""Protocols by name, see `dvme.training.protocols`."""
STARTS = {
    "finetune": "training of the backbone and a classifier that began as the linear head of the same images {}",
    "finetune-scratch-head": "training of the backbone and a classifier that began with random weights",
    "finetune-random": "training of a network of the backbone's architecture from random weights",
}
SAMPLED = {
    "auto": "with every class equally often where the classes differ in number",
    "oversampled": "with every class equally often",
    "shuffled": "in random order",
    "auto findings": "with images of every finding equally often, each by its rarest, where these differ in number",
    "oversampled findings": "with images of every finding equally often, each by its rarest",
}
"""How minibatches are drawn. Of heads on embeddings an image with several findings is drawn for its rarest one."""
SCHEDULES = {
    "cosine": "which falls by a half cosine",
    "epoch-cosine": "which falls by a half cosine after each epoch",
    "plateau": "which falls on plateaus of the validation loss",
    "constant": "which stays",
}
FLIPS = {
    "none": "",
    "horizontal": "mirrored left to right in half of the cases, ",
    "both": "mirrored left to right and top to bottom, each in half of the cases, ",
}
OPTIMIZERS = {"adamw": "AdamW", "adam": "Adam", "sgd": "SGD with a momentum of 0.9"}


def of_findings(settings: Settings) -> Settings:
    """The settings of a head with the sampling that they mean where an image may have several findings.

    Fine-tuning then draws images in random order, whatever its recipe says.
    """
    found = dict(settings)
    if isinstance(protocol := settings.get("protocol"), Mapping) and protocol["sampling"] != "shuffled":
        found["protocol"] = {**protocol, "sampling": f"{protocol['sampling']} findings"}
    if isinstance(recipe := settings.get("recipe"), Mapping):
        found["recipe"] = {**recipe, "sampling": "shuffled"}
    return found


def trained_by_protocol(protocol: Settings) -> str:
    """Of a head on embeddings."""
    of = protocol
    return (
        f"trained by Adam at a rate of {of['learning_rate']:g} in minibatches of {of['batch_size']}, "
        f"{SAMPLED[str(of['sampling'])]}, for {of['min_epochs']} to {of['max_epochs']} epochs; the rate was multiplied "
        f"by {of['plateau_factor']:g} after {of['plateau_patience']} epochs without progress of the validation loss, "
        f"training stopped after {of['stop_patience']}, and the epoch with the lowest loss was kept"
    )


def finetuned(name: str, settings: Settings) -> str:
    """Of a backbone with a classifier."""
    recipe, protocol = settings["recipe"], str(settings["protocol"])
    start = STARTS.get(name, STARTS["finetune-scratch-head"]).format(cited("kumar2022finetuning"))
    by = f", after the protocol of {cited(PAPERS[protocol])}" if protocol in PAPERS else ""
    crops = "; predictions are means over ten crops" if settings.get("test_crops") == "ten" else ""
    return f"{start}{by}: {_by_recipe(recipe)}{_what_learned(recipe)}; {_chosen(recipe)}{crops}"


def trained_unet(name: str, settings: Settings) -> str:
    """Of a U-Net with the layers of a backbone as its encoder."""
    begun = "random weights" if name == "unet-random" else "the weights of the backbone"
    works = cited("ronneberger2015unet", "iakubovskii2019segmentation", "taher2021systematic")
    loss = {"dice": "the Dice loss", "cross-entropy": "cross entropy of pixels"}[str(settings["loss"])]
    size = f" of {settings['size']} x {settings['size']} pixels" if settings["size"] else ""
    moved = f"{FLIPS[str(settings['flips'])]}turned by up to {settings['degrees']:g} degrees"
    stopped = f", at most, stopped after {settings['stop_patience']} without a lower validation loss"
    return (
        f"a U-Net {works} whose encoder began with {begun}, on whole images{size}, {moved} and cut to no less than "
        f"{settings['least_scale']:.0%} of their area: {loss}, Adam at a rate of "
        f"{numbers_text(settings['learning_rates'], last='or')}, half a cosine over {settings['max_epochs']} epochs"
        f"{stopped if settings['stop_patience'] else ''}, minibatches of {settings['batch_size']}"
    )


def trained_conv(settings: Settings) -> str:
    """Of a decoder on the maps of a backbone that stays as it is."""
    return (
        "a convolutional decoder on the feature maps of several layers, trained by AdamW at a rate of "
        f"{settings['learning_rate']:g} under half a cosine, with a weight decay of {settings['weight_decay']:g}, in "
        f"minibatches of {settings['batch_size']} images for {settings['min_epochs']} to {settings['max_epochs']} "
        f"epochs, stopped after {settings['stop_patience']} without a lower validation loss; the epoch with the lowest "
        "loss was kept"
    )


def _by_recipe(recipe: Settings) -> str:
    """Optimizer, rates, length."""
    length = f"{recipe['n_steps']:,} steps" if recipe.get("n_steps") else f"{recipe['max_epochs']} epochs"
    fall = f", less by a factor of {recipe['layer_decay']:g} for each layer below" if recipe["layer_decay"] < 1 else ""
    n_warm = float(recipe["warmup_epochs"])
    warm = f" after {n_warm:g} {'epoch' if n_warm == 1.0 else 'epochs'} of warm-up" if n_warm else ""
    factor = float(recipe.get("transformer_factor", 1.0))
    scaled = f" (times {factor:g} for transformers)" if factor != 1.0 else ""
    return (
        f"{OPTIMIZERS[str(recipe['optimizer'])]} at a rate of {numbers_text(recipe['learning_rates'], last='or')}"
        f"{scaled}{fall}, {SCHEDULES[str(recipe['schedule'])]}{warm}, weight decay of {recipe['weight_decay']:g}, "
        f"minibatches of {recipe['batch_size']} images {SAMPLED[str(recipe['sampling'])]}, for up to {length}"
    )


def _what_learned(recipe: Settings) -> str:
    """Which weights, and what they saw."""
    layers = str(recipe["layers"])
    which = "all weights"
    if recipe["lora_rank"]:
        which = f"low-rank updates of attention, of rank {recipe['lora_rank']} {cited('hu2022lora')},"
    elif layers != "all":
        which = f"the last {counted(int(layers.removeprefix('last-')), 'layer')}"
    if recipe["augment"] != "light":
        return f"; {which} learned, from images under the strong augmentation `{recipe['augment']}`"
    seen = (
        f"images {FLIPS[str(recipe['flips'])]}turned by up to {recipe['degrees']:g} degrees and cut to "
        f"{recipe['least_scale']:.0%} to {recipe['most_scale']:.0%} of their area"
    )
    return f"; {which} learned, from {seen}"


def _chosen(recipe: Settings) -> str:
    """What validation decided."""
    what = "rate and epoch were" if len(recipe["learning_rates"]) > 1 else "the epoch was"
    window = float(recipe.get("average_epochs", 0.0))
    stopped = f", a rate given up after {recipe['stop_patience']} epochs without a new best"
    average = f", of weights averaged exponentially over {window:g} epoch{'' if window == 1 else 's'}" if window else ""
    return f"{what} chosen by the validation loss{average}{stopped if recipe['stop_patience'] else ''}"
