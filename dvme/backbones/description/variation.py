"""Variations of a backbone, written into its name: `dino@pool=class-token@size=448`.

What changes the numbers is in the name, so several variations of one backbone live side by side in a
cache, and the name alone says how to make any of them again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args, get_type_hints

from dvme.backbones.description.layers import layers_of
from dvme.backbones.description.spec import CHANNELS, BackboneSpec, Pooling, Precision, Preprocess
from dvme.backbones.description.view import PLAIN, View, view_of
from dvme.data.reading import CHOICES, Reading
from dvme.errors import OptionError

PREPROCESS_KEYS = ("resize", "crop", "interpolation", "mode", "mean", "std")
READING_KEYS = ("range", "voi", "frame", "draft")
DENSE = "dense"
VIEW = "view"
KEYS = ("pool", DENSE, "size", "in-chans", *PREPROCESS_KEYS, *READING_KEYS, "precision", VIEW)
"""In the order in which a name has them."""
_PART = re.compile(rf"@({'|'.join(KEYS)})=([^@]*)")
_FILE = re.compile(r".*\.(?:toml(?=@|$)|py:[^@]*)", re.DOTALL)
"""The part of a name that is the path of a file, whose folders may be called after backbones and their variations."""


def split_name(name: str) -> tuple[str, dict[str, str]]:
    """(name without variations, variations) of `NAME@KEY=VALUE@...`.

    Raises:
        OptionError: if a variation is given twice.
    """
    file = _FILE.match(name)
    path = file[0] if file else ""
    rest = name.removeprefix(path)
    found = _PART.findall(rest)
    for key, _ in found:
        if [other for other, _ in found].count(key) > 1:
            raise OptionError(f"{name} says {key} twice; say it once")
    return path + _PART.sub("", rest), dict(found)


def vary_name(name: str, options: Mapping[str, str]) -> str:
    """A name with further variations; those that it has already stay."""
    base, own = split_name(name)
    return _joined(base, {**options, **own})


def seen_in(name: str, view: View) -> str:
    """The name of a backbone that sees this view of the images, whichever it says now; of the plain one without any."""
    base, own = split_name(name)
    others = {key: value for key, value in own.items() if key != VIEW}
    return _joined(base, others if view.is_plain else {**others, VIEW: view.value})


def view_in(name: str) -> View:
    """Which view of the images a name says.

    Raises:
        OptionError: if there is none such.
    """
    value = split_name(name)[1].get(VIEW)
    return PLAIN if value is None else view_of(value)


def vary(spec: BackboneSpec, options: Mapping[str, str]) -> BackboneSpec:
    """A spec with another pooling, input size, number of channels, preprocessing, reading, precision or view.

    With `dense` it gives the tokens of layers, of the whole image: unless more is said, both sides are resized to the
    size that the model sees.

    Args:
        spec: as published.
        options: by the keys of `KEYS`. `size` sets the crop and scales `resize` with it.

    Returns:
        The varied spec. Its name says what differs from the published one, and nothing else.

    Raises:
        OptionError: naming the option and what it may be.
    """
    if not options:
        return spec
    pooling = _choice("pool", options["pool"], get_args(Pooling)) if "pool" in options else spec.pooling
    dense = _dense(spec.name, options)
    published = _uncropped(spec) if dense else spec
    preprocess = published.preprocess
    if "size" in options:
        preprocess = _sized(preprocess, _whole("size", options["size"]))
    if "in-chans" in options:
        preprocess = _with_channels(preprocess, _whole("in-chans", options["in-chans"]))
    given = {key: _parsed(key, options[key], preprocess.channels) for key in PREPROCESS_KEYS if key in options}
    if "crop" in given and "resize" not in given and (dense or given["crop"] > preprocess.resize):
        given["resize"] = given["crop"]
    try:
        preprocess = replace(preprocess, **given)
    except ValueError as error:
        raise OptionError(f"{vary_name(spec.name, options)} cannot be: {error}") from error
    precision = _choice("precision", options["precision"], get_args(Precision)) if "precision" in options else None
    reading = replace(spec.reading, **{key: _set(key, options[key]) for key in READING_KEYS if key in options})
    if reading.draft and int(reading.draft) < preprocess.resize:
        least = f"fewer pixels than the {preprocess.resize} that images are resized to"
        raise OptionError(f"draft={reading.draft} of {spec.name} is {least}; pass draft={preprocess.resize} or more")
    view = view_of(options[VIEW]) if VIEW in options else spec.view
    differences = _differences(published, pooling, preprocess) | _read_otherwise(spec.reading, reading)
    if precision not in {None, spec.precision}:
        differences["precision"] = precision
    if dense:
        differences[DENSE] = dense
    if view != spec.view:
        differences[VIEW] = view.value
    return replace(
        spec,
        name=_joined(spec.name, differences),
        reading=reading,
        precision=precision or spec.precision,
        view=view,
        dense=dense,
        pooling=pooling,
        preprocess=preprocess,
        dim=spec.dim if pooling == spec.pooling and not dense else None,
    )


def _dense(name: str, options: Mapping[str, str]) -> str:
    """The layers whose tokens are asked for; "" without any.

    Raises:
        OptionError: if there cannot be such layers, or they are to be pooled as well.
    """
    if DENSE in options and "pool" in options:
        both = f"pool={options['pool']} and dense={options[DENSE]}"
        raise OptionError(f"{name}: {both} contradict each other, dense features are not pooled; leave out one")
    return layers_of(options[DENSE]) if DENSE in options else ""


def _uncropped(spec: BackboneSpec) -> BackboneSpec:
    """Of the whole image, both of whose sides are resized to what was the crop."""
    whole = replace(spec.preprocess, resize=spec.preprocess.crop, mode="squash")
    return replace(spec, preprocess=whole)


def _joined(base: str, options: Mapping[str, str]) -> str:
    return base + "".join(f"@{key}={options[key]}" for key in KEYS if key in options)


def _differences(spec: BackboneSpec, pooling: Pooling, preprocess: Preprocess) -> dict[str, str]:
    """The options, in their shortest form, that lead from a spec to this pooling and preprocessing."""
    found: dict[str, str] = {}
    expected = spec.preprocess
    if pooling != spec.pooling:
        found["pool"] = pooling
    sized = _sized(expected, preprocess.crop)
    if expected.crop != sized.crop and sized.resize == preprocess.resize:
        found["size"], expected = f"{preprocess.crop}", sized
    if preprocess.channels != expected.channels:
        found["in-chans"], expected = f"{preprocess.channels}", _with_channels(expected, preprocess.channels)
    for key in PREPROCESS_KEYS:
        value = getattr(preprocess, key)
        if value != getattr(expected, key):
            found[key] = ":".join(f"{item!r}" for item in value) if isinstance(value, tuple) else f"{value}"
    return found


def _read_otherwise(expected: Reading, reading: Reading) -> dict[str, str]:
    """The options that lead from one reading to another."""
    return {key: getattr(reading, key) for key in READING_KEYS if getattr(reading, key) != getattr(expected, key)}


def _sized(preprocess: Preprocess, size: int) -> Preprocess:
    """The same share of the image in size x size pixels."""
    return replace(preprocess, crop=size, resize=round(preprocess.resize * size / preprocess.crop))


def _with_channels(preprocess: Preprocess, channels: int) -> Preprocess:
    """Normalised for that many channels; grey by the averages over the colours."""
    if channels not in CHANNELS:
        raise OptionError(f"in-chans={channels} is not possible; choose 3, or 1 for grey")
    if channels == preprocess.channels:
        return preprocess
    if channels != 1:
        raise OptionError(f"in-chans={channels} is not possible for a backbone that takes grey images")
    return replace(preprocess, mean=(_average(preprocess.mean),), std=(_average(preprocess.std),))


def _average(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 6)


def _parsed(key: str, value: str, channels: int) -> Any:
    if key in {"resize", "crop"}:
        return _whole(key, value)
    if key in {"mean", "std"}:
        return _per_channel(key, value, channels)
    return _choice(key, value, get_args(get_type_hints(Preprocess)[key]))


def _per_channel(key: str, value: str, channels: int) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in value.split(":"))
    except ValueError as error:
        message = f"{key}={value} is no number; pass one for all channels or three as in {key}=0.485:0.456:0.406"
        raise OptionError(message) from error
    return numbers * channels if len(numbers) == 1 else numbers


def _whole(key: str, value: str) -> int:
    if not value.isdecimal() or int(value) < 1:
        raise OptionError(f"{key}={value} is not possible; pass a whole number above 0")
    return int(value)


def _set(key: str, value: str) -> str:
    if not value:
        raise OptionError(f"{key}= is not possible; choose {CHOICES[key]}")
    return value


def _choice(key: str, value: str, choices: Sequence[str]) -> Any:
    if value not in choices:
        raise OptionError(f"{key}={value} is not known; choose one of {', '.join(choices)}")
    return value
