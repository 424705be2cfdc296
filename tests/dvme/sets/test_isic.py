from __future__ import annotations

from pathlib import Path

import pytest
from publishers import pictures

import dvme
from dvme.errors import DataError, OptionError
from dvme.sets.building import public_set

ISIC_2018 = """image,MEL,NV,BCC,AKIEC,BKL,DF,VASC
ISIC_0024306,0.0,1.0,0.0,0.0,0.0,0.0,0.0
ISIC_0024307,0.0,1.0,0.0,0.0,0.0,0.0,0.0
ISIC_0024310,1.0,0.0,0.0,0.0,0.0,0.0,0.0
"""
ISIC_2019 = """image,MEL,NV,BCC,AK,BKL,DF,VASC,SCC,UNK
ISIC_0000000,0.0,1.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0
ISIC_0000002_downsampled,1.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0
ISIC_0024306,0.0,0.0,0.0,0.0,0.0,0.0,0.0,1.0,0.0
ISIC_0024307,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0
"""
METADATA_2019 = """image,age_approx,anatom_site_general,lesion_id,sex
ISIC_0000000,55.0,anterior torso,,female
ISIC_0000002_downsampled,,upper extremity,BCN_0000001,
ISIC_0024306,45.0,,HAM_0000550,male
"""
ISIC_2020 = """image_name,patient_id,sex,age_approx,anatom_site_general_challenge,diagnosis,benign_malignant,target
ISIC_2637011,IP_7279968,male,45.0,head/neck,unknown,benign,0
ISIC_0015719,IP_3075186,female,45.0,upper extremity,unknown,benign,0
ISIC_0052212,IP_2842074,female,50.0,lower extremity,melanoma,malignant,1
ISIC_0068279,IP_3075186,female,45.0,head/neck,nevus,benign,0
"""
HAM = """lesion_id,image_id,dx,dx_type,age,sex,localization,dataset
HAM_0000118,ISIC_0027419,bkl,histo,80.0,male,scalp,vidir_modern
HAM_0000118,ISIC_0025030,bkl,histo,80.0,male,scalp,vidir_modern
HAM_0002730,ISIC_0026769,mel,consensus,,unknown,back,rosendahl
"""


def _names(table: str, column: int = 0) -> list[str]:
    return [line.split(",")[column] for line in table.splitlines()[1:]]


def _put(root: Path, name: str, table: str, folder: str = "", column: int = 0) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(table)
    if folder:
        pictures(root / folder, [f"{image}.jpg" for image in _names(table, column)])
    return root


def test_2018__three_parts_and_lesions(tmp_path: Path) -> None:
    train = _put(tmp_path / "a", "ISIC2018_Task3_Training_GroundTruth.csv", ISIC_2018, "ISIC2018_Task3_Training_Input")
    pictures(train, ["ISIC2018_Task1-2_Training_Input/ISIC_0024306_superpixels.png"])
    lesions = "image,lesion_id,diagnosis_confirm_type\nISIC_0024307,HAM_0003958,serial imaging\n"
    lesions += "ISIC_0024306,HAM_0000550,single image expert consensus\nISIC_0024310,HAM_0000550,histopathology\n"
    _put(tmp_path, "ISIC2018_Task3_Training_LesionGroupings.csv", lesions)
    header = ISIC_2018.splitlines()[0]
    for part, name in (("Validation", "ISIC_0034321"), ("Test", "ISIC_0034524")):
        table = f"{header}\n{name},0.0,0.0,0.0,1.0,0.0,0.0,0.0\n"
        _put(tmp_path / part, f"ISIC2018_Task3_{part}_GroundTruth.csv", table, f"ISIC2018_Task3_{part}_Input")
    built = public_set("isic", tmp_path, tmp_path / "m.csv")
    assert built.columns["label"] == ["NV", "NV", "MEL", "AKIEC", "AKIEC"]
    assert built.columns["split"] == ["train", "train", "train", "val", "test"]
    assert built.columns["group"] == ["HAM_0000550", "HAM_0003958", "HAM_0000550", "", ""]
    assert built.columns["confirmed"][1:3] == ["serial imaging", "histopathology"]
    assert list(built.columns) == ["image", "label", "split", "group", "confirmed"]
    assert built.set.title == "ISIC 2018, task 3"
    assert built.set.n_images == 10_015 + 193 + 1_512
    assert dvme.load_samples(tmp_path / "m.csv").labels == built.columns["label"]
    assert built.remarks[:3] == (
        "recognised as ISIC 2018, task 3 by the header of ISIC2018_Task3_Training_GroundTruth.csv",
        "groups are lesions: of patients nothing is told, who may have several",
        "3 images with the numbers of HAM10000: of one year and another none is external",
    )
    assert "1 picture left out, for no table names them" in built.remarks


def test_2019__names_lesions_and_classes(tmp_path: Path) -> None:
    _put(tmp_path, "ISIC_2019_Training_GroundTruth.csv", ISIC_2019, "ISIC_2019_Training_Input")
    alone = public_set("isic", tmp_path)
    assert "no table of lesions is there (LesionGroupings or Metadata), and so there are no groups" in alone.remarks
    assert list(alone.columns) == ["image", "label"]
    _put(tmp_path, "ISIC_2019_Training_Metadata.csv", METADATA_2019)
    test = ISIC_2019.splitlines()[0] + ",score_weight,validation_weight\nISIC_0034321,0,0,0,0,0,0,0,0,1,1,0\n"
    _put(tmp_path, "ISIC_2019_Test_GroundTruth.csv", test, "ISIC_2019_Test_Input")
    _put(
        tmp_path, "ISIC_2019_Test_Metadata.csv", "image,age_approx,anatom_site_general,sex\nISIC_0034321,70,palm,male\n"
    )
    built = public_set("isic", tmp_path)
    assert built.columns["label"] == ["NV", "MEL", "SCC", "", "UNK"]
    assert built.columns["split"] == ["train"] * 4 + ["test"]
    assert built.columns["group"] == ["", "BCN_0000001", "HAM_0000550", "", ""]
    assert built.columns["age"] == ["55", "", "45", "", "70"]
    assert built.columns["sex"] == ["F", "", "M", "", "M"]
    assert built.columns["site"] == ["anterior torso", "upper extremity", "", "", "palm"]
    assert {
        "1 image of no class, or of several",
        "1 image of the class UNK: none of the classes of the training part",
        "1 image called .._downsampled, as the publisher names them",
        "2 images with the numbers of HAM10000: of one year and another none is external",
        "ISIC_2019_Training_GroundTruth.csv has 4 rows, the published table 25,331: another version, or a part of it",
    } <= {*built.remarks}


def test_2020__patients_copies_and_images_without_a_label(tmp_path: Path) -> None:
    _put(tmp_path, "train.csv", ISIC_2020, "jpeg/train")
    _put(tmp_path, "test.csv", "image_name,patient_id,sex\nISIC_0052213,IP_1,male\n", "jpeg/test")
    built = public_set("isic", tmp_path)
    assert built.columns["label"] == ["benign", "benign", "malignant", "benign"]
    assert built.columns["group"] == ["IP_7279968", "IP_3075186", "IP_2842074", "IP_3075186"]
    assert (built.n_groups, built.set.n_patients) == (3, 2_056)
    assert {
        "ISIC_2020_Training_Duplicates.csv is not there, which lists 425 images as copies of others",
        "1 test image of which nobody has the label left out",
    } <= {*built.remarks}
    assert not any("for no table names them" in line for line in built.remarks)
    _put(tmp_path, "ISIC_2020_Training_Duplicates.csv", "image_name_1,image_name_2\nISIC_2637011,ISIC_0068279\n")
    (tmp_path / "train.csv").rename(tmp_path / "ISIC_2020_Training_GroundTruth.csv")
    again = public_set("isic", tmp_path)
    assert again.columns == {name: cells[:3] for name, cells in built.columns.items()}
    assert "1 image that the publisher lists as copies of others left out" in again.remarks


def test_ham10000__its_own_table(tmp_path: Path) -> None:
    """Harvard's copy of the table has no suffix, and the pictures are in two folders."""
    pictures(tmp_path, ["HAM10000_images_part_1/ISIC_0027419.jpg", "HAM10000_images_part_2/ISIC_0026769.jpg"])
    _put(tmp_path, "HAM10000_metadata", HAM)
    built = public_set("isic", tmp_path)
    assert built.columns["label"] == ["bkl", "mel"]
    assert built.columns["group"] == ["HAM_0000118", "HAM_0002730"]
    assert built.columns["confirmed"] == ["histo", "consensus"]
    assert built.columns["site"] == ["scalp", "back"]
    assert built.columns["sex"] == ["M", ""]
    assert built.set.title == "HAM10000"
    assert "1 picture not there, and left out" in built.remarks
    (tmp_path / "notes.csv").write_text("a,b\n1,2,3\n")
    again = public_set("isic", tmp_path)
    assert again.columns == built.columns
    assert any(line.startswith("passed over: cannot read the manifest") for line in again.remarks)


def test_published__several_years_in_one_folder(tmp_path: Path) -> None:
    _put(tmp_path, "HAM10000_metadata.csv", HAM, "ham", column=1)
    _put(tmp_path, "ISIC_2019_Training_GroundTruth.csv", ISIC_2019, "2019")
    with pytest.raises(DataError, match="has tables of 2019 and HAM10000; choose one with edition='2019'"):
        public_set("isic", tmp_path)
    assert len(public_set("isic", tmp_path, edition="ham10000")) == 3
    assert public_set("isic", tmp_path, edition="2019").set.title == "ISIC 2019"
    with pytest.raises(OptionError, match="has no table of ISIC 2020; it has 2019, HAM10000"):
        public_set("isic", tmp_path, edition="2020")
    with pytest.raises(OptionError, match="no edition is called '2017'; there are 2018, 2019, 2020, HAM10000; choose"):
        public_set("isic", tmp_path, edition="2017")
    _put(tmp_path, "copy_of_HAM10000_metadata.csv", HAM)
    with pytest.raises(DataError, match="has more than one table of the train part: HAM10000_metadata"):
        public_set("isic", tmp_path, edition="HAM10000")


def test_published__no_table_of_any_year(tmp_path: Path) -> None:
    _put(tmp_path, "labels.csv", "image,label\nISIC_0024306,mel\n", "images")
    with pytest.raises(DataError, match=r"has no table of ISIC 2018, 2019 or 2020 .* or of HAM10000 .*; put the"):
        public_set("isic", tmp_path)
