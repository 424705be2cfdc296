"""`dvme adapt`: the weights of a backbone trained further on the user's own images, as a backbone of their own.

The result is a TOML file with its weights, so that all else takes it like any other backbone. Its name has the first
digits of the weights' hash. A TOML file that is there has its weights: all files are written aside and synced, an old
TOML goes first, and the new one comes last. What is left out is decided by contents and groups, as copies and groups
link images, before any pixel is read (`leak`). Beside the TOML lies the list of what was trained on, with what the
weights had seen before; it keeps studies from testing on those images.

Everything of an epoch follows from the seed and its number. `FILE.toml.training/last.pt` has the rest, and the number
of threads. A state of other settings, weights or images is refused, as the user may have meant to go on with it.

Collapse is told by the spread and the effective rank of plain embeddings, each relative to the start (`watch`). A tenth
of either ends the run with an error, and no file is written: a script that goes on to `dvme extract` is to stop there,
for nobody asked for weights of half a schedule. Those of the last sound epoch stay in the folder. A contrastive loss
that ends no lower than that of projections which are all alike is pointed out.
"""
