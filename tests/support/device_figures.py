"""What a GPU brings: `python tests/support/device_figures.py` prints all of it within eight minutes on one GPU.

The suite runs the same on the CPU, in miniature, so that it works on the day that a GPU is there. Weights are random,
for which speed is the same, and files are JPEGs of photographs at the size that backbones take.
"""

from __future__ import annotations

import math
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import dvme
from dvme.backbones import BackboneSpec, Preprocess, get_spec
from dvme.backbones.description.spec import Precision
from dvme.backbones.loading.model import Backbone, load_backbone
from dvme.backbones.model.memory import is_out_of_memory, release
from dvme.backbones.model.precision import as_input, switched
from dvme.extraction.batch_size import images_per_second
from dvme.heads.exact.linear import Linear
from dvme.heads.fitting.jobs import Embedded, Job, fit_jobs
from dvme.heads.fusion.network_head import NetworkHead
from dvme.training.schedule import TrainingProtocol

TOML = """
name = "{name}"
architecture = "{architecture}"
architecture_args = {{ {arguments} }}
pooling = "model"
source = "random"
[preprocess]
resize = {crop}
crop = {crop}
"""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What is measured, and how long that may take."""

    device: str = "cuda"
    architectures: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {
            "resnet50": {},
            "vit_small_patch8_224": {},
            "vit_base_patch14_dinov2": {"img_size": 224},
        }
    )
    """timm's names, and their arguments."""
    crop: int = 224
    precisions: tuple[Precision, ...] = ("bf16", "fp16", "tf32", "float32")
    sizes: tuple[int, ...] = (32, 64, 128, 256, 512)
    """Batches of which the fastest counts."""
    n_files: int = 8192
    n_rows: int = 5000
    """Of embeddings that heads learn from."""
    dims: tuple[int, ...] = (2048, 2048, 1536)
    epochs: int = 2
    bank: tuple[int, int] = (100_000, 5_000)
    """Rows that neighbours are sought among, and for."""
    compiles: str = "vit_base_patch14_dinov2"
    """Of the architectures, or none: empty."""
    seconds: float = 450.0
    """After that, what has not begun is left out and named."""


def run(figures: Figures, say: Callable[[str], None] = print) -> None:
    """Measure all of it, the most important first."""
    started = time.perf_counter()
    device = torch.device(figures.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    say(f"{figures.device}: {name}; torch {torch.__version__}")
    for part in (_speeds, _cosines, _extraction, _heads, _neighbours, _compiling):
        if time.perf_counter() - started > figures.seconds:
            say(f"{part.__name__[1:]}: left out, for {figures.seconds:.0f} s are over")
            continue
        for line in part(figures):
            say(f"{line}  [{time.perf_counter() - started:.0f} s]")


def _speeds(figures: Figures) -> Iterator[str]:
    """The model alone on tensors that lie there, and with copies both ways and normalisation."""
    for architecture in figures.architectures:
        for precision in figures.precisions:
            backbone = _backbone(figures, architecture, precision)
            bare = {size: _bare(backbone, size) for size in figures.sizes}
            best = max(bare, key=lambda size: bare[size])
            staged = images_per_second(backbone, best)
            yield (
                f"{architecture} {precision}: bare forward {bare[best]:,.1f} images/s at batch {best} "
                f"({', '.join(f'{size}: {speed:,.0f}' for size, speed in bare.items())}); from pixels in memory to "
                f"embeddings in memory {staged:,.1f}, ratio {staged / bare[best]:.3f}"
            )


def _bare(backbone: Backbone, size: int, n_batches: int = 5) -> float:
    """Images per second of the model on its own input; 0 where the batch does not fit."""
    crop, device = backbone.spec.preprocess.crop, backbone.device
    try:
        images = torch.randn(size, 3, crop, crop, device=device).contiguous(memory_format=torch.channels_last)
        images = as_input(images, backbone.spec.precision)
        with torch.inference_mode(), switched(backbone.spec.precision, device):
            backbone._model(images)
            with _timed(device) as seconds:
                for _ in range(n_batches):
                    backbone._model(images)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        release(device)
        return 0.0
    return n_batches * size / seconds[0]


def _cosines(figures: Figures) -> Iterator[str]:
    """Of the same images in float32 on this device: in other precisions, and on the CPU."""
    pixels = torch.from_numpy(_photographs(24, figures.crop))
    for architecture in figures.architectures:
        exact = _backbone(figures, architecture, "float32").embed(pixels).cpu().double()
        on_cpu = _backbone(replace(figures, device="cpu"), architecture, "float32").embed(pixels).double()
        found = [f"the CPU {_least_cosine(on_cpu, exact):.8f}"]
        for precision in (each for each in figures.precisions if each != "float32"):
            embedded = _backbone(figures, architecture, precision).embed(pixels).cpu().double()
            found.append(f"{precision} {_least_cosine(embedded, exact):.6f}")
        yield f"{architecture}, random weights, least cosine with float32: {', '.join(found)}"


def _least_cosine(found: torch.Tensor, exact: torch.Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(found, exact).min())


def _extraction(figures: Figures) -> Iterator[str]:
    """Files to committed rows at the default batch size, and how busy the GPU is meanwhile."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "images").mkdir()
        for index, pixels in enumerate(_photographs(figures.n_files, figures.crop + figures.crop // 7)):
            Image.fromarray(pixels).save(root / "images" / f"{index:06}.jpg", quality=90)
        runtime = dvme.Runtime(device=figures.device)
        for architecture, arguments in figures.architectures.items():
            written = ", ".join(f"{key} = {value!r}" for key, value in arguments.items())
            path = root / f"{architecture}.toml"
            path.write_text(
                TOML.format(
                    name=architecture.replace("_", "-"), architecture=architecture, arguments=written, crop=figures.crop
                )
            )
            bare = max(_bare(_backbone(figures, architecture, figures.precisions[0]), size) for size in figures.sizes)
            with _Busy(figures.device) as busy:
                (outcome,) = dvme.extract(
                    root / "images",
                    root / f"{architecture}.zarr",
                    backbones=[str(path)],
                    precision=figures.precisions[0],
                    runtime=runtime,
                    progress=busy.tell,
                ).outcomes
            speed = outcome.computed / outcome.seconds
            yield (
                f"extract, {outcome.computed:,} JPEGs, {architecture} {figures.precisions[0]}: {speed:,.1f} images/s, "
                f"{speed / bare:.3f} of the bare forward at its best batch; {busy.said()}"
            )


def _heads(figures: Figures) -> Iterator[str]:
    """Five folds on synthetic embeddings, here and on the CPU."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, figures.n_rows)
    embeddings = {
        f"backbone{i}": (0.2 * rng.normal(size=(5, dim))[labels] + 0.5 * rng.normal(size=(figures.n_rows, dim))).astype(
            "float32"
        )
        for i, dim in enumerate(figures.dims)
    }
    data = Embedded(embeddings, labels, 5)
    protocol = TrainingProtocol(min_epochs=figures.epochs, max_epochs=figures.epochs)
    orders = [np.random.default_rng(fold).permutation(figures.n_rows) for fold in range(5)]
    cut = 4 * figures.n_rows // 5
    for head, backbones in ((NetworkHead("dvme", protocol), tuple(embeddings)), (Linear(), ("backbone0",))):
        jobs = [Job(head, backbones, order[:cut], order[cut:], fold) for fold, order in enumerate(orders)]
        seconds = {}
        for device in dict.fromkeys((figures.device, "cpu")):
            runtime = dvme.Runtime(device=device)
            fit_jobs(jobs[:1], data, runtime=runtime)
            with _timed(torch.device(device)) as taken:
                fit_jobs(jobs, data, runtime=runtime)
            seconds[device] = taken[0]
        yield (
            f"{head.name}, {figures.n_rows:,} rows, 5 folds: "
            + ", ".join(f"{device} {taken:.2f} s" for device, taken in seconds.items())
            + f"; {seconds['cpu'] / seconds[figures.device]:.1f} times faster than on the CPU"
        )


def _neighbours(figures: Figures) -> Iterator[str]:
    """FAISS's exact search on the GPU, where faiss-gpu is installed."""
    import faiss

    n_gpus = faiss.get_num_gpus() if hasattr(faiss, "get_num_gpus") else 0
    n_bank, n_queries = figures.bank
    rng = np.random.default_rng(0)
    bank, queries = (rng.normal(size=(n, figures.dims[0])).astype("float32") for n in (n_bank, n_queries))
    started = time.perf_counter()
    faiss.knn(queries, bank, 10, metric=faiss.METRIC_INNER_PRODUCT)
    on_cpu = time.perf_counter() - started
    where = f"faiss, {n_queries:,} among {n_bank:,} x {figures.dims[0]}: CPU {on_cpu:.2f} s"
    if not n_gpus or torch.device(figures.device).type != "cuda":
        yield f"{where}; faiss-gpu is not installed"
        return
    resources = faiss.StandardGpuResources()
    faiss.knn_gpu(resources, queries[:10], bank, 10, metric=faiss.METRIC_INNER_PRODUCT)
    started = time.perf_counter()
    faiss.knn_gpu(resources, queries, bank, 10, metric=faiss.METRIC_INNER_PRODUCT)
    on_gpu = time.perf_counter() - started
    yield f"{where}, GPU {on_gpu:.2f} s with copies, {on_cpu / on_gpu:.1f} times faster"


def _compiling(figures: Figures) -> Iterator[str]:
    """What torch.compile would gain, and after how many images its own time is made good."""
    if not figures.compiles:
        yield "torch.compile: not asked for"
        return
    backbone = _backbone(figures, figures.compiles, figures.precisions[0])
    size = min(128, max(figures.sizes))
    plain, whole = _bare(backbone, size), backbone._model
    backbone._model = torch.compile(whole, dynamic=False)
    started = time.perf_counter()
    _bare(backbone, size, 1)
    to_compile = time.perf_counter() - started - 2 * size / plain
    compiled = _bare(backbone, size)
    saved = 1.0 / plain - 1.0 / compiled
    worth = f"made good after {to_compile / saved:,.0f} images" if saved > 0 else "never made good"
    yield (
        f"torch.compile, {figures.compiles} {figures.precisions[0]}, batch {size}: {plain:,.1f} to {compiled:,.1f} "
        f"images/s, {to_compile:.0f} s to compile, {worth}"
    )


def _backbone(figures: Figures, architecture: str, precision: Precision) -> Backbone:
    base = replace(get_spec("random"), name=architecture.replace("_", "-"), architecture=architecture, dim=None)
    spec: BackboneSpec = replace(
        base,
        architecture_args=figures.architectures[architecture],
        pooling="model",
        precision=precision,
        preprocess=Preprocess(resize=figures.crop, crop=figures.crop),
    )
    return load_backbone(spec, device=figures.device)


def _photographs(n: int, size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """(N, size, size, 3): crops of two photographs, all different."""
    from sklearn.datasets import load_sample_images

    photos = [np.asarray(photo) for photo in load_sample_images().images]
    rng = np.random.default_rng(0)
    found = np.empty((n, size, size, 3), np.uint8)
    for index in range(n):
        photo = photos[index % len(photos)]
        top, left = (int(rng.integers(0, length - size)) for length in photo.shape[:2])
        found[index] = photo[top : top + size, left : left + size]
        found[index, 0, :2] = np.frombuffer(index.to_bytes(6, "little"), np.uint8).reshape(2, 3)
    return found


@contextmanager
def _timed(device: torch.device) -> Iterator[list[float]]:
    """Seconds until the device has done what it was given; the first and only item, at the end."""
    module: Any = getattr(torch, device.type)
    found: list[float] = []
    module.synchronize()
    started = time.perf_counter()
    yield found
    module.synchronize()
    found.append(time.perf_counter() - started)


class _Busy:
    """Watches in what share of the time, in percent, a kernel ran, ten times a second; nothing without nvidia-smi."""

    def __init__(self, device: str) -> None:
        self._asked = ["--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "--loop-ms=100"]
        self._asked.append(f"--id={device.partition(':')[2] or 0}")
        self._program = shutil.which("nvidia-smi") if torch.device(device).type == "cuda" else None
        self._shares: list[tuple[float, float]] = []
        self._since = math.inf

    def tell(self, stage: str, done: int, _total: int) -> None:
        """Progress of an extraction: it embeds once the first images are done."""
        if stage != "hash" and done:
            self._since = min(self._since, time.perf_counter())

    def __enter__(self) -> _Busy:
        if self._program:
            self._watching = subprocess.Popen([self._program, *self._asked], stdout=subprocess.PIPE, text=True)
            self._reader = threading.Thread(target=self._read)
            self._reader.start()
        return self

    def _read(self) -> None:
        assert self._watching.stdout is not None
        for line in self._watching.stdout:
            if line.strip().isdecimal():
                self._shares.append((time.perf_counter(), float(line)))

    def __exit__(self, *_: object) -> None:
        if self._program:
            self._watching.terminate()
            self._reader.join()
            self._watching.wait()

    def said(self) -> str:
        """Mean and median while images were embedded."""
        shares = [share for seen, share in self._shares if seen >= self._since]
        if not shares:
            return "GPU busy: not measured"
        return f"GPU busy {statistics.mean(shares):.0f} % (median {statistics.median(shares):.0f} %)"


def main(arguments: Sequence[str]) -> None:
    """Print the figures of a device, `cuda` if none is named."""
    run(Figures(device=arguments[0] if arguments else "cuda"), lambda line: print(line, flush=True))


if __name__ == "__main__":
    main(sys.argv[1:])
