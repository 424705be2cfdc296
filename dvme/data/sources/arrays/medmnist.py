"""MedMNIST: what the numbers of its labels stand for."""

from __future__ import annotations

import re
from dataclasses import dataclass

NAME = re.compile(r"(?P<flag>[a-z]+mnist)(_(64|128|224))?", re.IGNORECASE)
"""Of a file, without its suffix."""
ORGANS = (
    *("bladder", "femur-left", "femur-right", "heart", "kidney-left", "kidney-right", "liver", "lung-left"),
    *("lung-right", "pancreas", "spleen"),
)


@dataclass(frozen=True)
class MedMnist:
    """One of its sets of flat images."""

    names: tuple[str, ...]
    """Of classes, or of findings, in the order of their numbers or columns."""
    task: str = "multi-class"
    is_ordinal: bool = False
    remark: str = ""
    """What else is worth knowing."""


SETS = {
    "pathmnist": MedMnist((
        *("adipose", "background", "debris", "lymphocytes", "mucus", "smooth muscle", "normal colon mucosa"),
        *("cancer-associated stroma", "colorectal adenocarcinoma epithelium"),
    )),
    "chestmnist": MedMnist(
        (
            *("atelectasis", "cardiomegaly", "effusion", "infiltration", "mass", "nodule", "pneumonia"),
            *("pneumothorax", "consolidation", "edema", "emphysema", "fibrosis", "pleural", "hernia"),
        ),
        task="multi-label, binary-class",
        remark="the splits of ChestMNIST are not the official ones of ChestX-ray14",
    ),
    "dermamnist": MedMnist((
        *("actinic keratoses and intraepithelial carcinoma", "basal cell carcinoma", "benign keratosis-like lesions"),
        *("dermatofibroma", "melanoma", "melanocytic nevi", "vascular lesions"),
    )),
    "octmnist": MedMnist(("choroidal neovascularization", "diabetic macular edema", "drusen", "normal")),
    "pneumoniamnist": MedMnist(("normal", "pneumonia"), task="binary-class"),
    "retinamnist": MedMnist(("0", "1", "2", "3", "4"), task="ordinal-regression", is_ordinal=True),
    "breastmnist": MedMnist(("malignant", "normal, benign"), task="binary-class"),
    "bloodmnist": MedMnist((
        *("basophil", "eosinophil", "erythroblast"),
        "immature granulocytes(myelocytes, metamyelocytes and promyelocytes)",
        *("lymphocyte", "monocyte", "neutrophil", "platelet"),
    )),
    "tissuemnist": MedMnist((
        *("Collecting Duct, Connecting Tubule", "Distal Convoluted Tubule", "Glomerular endothelial cells"),
        *("Interstitial endothelial cells", "Leukocytes", "Podocytes", "Proximal Tubule Segments"),
        "Thick Ascending Limb",
    )),
    **dict.fromkeys(("organamnist", "organcmnist", "organsmnist"), MedMnist(ORGANS)),
}  # fmt: skip
"""Flag to set. Source: `medmnist.INFO` of the package medmnist 3.0.2."""


def set_of(stem: str) -> MedMnist | None:
    """The set of a file's name without suffix, such as `pathmnist_64`; None for any other."""
    match = NAME.fullmatch(stem)
    return SETS.get(match["flag"].lower()) if match else None
