"""What an adaptation begins with: memory that minibatches and pixels share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dvme.adaptation.images import list_images
from dvme.adaptation.settings import settings_of
from dvme.adaptation.start import Source, begin, load_first
from dvme.backbones.loading.registry import get_spec
from dvme.runtime import Runtime, silent


def test_begin__pixels_take_what_minibatches_leave_of_the_memory(pairs: Path) -> None:
    source, settings = Source(get_spec("timm:test_resnet@size=32"), None, 1), settings_of("simclr", seed=0)
    ample = 1 << 30
    taken = ample - load_first(source, settings, Runtime(device="cpu", memory=ample), silent).n_left
    images = list_images(pairs, None).identified(Runtime(), silent_pair)
    side = source.spec.preprocess.resize
    n_pixels = 20 * 3 * (32**2 + side**2)  # of 20 images, cut twice
    for n_left in (n_pixels, n_pixels - 1):
        runtime = Runtime(device="cpu", memory=taken + n_left)
        loaded, folder = load_first(source, settings, runtime, silent), pairs.parent / f"pixels-{n_left}"
        assert loaded.n_left == n_left
        begun: Any = begin(loaded, images, source, settings, "photo", folder, runtime, silent)
        assert folder.exists() is (n_left < n_pixels), "what memory does not hold lies in a file"
        assert begun.adaptation.task._pictures.squares.shape == (20, side, side, 3)


def silent_pair(done: int, total: int) -> None:
    del done, total
