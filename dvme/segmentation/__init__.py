"""Where in the image: classes of the tokens of dense features.

A head of segmentation is a head of embeddings on tokens. Units of every draw, choice and test stay images.
`fit_segmenters` turns their jobs into jobs on rows of tokens and hands them to `fit_each`, so that all draws, sizes and
strengths of `segment-linear` are one batch of exact regressions.

Which tokens (`tokens`). Up to 256 of an image, drawn from its content id: the same in every draw, size, part and after
a kill. A token goes with the class of which it holds the largest part of all that the image has. Every class gets an
equal number, or all that it has. Each token counts by the inverse of its chance, so that sums over drawn tokens
estimate those over all: drawing says where a head looks, not how frequent it takes classes to be. So `segment-dvme`
draws its rows as they are, and is not told of more foreground than there is. Of the finest map only the drawn tokens
are decoded, and of coarser ones only these are brought to its grid, each from its four neighbours (`DenseMaps.tokens`):
all tokens of four maps of efficientnet-lite0 on 56 x 56 cells would be eleven times as many values as there are.

What they teach (`shares`) is the share of each class among the known pixels of the cell. Where a pixel has one class, a
token of several is a row for each, weighted by its share: the log loss of a soft target, to every head that knows
weights. Structures that may overlap are cells as several findings are; heads are chosen on shares made 0 or 1.
`segment-knn` takes shares as they are always: of two rows of one token neither is nearer, and their order would decide.

Standardised (`standard`) by up to 64 tokens of each image of a `reference`, drawn without a look at masks. A study
names the same reference to every part and after every kill: with another one, the penalty of the same strength is
another.

Back to pixels go probabilities, not their logarithms. They are what was learned as shares, and a head that knows every
share then reaches the ceiling to the pixel. The ceiling (`ceiling`) is the mask itself on the same way. On 20 images of
nuclei (efficientnet-lite0, last four levels) Dice is 0.001 to 0.003 higher than by logarithms.

Memory. What `segment-conv` holds of all its images, the shares of classes in float16, and what a minibatch keeps for
the way back are counted before anything is fitted (`check_conv`).

Kept heads are folders as those of all other heads, under a format number of their own (`saved`). What classifies images
reads only its own kinds (`dvme.heads.saving.Kinds`), so `explain`, `viz` and sites refuse a head of segmentation in a
line. Those that train epoch by epoch are written, synced, as soon as they are fitted. The heads of all draws are in one
file, which is read as a whole: of five U-Nets with a ResNet-50 650 MB. Put together they are the same bits.

Colours (`colours`). Components are fitted on 16 tokens of each of 64 images, with the signs of scikit-learn, so that a
page is the same anywhere. Every layer has a total variance of 1 in them, or the one with the largest numbers would be
all that is seen.
"""
