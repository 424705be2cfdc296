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

PREPROCESS = Preprocess()
# The first value differs from ImageNet's 0.229: so it is in the authors' training and evaluation.
SWAV_PREPROCESS = Preprocess(std=(0.228, 0.224, 0.225))
NON_COMMERCIAL = "CC-BY-NC-4.0"


def _resnet50(
    name: str,
    method: str,
    checkpoint: Checkpoint | None,
    licence: str,
    paper: str,
    *,
    preprocess: Preprocess = PREPROCESS,
    **more: Any,
) -> BackboneSpec:
    return BackboneSpec(
        name=name,
        method=method,
        architecture="resnet50",
        dim=2048,
        pooling="average",
        preprocess=preprocess,
        checkpoint=checkpoint,
        licence=licence,
        paper=paper,
        **more,
    )


def _at(address: str, **rules: Any) -> Checkpoint:
    return Checkpoint(filename=address.rpartition("/")[2].partition("?")[0], url=address, **rules)


def _supervised(name: str, digest: str, paper: str, preprocess: Preprocess = PREPROCESS) -> BackboneSpec:
    checkpoint = _at(f"https://download.pytorch.org/models/resnet50-{digest}.pth", sha256=digest, **TORCHVISION)
    return _resnet50(name, "supervised", checkpoint, "BSD-3-Clause", paper, preprocess=preprocess)


def _by_swav(method: str, run: str, paper: str) -> BackboneSpec:
    """One of the three methods whose checkpoints SwAV's repository publishes."""
    address = f"{FACEBOOK}/deepcluster/{run}_pretrain.pth.tar"
    checkpoint = _at(address, nesting=("state_dict",), is_nesting_optional=True, **SWAV)
    return _resnet50(method, method, checkpoint, NON_COMMERCIAL, paper, preprocess=SWAV_PREPROCESS)


def _by_vissl(name: str, method: str, digest: str, entry: str, paper: str) -> BackboneSpec:
    """One of 800 epochs, which is published under the name that all of these have."""
    checkpoint = Checkpoint(
        filename="model_final_checkpoint_phase799.torch",
        url="",
        page=f"VISSL's MODEL_ZOO.md ({entry}, {digest})",
        saved_as=f"vissl-{method}-800ep-{digest}.torch",
        **VISSL,
    )
    return _resnet50(name, method, checkpoint, "MIT", f"{paper}; VISSL's 800 epochs")


def _moco(name: str, run: str, md5: str, paper: str) -> BackboneSpec:
    checkpoint = _at(f"{FACEBOOK}/moco/moco_checkpoints/{run}/{run}_pretrain.pth.tar", md5=md5, **MOCO)
    return _resnet50(name, "moco", checkpoint, "MIT", paper)


def _by_pycontrast(method: str, path: str, paper: str) -> BackboneSpec:
    checkpoint = _at(f"{PYCONTRAST}/{path}.pth?dl=1", **PYCONTRAST_LAYOUT)
    return _resnet50(method, method, checkpoint, "BSD-2-Clause", paper)


def _pcl(version: int) -> BackboneSpec:
    address = f"https://storage.googleapis.com/sfr-pcl-data-research/PCL_checkpoint/PCL_v{version}_epoch200.pth.tar"
    return _resnet50(
        f"pcl-v{version}", "pcl", _at(address, **MOCO), "MIT", f"Li et al. 2021, PCL v{version}; 200 epochs"
    )


def _inat(name: str, method: str, filename: str, what: str, **rules: Any) -> BackboneSpec:
    checkpoint = Checkpoint(filename=filename, url="", page=INAT_BUNDLE, **rules)
    paper = f"Van Horn et al. 2021, iNat2021; {what}"
    remark = "the code is MIT; nothing is said of the weights"
    return _resnet50(name, method, checkpoint, "not stated", paper, remark=remark)


RESNETS = (
    _supervised("supervised", "0676ba61", "He et al. 2016; torchvision's V1 weights"),
    _by_swav("swav", "swav_800ep", "Caron et al. 2020, SwAV; 800 epochs"),
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
    _resnet50("random", "random", None, "none", "untrained control, seed 0", source="random"),
    _supervised(
        "supervised-v2", "11ad3fa6", "He et al. 2016; torchvision's V2 weights and recipe", Preprocess(resize=232)
    ),
    _by_swav("deepcluster-v2", "deepclusterv2_800ep", "Caron et al. 2020, SwAV, section on DeepCluster-v2; 800 epochs"),
    _by_swav("sela-v2", "selav2_400ep", "Asano et al. 2020, SeLa; SwAV's 400 epochs of v2"),
    _by_vissl("simclr-800ep", "simclr", "7e8feed1", "simclr_rn50_800ep", "Chen et al. 2020, SimCLR"),
    _moco("moco-v1", "moco_v1_200ep", "b251726a", "He et al. 2020, MoCo; 200 epochs"),
    _moco("moco-v2", "moco_v2_800ep", "a04e12f8", "Chen et al. 2020, MoCo v2; 800 epochs"),
    _moco("moco-v2-200ep", "moco_v2_200ep", "59fd9945", "Chen et al. 2020, MoCo v2; 200 epochs"),
    _resnet50(
        "moco-v3",
        "moco-v3",
        _at(f"{FACEBOOK}/moco-v3/r-50-1000ep/r-50-1000ep.pth.tar", **MOCO_V3),
        NON_COMMERCIAL,
        "Chen et al. 2021, MoCo v3; 1000 epochs",
    ),
    _by_pycontrast(
        "insdis", "AACcsSIt1_Njv7GsmsuzZ6Sta/InsDis", "Wu et al. 2018, instance discrimination; PyContrast's 200 epochs"
    ),
    _by_pycontrast(
        "pirl", "AADN4jKnvTI0U5oT6hTmQZz8a/PIRL", "Misra and van der Maaten 2020, PIRL; PyContrast's 200 epochs"
    ),
    _by_vissl("pirl-vissl", "pirl", "34377f59", "pirl_jigsaw_4node", "Misra and van der Maaten 2020, PIRL"),
    _by_pycontrast(
        "infomin", "AAAzMTynP3Qc8mIE4XWkgILUa/InfoMin_800", "Tian et al. 2020, InfoMin; PyContrast's 800 epochs"
    ),
    _pcl(1),
    _pcl(2),
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
        _inat(name, "supervised", f"inat2021_supervised_{part}.pth.tar", what, **INAT)
        for name, part, what in (
            ("inat2021", "large", "all images, from ImageNet weights"),
            ("inat2021-scratch", "large_from_scratch", "all images, from scratch"),
            ("inat2021-mini", "mini", "the mini set, from ImageNet weights"),
            ("inat2021-mini-scratch", "mini_from_scratch", "the mini set, from scratch"),
        )
    ),
    _inat(
        "inat2021-mini-moco-v2",
        "moco",
        "inat2021_moco_v2_mini_1000_ep.pth.tar",
        "MoCo v2 on the mini set, 1000 epochs",
        **MOCO,
    ),
    _inat(
        "inat2021-mini-swav",
        "swav",
        "inat2021_swav_mini_1000_ep.pth",
        "SwAV on the mini set, 1000 epochs",
        nesting=("state_dict",),
        **SWAV,
    ),
)
"""The first four are those of Truong et al. 2021 and the untrained control."""
