"""The key rules of every backbone in the zoo, against the names and shapes of its published file."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import resnet50, resnet152

from dvme.backbones import BackboneSpec, Checkpoint, get_spec
from dvme.backbones.description.spec import Layout
from dvme.backbones.model.architectures import create
from dvme.backbones.weights.checkpoint import Fit, fit_checkpoint, fit_keys, read_checkpoint
from dvme.backbones.weights.finding import find_weights
from dvme.backbones.zoo import ZOO
from dvme.errors import CheckpointError

from .catalogue import FILES, OTHERS, PUBLISHED
from .published import COUNTER, RESNET_152, PublishedFile, Row, State, blank, dinov2, dinov3, resnet

WITH_CHECKPOINT = [spec.name for spec in ZOO if spec.checkpoint is not None]
BY_POSITION = [name for name in WITH_CHECKPOINT if name.startswith("efficientnet-lite")]
PLACES: dict[str, Callable[[int], int]] = {"first": lambda _: 0, "middle": lambda n: n // 2, "last": lambda n: n - 1}


@cache
def empty_model(name: str) -> nn.Module:
    """The architecture of a backbone, without content."""
    with torch.device("meta"):
        return create(get_spec(name))


@cache
def target(name: str) -> State:
    return dict(empty_model(name).state_dict())


def checkpoint_of(spec: BackboneSpec) -> Checkpoint:
    assert spec.checkpoint is not None
    return spec.checkpoint


def fit(name: str, content: Any) -> Fit:
    return fit_checkpoint(content, checkpoint_of(get_spec(name)), target(name), source=name)


@cache
def matching_layout(file_name: str) -> Layout:
    """Of a backbone's layouts, the one that takes a file as it was published."""
    name, file = FILES[file_name]
    checkpoint = checkpoint_of(get_spec(name))
    content = file.wrap(file.state())
    for layout in (checkpoint, *checkpoint.other_layouts):
        try:
            fit_keys(content, layout, target(name), source=name)
        except CheckpointError:
            continue
        return layout
    raise AssertionError(f"no layout takes {file_name}")


def layout_key(file_name: str) -> tuple[Any, ...]:
    """What decides how a file is taken apart, whatever the sizes of its tensors: the rules, its prefix, its nesting."""
    name, file = FILES[file_name]
    checkpoint = checkpoint_of(get_spec(name))
    rules = [
        (layout.nesting, layout.keep, layout.drop, layout.rename, layout.tensors, layout.match)
        for layout in (checkpoint, *checkpoint.other_layouts)
    ]
    return get_spec(name).architecture.partition("_")[0], repr(rules), file.prefix, file.nesting


FIRST_OF_A_LAYOUT = {layout_key(file_name): file_name for file_name in reversed(FILES)}
"""A file of each."""
BY_LAYOUT = [
    pytest.param(name, marks=[] if FIRST_OF_A_LAYOUT[layout_key(name)] == name else pytest.mark.slow) for name in FILES
]
"""All files; those that are taken apart like one before them are slow."""


def counted(file: PublishedFile) -> list[Row]:
    """The rows that a file cannot do without."""
    return [row for row in file.rows if not row.name.endswith(COUNTER)]


def flattened(content: Any, prefix: str = "") -> State:
    """What a conversion to safetensors leaves of a nested file."""
    flat: State = {}
    for key, value in content.items():
        if isinstance(value, dict):
            flat |= flattened(value, f"{prefix}{key}.")
        elif isinstance(value, Tensor):
            flat[prefix + key] = value
    return flat


def refusal(content: Any, layout: Layout, name: str) -> str:
    with pytest.raises(CheckpointError) as caught:
        fit_keys(content, layout, target(name), source="weights.pth")
    text = str(caught.value)
    assert text.startswith("weights.pth does not fit: ")
    assert "\n" not in text
    return text


# The names that the tests go by


def test_catalogue__every_backbone_with_a_checkpoint_is_here() -> None:
    assert sorted(PUBLISHED) == sorted(WITH_CHECKPOINT)


@pytest.mark.parametrize(("build", "rows"), [(resnet50, resnet()), (resnet152, resnet(RESNET_152))])
def test_catalogue__resnet_names_are_torchvisions(build: Callable[[], nn.Module], rows: tuple[Row, ...]) -> None:
    with torch.device("meta"):
        expected = {name: tuple(value.shape) for name, value in build().state_dict().items()}
    del expected["fc.weight"], expected["fc.bias"]
    assert [(row.name, row.shape) for row in rows] == list(expected.items())
    assert all(row.timm == (row.name,) for row in rows)


@pytest.mark.parametrize("name", BY_POSITION)
def test_catalogue__efficientnet_names_are_those_of_the_package(name: str) -> None:
    path = find_weights(get_spec(name))
    assert path is not None
    shapes = {key: tuple(value.shape) for key, value in read_checkpoint(path).items()}
    published = {key: tuple(value.shape) for key, value in PUBLISHED[name].state().items()}
    assert list(published.items()) == list(shapes.items())


# A file as it is published


@pytest.mark.parametrize("file_name", FILES)
def test_fit_checkpoint__published_file(file_name: str) -> None:
    """Every tensor of the backbone is in its place, and nothing but the heads is left over."""
    name, file = FILES[file_name]
    state = file.state()
    found = fit(name, file.wrap(state))
    assert set(found.state) == set(target(name))
    rows = [row for row in file.rows if name not in BY_POSITION or not row.name.endswith(COUNTER)]
    assert set(found.used) == {file.prefix + row.name for row in rows}
    assert len(found.used) == len(set(found.used))
    assert set(found.left_over) == set(file.extras or {})
    for row in file.rows:
        if not row.is_converted and not (name in BY_POSITION and row.name.endswith(COUNTER)):
            assert found.state[row.timm[0]] is state[file.prefix + row.name], row.name
    assert {part for row in counted(file) for part in row.timm} == {
        key for key in target(name) if not key.endswith(COUNTER)
    }
    empty_model(name).load_state_dict(found.state, strict=True, assign=True)


@pytest.mark.parametrize("file_name", FILES)
def test_fit_checkpoint__metadata_and_missing_counters(file_name: str) -> None:
    name, file = FILES[file_name]
    state: OrderedDict[str, Tensor] = OrderedDict(
        (key, value) for key, value in file.state().items() if not key.endswith(COUNTER)
    )
    state._metadata = OrderedDict({"": {"version": 1}, "bn1": {"version": 2}})  # type: ignore[attr-defined]
    found = fit(name, file.wrap(state))  # type: ignore[arg-type]
    assert type(found.state) is dict
    assert set(found.state) == set(target(name))
    counters = [key for key in target(name) if key.endswith(COUNTER)]
    assert all(found.state[key] is target(name)[key] for key in counters)
    empty_model(name).load_state_dict(found.state, strict=True, assign=True)


def test_fit_checkpoint__lost_bias_of_simclr_converter() -> None:
    """The converter means `fc.bias` and writes `fc.weight.bias`; no classifier is used, so both are left over."""
    file = FILES["simclr-v1 by tonylins"][1]
    found = fit("simclr-v1", file.wrap(file.state() | {"fc.weight.bias": blank((1000,))}))
    assert {"fc.weight", "fc.bias", "fc.weight.bias"} == set(found.left_over)
    assert set(found.state) == set(target("simclr-v1"))


@pytest.mark.parametrize("file_name", [name for name, (_, file) in FILES.items() if file.nesting])
def test_fit_checkpoint__flattened_to_safetensors(file_name: str) -> None:
    name, file = FILES[file_name]
    nested = fit(name, file.wrap(file.state()))
    flat = fit(name, flattened(file.wrap(file.state())))
    assert set(flat.state) == set(nested.state)
    assert (flat.used, flat.left_over) == (nested.used, nested.left_over)


@pytest.mark.parametrize("file_name", [name for name, (_, file) in FILES.items() if file.nesting])
def test_fit_checkpoint__without_its_nesting(file_name: str) -> None:
    """Only where the publishers' files are known both ways is a bare state dict as good."""
    name, file = FILES[file_name]
    bare_is_fine = {"swav", "simclr-v1", "simclr-v1-2x", "simclr-v1-4x"}
    if name in bare_is_fine:
        assert set(fit(name, file.state()).state) == set(target(name))
    else:
        with pytest.raises(CheckpointError):
            fit(name, file.state())


# A file that differs by one tensor


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("file_name", BY_LAYOUT)
def test_fit_keys__one_key_dropped(file_name: str, place: str) -> None:
    name, file = FILES[file_name]
    row = counted(file)[PLACES[place](len(counted(file)))]
    state = file.state()
    del state[file.prefix + row.name]
    text = refusal(file.wrap(state), matching_layout(file_name), name)
    if name in BY_POSITION:
        n_tensors = len(counted(file))
        assert f"{n_tensors - 1} tensors where the architecture has {n_tensors}" in text
    else:
        assert f"missing keys {row.timm[0]}" in text


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("file_name", BY_LAYOUT)
def test_fit_keys__one_key_renamed(file_name: str, place: str) -> None:
    name, file = FILES[file_name]
    row = counted(file)[PLACES[place](len(counted(file)))]
    state = {f"{key}_of_mine" if key == file.prefix + row.name else key: value for key, value in file.state().items()}
    text = refusal(file.wrap(state), matching_layout(file_name), name)
    if name in BY_POSITION:
        assert f"wrong order {row.name}_of_mine {row.shape} for {row.timm[0]} {row.shape}" in text
    else:
        assert f"missing keys {row.timm[0]}" in text
        assert any(f"unexpected keys {known}_of_mine" in text for known in (row.name, *row.timm))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("file_name", BY_LAYOUT)
def test_fit_keys__one_tensor_of_another_shape(file_name: str, place: str) -> None:
    name, file = FILES[file_name]
    row = counted(file)[PLACES[place](len(counted(file)))]
    state = file.state() | {file.prefix + row.name: blank((*row.shape, 2))}
    text = refusal(file.wrap(state), matching_layout(file_name), name)
    if name in BY_POSITION:
        assert f"wrong order {row.name} {(*row.shape, 2)} for {row.timm[0]} {row.shape}" in text
    else:
        assert f"wrong shapes {row.timm[0]} {(*row.shape, 2)} instead of {row.shape}" in text


@pytest.mark.parametrize("file_name", FILES)
def test_fit_checkpoint__one_stranger(file_name: str) -> None:
    """A key that no rule knows is refused, in front of the file's prefix and behind it."""
    name, file = FILES[file_name]
    for stranger in ("decoder.weight", f"{file.prefix}decoder.weight"):
        content = file.wrap(file.state() | {stranger: blank((3,))})
        with pytest.raises(CheckpointError):
            fit(name, content)
        text = refusal(content, matching_layout(file_name), name)
        if name in BY_POSITION:
            assert "tensors where the architecture has" in text
        else:
            assert "unexpected keys " in text
            assert "decoder.weight" in text


@pytest.mark.parametrize("file_name", FILES)
def test_fit_checkpoint__damage_is_refused_by_every_layout(file_name: str) -> None:
    name, file = FILES[file_name]
    row = counted(file)[len(counted(file)) // 2]
    state = file.state()
    del state[file.prefix + row.name]
    with pytest.raises(CheckpointError):
        fit(name, file.wrap(state))


def test_fit_checkpoint__two_keys_for_one_tensor() -> None:
    file = PUBLISHED["inat2021"]
    content = file.wrap(file.state() | {"module.conv1.weight": blank((64, 3, 7, 7))})
    with pytest.raises(CheckpointError, match=r"conv1\.weight and module\.conv1\.weight are both conv1\.weight"):
        fit("inat2021", content)


# Files of other backbones


@pytest.mark.parametrize(
    ("name", "file_name"),
    [
        ("supervised", "moco-v2"),
        ("supervised", "swav"),
        ("swav", "moco-v2"),
        ("swav", "supervised"),
        ("moco-v2", "moco-v3"),
        ("moco-v3", "moco-v2"),
        ("moco-v3", "moco-v3-vits16"),
        ("moco-v3-vits16", "moco-v3-vitb16"),
        ("moco-v3-vits16", "moco-v3"),
        ("barlow-twins", "supervised"),
        ("dino-resnet50", "supervised"),
        ("insdis", "moco-v2"),
        ("simclr", "supervised"),
        ("simclr-v1-2x", "simclr-v1"),
        ("simclr-v1-4x", "simclr-v1-2x by tonylins"),
        ("simclr-v2", "simclr-v2-2x by Separius"),
        ("simclr-v2-2x", "simclr-v2-152-2x by Separius"),
        ("dino", "dino-vits16"),
        ("dino-vits16", "dino in full"),
        ("dino-vitb16", "mae"),
        ("dinov2-vits14", "dinov2-vits14-reg"),
        ("dinov2-vits14-reg", "dinov2-vits14"),
        ("dinov2-vits14", "dinov2-vitb14"),
        ("dinov2-vits14", "dinov3-vits16"),
        ("dinov2-vits14-reg", "dinov3-vits16"),
        ("dinov3-vits16", "dinov3-vitb16"),
        ("dinov3-vits16", "dinov2-vits14-reg"),
        ("sit", "dino-vits16"),
        ("efficientnet-lite0", "efficientnet-lite1"),
        ("efficientnet-lite1", "efficientnet-lite2"),
    ],
)
def test_fit_checkpoint__file_of_another_backbone(name: str, file_name: str) -> None:
    file = FILES[file_name][1]
    with pytest.raises(CheckpointError, match=f"^{name} does not fit: "):
        fit(name, file.wrap(file.state()))


def test_fit_checkpoint__the_other_files_are_of_other_layouts() -> None:
    """So each of them tests a rule that the published files do not."""
    known_both_ways = {"swav", "byol", "simclr-v1", "simclr-v1-2x", "simclr-v1-4x"}
    for file_name, (name, _) in OTHERS.items():
        is_first = matching_layout(file_name) is get_spec(name).checkpoint
        assert is_first == (name in known_both_ways), file_name


# Values


def marked(file: PublishedFile) -> State:
    """A file in which every tensor has a value of its own, expanded to its shape."""
    return {
        file.prefix + row.name: torch.tensor(float(index)).expand(row.shape) for index, row in enumerate(file.rows)
    } | {key: torch.tensor(-1.0).expand(shape) for key, shape in (file.extras or {}).items()}


@pytest.mark.parametrize(
    "file_name",
    [
        "supervised",
        "swav",
        "moco-v2",
        "simclr-v1-2x",
        "simclr-v2-152-2x by Separius",
        "byol",
        "dinov2-vitg14",
        "dinov2-vits14-reg",
        "dinov3-vits16",
        "efficientnet-lite0",
    ],
)
def test_fit_checkpoint__values_are_in_their_places(file_name: str) -> None:
    name, file = FILES[file_name]
    with torch.device("cpu"):
        found = fit(name, file.wrap(marked(file))).state
    for index, row in enumerate(file.rows):
        if row.is_converted or (name in BY_POSITION and row.name.endswith(COUNTER)):
            continue
        value = found[row.timm[0]]
        assert (tuple(value.shape), float(value.flatten()[0])) == (row.shape, float(index)), row.name


def test_fit_checkpoint__class_token_takes_its_position_in_with_registers() -> None:
    name, file = "dinov2-vits14-reg", PublishedFile(dinov2(384, n_registers=4))
    generator = torch.Generator().manual_seed(0)
    state = file.state(lambda row: torch.randn(row.shape, generator=generator) if "_" in row.name else blank(row.shape))
    found = fit(name, state).state
    torch.testing.assert_close(found["cls_token"][0, 0], state["cls_token"][0, 0] + state["pos_embed"][0, 0])
    assert torch.equal(found["pos_embed"], state["pos_embed"][:, 1:])
    assert found["pos_embed"].shape == (1, 37 * 37, 384)
    assert torch.equal(found["reg_token"], state["register_tokens"])


def test_fit_checkpoint__dinov3_splits_biases() -> None:
    name, file = "dinov3-vits16", PublishedFile(dinov3(384))
    state = file.state()
    for index in range(12):
        parts = [torch.full((384,), float(10 * index + part)) for part in range(3)]
        state[f"blocks.{index}.attn.qkv.bias"] = torch.cat(parts)
    found = fit(name, state).state
    for index in range(12):
        prefix = f"blocks.{index}.attn"
        assert torch.equal(found[f"{prefix}.q_bias"], torch.full((384,), 10.0 * index))
        assert torch.equal(found[f"{prefix}.v_bias"], torch.full((384,), 10.0 * index + 2))
        assert f"{prefix}.qkv.bias" not in found


def test_fit_checkpoint__giant_has_a_gated_perceptron() -> None:
    file = PUBLISHED["dinov2-vitg14"]
    state = file.state()
    found = fit("dinov2-vitg14", state).state
    for index in (0, 39):
        assert found[f"blocks.{index}.mlp.fc1.weight"] is state[f"blocks.{index}.mlp.w12.weight"]
        assert found[f"blocks.{index}.mlp.fc2.bias"] is state[f"blocks.{index}.mlp.w3.bias"]
        assert found[f"blocks.{index}.ls2.gamma"] is state[f"blocks.{index}.ls2.gamma"]


@pytest.mark.parametrize(
    ("key", "shape"),
    [
        ("cls_token", (7,)),
        ("pos_embed", (7,)),
        ("pos_embed", (1, 1370, 768)),
        ("cls_token", (1, 1, 1)),
        ("cls_token", (384,)),
    ],
)
def test_fit_checkpoint__misshapen_token_of_a_register_file(key: str, shape: tuple[int, ...]) -> None:
    """Adding would broadcast some of them in silence."""
    state = PUBLISHED["dinov2-vits14-reg"].state() | {key: blank(shape)}
    with pytest.raises(CheckpointError, match=f"wrong shapes .*{key}"):
        fit("dinov2-vits14-reg", state)
