"""What a paper says of its backbones: whose they are, what they were trained on, and what they saw of an image."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from dvme.backbones.description.dense import grids_of, maps_text
from dvme.backbones.description.variation import view_in
from dvme.defaults import DTYPE, PRECISION
from dvme.paper.bibliography import architecture_key, details_of, is_cited, keys_of
from dvme.paper.material import Material
from dvme.paper.origins import NOT_TOLD, OTHER_DATA, UNTRAINED, USUAL_DATA, Origin, origin_of
from dvme.paper.wording import UNKNOWN, all_of, cited, coded, literal, numbers_text, sentences
from dvme.text import counted

AVERAGED = {
    "dosovitskiy2021image": "all patch tokens",
    "he2016deep": "the last feature map",
    "tan2019efficientnet": "the last feature map",
}
"""What the mean of an architecture is over, by its work."""
POOLED = {
    "class-token": "the class token",
    "class-token-last-4": "the class tokens of the last four blocks",
    "class-and-mean": "the class token and the mean patch token",
    "model": "what the architecture pools to",
}
PREPARED = ("resize", "crop", "interpolation", "mode", "mean", "std")
READ = {
    "range": "grey of more than 8 bits was mapped to 8 by the range `{}`",
    "voi": "DICOM pixels were seen through the VOI `{}`",
    "frame": "of files with several frames the frame `{}` was read",
    "draft": "JPEG files were decoded to no fewer than {} pixels of their short side",
}
"""What was read otherwise than usual, by the field of `Reading`."""
ADAPTED = {
    "simclr": ("chen2020simple", "azizi2021big"),
    "micle": ("azizi2021big",),
    "gmml": ("atito2022gmml",),
    "supervised": ("taher2021systematic",),
}
"""By the method of `dvme adapt`."""
MOVED = {"flip": "mirrored", "rotate": "turned", "crop": "cut"}
"""Parts of a recipe of views."""
TIMM, HUB = "timm:", "hf-hub:"
TRAINING = ("finetune", "unet")
"""How the names of heads begin that train the backbone."""
OF_IMAGES = ("finetune-", "unet")
"""Those of them that begin without any embedding."""


def about_backbones(material: Material) -> str:
    """One paragraph."""
    backbones: list[Mapping[str, Any]] = list(material.described["backbones"])
    heads, networks = [str(each["head"]) for each in material.described["methods"]], counted(len(backbones), "network")
    frozen = "" if any(head.startswith(TRAINING) for head in heads) else ", whose weights stayed as they are"
    first = f"Images were embedded by {networks}{frozen}."
    if all(head.startswith(OF_IMAGES) for head in heads):
        first = f"Heads were trained on images together with {networks}."
    each = [f"{_whose(own)}; {_gives(own)}." for own in backbones]
    return sentences([first, *each, *_seen(backbones), _views(material)])


def _whose(backbone: Mapping[str, Any]) -> str:
    """Name, architecture, training, licence."""
    origin, name = origin_of(backbone), str(backbone["name"])
    architecture = str((backbone.get("fingerprint") or {}).get("architecture", ""))
    key = architecture_key(architecture)
    made = f"{literal(architecture)} {cited(key)}" if key else literal(architecture)
    if origin.is_imported:
        return f"{coded([name])}: {_imported(origin.imported)}"
    if origin.source == UNTRAINED:
        trained = "with random weights, as an untrained control"
    elif origin.is_known or name.startswith((TIMM, HUB)):
        trained = f"{_trained(origin, name)}; licence {literal(origin.licence) or 'not stated'}"
    else:
        trained = f"how it was trained is not known {UNKNOWN}"
    return f"{coded([name])}: {', '.join(part for part in (made, trained) if part)}"


def _imported(imported: Mapping[str, Any]) -> str:
    """Of embeddings from elsewhere, by the word of who imported them."""
    file = f" from {literal(str(imported['file']))}" if "file" in imported else ""
    digest = f" (BLAKE2b {str(imported['digest'])[:12]})" if "digest" in imported else ""
    word = f", made by {literal(str(imported['made_by']))}" if "made_by" in imported else ""
    word = f", made as those of {literal(str(imported['like']))}" if "like" in imported else word
    return f"embeddings that another program made, imported{file}{digest}{word} {UNKNOWN}"


def _trained(origin: Origin, name: str) -> str:
    """By which method, on what, with which paper."""
    keys = keys_of(origin.paper)
    if name.startswith((TIMM, HUB)) and not keys:
        where = "timm" if name.startswith(TIMM) else "the Hugging Face hub"
        which = f" ({coded([origin.method])})" if origin.method not in NOT_TOLD else ""
        paper = f" ({literal(origin.paper)})" if origin.paper else ""
        return f"with weights of {where}{which} {cited('wightman2019timm')}, by {UNKNOWN}{paper}"
    if origin.began_random:
        return _adapted(origin, "from random weights trained")
    said, told = _as_listed(origin, keys) if origin.is_listed else _as_told(origin)
    details = [part for part in details_of(origin.paper) if part and part not in told]
    further = f" ({literal('; '.join(details))})" if details else ""
    whose = f"{said} {cited(*keys)}{further}"
    return f"{whose}, {_adapted(origin, 'then trained further')}" if origin.is_adapted else whose


def _as_listed(origin: Origin, keys: Sequence[str]) -> tuple[str, list[str]]:
    """Of a backbone of dvme's own list, with its data; and what of its description that has said."""
    data = OTHER_DATA.get(keys[0], USUAL_DATA) if keys else USUAL_DATA
    if origin.method == "supervised":
        return f"trained on {data} with labels", [data]
    called = [part for part in _called(origin) if part != data]
    named = f" ({', '.join(called)})" if called else ""
    return f"trained on {data} without labels{named}", [data]


def _as_told(origin: Origin) -> tuple[str, list[str]]:
    """Of any other one, by the word of who described it."""
    called = _called(origin)
    return (f"trained as {literal(', '.join(called))}" if called else "trained elsewhere"), []


def _called(origin: Origin) -> list[str]:
    """What its papers call the method: `SwAV`."""
    return [part.split(", ", 1)[1] for part in origin.paper.split("; ") if is_cited(part) and ", " in part]


def _adapted(origin: Origin, began: str) -> str:
    method = origin.method.rpartition("+")[2]
    found = re.search(r" adapted by \w+ (on .*)", origin.remark)
    return f"{began} by {literal(method)} {cited(*ADAPTED.get(method, ()))}{f' {literal(found[1])}' if found else ''}"


def _gives(backbone: Mapping[str, Any]) -> str:
    """What stands for an image."""
    fields = backbone.get("fingerprint") or {}
    if fields.get("dense"):
        what = f"the tokens of layers {fields['dense']} ({maps_text(grids_of(fields))})"
    else:
        pooled = _pooled(str(fields.get("pooling", "")), str(fields.get("architecture", "")))
        what = f"{pooled}, {backbone['dim']:,} values" if pooled else f"{backbone['dim']:,} values"
    stored, computed = str(fields.get("dtype", DTYPE)), str(fields.get("precision", PRECISION))
    kept = f", kept as {stored}" if stored != DTYPE else ""
    return f"an image is {what}{kept}{f', computed in {computed}' if computed != PRECISION else ''}"


def _pooled(pooling: str, architecture: str) -> str:
    if pooling == "average":
        return f"the mean over {AVERAGED.get(architecture_key(architecture), 'all positions of the last layer')}"
    return POOLED.get(pooling, "")


def _seen(backbones: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence for each way of preparing images, with the backbones that it is for."""
    ways: dict[str, list[str]] = {}
    for each in backbones:
        fields = each.get("fingerprint") or {}
        way = _prepared(fields) if {f"preprocess.{name}" for name in PREPARED} <= fields.keys() else ""
        ways.setdefault(way, []).append(str(each["name"]))
    unknown = ways.pop("", [])
    said = [f"For {coded(names)} images were {way}." for way, names in ways.items()]
    return [*said, f"How images were prepared for {coded(unknown)} is not known." if unknown else ""]


def _prepared(fields: Mapping[str, Any]) -> str:
    """From the file to the numbers that a network sees."""
    of = {name: fields[f"preprocess.{name}"] for name in PREPARED}
    side, crop = f"{of['resize']}", f"{of['crop']} x {of['crop']}"
    is_squashed = of["mode"] == "squash"
    sized = f"resized to {side} x {side} pixels" if is_squashed else f"resized to a short side of {side} pixels"
    cut = "" if is_squashed and of["crop"] == of["resize"] else f", cut to the central {crop}"
    grey = " in grey" if len(of["mean"]) == 1 else ""
    normal = f"normalised by mean {numbers_text(of['mean'])} and standard deviation {numbers_text(of['std'])}"
    read = [text.format(fields[f"reading.{name}"]) for name, text in READ.items() if f"reading.{name}" in fields]
    also = f"; {'; '.join(read)}" if read else ""
    return f"{sized} ({of['interpolation']}, antialiased){cut}, scaled to [0, 1]{grey}, and {normal}{also}"


def _views(material: Material) -> str:
    views = material.described.get("views")
    if not views:
        return ""
    recipe = view_in(next(iter(views["digests"]))).recipe
    how = all_of([MOVED[part] for part in recipe.split("+")])
    averaged = "; predictions are means over them" if str(views["use"]).startswith("train,") else ""
    return (
        f"Heads learned from {views['n']} versions of each training image, the plain one and others that were {how} at "
        f"random {cited('truong2021transferable')}{averaged}."
    )
