"""Options on images, on what a table, a header or a publisher says of them, and on dvme itself, as in `options.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dvme.defaults import DENSE_DTYPE, DTYPE, MAX_PIXELS, NA_VALUES, PRECISION

Images = Annotated[
    Path,
    typer.Argument(
        help="Images: a folder, a table (.csv, .tsv, .parquet, .xlsx, ...), an archive, an array file, or SET:FOLDER "
        "of a public set."
    ),
]
ImagesOrCache = Annotated[str, typer.Argument(help="A folder, archive or manifest of images, or a cache.")]
ImagesThatStay = Annotated[Path, typer.Argument(help="The images that stay: a folder, an archive or a manifest.")]
ImagesAgain = Annotated[
    bool, typer.Option("--images", help="Also embed random images again (--sample, or 32) and compare.")
]
UnpackedSet = Annotated[Path, typer.Argument(help="Where the set was unpacked, in whatever folders below.")]
Edition = Annotated[str | None, typer.Option(help="One of several: 2019, HAM10000, pathmnist_64. Default: the one.")]
Views = Annotated[str | None, typer.Option(help="Only these views, as the publisher names them: PA,AP. Default: all.")]
ImagesFolder = Annotated[Path | None, typer.Option("--images", help="The folder in which the image names are paths.")]
ImageColumn = Annotated[
    str | None,
    typer.Option("--image-col", help="Column of image paths. Default: image."),
]
NamedColumn = Annotated[
    str | None,
    typer.Option("--image-col", help="Column of image paths, or of content ids. Default: image."),
]
LabelColumn = Annotated[
    str | None,
    typer.Option("--label-col", help="Column of classes, or columns of findings: A,B or 'finding_*'. Default: label."),
]
TaughtLabels = Annotated[
    str | None,
    typer.Option(
        "--label-col", help="What supervised learns: a column of classes, or A,B of findings. Default: label."
    ),
]
LabelSeparator = Annotated[
    str | None, typer.Option(help="What stands between the findings of one cell, such as '|'. Default: one class each.")
]
Uncertain = Annotated[
    str | None,
    typer.Option(help="What heads learn of uncertain findings: ignore, zeros, ones or soft=0.7. Default: ignore."),
]
Blank = Annotated[
    str | None, typer.Option(help="What an empty cell of a finding is: ignore (unknown) or zeros. Default: ignore.")
]
NoFinding = Annotated[str, typer.Option(help="What the table calls an image without any finding.")]
SplitColumn = Annotated[
    str | None, typer.Option("--split-col", help="Column of train/val/test. Default: split, if any.")
]
LeftOutSplit = Annotated[
    str | None,
    typer.Option("--split-col", help="Column of train/val/test; test is left out. Default: split, if any."),
]
GroupColumn = Annotated[str | None, typer.Option("--group-col", help="Column of patients. Default: group, if any.")]
KeepColumns = Annotated[
    str | None,
    typer.Option("--keep-col", help="Further columns to keep, separated by commas: sex,view,age. For --by and --per."),
]
MaskColumns = Annotated[
    str | None,
    typer.Option(
        "--mask-col",
        help="Column of segmentation masks: files, folders, patterns such as masks/ID_*.png, or runs of pixels. "
        "Several, separated by commas, are structures that may overlap.",
    ),
]
MaskClasses = Annotated[
    str | None, typer.Option(help="What values of masks mean: 0=background,128=lung,255=heart; * is any other value.")
]
MaskVoid = Annotated[str | None, typer.Option(help="Values of masks that count for nothing, separated by commas: 255.")]
MaskEncoding = Annotated[
    str | None,
    typer.Option(
        help="rle: masks are runs, numbered from 1 on; siim: each run is counted from the end of the last one."
    ),
]
Boundary = Annotated[
    float | None,
    typer.Option(
        metavar="PIXELS",
        help="Of a segmentation, score outlines as well: HD95, and boundary Dice within so many pixels.",
    ),
]
Frame = Annotated[
    str | None,
    typer.Option(
        help="What to read of DICOM files with several frames: each as an image of its own, middle, or a number from 0 "
        "on. Default: the first."
    ),
]
EachFrame = Annotated[
    str | None,
    typer.Option(
        "--frame",
        help="each: every frame of a DICOM file is an image. Default: one frame, as the name of the backbone says.",
    ),
]
NaValues = Annotated[
    str | None,
    typer.Option(
        help=f"What cells without a value say, separated by commas; '' is nothing. Default: {', '.join(NA_VALUES)}."
    ),
]
ImageRoot = Annotated[Path | None, typer.Option(help="Where a manifest's relative paths start.")]
SkipMissing = Annotated[bool, typer.Option("--skip-missing", help="Leave out what a manifest names and is not there.")]
ClassOrder = Annotated[
    str | None,
    typer.Option(help="All class names, the lowest first: none,mild,severe. Kept in CACHE; '' takes it away."),
]
Dense = Annotated[
    bool,
    typer.Option(
        "--dense",
        help="Keep patch tokens or feature maps of the last layer instead of one vector an image, as NAME@dense=last.",
    ),
]
Layers = Annotated[str | None, typer.Option(help="Keep those of these layers, as --dense: last, last-4 or 3,6,9,12.")]
Dtype = Annotated[
    str | None,
    typer.Option(help=f"Stored type: {DTYPE}, the default, or {DENSE_DTYPE}; of dense features the latter, or int8."),
]
Precision = Annotated[
    str | None,
    typer.Option(
        help="What backbones compute in: float32, tf32 (NVIDIA GPUs), bf16 or fp16 (for GPUs; slow on the CPU). Other "
        f"numbers, so part of their names. Default: {PRECISION}."
    ),
]
MaxPixels = Annotated[
    int | None,
    typer.Option(
        help="Pixels of the largest image to decode; images that failed are tried again. "
        f"Default: {MAX_PIXELS:,}, which guards the memory."
    ),
]
LargestImage = Annotated[
    int | None,
    typer.Option(
        "--max-pixels",
        help=f"Pixels of the largest image to decode. Default: {MAX_PIXELS:,}, which guards the memory.",
    ),
]
Devices = Annotated[
    str,
    typer.Option("--device", help="cpu, cuda, cuda:1, mps, or auto; of several, cuda:0,cuda:1, extraction uses all."),
]

# Papers, this installation, the demo.
MethodsFile = Annotated[
    Path | None, typer.Option("--out", help="A .md file for the text and the references. Default: they are printed.")
]
PlaceOfCache = Annotated[
    str | None,
    typer.Option("--cache", help="Where a cache is to lie: may it be written there, and is there room?"),
]
DemoFolder = Annotated[str, typer.Argument(help="Where manifest, cache, run and report are to lie.")]
DemoImages = Annotated[str, typer.Option("--images", help="How many of the 2,624 photographs, or all.")]
