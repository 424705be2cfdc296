"""What is offered for a command or an option that does not exist."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches

OPTIONS = {
    "--head": ("--heads", "--classifier", "--probe"),
    "--backbones": ("--backbone", "--model", "--models", "--encoder", "--encoders", "--network"),
    "--out": ("--output", "--output-dir", "--output-file", "--outdir", "--output-path", "--run", "--save-to", "--html"),
    "--label-col": ("--label", "--labels", "--label-column", "--target", "--target-col", "--class", "--classes"),
    "--image-col": ("--image", "--images", "--image-column", "--path-col", "--file-col"),
    "--group-col": ("--group", "--groups", "--patient", "--patients", "--patient-col", "--group-column"),
    "--split-col": ("--split", "--splits", "--fold-col", "--split-column"),
    "--image-root": ("--root", "--root-dir", "--image-dir", "--data-dir"),
    "--device cuda": ("--gpu", "--cuda", "--gpus", "--use-gpu"),
    "--device cpu": ("--cpu", "--no-cuda", "--no-gpu"),
    "--device mps": ("--mps",),
    "--batch-size": ("--batch", "--batchsize", "--bs"),
    "--workers": ("--num-workers", "--n-workers", "--jobs", "--n-jobs", "--threads"),
    "--arch": ("--architecture", "--architectures"),
    "--weights": ("--checkpoint", "--checkpoints", "--ckpt", "--weight", "--pretrained"),
    "--image-size": ("--size", "--resolution", "--img-size", "--crop", "--input-size"),
    "--sizes": ("--size", "--subset-sizes", "--n-train", "--train-sizes"),
    "--pool": ("--pooling", "--global-pool"),
    "--dtype float16": ("--fp16", "--half", "--float16"),
    "--dtype": ("--type", "--storage-type"),
    "--precision": ("--amp", "--autocast", "--compute-dtype", "--mixed-precision"),
    "--precision bf16": ("--bf16", "--bfloat16"),
    "--precision tf32": ("--tf32", "--allow-tf32"),
    "--folds": ("--n-folds", "--cv", "--k-folds", "--kfold", "--splits"),
    "--repeats": ("--n-repeats", "--repetitions"),
    "--test-fraction": ("--test-size", "--holdout", "--test-split", "--test"),
    "--seed": ("--random-state", "--random-seed", "--rng"),
    "--memory": ("--mem", "--ram", "--max-memory"),
    "--metric": ("--score", "--scoring", "--metrics"),
    "--method": ("--methods", "--map", "--maps", "--projection"),
    "--force": ("--overwrite", "--replace", "--yes"),
    "--overwrite": ("--force",),
    "--replace": ("--overwrite", "--force"),
    "--plan": ("--dry-run", "--dry"),
    "--class-order": ("--order", "--classes", "--class-names"),
    "--with": ("--published", "--paper"),
    "--all-images": ("--all",),
    "--save": ("--save-heads", "--save-head", "--out", "--output"),
}
"""What dvme calls it, and what others do."""
COMMANDS = {
    "extract": ("embed", "encode", "features", "embeddings", "run", "extract-features", "build", "create", "add"),
    "probe": ("train", "fit", "evaluate", "eval", "test", "linear", "linear-probe", "knn", "classify", "benchmark"),
    "sweep": ("learning-curve", "curve", "grid", "study", "search"),
    "subsets": ("split", "sample", "subsample", "draw"),
    "compare": ("diff", "versus", "vs"),
    "predict": ("infer", "inference", "apply", "score"),
    "explain": ("attention", "ablate", "importance", "interpret"),
    "report": ("html", "page", "summary", "summarise", "summarize"),
    "viz": ("plot", "visualise", "visualize", "vis", "tsne", "umap", "map", "draw"),
    "info": ("show", "describe", "inspect", "stat", "status"),
    "backbones": ("models", "list", "ls", "encoders", "zoo", "networks"),
    "cache": ("store",),
    "methods": ("paper", "write-up", "writeup"),
    "cite": ("citation", "bibtex", "bib", "references"),
    "doctor": ("check", "diagnose", "diagnostics", "health", "env", "environment", "versions"),
    "demo": ("example", "examples", "tutorial", "try", "quickstart"),
    "--help": ("help",),
    "--version": ("version",),
}
"""The same of commands; those of a group are found by their own names."""


def options_like(typed: str, known: Sequence[str]) -> list[str]:
    """Which of a command's options, all with their dashes, may have been meant, the likeliest first."""
    named = [ours for ours, others in OPTIONS.items() if typed in others and ours.split()[0] in known]
    longer = [option for option in known if option.startswith(typed) or typed.startswith(f"{option}-")]
    return named or longer or get_close_matches(typed, known, n=2, cutoff=0.7)


def commands_like(typed: str, known: Sequence[str], nested: Mapping[str, Sequence[str]]) -> list[str]:
    """Which of the known commands may have been meant, the likeliest first; `nested` are those of the groups."""
    name = re.sub(r"[_\s]", "-", typed.lower())
    usual = [ours for ours, others in COMMANDS.items() if name in others and (ours in known or ours.startswith("--"))]
    within = [f"{group} {command}" for group, commands in nested.items() for command in commands if command == name]
    longer = [command for command in known if command.startswith(f"{name}-")]
    return [*within, *usual] or longer or get_close_matches(name, known, n=2, cutoff=0.6)
