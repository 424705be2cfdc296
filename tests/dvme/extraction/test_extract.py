from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image

import dvme
from dvme.backbones import get_spec
from dvme.backbones.loading.building import build_model
from dvme.backbones.model.preprocess import crop_image
from dvme.data import decode_image
from dvme.data.stretch import FewGreys
from dvme.errors import DataError, OptionError, UnknownNameError, WeightsError
from dvme_cache import EmbeddingCache, FingerprintMismatchError, RowState

LITE = "efficientnet-lite0@size=32"
"""Real weights, on pictures a fiftieth as large as published: how good the embeddings are is not what is tested."""
FOLDER = quote(LITE, safe="")
PUBLISHED = "efficientnet-lite0"


@pytest.fixture
def cache_path(tmp_path: Path) -> Path:
    return tmp_path / "cache.zarr"


def test_extract__features_are_those_of_the_plain_model_one_image_at_a_time(
    solar_cells: list[tuple[Path, str]], write_manifest: Callable[..., Path], cache_path: Path
) -> None:
    import torch

    manifest = write_manifest(solar_cells[:21], ["image", "label"])
    dvme.extract(manifest, cache_path, backbones=[PUBLISHED], runtime=dvme.Runtime(batch_size=8))
    cache = EmbeddingCache.open(cache_path)
    features = cache.embeddings(PUBLISHED).read(np.arange(21))
    spec = get_spec(PUBLISHED)
    model = build_model(spec).model.eval()
    for row, (path, _) in enumerate(solar_cells[:21]):
        pixels = crop_image(decode_image(path.read_bytes()), spec.preprocess)
        image = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255
        with torch.inference_mode():
            expected = model((image - 0.5) / 0.5)[0].numpy()
        np.testing.assert_allclose(features[row], expected, atol=2e-5 * abs(expected).max())
    assert cache.column("label").tolist() == [label for _, label in solar_cells[:21]]


def test_extract__batch_size_and_workers_are_no_part_of_the_fingerprint(class_folders: Path, tmp_path: Path) -> None:
    caches = []
    for batch_size, workers in ((1, 1), (7, 3)):
        path = tmp_path / f"{batch_size}.zarr"
        dvme.extract(
            class_folders, path, backbones=[LITE], runtime=dvme.Runtime(batch_size=batch_size, workers=workers)
        )
        caches.append(EmbeddingCache.open(path))
    one, other = (cache.embeddings(LITE) for cache in caches)
    assert one.fingerprint == other.fingerprint
    rows = np.arange(36)
    np.testing.assert_allclose(one.read(rows), other.read(rows), atol=1e-4)


def test_extract__second_run_reuses_everything_and_writes_nothing(class_folders: Path, cache_path: Path) -> None:
    first = dvme.extract(class_folders, cache_path, backbones=[LITE])
    before = {p: p.stat().st_mtime_ns for p in (cache_path / "embeddings").rglob("*") if p.is_file()}
    second = dvme.extract(class_folders, cache_path, backbones=[LITE])
    assert (first.outcomes[0].computed, first.n_new) == (36, 36)
    assert (second.outcomes[0].computed, second.outcomes[0].reused, second.n_new) == (0, 36, 0)
    assert before == {p: p.stat().st_mtime_ns for p in (cache_path / "embeddings").rglob("*") if p.is_file()}


def test_extract__new_moved_and_copied_images(
    class_folders: Path, cache_path: Path, save_image: Callable[..., Path]
) -> None:
    dvme.extract(class_folders, cache_path, backbones=[LITE])
    save_image(class_folders / "dark" / "new.png", seed=999)
    (class_folders / "dark" / "00.png").rename(class_folders / "dark" / "renamed.png")
    (class_folders / "grey" / "copy.png").write_bytes((class_folders / "grey" / "00.png").read_bytes())
    report = dvme.extract(class_folders, cache_path, backbones=[LITE])
    assert (report.n_files, report.n_rows, report.n_new) == (38, 37, 1)
    assert (report.outcomes[0].computed, report.outcomes[0].reused) == (1, 36)
    assert EmbeddingCache.open(cache_path).n_rows == 37


def test_extract__a_file_with_new_content_is_a_new_row_and_the_old_one_takes_no_part(
    class_folders: Path, cache_path: Path, save_image: Callable[..., Path]
) -> None:
    dvme.extract(class_folders, cache_path, backbones=[LITE])
    save_image(class_folders / "dark" / "00.png", seed=12345)
    report = dvme.extract(class_folders, cache_path, backbones=[LITE])
    assert (report.n_new, report.outcomes[0].computed) == (1, 1)
    labels = EmbeddingCache.open(cache_path).column("label").tolist()
    assert labels[0] == ""
    assert labels.count("dark") == 12


def test_extract__copies_that_disagree_take_no_part(class_folders: Path, cache_path: Path) -> None:
    (class_folders / "light" / "lie.png").write_bytes((class_folders / "dark" / "00.png").read_bytes())
    report = dvme.extract(class_folders, cache_path, backbones=[LITE])
    assert report.contradictory == ["dark/00.png", "light/lie.png"]
    assert EmbeddingCache.open(cache_path).column("label").tolist().count("dark") == 11


def test_extract__unreadable_images_keep_their_row_with_the_reason(class_folders: Path, cache_path: Path) -> None:
    whole = (class_folders / "dark" / "01.png").read_bytes()
    (class_folders / "dark" / "01.png").write_bytes(whole[:200])
    (class_folders / "grey" / "02.png").write_bytes(b"")
    (class_folders / "light" / "03.png").write_text("not an image")
    report = dvme.extract(class_folders, cache_path, backbones=[LITE])
    outcome = report.outcomes[0]
    assert (outcome.computed, outcome.failed) == (33, 3)
    assert set(outcome.reasons) == {"dark/01.png", "grey/02.png", "light/03.png"}
    assert outcome.reasons["grey/02.png"] == "the file is empty"
    assert "not an image" in outcome.reasons["light/03.png"]
    cache = EmbeddingCache.open(cache_path)
    row = cache.samples.paths.index("dark/01.png")
    assert cache.embeddings(LITE).states()[row] == RowState.FAILED
    again = dvme.extract(class_folders, cache_path, backbones=[LITE])
    assert (again.outcomes[0].computed, again.outcomes[0].reused, again.outcomes[0].failed) == (0, 33, 3)
    assert dvme.extract(class_folders, cache_path, backbones=[LITE], retry_failed=True).outcomes[0].failed == 3


def test_extract__a_file_that_cannot_be_read_just_now_is_tried_again(
    class_folders: Path, cache_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dvme.extraction.beginning.spool_bytes", lambda: 0)
    target = class_folders / "dark" / "05.png"
    whole = target.read_bytes()

    def vanish(stage: str, done: int, total: int) -> None:
        if stage == "hash" and done == total:
            target.unlink()

    first = dvme.extract(class_folders, cache_path, backbones=[LITE], progress=vanish)
    assert (first.outcomes[0].computed, first.outcomes[0].failed) == (35, 1)
    assert "cannot be read" in first.outcomes[0].reasons["dark/05.png"]
    target.write_bytes(whole)
    second = dvme.extract(class_folders, cache_path, backbones=[LITE])
    assert (second.outcomes[0].computed, second.outcomes[0].failed) == (1, 0)


@pytest.mark.parametrize(("harm", "n_lost"), [("flip", 1), ("truncate", 26), ("delete", 36)])
def test_extract__what_is_damaged_and_no_more_is_extracted_anew(
    class_folders: Path, cache_path: Path, harm: str, n_lost: int
) -> None:
    dvme.extract(class_folders, cache_path, backbones=[LITE])
    rows = np.arange(36)
    before = EmbeddingCache.open(cache_path).embeddings(LITE).read(rows)
    shard = cache_path / "embeddings" / FOLDER / "features" / "c" / "0" / "0"
    data = bytearray(shard.read_bytes())
    data[1234] ^= 8
    if harm == "flip":
        shard.write_bytes(data)
    elif harm == "truncate":
        shard.write_bytes(shard.read_bytes()[: 10 * 1280 * 4 + 17])  # ten rows of 1,280 float32 and a bit
    else:
        shard.unlink()
    report = dvme.extract(class_folders, cache_path, backbones=[LITE])
    assert report.outcomes[0].n_lost == n_lost
    assert (report.outcomes[0].computed, report.outcomes[0].reused) == (n_lost, 36 - n_lost)
    np.testing.assert_allclose(EmbeddingCache.open(cache_path).embeddings(LITE).read(rows), before, atol=1e-4)


def test_extract__says_which_rows_are_no_longer_listed_or_relabelled(class_folders: Path, cache_path: Path) -> None:
    dvme.extract(class_folders, cache_path, backbones=[LITE])
    (class_folders / "dark" / "00.png").unlink()
    (class_folders / "dark" / "01.png").rename(class_folders / "grey" / "from dark.png")
    report = dvme.extract(class_folders, cache_path, backbones=[LITE])
    assert (report.n_unlisted, report.n_changed, report.n_new, report.n_moved) == (1, {"label": 1}, 0, 1)


def test_extract__untrained_backbone_takes_no_weights(class_folders: Path, cache_path: Path, tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(b"x")
    with pytest.raises(OptionError, match="random is untrained and takes no weights"):
        dvme.extract(class_folders, cache_path, backbones=["random"], weights={"random": tmp_path / "w.pth"})


def test_extract__relabelling_touches_no_embedding(class_folders: Path, cache_path: Path) -> None:
    dvme.extract(class_folders, cache_path, backbones=[LITE])
    (class_folders / "light").rename(class_folders / "bright")
    report = dvme.extract(class_folders, cache_path, backbones=[LITE])
    assert report.outcomes[0].computed == 0
    assert EmbeddingCache.open(cache_path).column("label").tolist().count("bright") == 12


def test_extract__another_fingerprint_is_refused_with_field_and_values(class_folders: Path, cache_path: Path) -> None:
    dvme.extract(class_folders, cache_path, backbones=[LITE])
    before = EmbeddingCache.open(cache_path).embeddings(LITE).read(np.arange(36))
    with pytest.raises(FingerprintMismatchError, match="dtype: cached 'float32', asked 'float16'"):
        dvme.extract(class_folders, cache_path, backbones=[LITE], dtype="float16")
    np.testing.assert_array_equal(EmbeddingCache.open(cache_path).embeddings(LITE).read(np.arange(36)), before)
    report = dvme.extract(class_folders, cache_path, backbones=[LITE], dtype="float16", replace=True)
    assert report.outcomes[0].computed == 36
    half = EmbeddingCache.open(cache_path).embeddings(LITE).read(np.arange(36))
    assert half.dtype == np.float16
    np.testing.assert_allclose(half, before, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("backbones", "options", "error"),
    [
        (["swaw"], {}, UnknownNameError),
        ([], {}, OptionError),
        ([LITE, LITE], {}, OptionError),
        ([LITE], {"dtype": "int8"}, OptionError),
        ([LITE], {"weights": {"swav": "x.pth"}}, OptionError),
        ([PUBLISHED], {"weights": {PUBLISHED: "missing.pth"}}, WeightsError),
        ([LITE], {"runtime": {"device": "tpu7"}}, OptionError),
    ],
)
def test_extract__refusals_leave_nothing_behind(
    class_folders: Path, cache_path: Path, backbones: list[str], options: dict[str, object], error: type[Exception]
) -> None:
    with pytest.raises(error):
        dvme.extract(class_folders, cache_path, backbones=backbones, **options)  # type: ignore[arg-type]
    assert not cache_path.exists()
    assert not list(cache_path.parent.glob("*.partial"))


def test_extract__empty_folder(tmp_path: Path, cache_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no images"):
        dvme.extract(tmp_path / "empty", cache_path, backbones=[LITE])
    assert not cache_path.exists()


def test_extract__a_grey_sixteen_bit_and_a_wide_image(tmp_path: Path, cache_path: Path) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    Image.fromarray(np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)).save(folder / "deep.png")
    Image.new("L", (400, 9)).save(folder / "wide.png")
    report = dvme.extract(folder, cache_path, backbones=[LITE])
    assert (report.outcomes[0].computed, report.task.kind) == (2, "unlabelled")


def test_extract__tells_where_a_handful_of_pixels_sets_the_range(tmp_path: Path, cache_path: Path) -> None:
    folder = tmp_path / "grey"
    folder.mkdir()
    values = (1000 + np.arange(64 * 64) % 3000).reshape(64, 64)
    for i in range(3):
        deep = (values + i).astype(np.uint16)
        deep[5, 5] = 65_535 if i else 1000
        Image.fromarray(deep).save(folder / f"{i}.png")
    Image.fromarray((values // 40).astype(np.uint8)).save(folder / "flat.png")
    report = dvme.extract(folder, cache_path, backbones=[LITE, f"{LITE}@in-chans=1"])
    assert set(report.outliers) == {"1.png", "2.png"}
    assert (report.outliers["2.png"].n_pixels, report.outliers["2.png"].n_of) == (1, 4096)
    assert report.outliers["2.png"].share == pytest.approx((65_535 - 4001) / (65_535 - 1002))
    assert report.to_json()["outliers"]["1.png"]["n_pixels"] == 1
    assert dvme.extract(folder, cache_path, backbones=[LITE]).outliers == {}


def test_extract__ranges_beside_each_other(tmp_path: Path, cache_path: Path) -> None:
    """By a range of its own a backbone sees the picture that one would make by hand, and says where it shows little."""
    by_bits = f"{LITE}@range=12bit"
    folder, by_hand = tmp_path / "grey", tmp_path / "hand"
    folder.mkdir(), by_hand.mkdir()
    values = 300 + np.add.outer(np.arange(64) * 40, np.arange(64) % 37)  # of 12 bits
    Image.fromarray(values.astype(np.uint16)).save(folder / "deep.png")
    Image.fromarray((values - 3000).astype(np.int32)).save(folder / "clipped.tif")
    Image.fromarray((values % 256).astype(np.uint8)).save(folder / "flat.png")
    Image.fromarray(np.round(values * 255.0 / 4095).astype(np.uint8)).save(by_hand / "deep.png")
    Image.fromarray((values % 256).astype(np.uint8)).save(by_hand / "flat.png")
    report = dvme.extract(folder, cache_path, backbones=[LITE, by_bits, f"{LITE}@range=dtype"])
    assert [outcome.failed for outcome in report.outcomes] == [0, 1, 0]
    (reason,) = report.outcomes[1].reasons.values()
    assert reason == (
        "has -2,700 as its least grey, below the -2,048 of @range=12bit; @range=13bit, @range=16bit, @range=dtype, "
        "@range=image and @range=percentile:0.5:99.5 fit"
    )
    # 300 to 2856 of 65,535: greys 1 to 11; of 32 signed bits all is one grey
    assert report.few_greys == {
        "deep.png": FewGreys(11, len(np.unique(values)), fits="12bit"),
        "clipped.tif": FewGreys(1, len(np.unique(values)), fits="13bit"),
    }
    assert report.to_json()["few_greys"]["deep.png"]["fits"] == "12bit"
    dvme.extract(by_hand, tmp_path / "hand.zarr", backbones=[LITE])
    cache, other = EmbeddingCache.open(cache_path), EmbeddingCache.open(tmp_path / "hand.zarr")
    names = [Path(path).name for path in cache.samples.paths]
    made = [Path(path).name for path in other.samples.paths]
    expected = dict(zip(made, other.embeddings(LITE).read([0, 1]), strict=True))
    usual, ranged = cache.embeddings(LITE), cache.embeddings(by_bits)
    assert usual.fingerprint.differences(ranged.fingerprint) == [("reading.range", None, "12bit")]
    for name in ("deep.png", "flat.png"):
        row = names.index(name)
        np.testing.assert_allclose(ranged.read([row])[0], expected[name], atol=1e-3)
        assert np.allclose(usual.read([row])[0], expected[name], atol=1e-3) == (name == "flat.png")


def test_extract__an_image_above_the_limit_is_read_when_it_is_raised(class_folders: Path, cache_path: Path) -> None:
    Image.new("L", (700, 100), 90).save(class_folders / "dark" / "large.png")
    guarded = dvme.Runtime(max_pixels=69_999)
    first = dvme.extract(class_folders, cache_path, backbones=[LITE], runtime=guarded).outcomes[0]
    reason = "has 70,000 pixels, more than 69,999; dvme extract --max-pixels 70000 reads it"
    assert (first.computed, first.reasons) == (36, {"dark/large.png": reason})
    assert dvme.extract(class_folders, cache_path, backbones=[LITE]).outcomes[0].reasons == first.reasons
    raised = dvme.Runtime(max_pixels=70_000)
    again = dvme.extract(class_folders, cache_path, backbones=[LITE], runtime=raised, retry_failed=True).outcomes[0]
    assert (again.computed, again.failed) == (1, 0)


def test_runtime__no_pixels() -> None:
    with pytest.raises(OptionError, match="images of 0 pixels are not possible; pass max_pixels=1 or more"):
        dvme.Runtime(max_pixels=0)


@pytest.mark.slow  # tests/reliability/test_kill.py has the same in seconds, with processes that are forked
def test_extract__killed_at_random_moments_then_resumed_equals_a_run_never_interrupted(
    solar_cells: list[tuple[Path, str]], write_manifest: Callable[..., Path], tmp_path: Path
) -> None:
    """Real SIGKILLs of a real extraction: committed rows survive bit for bit and are not extracted again."""
    manifest = write_manifest(solar_cells[:320], ["image", "label"])
    code = (
        "import sys, dvme; print('start', flush=True)\n"
        f"dvme.extract(sys.argv[1], sys.argv[2], backbones=['{PUBLISHED}'], "
        "progress=lambda stage, done, total: print(stage, done, flush=True))"
    )
    cache_path = tmp_path / "killed.zarr"
    rng = np.random.default_rng(0)
    committed: dict[int, bytes] = {}
    for _ in range(3):
        command = [sys.executable, "-c", code, str(manifest), str(cache_path)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(PUBLISHED):
                break
        time.sleep(float(rng.uniform(0.3, 1.2)))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        embeddings = EmbeddingCache.open(cache_path).embeddings(PUBLISHED)
        done = np.flatnonzero(embeddings.states() == RowState.DONE)
        now = {int(row): features.tobytes() for row, features in zip(done, embeddings.read(done), strict=True)}
        assert all(now[row] == features for row, features in committed.items())
        committed = now
    final = dvme.extract(manifest, cache_path, backbones=[PUBLISHED])
    assert final.outcomes[0].reused == len(committed)
    assert final.outcomes[0].computed == 320 - len(committed)
    dvme.extract(manifest, tmp_path / "whole.zarr", backbones=[PUBLISHED])
    rows = np.arange(320)
    resumed, whole = (
        EmbeddingCache.open(p).embeddings(PUBLISHED).read(rows) for p in (cache_path, tmp_path / "whole.zarr")
    )
    np.testing.assert_array_equal(resumed, whole)  # batches never span shards, so the last bits agree as well
    assert not list(cache_path.rglob("*.partial"))
