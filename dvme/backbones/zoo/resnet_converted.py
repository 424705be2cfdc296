"""ResNets published for TensorFlow and JAX: SimCLR v1 and v2, also wide and deep, and BYOL.

`dvme backbones convert` makes a loadable file of what is published, with torchvision's names; the files of the
usual converters load as well. Padding is emulated as the frameworks pad, which torchvision's ResNet does not.
"""

from __future__ import annotations

from typing import Any

from dvme.backbones.description.spec import BackboneSpec, Checkpoint, Layout, Preprocess
from dvme.backbones.weights.layouts import SIMCLR_V2_CONVERTER_TO_RESNETV2, TORCHVISION_TO_RESNETV2

TORCHVISION: dict[str, Any] = {"keep": r"(?!fc\.)", "drop": r"fc\.", "rename": TORCHVISION_TO_RESNETV2}
SIMCLR_V2_CONVERTER = Layout(
    nesting=("resnet",), keep=r"(?!fc\.)", drop=r"fc\.", rename=SIMCLR_V2_CONVERTER_TO_RESNETV2
)
# SimCLR's TensorFlow release feeds [0, 1], without mean and standard deviation.
SIMCLR_PREPROCESS = Preprocess(interpolation="bicubic", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def _to_convert(filename: str, page: str, saved_as: str, **rules: Any) -> Checkpoint:
    return Checkpoint(
        filename=filename,
        url="",
        page=page,
        saved_as=f"{saved_as}.safetensors",
        needs="convert",
        **rules,
        **TORCHVISION,
    )


def _simclr(name: str, method: str, depth: int, width: int, checkpoint: Checkpoint, paper: str) -> BackboneSpec:
    return BackboneSpec(
        name=name,
        method=method,
        architecture=f"resnet{depth}_same_pool",
        architecture_args={"width_factor": width},
        dim=2048 * width,
        pooling="average",
        preprocess=SIMCLR_PREPROCESS,
        checkpoint=checkpoint,
        licence="Apache-2.0",
        paper=f"Chen et al. 2020, {paper}",
    )


def _simclr_v1(width: int) -> BackboneSpec:
    file = f"ResNet50_{width}x.zip"
    page = f"https://storage.cloud.google.com/simclr-gcs/checkpoints/{file}"
    rules = {"nesting": ("state_dict",), "is_nesting_optional": True}
    checkpoint = _to_convert(file, page, f"simclr-v1-{width}x", **rules)
    name = "simclr-v1" if width == 1 else f"simclr-v1-{width}x"
    return _simclr(name, "simclr", 50, width, checkpoint, f"SimCLR; ResNet-50 ({width}x)")


def _simclr_v2(name: str, depth: int, width: int) -> BackboneSpec:
    folder = f"r{depth}_{width}x_sk0"
    page = f"https://storage.googleapis.com/simclr-checkpoints/simclrv2/pretrained/{folder}"
    layouts = (SIMCLR_V2_CONVERTER,)
    checkpoint = _to_convert("model.ckpt-250228", page, f"simclr-v2-{folder}", other_layouts=layouts)
    paper = f"SimCLR v2; ResNet-{depth} ({width}x), without selective kernels"
    return _simclr(name, "simclr-v2", depth, width, checkpoint, paper)


CONVERTED_RESNETS = (
    _simclr_v1(1),
    _simclr_v1(2),
    _simclr_v1(4),
    _simclr_v2("simclr-v2", 50, 1),
    _simclr_v2("simclr-v2-2x", 50, 2),
    _simclr_v2("simclr-v2-152-2x", 152, 2),
    BackboneSpec(
        name="byol",
        method="byol",
        architecture="resnet50_same",
        dim=2048,
        pooling="average",
        preprocess=Preprocess(interpolation="bicubic"),
        checkpoint=_to_convert(
            "pretrain_res50x1.pkl",
            "https://storage.googleapis.com/deepmind-byol/checkpoints/pretrain_res50x1.pkl",
            "byol-res50x1",
        ),
        licence="not stated",
        paper="Grill et al. 2020, BYOL; 1000 epochs",
        remark="the code is Apache-2.0; nothing is said of the weights",
    ),
)
