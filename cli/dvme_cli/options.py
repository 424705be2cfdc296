"""Every option and argument that several commands have, once.

A command calls its parameters as the library calls the fields; `--folds` stands for `n_folds`. Errors of the library
name fields, and `spelling.py` finds the option by that. Defaults come from dvme/defaults.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dvme.defaults import (
    ACCELERATOR_BATCH,
    ADAPT_BATCH,
    BALANCE,
    CONFLICTS,
    CPU_BATCH,
    JOIN,
    MAX_WORKERS,
    N_FOLDS,
    N_REPEATS,
    NEAR_DUPLICATES,
    SEED,
    SIZES,
    TEST_FRACTION,
    VALIDATION,
    VIEWS,
)
from dvme.seeds import SEEDS
from dvme.text import by_name_text
from dvme_cli.completion import heads, kept_backbones, known_backbones

PUBLISHED = "truong2021:aptos, truong2021:patchcam, truong2021:pneumonia-cxr, truong2021:nih-cxr"

Json = Annotated[bool, typer.Option("--json", help="Print the report as JSON.")]

# What a command is about.
Cache = Annotated[str, typer.Argument(help="A cache, by path or URL.")]
NewCache = Annotated[str, typer.Argument(help="The cache, NAME.zarr or s3://...; created if it is not there.")]
Head = Annotated[Path, typer.Argument(help="A head's folder, made by dvme probe --save, or in a run's heads.")]
Run = Annotated[str, typer.Argument(help="A folder of dvme sweep, or of dvme probe --out.")]
Backbone = Annotated[
    str, typer.Argument(help="A backbone, with variations if any, or FILE.toml.", autocompletion=known_backbones)
]
CheckpointFile = Annotated[Path, typer.Argument(metavar="file", help="A PyTorch, TensorFlow or haiku checkpoint.")]
EmbeddingFile = Annotated[
    Path,
    typer.Argument(metavar="file", help="A dvme export, or .npz, .npy, .h5, .parquet, .csv, .tsv of features and ids."),
]

# What is written.
RunFolder = Annotated[str, typer.Option("--out", help="The run's folder. One that was interrupted is gone on with.")]
OptionalRunFolder = Annotated[
    str | None,
    typer.Option("--out", help="A run's folder: made, or gone on with. dvme report takes it. Default: none."),
]
AdaptedBackbone = Annotated[Path, typer.Option("--out", help="FILE.toml; weights and more come beside it.")]
ManifestFile = Annotated[Path, typer.Option("--out", help="The manifest to write, .csv.")]
SubsetFile = Annotated[Path, typer.Option("--out", help="The file to write, .json.")]
Predictions = Annotated[Path, typer.Option("--out", help="The .csv or .parquet file to write; of masks, the folder.")]
Numbers = Annotated[Path | None, typer.Option("--out", help="A .json file for all numbers.")]
Safetensors = Annotated[Path | None, typer.Option("--out", help="The .safetensors file. Default: beside FILE.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what is there.")]
ForceConversion = Annotated[bool, typer.Option("--force", help="Convert FILE even if it loads as it is.")]
Replace = Annotated[bool, typer.Option("--replace", help="Delete these backbones' embeddings first.")]

# Backbones and their weights.
Backbones = Annotated[
    str | None,
    typer.Option(help='Names separated by commas; "x,y" in quotes. Default: all.', autocompletion=kept_backbones),
]
NewBackbones = Annotated[
    str,
    typer.Option(
        "--backbones",
        help='Names separated by commas, "x,y" in quotes; `dvme backbones` lists them.',
        autocompletion=known_backbones,
    ),
]
ComparedBackbones = Annotated[
    str | None,
    typer.Option(
        "--backbones",
        help='Whose images to compare, as in a,b,"x,y". Default: all.',
        autocompletion=kept_backbones,
    ),
]
OwnBackbones = Annotated[
    str | None,
    typer.Option(
        "--backbones",
        help='The head\'s that are your own: FILE.py:NAME, FILE.toml, separated by commas; "x,y" in quotes.',
    ),
]
Weights = Annotated[list[str] | None, typer.Option(help="NAME=PATH: a local checkpoint. Repeatable.")]
FirstBackbone = Annotated[
    str,
    typer.Option("--backbone", help="What to begin with; `dvme backbones` lists them.", autocompletion=known_backbones),
]
MadeBackbone = Annotated[str | None, typer.Option("--backbone", help="Name for embeddings that another tool made.")]
Adaptation = Annotated[
    str,
    typer.Option(help="simclr: views of an image alike; micle: of a group; gmml: hidden patches; supervised: labels."),
]
OwnWeights = Annotated[
    str | None,
    typer.Option("--weights", help="A local checkpoint, [NAME=]PATH. Default: what is here or downloaded."),
]
Architectures = Annotated[
    list[str] | None,
    typer.Option("--arch", help="NAME=ARCHITECTURE of a torchvision-style checkpoint. Repeatable."),
]
OwnArchitecture = Annotated[
    str | None,
    typer.Option("--arch", help="[NAME=]ARCHITECTURE: take WEIGHTS as a torchvision-style file of it."),
]
ListedArchitecture = Annotated[
    str | None, typer.Option("--arch", help="Only architectures that contain this, such as vit.")
]
ListedMethod = Annotated[
    str | None, typer.Option("--method", help="Only of this training method, such as dino or moco.")
]
NewViews = Annotated[
    str | None,
    typer.Option(
        "--views",
        help="Versions of each image to keep, the plain one among them: 4, or 4:rotate+crop without mirror images. "
        f"Default: {VIEWS}.",
    ),
]
DtypeOfFile = Annotated[
    str | None, typer.Option("--dtype", help="Stored type: float32 or float16. Default: as in FILE.")
]

# How to compute.
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps, or auto.")]
BatchSize = Annotated[
    int | None,
    typer.Option(
        help=f"Images per forward pass. Default: {CPU_BATCH} on the CPU, {ACCELERATOR_BATCH} elsewhere; many images on "
        "CUDA: by trial."
    ),
]
PairsAStep = Annotated[
    int | None,
    typer.Option(
        help=f"Pairs of views, or images, of a step. Default: {by_name_text(ADAPT_BATCH)}. LARS from 256 pairs on."
    ),
]
Workers = Annotated[int | None, typer.Option(help=f"Decoding threads. Default: one per core, up to {MAX_WORKERS}.")]
Memory = Annotated[
    float | None,
    typer.Option(help="GiB that embeddings, pixels and heads may take. Default: half of what is free."),
]
Engine = Annotated[str, typer.Option(help="local: this process; ray: workers on a Ray cluster (needs the extra ray).")]
RayAddress = Annotated[
    str | None,
    typer.Option(help="HOST:PORT of a head node, or auto. Default: RAY_ADDRESS, else a cluster of this machine."),
]
RayCpus = Annotated[
    int | None, typer.Option(help="Cores and threads of a Ray worker, in place of one; --memory is of each worker.")
]
ExtractPart = Annotated[
    str | None,
    typer.Option(
        "--part", help="3/16: only the third of sixteen parts, which run at once into one CACHE. Default: all."
    ),
]
StudyPart = Annotated[
    str | None,
    typer.Option(
        "--part",
        help="3/16: fit only the third of sixteen parts, which run at once into one --out; then the same without "
        "--part judges. Default: all.",
    ),
]
Seed = Annotated[
    int | None, typer.Option(min=0, max=SEEDS - 1, help=f"Seed of all that is left to chance. Default: {SEED}.")
]

# A study.
Heads = Annotated[
    str,
    typer.Option(
        "--head",
        help="Heads separated by commas: linear, linear-adam, knn; and the fusions dvme, dvme-noattn, dvme-tokens, "
        "concat, mean-logits, mlp; finetune trains the backbone; of masks segment-linear, unet and others. Settings: "
        "dvme@max-epochs=100, knn@k=5:20 (k is 5 or 20).",
        autocompletion=heads,
    ),
]
Controls = Annotated[
    bool,
    typer.Option(help="Beside dvme and dvme-tokens: every single backbone, and the fusions without attention."),
]
ViewsUsed = Annotated[
    str,
    typer.Option(
        "--views",
        help="What dvme extract --views K kept: heads learn from all of it (train), predictions are means over it as "
        "well (train,test), or neither (none). With a recipe: train:rotate+crop.",
    ),
]
Metric = Annotated[
    str | None,
    typer.Option(help="What is judged by: auc, accuracy, balanced_accuracy or kappa; of masks dice or iou."),
]
At = Annotated[
    str,
    typer.Option(help="What each operating point reaches on validation: specificity=0.9, sensitivity=0.9 or the like."),
]
Prevalence = Annotated[
    list[str] | None,
    typer.Option(help="For predictive values elsewhere: 0.1 of every finding, or Effusion=0.12. Repeatable."),
]
Sizes = Annotated[
    str | None,
    typer.Option(
        help="Training images, separated by commas: numbers, parts (10%), full, or a preset: "
        f"{PUBLISHED}, azizi2021. Default: {','.join(SIZES)}."
    ),
]
Folds = Annotated[int | None, typer.Option("--folds", help=f"Folds of the training pool. Default: {N_FOLDS}.")]
Repeats = Annotated[
    int | None, typer.Option("--repeats", help=f"Times that the pool is folded anew. Default: {N_REPEATS}.")
]
Balance = Annotated[
    str | None,
    typer.Option(help=f"balanced: as many images of each class; stratified; natural. Default: {BALANCE}."),
]
Validation = Annotated[
    str | None,
    typer.Option(
        help=f"matched: small subsets choose on few images too; full: on the whole fold. Default: {VALIDATION}."
    ),
]
Oversample = Annotated[
    bool | None,
    typer.Option(
        "--oversample/--no-oversample",
        help="Heads trained by minibatches see every class equally often. Default: where classes differ in number.",
    ),
]
TestFraction = Annotated[
    float | None,
    typer.Option(help=f"Part held out for testing, without a split column. Default: {TEST_FRACTION}."),
]
DropDuplicates = Annotated[
    bool | None,
    typer.Option("--drop-duplicates", help="Leave out training images that all but coincide with a test image."),
]
NearDuplicates = Annotated[
    str | None,
    typer.Option(
        help="auto: of very many images some may be missed, which a notice says; exact: all are found. "
        f"Default: {NEAR_DUPLICATES}."
    ),
]
Sites = Annotated[
    list[str] | None,
    typer.Option(
        "--test",
        help="A cache of another site, PATH or NAME=PATH: the heads are tested there as well. Repeatable.",
    ),
]
LabelMap = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        help="OURS=THEIRS: what a finding or class is called at other sites; SITE:OURS=THEIRS at one. Repeatable. "
        "Default: the same.",
    ),
]
Portions = Annotated[
    str | None,
    typer.Option(
        "--score",
        help="Weights of sites, and of `test`, the study's own test set: private=0.51,public=0.49.",
    ),
]
By = Annotated[
    str | None,
    typer.Option(
        "--by", help="Subgroups by kept columns: sex,view,age:0-40-60-120 cuts at [0, 40), [40, 60), [60, 120]."
    ),
]
Per = Annotated[
    str | None,
    typer.Option(help="Also join the images of each patient (the groups), or of a kept column such as study."),
]
JoinImages = Annotated[
    str | None,
    typer.Option("--join", help=f"Of probabilities: mean, max, or noisy-or, 1 - prod(1 - p). Default: {JOIN}."),
]
ConflictingLabels = Annotated[
    str | None,
    typer.Option(
        "--conflicts", help=f"Joined labels that differ. any: one is enough; drop: left out. Default: {CONFLICTS}."
    ),
]

# Runs and what is laid beside them.
Published = Annotated[str | None, typer.Option("--with", help=f"A published table: {PUBLISHED}.")]
RunCache = Annotated[str | None, typer.Option("--cache", help="Where the run's cache is now. Default: where it was.")]
EmbeddingSource = Annotated[
    str | None,
    typer.Option(
        "--cache",
        help="A cache to take embeddings from, which stays as it is; those of new images are kept beside it, in "
        "NAME.predicted.zarr. Default: they are not kept.",
    ),
]
ComparedFinding = Annotated[
    str | None, typer.Option("--finding", help="Of runs of several findings: compare by this one, not by their mean.")
]
