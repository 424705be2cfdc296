from __future__ import annotations

import math

import pytest

from dvme.errors import UnknownNameError
from dvme.study.published import N_FOLDS, TEST_IMAGES, PublishedCell, published_cells

DATA = ("patchcam", "aptos", "pneumonia-cxr", "nih-cxr")


def _cell(dataset: str, setting: str, method: str, n_train: int) -> PublishedCell:
    found = [
        cell
        for cell in published_cells(f"truong2021:{dataset}")
        if (cell.setting, cell.method, cell.n_train) == (setting, method, n_train)
    ]
    assert len(found) == 1
    return found[0]


TYPED = [
    # Typed from the paper: the corners of its tables B1 to B8 and C1 to C4, and some of their middles.
    ("patchcam", "linear", "random", 50, 0.5041, 0.0091),
    ("patchcam", "linear", "dino", 100, 0.8040, 0.0050),
    ("patchcam", "linear", "swav", 20000, 0.8310, 0.0356),
    ("patchcam", "linear", "dino", 50000, 0.8487, 0.0014),
    ("aptos", "linear", "random", 50, 0.0324, 0.0602),
    ("aptos", "linear", "random", 100, -0.0272, 0.0300),
    ("aptos", "linear", "swav", 50, 0.6330, 0.0204),
    ("aptos", "linear", "simclr", 500, 0.6500, 0.0138),
    ("aptos", "linear", "supervised", 3662, 0.7331, 0.0124),
    ("aptos", "linear", "dino", 3662, 0.7790, 0.0083),
    ("pneumonia-cxr", "linear", "random", 50, 0.6899, 0.0339),
    ("pneumonia-cxr", "linear", "simclr", 50, 0.9168, 0.0006),
    ("pneumonia-cxr", "linear", "dino", 5216, 0.9868, 0.0008),
    ("nih-cxr", "linear", "random", 20, 0.5212, 0.0344),
    ("nih-cxr", "linear", "simclr", 150, 0.6686, 0.0143),
    ("nih-cxr", "linear", "dino", 2414, 0.7438, 0.0228),
    ("patchcam", "finetune", "random", 50, 0.5181, 0.0402),
    ("patchcam", "finetune", "dino", 50000, 0.8517, 0.0158),
    ("aptos", "finetune", "random", 50, 0.0177, 0.0954),
    ("aptos", "finetune", "random", 100, 0.8080, 0.0759),
    ("aptos", "finetune", "random", 200, 0.1914, 0.0445),
    ("aptos", "finetune", "dino", 3662, 0.8365, 0.0213),
    ("pneumonia-cxr", "finetune", "supervised", 5216, 0.9910, 0.0015),
    ("pneumonia-cxr", "finetune", "dino", 5216, 0.9948, 0.0010),
    ("nih-cxr", "finetune", "random", 20, 0.5015, 0.0253),
    ("nih-cxr", "finetune", "swav", 2414, 0.7737, 0.0212),
    ("patchcam", "dvme", "dvme-no-attention", 50, 0.7376, 0.0350),
    ("patchcam", "dvme", "dvme", 50000, 0.8467, 0.0094),
    ("aptos", "dvme", "dvme-no-attention", 50, 0.6354, 0.0428),
    ("aptos", "dvme", "dvme", 50, 0.6913, 0.0575),
    ("aptos", "dvme", "dvme", 500, 0.7925, 0.0265),
    ("aptos", "dvme", "dvme", 3662, 0.8242, 0.0279),
    ("pneumonia-cxr", "dvme", "dvme", 50, 0.9539, 0.0025),
    ("pneumonia-cxr", "dvme", "dvme-no-attention", 5216, 0.9865, 0.0030),
    ("nih-cxr", "dvme", "dvme", 200, 0.7601, 0.0146),
    ("nih-cxr", "dvme", "dvme-no-attention", 2414, 0.7575, 0.0177),
]


@pytest.mark.parametrize(("dataset", "setting", "method", "n_train", "mean", "std"), TYPED)
def test_published_cells__are_those_of_the_paper(
    dataset: str, setting: str, method: str, n_train: int, mean: float, std: float
) -> None:
    cell = _cell(dataset, setting, method, n_train)
    assert (cell.mean, cell.std) == (mean, std)
    assert cell.metric == ("kappa" if dataset == "aptos" else "auc")


def test_published_cells__whole_columns() -> None:
    """Sums over the sizes of every column of table B2, and of C2, added up by hand."""
    cells = published_cells("truong2021:aptos")
    sums = {
        (setting, method): round(sum(c.mean for c in cells if (c.setting, c.method) == (setting, method)), 4)
        for setting, method in {(c.setting, c.method) for c in cells}
    }
    assert sums["linear", "random"] == 0.2309
    assert sums["linear", "supervised"] == 3.1514
    assert sums["linear", "swav"] == 3.4880
    assert sums["linear", "simclr"] == 3.0820
    assert sums["linear", "dino"] == 3.5393
    assert sums["dvme", "dvme-no-attention"] == 3.6163
    assert sums["dvme", "dvme"] == 3.7859


def test_published_cells__every_table_is_whole() -> None:
    """5 initialisations, linear and fine-tuned, and 2 fusions at every size: 10, 5, 5 and 6 sizes."""
    cells = {dataset: published_cells(f"truong2021:{dataset}") for dataset in DATA}
    assert {dataset: len(some) for dataset, some in cells.items()} == dict(zip(DATA, (120, 60, 60, 72), strict=True))
    tables = {(dataset, cell.setting): cell.table for dataset, some in cells.items() for cell in some}
    assert [tables[dataset, "linear"] for dataset in DATA] == ["B1", "B2", "B3", "B4"]
    assert [tables[dataset, "finetune"] for dataset in DATA] == ["B5", "B6", "B7", "B8"]
    assert [tables[dataset, "dvme"] for dataset in DATA] == ["C1", "C2", "C3", "C4"]
    for some in cells.values():
        assert len({(cell.setting, cell.method, cell.n_train) for cell in some}) == len(some)
        assert all(-0.05 < cell.mean < 1 and not math.isnan(cell.std) for cell in some)


def test_published_cells__subtasks_are_those_of_table_1() -> None:
    found = {
        dataset: {cell.subtask: cell.n_train for cell in published_cells(f"truong2021:{dataset}") if cell.subtask}
        for dataset in DATA
    }
    assert found == {
        "patchcam": {"S": 500, "M": 5000, "F": 50000},
        "aptos": {"S": 50, "M": 500, "F": 3662},
        "pneumonia-cxr": {"S": 50, "M": 500, "F": 5216},
        "nih-cxr": {"S": 20, "M": 200, "F": 2414},
    }
    assert dict(TEST_IMAGES) == {"patchcam": 57486, "aptos": 1928, "pneumonia-cxr": 624, "nih-cxr": 1962}
    assert N_FOLDS == 5


def test_published_cells__stand_beside_a_size_of_a_sweep() -> None:
    assert _cell("aptos", "linear", "swav", 50).size == "50"
    assert _cell("aptos", "linear", "swav", 3662).size == "full"


def test_published_cells__the_misprint_is_kept_and_flagged() -> None:
    cell = _cell("aptos", "finetune", "random", 100)
    assert cell.mean == 0.8080
    assert cell.doubt == "as published, and most likely a misprint: 0.0177 at 50 and 0.1914 at 200"
    doubted = [each for dataset in DATA for each in published_cells(f"truong2021:{dataset}") if each.doubt]
    assert doubted == [cell]


@pytest.mark.parametrize("name", ["truong2021:mnist", "truong2021", "azizi2021:aptos", "", ":aptos"])
def test_published_cells__unknown_tables(name: str) -> None:
    with pytest.raises(
        UnknownNameError, match="is not a published table; choose from truong2021:patchcam, truong2021:a"
    ):
        published_cells(name)
