"""`dvme probe --test` as typed."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import assert_refused, run, strict
from hospitals import Hospital, write_site
from light import spelled

HEAD = ("--head", spelled("linear"), "--folds", 2, "--backbones", "a")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sites")
    own, kids = Hospital(0, 120), Hospital(2, 80)
    write_site(root / "own.zarr", own.values, own.labels, groups=own.groups)
    write_site(root / "kids.zarr", kids.values, kids.classes, first=2000)
    return root


def test_probe__other_sites_are_printed_as_the_report_has_them(root: Path) -> None:
    asked = ("probe", root / "own.zarr", *HEAD, "--test", f"la={root / 'kids.zarr'}", "--map", "la:Effusion=FLUID")
    asked = (*asked, "--score", "test=0.25,la=0.75")
    shown, found = run(*asked), strict(run(*asked, "--json").stdout)["sites"]
    assert shown.exit_code == 0, shown.output
    (site,), (score,) = found["sites"], found["scores"]
    (drop,) = site["drops"]
    lines = shown.stdout.splitlines()
    ends = [drop[side] for side in ("internal", "external")]
    numbers = [f"{each['estimate']:.3f} ({each['low']:.3f} to {each['high']:.3f})" for each in ends]
    gap = drop["drop"]["difference"]
    row = next(line for line in lines if all(each in line for each in numbers))
    assert f"{gap['estimate']:+.3f} ({gap['low']:+.3f} to {gap['high']:+.3f})" in row
    assert "la: 80 images, judged over Effusion." in lines
    assert any(f"{score['total']['estimate']:.3f} ({score['total']['low']:.3f}" in line for line in lines)
    assert any(line.startswith("Weighted score: 0.25 test + 0.75 la, AUC with 95% CI") for line in lines)
    (shift,) = site["shifts"]
    apart = f"{shift['classifier']['auc']['estimate']:.3f}"
    assert any(line.split()[:2] == ["la", "a"] and apart in line for line in lines)
    assert "own test" in shown.stdout.partition("drop")[0]


def test_probe__findings_of_a_site_are_rows(root: Path, tmp_path: Path) -> None:
    there = Hospital(1, 60)
    there.truth[:, 0] = 0.0
    labels = [label.replace("Edema|", "") for label in there.labels]
    labels[0] = "|Edema=|Mass|"
    write_site(tmp_path / "ny.zarr", there.values, labels, first=900)
    shown = run("probe", root / "own.zarr", *HEAD, "--test", tmp_path / "ny.zarr")
    assert "Edema: 0 of the site's images with it, 59 without: it takes 3 of each." in shown.stdout.splitlines()
    rows = [line for line in shown.stdout.splitlines() if line.startswith(" Mass ")]
    assert any(f"{sum('Mass' in label for label in labels)} of 60" in row for row in rows)


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--test", "{root}/kids.zarr"], ["site kids has none of the study's findings", "--map OURS=THEIRS"]),
        (["--map", "a=b"], ["--map is about other sites; name them with --test"]),
        (
            ["--test", "{root}/kids.zarr", "--map", "Edema=x"],
            ["site kids has no 'x' for --map Edema=x; it has FLUID, NORMAL"],
        ),
        (["--test", "{root}/kids.zarr", "--score", "kids=2"], ["--score: the weight of kids is 2"]),
        (["--test", "{root}/none.zarr"], ["none.zarr"]),
        (["--test", "{root}/own.zarr"], ["is the study's own cache"]),
    ],
)
def test_probe__what_cannot_be_is_one_line(root: Path, options: list[str], parts: list[str]) -> None:
    typed = [each.format(root=root) for each in options]
    assert_refused(run("probe", root / "own.zarr", *HEAD, *typed), *parts)
