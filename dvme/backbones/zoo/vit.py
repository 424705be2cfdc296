"""Vision transformers of MoCo v3, MAE and SiT: timm's names behind the publishers' prefixes."""

from __future__ import annotations

from typing import Any

from dvme.backbones.description.spec import BackboneSpec, Checkpoint, Layout, Preprocess
from dvme.backbones.zoo.resnet import FACEBOOK, MOCO_V3, NON_COMMERCIAL

BICUBIC = Preprocess(interpolation="bicubic")


def _moco_v3(size: str, dim: int, **architecture_args: Any) -> BackboneSpec:
    letter = size[0]
    return BackboneSpec(
        name=f"moco-v3-vit{letter}16",
        method="moco-v3",
        architecture=f"vit_{size}_patch16_224",
        architecture_args=architecture_args,
        dim=dim,
        pooling="class-token",
        preprocess=Preprocess(),
        checkpoint=Checkpoint(
            filename=f"vit-{letter}-300ep.pth.tar",
            url=f"{FACEBOOK}/moco-v3/vit-{letter}-300ep/vit-{letter}-300ep.pth.tar",
            **MOCO_V3,
        ),
        licence=NON_COMMERCIAL,
        paper="Chen et al. 2021, MoCo v3; 300 epochs",
    )


TRANSFORMERS = (
    # timm's ViT-S has 6 heads. A file of 12 heads has the same shapes and would give other features in silence.
    _moco_v3("small", 384, num_heads=12),
    _moco_v3("base", 768),
    BackboneSpec(
        name="mae",
        method="mae",
        architecture="vit_base_patch16_224",
        dim=768,
        pooling="class-token",
        preprocess=BICUBIC,
        checkpoint=Checkpoint(
            filename="mae_pretrain_vit_base.pth",
            url=f"{FACEBOOK}/mae/pretrain/mae_pretrain_vit_base.pth",
            nesting=("model",),
            md5="8cad7c",
            other_layouts=(Layout(nesting=("model",), drop=r"(decoder_|mask_token$)"),),
        ),
        licence=NON_COMMERCIAL,
        paper="He et al. 2022, MAE; the encoder",
    ),
    BackboneSpec(
        name="sit",
        method="sit",
        architecture="vit_small_patch16_224",
        dim=768,
        pooling="class-and-mean",
        preprocess=BICUBIC,
        checkpoint=Checkpoint(
            filename="checkpoint.pth",
            url="",
            page="https://drive.google.com/drive/folders/11lGoNZKcMr6A959Yun_MrSlT3j6h-4YI",
            saved_as="sit-vits16.pth",
            nesting=("teacher",),
            keep=r"module\.backbone\.",
            drop=r"module\.head(_recons)?\.",
        ),
        licence="GPL-3.0",
        paper="Atito et al. 2021, SiT",
        is_verified=False,
        remark="the layout is what the authors' training code writes; the published files were not seen",
    ),
)
