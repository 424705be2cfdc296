"""ResNet-50 as PyTorch publishes it: torchvision's names behind every publisher's own prefix.

All put the stride on the 3x3 convolution (v1.5) and give 2,048 features, the average of the last feature map.
"""

from __future__ import annotations

from typing import Any

from dvme.backbones.description.spec import BackboneSpec, Checkpoint, Preprocess

FACEBOOK = "https://dl.fbaipublicfiles.com"
PYCONTRAST = "https://www.dropbox.com/sh/87d24jqsl6ra7t2"
INAT_BUNDLE = "https://cornell.box.com/s/bnyhq5lwobu6fgjrub44zle0pyjijbmw"

TORCHVISION: dict[str, Any] = {"keep": r"(?!fc\.)", "drop": r"fc\."}
SWAV: dict[str, Any] = {
    "keep": r"module\.(?!(projection_head|prototypes)\.)",
    "drop": r"module\.(projection_head|prototypes)\.",
}
MOCO: dict[str, Any] = {
    "nesting": ("state_dict",),
    "keep": r"module\.encoder_q\.(?!fc\.)",
    "drop": r"module\.(encoder_q\.fc\.|encoder_k\.|queue(_ptr)?$)",
}
MOCO_V3: dict[str, Any] = {
    "nesting": ("state_dict",),
    "keep": r"module\.base_encoder\.(?!(fc|head)\.)",
    "drop": r"module\.(base_encoder\.(fc|head)\.|momentum_encoder\.|predictor\.)",
}
PYCONTRAST_LAYOUT: dict[str, Any] = {
    "nesting": ("model",),
    "keep": r"module\.encoder\.",
    "drop": r"module\.(head|head_jig|linear|jigsaw)\.",
}
VISSL: dict[str, Any] = {
    "nesting": ("classy_state_dict", "base_model", "model", "trunk"),
    "keep": r"_feature_blocks\.",
}
INAT: dict[str, Any] = {
    "nesting": ("state_dict",),
    "keep": r"(module\.)?(?!fc\.|module\.)",
    "drop": r"(module\.)?fc\.",
}

# The first value differs from ImageNet's 0.229: so it is in the authors' training and evaluation.
SWAV_PREPROCESS = Preprocess(std=(0.228, 0.224, 0.225))
NON_COMMERCIAL = "CC-BY-NC-4.0"
INAT_LICENCE = "not stated"
INAT_REMARK = "the code is MIT; nothing is said of the weights"


def _resnet50(
    name: str,
    method: str,
    checkpoint: Checkpoint | None,
    licence: str,
    paper: str,
    *,
    preprocess: Preprocess | None = None,
    **more: Any,
) -> BackboneSpec:
    return BackboneSpec(
        name=name,
        method=method,
        architecture="resnet50",
        dim=2048,
        pooling="average",
        preprocess=preprocess or Preprocess(),
        checkpoint=checkpoint,
        licence=licence,
        paper=paper,
        **more,
    )


def _at(address: str, **rules: Any) -> Checkpoint:
    return Checkpoint(filename=address.rpartition("/")[2].partition("?")[0], url=address, **rules)


def _in_bundle(filename: str, **rules: Any) -> Checkpoint:
    return Checkpoint(filename=filename, url="", page=INAT_BUNDLE, **rules)


RESNETS = (
    _resnet50(
        "supervised",
        "supervised",
        _at("https://download.pytorch.org/models/resnet50-0676ba61.pth", sha256="0676ba61", **TORCHVISION),
        "BSD-3-Clause",
        "He et al. 2016; torchvision's V1 weights",
    ),
    _resnet50(
        "swav",
        "swav",
        _at(
            f"{FACEBOOK}/deepcluster/swav_800ep_pretrain.pth.tar",
            nesting=("state_dict",),
            is_nesting_optional=True,
            **SWAV,
        ),
        NON_COMMERCIAL,
        "Caron et al. 2020, SwAV; 800 epochs",
        preprocess=SWAV_PREPROCESS,
    ),
    _resnet50(
        "simclr",
        "simclr",
        # VISSL normalises as ImageNet does; the TensorFlow release (simclr-v1, simclr-v2) does not.
        _at(
            f"{FACEBOOK}/vissl/model_zoo/simclr_rn50_1000ep_simclr_8node_resnet_16_07_20.afe428c7/"
            "model_final_checkpoint_phase999.torch",
            saved_as="vissl-simclr-1000ep-afe428c7.torch",
            **VISSL,
        ),
        "MIT",
        "Chen et al. 2020, SimCLR; VISSL's 1000 epochs",
    ),
    _resnet50(
        "random",
        "random",
        None,
        "none",
        "untrained control, seed 0",
        source="random",
    ),
    _resnet50(
        "supervised-v2",
        "supervised",
        _at("https://download.pytorch.org/models/resnet50-11ad3fa6.pth", sha256="11ad3fa6", **TORCHVISION),
        "BSD-3-Clause",
        "He et al. 2016; torchvision's V2 weights and recipe",
        preprocess=Preprocess(resize=232),
    ),
    _resnet50(
        "deepcluster-v2",
        "deepcluster-v2",
        _at(
            f"{FACEBOOK}/deepcluster/deepclusterv2_800ep_pretrain.pth.tar",
            nesting=("state_dict",),
            is_nesting_optional=True,
            **SWAV,
        ),
        NON_COMMERCIAL,
        "Caron et al. 2020, SwAV, section on DeepCluster-v2; 800 epochs",
        preprocess=SWAV_PREPROCESS,
    ),
    _resnet50(
        "sela-v2",
        "sela-v2",
        _at(
            f"{FACEBOOK}/deepcluster/selav2_400ep_pretrain.pth.tar",
            nesting=("state_dict",),
            is_nesting_optional=True,
            **SWAV,
        ),
        NON_COMMERCIAL,
        "Asano et al. 2020, SeLa; SwAV's 400 epochs of v2",
        preprocess=SWAV_PREPROCESS,
    ),
    _resnet50(
        "simclr-800ep",
        "simclr",
        Checkpoint(
            filename="model_final_checkpoint_phase799.torch",
            url="",
            page="VISSL's MODEL_ZOO.md (simclr_rn50_800ep, 7e8feed1)",
            saved_as="vissl-simclr-800ep-7e8feed1.torch",
            **VISSL,
        ),
        "MIT",
        "Chen et al. 2020, SimCLR; VISSL's 800 epochs",
    ),
    _resnet50(
        "moco-v1",
        "moco",
        _at(f"{FACEBOOK}/moco/moco_checkpoints/moco_v1_200ep/moco_v1_200ep_pretrain.pth.tar", md5="b251726a", **MOCO),
        "MIT",
        "He et al. 2020, MoCo; 200 epochs",
    ),
    _resnet50(
        "moco-v2",
        "moco",
        _at(f"{FACEBOOK}/moco/moco_checkpoints/moco_v2_800ep/moco_v2_800ep_pretrain.pth.tar", md5="a04e12f8", **MOCO),
        "MIT",
        "Chen et al. 2020, MoCo v2; 800 epochs",
    ),
    _resnet50(
        "moco-v2-200ep",
        "moco",
        _at(f"{FACEBOOK}/moco/moco_checkpoints/moco_v2_200ep/moco_v2_200ep_pretrain.pth.tar", md5="59fd9945", **MOCO),
        "MIT",
        "Chen et al. 2020, MoCo v2; 200 epochs",
    ),
    _resnet50(
        "moco-v3",
        "moco-v3",
        _at(f"{FACEBOOK}/moco-v3/r-50-1000ep/r-50-1000ep.pth.tar", **MOCO_V3),
        NON_COMMERCIAL,
        "Chen et al. 2021, MoCo v3; 1000 epochs",
    ),
    _resnet50(
        "insdis",
        "insdis",
        _at(f"{PYCONTRAST}/AACcsSIt1_Njv7GsmsuzZ6Sta/InsDis.pth?dl=1", **PYCONTRAST_LAYOUT),
        "BSD-2-Clause",
        "Wu et al. 2018, instance discrimination; PyContrast's 200 epochs",
    ),
    _resnet50(
        "pirl",
        "pirl",
        _at(f"{PYCONTRAST}/AADN4jKnvTI0U5oT6hTmQZz8a/PIRL.pth?dl=1", **PYCONTRAST_LAYOUT),
        "BSD-2-Clause",
        "Misra and van der Maaten 2020, PIRL; PyContrast's 200 epochs",
    ),
    _resnet50(
        "pirl-vissl",
        "pirl",
        Checkpoint(
            filename="model_final_checkpoint_phase799.torch",
            url="",
            page="VISSL's MODEL_ZOO.md (pirl_jigsaw_4node, 34377f59)",
            saved_as="vissl-pirl-800ep-34377f59.torch",
            **VISSL,
        ),
        "MIT",
        "Misra and van der Maaten 2020, PIRL; VISSL's 800 epochs",
    ),
    _resnet50(
        "infomin",
        "infomin",
        _at(f"{PYCONTRAST}/AAAzMTynP3Qc8mIE4XWkgILUa/InfoMin_800.pth?dl=1", **PYCONTRAST_LAYOUT),
        "BSD-2-Clause",
        "Tian et al. 2020, InfoMin; PyContrast's 800 epochs",
    ),
    *(
        _resnet50(
            f"pcl-v{version}",
            "pcl",
            _at(
                f"https://storage.googleapis.com/sfr-pcl-data-research/PCL_checkpoint/PCL_v{version}_epoch200.pth.tar",
                **MOCO,
            ),
            "MIT",
            f"Li et al. 2021, PCL v{version}; 200 epochs",
        )
        for version in (1, 2)
    ),
    _resnet50(
        "barlow-twins",
        "barlow-twins",
        _at(f"{FACEBOOK}/barlowtwins/ljng/resnet50.pth", saved_as="barlowtwins-resnet50.pth", keep=r"(?!fc\.)"),
        "MIT",
        "Zbontar et al. 2021, Barlow Twins; 1000 epochs",
    ),
    _resnet50(
        "dino-resnet50",
        "dino",
        _at(f"{FACEBOOK}/dino/dino_resnet50_pretrain/dino_resnet50_pretrain.pth"),
        "Apache-2.0",
        "Caron et al. 2021, DINO",
        preprocess=Preprocess(interpolation="bicubic"),
    ),
    *(
        _resnet50(
            name,
            "supervised",
            _in_bundle(f"inat2021_supervised_{part}.pth.tar", **INAT),
            INAT_LICENCE,
            f"Van Horn et al. 2021, iNat2021; {what}",
            remark=INAT_REMARK,
        )
        for name, part, what in (
            ("inat2021", "large", "all images, from ImageNet weights"),
            ("inat2021-scratch", "large_from_scratch", "all images, from scratch"),
            ("inat2021-mini", "mini", "the mini set, from ImageNet weights"),
            ("inat2021-mini-scratch", "mini_from_scratch", "the mini set, from scratch"),
        )
    ),
    _resnet50(
        "inat2021-mini-moco-v2",
        "moco",
        _in_bundle("inat2021_moco_v2_mini_1000_ep.pth.tar", **MOCO),
        INAT_LICENCE,
        "Van Horn et al. 2021, iNat2021; MoCo v2 on the mini set, 1000 epochs",
        remark=INAT_REMARK,
    ),
    _resnet50(
        "inat2021-mini-swav",
        "swav",
        _in_bundle("inat2021_swav_mini_1000_ep.pth", nesting=("state_dict",), **SWAV),
        INAT_LICENCE,
        "Van Horn et al. 2021, iNat2021; SwAV on the mini set, 1000 epochs",
        remark=INAT_REMARK,
    ),
)
"""The first four are those of Truong et al. 2021 and the untrained control."""
