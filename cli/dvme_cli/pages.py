"""Options on what HTML pages show, as in `options.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dvme.defaults import MAPS

FIRST_MAPS = ",".join(MAPS)

Page = Annotated[Path, typer.Option("--out", help="The HTML file to write.")]
SavedHead = Annotated[
    Path | None,
    typer.Option("--head", help="A saved dvme head, of probe --save or a run: maps its embedding as well."),
]
Maps = Annotated[
    str, typer.Option("--method", help="tsne, umap and pca, separated by commas; the page shows one at a time.")
]
Thumbnails = Annotated[bool, typer.Option(help="Whether the images may be seen.")]
ColouredBy = Annotated[
    str | None, typer.Option("--finding", help="Which of several colours the points. Default: the most frequent.")
]
Anonymous = Annotated[
    bool,
    typer.Option(
        "--anonymous",
        help="Names of images become digests, groups numbers; paths, splits and further columns are left out. Names of "
        "classes and backbones stay, and so do the images: see --no-thumbnails.",
    ),
]
Figures = Annotated[
    Path | None,
    typer.Option(help="A folder for every figure as a file (needs the extra figures, and Chromium)."),
]
FigureKind = Annotated[str, typer.Option(help="svg, png or pdf.")]
