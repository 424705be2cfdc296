"""Vision transformers of DINO, DINOv2, DINOv3 and RAD-DINO."""

from __future__ import annotations

from dvme.backbones.description.spec import BackboneSpec, Checkpoint, Layout, Pooling, Preprocess
from dvme.backbones.weights.layouts import DINOV2_TO_TIMM, DINOV3_TO_EVA
from dvme.backbones.zoo.resnet import FACEBOOK
from dvme.backbones.zoo.vit import BICUBIC

WIDTH = {"small": 384, "base": 768, "large": 1024, "giant": 1536}
FULL_DINO = Layout(nesting=("teacher",), keep=r"(module\.)?backbone\.", drop=r"(module\.)?head\.")
"""DINO's full training checkpoint; the teacher is what the authors evaluate."""


def _dino(name: str, file: str, size: str, patch: int, pooling: Pooling) -> BackboneSpec:
    return BackboneSpec(
        name=name,
        method="dino",
        architecture=f"vit_{size}_patch{patch}_224",
        dim=1536,
        pooling=pooling,
        preprocess=BICUBIC,
        position_resampling="dino",
        checkpoint=Checkpoint(
            filename=f"{file}_pretrain.pth",
            url=f"{FACEBOOK}/dino/{file}_pretrain/{file}_pretrain.pth",
            other_layouts=(FULL_DINO,),
        ),
        licence="Apache-2.0",
        paper="Caron et al. 2021, DINO",
    )


def _dinov2(size: str, *, has_registers: bool) -> BackboneSpec:
    letter, suffix = size[0], "-reg" if has_registers else ""
    folder = f"dinov2_vit{letter}14"
    filename = f"{folder}_{'reg4_' if has_registers else ''}pretrain.pth"
    return BackboneSpec(
        name=f"dinov2-vit{letter}14{suffix}",
        method="dinov2",
        architecture=f"vit_{size}_patch14_{'reg4_' if has_registers else ''}dinov2",
        dim=2 * WIDTH[size],
        pooling="class-and-mean",
        preprocess=BICUBIC,
        # Trained at 518 pixels; the authors evaluate at 224, and resample antialiased only with registers.
        position_resampling="antialiased" if has_registers else "dino",
        checkpoint=Checkpoint(
            filename=filename,
            url=f"{FACEBOOK}/dinov2/{folder}/{filename}",
            drop=r"mask_token$",
            rename=DINOV2_TO_TIMM,
            tensors="dinov2-registers" if has_registers else "as-is",
        ),
        licence="Apache-2.0",
        paper="Oquab et al. 2023, DINOv2" + ("; Darcet et al. 2023, registers" if has_registers else ""),
    )


def _dinov3(size: str, digest: str) -> BackboneSpec:
    return BackboneSpec(
        name=f"dinov3-vit{size[0]}16",
        method="dinov3",
        architecture=f"vit_{size}_patch16_dinov3_qkvb",
        architecture_args={"global_pool": "token"},
        dim=WIDTH[size],
        pooling="class-token",
        preprocess=Preprocess(resize=256, crop=256, mode="squash"),
        checkpoint=Checkpoint(
            filename=f"dinov3_vit{size[0]}16_pretrain_lvd1689m-{digest}.pth",
            url="",
            page="https://github.com/facebookresearch/dinov3, after its licence form",
            drop=r"(mask_token$|rope_embed\.|local_cls_norm\.|blocks\.\d+\.attn\.qkv\.bias_mask$)",
            rename=DINOV3_TO_EVA,
            tensors="dinov3",
        ),
        licence="DINOv3 License",
        paper="Simeoni et al. 2025, DINOv3; distilled on LVD-1689M",
    )


DINO_TRANSFORMERS = (
    _dino("dino", "dino_deitsmall8", "small", 8, "class-token-last-4"),
    _dino("dino-vits16", "dino_deitsmall16", "small", 16, "class-token-last-4"),
    _dino("dino-vitb16", "dino_vitbase16", "base", 16, "class-and-mean"),
    _dino("dino-vitb8", "dino_vitbase8", "base", 8, "class-and-mean"),
    *(_dinov2(size, has_registers=False) for size in WIDTH),
    *(_dinov2(size, has_registers=True) for size in WIDTH),
    _dinov3("small", "08c60483"),
    _dinov3("base", "73cec8be"),
    _dinov3("large", "8aa4cbdd"),
    BackboneSpec(
        name="rad-dino",
        method="dinov2",
        architecture="vit_base_patch14_dinov2",
        dim=768,
        pooling="class-token",
        preprocess=Preprocess(resize=518, crop=518, interpolation="bicubic", mean=(0.5307,) * 3, std=(0.2583,) * 3),
        position_resampling="dino",
        checkpoint=Checkpoint(
            filename="backbone_compatible.safetensors",
            url="https://huggingface.co/microsoft/rad-dino/resolve/main/backbone_compatible.safetensors",
            saved_as="rad-dino-backbone_compatible.safetensors",
            drop=r"mask_token$",
            rename=DINOV2_TO_TIMM,
        ),
        licence="research only",
        paper="Perez-Garcia et al. 2024, RAD-DINO; chest radiographs",
        is_verified=False,
        remark="MSRLA or MIT by revision of the model card; it says that the names are DINOv2's, no list was seen",
    ),
)
"""`dino` is that of Truong et al. 2021: ViT-S/8."""
