"""Who takes part, trains, chooses and tests: snapshots, splits, sizes, folds and repeats.

One test set: the user's, or a seeded stratified fifth; whole groups where there is a group column. The rest is folded.
Every part must hold every class, and every backbone is judged on the same rows. A draw (a fold of a repeat) is one
order of its training images and one of its validation images. A size takes the beginning of both, so subsets are nested
by construction. Balanced orders take from the classes in turn; stratified ones let the k-th row of a class come when
its share is due. By default a small subset also chooses on few images (`validation: matched`): twenty labels to train
on and four hundred to choose on are not twenty labels.

A manifest names images by content, not by row or path: another lab's cache of the same images reproduces it, whatever
its order. It records whether the order of classes was given, beside its hash.

Files of different bytes that give bit-identical embeddings in every backbone show the same picture, and stay on one
side of a seeded split. Near-duplicates are pairs with a cosine above 0.999 in any backbone. A backbone that finds over
a hundredth of random pairs so close, an untrained one for example, cannot tell images apart; it is passed over, which
is said. All pairs are found without looking at all (`similarity`): a projection bounds every cosine, and a k-d tree or
small products find those that may be above. `inspection` reads each backbone once for this, for copies to the bit and
for constant ones. What it saw is kept in the run under a key of images and embeddings.
"""
