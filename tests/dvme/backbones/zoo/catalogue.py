"""Every backbone of the zoo that has a checkpoint, with its published file and the other files of the same weights."""

from __future__ import annotations

from typing import Any

from .published import (
    COUNTER,
    FC,
    GIANT_HIDDEN,
    RESNET_50,
    RESNET_152,
    PublishedFile,
    Row,
    Shape,
    State,
    dinov2,
    dinov3,
    dinov3_extras,
    efficientnet,
    linear_shapes,
    moco_v3_mlp,
    norm_shapes,
    prefixed,
    resnet,
    resnet_shapes,
    vit,
)

WIDTHS = {"s": 384, "b": 768, "l": 1024, "g": 1536}
DEPTHS = {"s": 12, "b": 12, "l": 24, "g": 40}


def in_state_dict(state: State) -> Any:
    """As most training scripts save."""
    return {"epoch": 200, "arch": "resnet50", "state_dict": state, "optimizer": {"state": {}, "param_groups": []}}


def in_model(state: State) -> Any:
    return {"model": state}


def in_pycontrast(state: State) -> Any:
    return {"model": state, "contrast": {"memory": None}, "optimizer": {}, "epoch": 200}


def in_vissl(state: State) -> Any:
    """The heads are siblings of the trunk."""
    heads = {"0.clf.0.weight": None, "0.clf.0.bias": None}
    base_model = {"model": {"trunk": state, "heads": heads}, "meta": {"name": "base_ssl"}}
    return {"phase_idx": 799, "iteration": 1, "classy_state_dict": {"train": True, "base_model": base_model}}


def in_teacher(state: State) -> Any:
    return {"student": {}, "teacher": state, "optimizer": {}, "epoch": 800, "dino_loss": {"center": None}}


def in_separius(state: State) -> Any:
    return {"resnet": state, "head": {"layers.0.weight": None, "layers.1.weight": None}}


def torchvision(**extras: Shape) -> PublishedFile:
    return PublishedFile(resnet(), extras=extras)


def swav(prototypes: dict[str, Shape], *, is_nested: bool = False) -> PublishedFile:
    head = linear_shapes("projection_head.0", 2048, 2048) | norm_shapes("projection_head.1", 2048)
    head |= linear_shapes("projection_head.3", 2048, 128) | prefixed("prototypes.", prototypes)
    nesting = {"wrap": in_state_dict, "nesting": ("state_dict",)} if is_nested else {}
    return PublishedFile(resnet(), "module.", prefixed("module.", head), **nesting)  # type: ignore[arg-type]


def vissl() -> PublishedFile:
    nesting = ("classy_state_dict", "base_model", "model", "trunk")
    return PublishedFile(resnet(), "_feature_blocks.", wrap=in_vissl, nesting=nesting)


def moco(*, has_mlp: bool) -> PublishedFile:
    head = linear_shapes("fc", 2048, 128)
    if has_mlp:
        head = linear_shapes("fc.0", 2048, 2048) | linear_shapes("fc.2", 2048, 128)
    extras: dict[str, Shape] = {"module.queue": (128, 65536), "module.queue_ptr": (1,)}
    extras |= prefixed("module.encoder_q.", head) | prefixed("module.encoder_k.", head)
    extras |= resnet_shapes("module.encoder_k.")
    return PublishedFile(resnet(), "module.encoder_q.", extras, in_state_dict, ("state_dict",))


def moco_v3(rows: tuple[Row, ...], head: dict[str, Shape]) -> PublishedFile:
    second = {row.name: row.shape for row in rows}
    extras = prefixed("module.base_encoder.", head) | prefixed("module.momentum_encoder.", second | head)
    extras |= prefixed("module.", moco_v3_mlp("predictor", 256, 4096, 256))
    return PublishedFile(rows, "module.base_encoder.", extras, in_state_dict, ("state_dict",))


def pycontrast(*heads: str) -> PublishedFile:
    extras: dict[str, Shape] = {}
    for head in heads:
        extras |= linear_shapes(f"module.{head}.0", 2048, 2048) | linear_shapes(f"module.{head}.2", 2048, 128)
    return PublishedFile(resnet(), "module.encoder.", extras, in_pycontrast, ("model",))


def inat(prefix: str = "") -> PublishedFile:
    extras = prefixed(prefix, linear_shapes("fc", 2048, 10_000))
    return PublishedFile(resnet(), prefix, extras, in_state_dict, ("state_dict",))


def converted(width: int = 1, blocks: tuple[int, ...] = RESNET_50, **extras: Shape) -> PublishedFile:
    """What dvme's own converter writes, and byol-convert: torchvision's names in one flat file, without counters."""
    rows = resnet(blocks, width=width, timm="resnetv2")
    return PublishedFile(tuple(row for row in rows if not row.name.endswith(COUNTER)), extras=extras)


def tonylins(width: int) -> PublishedFile:
    """tonylins/simclr-converter. It sets `fc.weight.bias`, an attribute of a tensor: `fc.bias` stays random."""
    rows = resnet(width=width, timm="resnetv2")
    extras = linear_shapes("fc", 2048 * width, 1000)
    return PublishedFile(rows, "", extras, lambda state: {"state_dict": state}, ("state_dict",))


def separius(width: int = 1, blocks: tuple[int, ...] = RESNET_50) -> PublishedFile:
    """Separius/SimCLRv2-Pytorch."""
    rows = resnet(blocks, width=width, own="separius", timm="resnetv2")
    return PublishedFile(rows, "", linear_shapes("fc", 2048 * width, 1000), in_separius, ("resnet",))


def full_dino(rows: tuple[Row, ...], dim: int) -> PublishedFile:
    head = linear_shapes("mlp.0", dim, 2048) | linear_shapes("mlp.2", 2048, 2048) | linear_shapes("mlp.4", 2048, 256)
    head |= {"last_layer.weight_g": (65536, 1), "last_layer.weight_v": (65536, 256)}
    return PublishedFile(rows, "module.backbone.", prefixed("module.head.", head), in_teacher, ("teacher",))


def full_mae() -> PublishedFile:
    decoder = {row.name: row.shape for row in vit(512, depth=8) if row.name.startswith("blocks.")}
    extras: dict[str, Shape] = {"mask_token": (1, 1, 512), "decoder_pos_embed": (1, 197, 512)}
    extras |= linear_shapes("decoder_embed", 768, 512) | linear_shapes("decoder_pred", 512, 768)
    extras |= {"decoder_norm.weight": (512,), "decoder_norm.bias": (512,)} | prefixed("decoder_", decoder)
    return PublishedFile(vit(768), "", extras, in_model, ("model",))


def sit() -> PublishedFile:
    head = linear_shapes("head.mlp.0", 384, 2048) | linear_shapes("head.last_layer", 256, 8192, has_bias=False)
    head |= linear_shapes("head_recons.mlp.0", 384, 2048) | {"head_recons.convTrans.weight": (256, 3, 16, 16)}
    return PublishedFile(vit(384), "module.backbone.", prefixed("module.", head), in_teacher, ("teacher",))


def dinov2_file(letter: str, n_registers: int = 0) -> PublishedFile:
    hidden = GIANT_HIDDEN if letter == "g" else None
    rows = dinov2(WIDTHS[letter], depth=DEPTHS[letter], n_registers=n_registers, hidden=hidden)
    return PublishedFile(rows, extras={"mask_token": (1, WIDTHS[letter])})


def dinov3_file(letter: str) -> PublishedFile:
    dim, depth = WIDTHS[letter], DEPTHS[letter]
    return PublishedFile(dinov3(dim, depth=depth), extras=dinov3_extras(dim, depth=depth))


def lite(channels: tuple[int, ...], repeats: tuple[int, ...]) -> PublishedFile:
    return PublishedFile(efficientnet(channels, repeats), extras=linear_shapes("_fc", 1280, 1000))


ONE_SET: dict[str, Shape] = {"weight": (3000, 128)}
THREE_SETS: dict[str, Shape] = {f"prototypes{index}.weight": (3000, 128) for index in range(3)}
CHANNELS = (16, 24, 40, 80, 112, 192, 320)

PUBLISHED: dict[str, PublishedFile] = {
    "supervised": torchvision(**FC),
    "supervised-v2": torchvision(**FC),
    "swav": swav(ONE_SET),
    "deepcluster-v2": swav(THREE_SETS),
    "sela-v2": swav(THREE_SETS),
    "simclr": vissl(),
    "simclr-800ep": vissl(),
    "pirl-vissl": vissl(),
    "moco-v1": moco(has_mlp=False),
    "moco-v2": moco(has_mlp=True),
    "moco-v2-200ep": moco(has_mlp=True),
    "moco-v3": moco_v3(resnet(), moco_v3_mlp("fc", 2048, 4096, 256)),
    "insdis": pycontrast("head"),
    "pirl": pycontrast("head", "head_jig"),
    "infomin": pycontrast("head", "head_jig"),
    "pcl-v1": moco(has_mlp=False),
    "pcl-v2": moco(has_mlp=True),
    "barlow-twins": torchvision(),
    "dino-resnet50": torchvision(),
    "inat2021": inat(),
    "inat2021-scratch": inat(),
    "inat2021-mini": inat(),
    "inat2021-mini-scratch": inat("module."),
    "inat2021-mini-moco-v2": moco(has_mlp=True),
    "inat2021-mini-swav": swav(ONE_SET, is_nested=True),
    "simclr-v1": converted(),
    "simclr-v1-2x": converted(2),
    "simclr-v1-4x": converted(4),
    "simclr-v2": converted(),
    "simclr-v2-2x": converted(2),
    "simclr-v2-152-2x": converted(2, RESNET_152),
    "byol": converted(),
    "moco-v3-vits16": moco_v3(vit(384), moco_v3_mlp("head", 384, 4096, 4096, 256)),
    "moco-v3-vitb16": moco_v3(vit(768), moco_v3_mlp("head", 768, 4096, 4096, 256)),
    "mae": PublishedFile(vit(768), wrap=in_model, nesting=("model",)),
    "sit": sit(),
    "dino": PublishedFile(vit(384, patch=8)),
    "dino-vits16": PublishedFile(vit(384)),
    "dino-vitb16": PublishedFile(vit(768)),
    "dino-vitb8": PublishedFile(vit(768, patch=8)),
    **{f"dinov2-vit{letter}14": dinov2_file(letter) for letter in "sblg"},
    **{f"dinov2-vit{letter}14-reg": dinov2_file(letter, n_registers=4) for letter in "sblg"},
    **{f"dinov3-vit{letter}16": dinov3_file(letter) for letter in "sbl"},
    "rad-dino": dinov2_file("b"),
    "efficientnet-lite0": lite(CHANNELS, (1, 2, 2, 3, 3, 4, 1)),
    "efficientnet-lite1": lite(CHANNELS, (1, 3, 3, 4, 4, 5, 1)),
    "efficientnet-lite2": lite((16, 24, 48, 88, 120, 208, 352), (1, 3, 3, 4, 4, 5, 1)),
}
"""By the name of the backbone."""

OTHERS: dict[str, tuple[str, PublishedFile]] = {
    "swav below state_dict": ("swav", swav(ONE_SET, is_nested=True)),
    "simclr-v1 by tonylins": ("simclr-v1", tonylins(1)),
    "simclr-v1-2x by tonylins": ("simclr-v1-2x", tonylins(2)),
    "simclr-v1-4x by tonylins": ("simclr-v1-4x", tonylins(4)),
    "simclr-v2 by Separius": ("simclr-v2", separius()),
    "simclr-v2-2x by Separius": ("simclr-v2-2x", separius(2)),
    "simclr-v2-152-2x by Separius": ("simclr-v2-152-2x", separius(2, RESNET_152)),
    "byol by byol-convert": ("byol", converted(**FC)),
    "mae with decoder": ("mae", full_mae()),
    "dino in full": ("dino", full_dino(vit(384, patch=8), 384)),
    "dino-vitb16 in full": ("dino-vitb16", full_dino(vit(768), 768)),
}
"""Other files of the same weights, by a description: (name of the backbone, file)."""

FILES: dict[str, tuple[str, PublishedFile]] = {name: (name, file) for name, file in PUBLISHED.items()} | OTHERS
