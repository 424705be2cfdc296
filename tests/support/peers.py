"""What one would use instead of dvme, on the same images and weights; run by the interpreter that has it.

    python peers.py WHICH IMAGES WEIGHTS OUT [N_WORKERS]

WHICH is `loop`, `dataloader`, `thingsvision` or `kaiko-eva`; IMAGES a folder of pictures; WEIGHTS a state dict of
timm's efficientnet_lite0; OUT a folder. Prints the seconds from the first file to the last embedding on disk, imports
and the loading of the model not counted. dvme is not imported.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

BATCH = 16
TRANSFORM = transforms.Compose(
    [
        transforms.Resize(256, transforms.InterpolationMode.BICUBIC),
        transforms.CenterCrop(224),
        transforms.ToTensor(),
        transforms.Normalize([0.5] * 3, [0.5] * 3),
    ]
)


class Pictures(Dataset[Any]):
    """Images as `kaiko-eva` and everyone takes them."""

    def __init__(self, folder: Path) -> None:
        self.paths = sorted(folder.iterdir())

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor, dict[str, Any]]:
        return TRANSFORM(Image.open(self.paths[index]).convert("RGB")), torch.tensor(0), {}

    def filename(self, index: int) -> str:
        """As kaiko-eva asks for it."""
        return self.paths[index].name


def model_of(weights: Path) -> torch.nn.Module:
    model = timm.create_model("efficientnet_lite0", num_classes=0)
    model.load_state_dict(torch.load(weights, weights_only=True))
    return model.eval()


def loop(images: Path, model: torch.nn.Module, out: Path, n_workers: int) -> Callable[[], object]:
    """A loader, a forward pass, np.save."""

    def run() -> None:
        loader = DataLoader(Pictures(images), batch_size=BATCH, num_workers=n_workers)
        with torch.inference_mode():
            np.save(out / "features.npy", np.concatenate([model(batch).numpy() for batch, *_ in loader]))

    return run


def thingsvision(images: Path, model: torch.nn.Module, out: Path, n_workers: int) -> Callable[[], object]:
    del n_workers  # its loader has none
    from thingsvision import get_extractor_from_model
    from thingsvision.utils.data import DataLoader as Loader
    from thingsvision.utils.data import ImageDataset

    extractor = get_extractor_from_model(model, device="cpu", backend="pt", preprocess=TRANSFORM)

    def run() -> None:
        dataset = ImageDataset(str(images), str(out / "order"), "pt", transforms=TRANSFORM)
        batches = Loader(dataset, batch_size=BATCH, backend="pt")
        features = extractor.extract_features(batches, module_name="global_pool", flatten_acts=True)
        np.save(out / "features.npy", features)

    return run


def kaiko_eva(images: Path, model: torch.nn.Module, out: Path, n_workers: int) -> Callable[[], object]:
    import lightning
    from eva.core.callbacks import ClassificationEmbeddingsWriter
    from eva.core.models.modules.inference import InferenceModule

    writer = ClassificationEmbeddingsWriter(str(out / "eva"), backbone=None)

    def run() -> None:
        trainer = lightning.Trainer(accelerator="cpu", logger=False, callbacks=[writer], enable_progress_bar=False)
        loader = DataLoader(Pictures(images), batch_size=BATCH, num_workers=n_workers)
        trainer.predict(InferenceModule(model), [loader], return_predictions=False)

    return run


def main() -> None:
    which, images, weights, out = sys.argv[1], *map(Path, sys.argv[2:5])
    n_workers = int(sys.argv[5]) if len(sys.argv) > 5 else 0
    out.mkdir(parents=True, exist_ok=True)
    peers = {"loop": loop, "dataloader": loop, "thingsvision": thingsvision, "kaiko-eva": kaiko_eva}
    run = peers[which](images, model_of(weights), out, n_workers)
    started = time.perf_counter()
    run()
    print(f"seconds {time.perf_counter() - started:.3f}")


if __name__ == "__main__":
    main()
