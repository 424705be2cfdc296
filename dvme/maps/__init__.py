"""Embedding maps: where the images lie in the plane, side by side for several backbones, and how far to trust it.

t-SNE is openTSNE's and UMAP is umap-learn's, on 50 principal components of L2-normalised embeddings; PCA is our own.
All maps of a page start from the first two components of the first embedding. They are then turned, mirrored and scaled
onto the first map (orthogonal Procrustes), so that a point can be followed by eye. What differs from one map to the
next is thereby the embedding, not the start. openTSNE gives the same bits on any number of threads.

Of more than 50,000 images t-SNE and UMAP lay out a sample, and place each of the others by its neighbours in it, in
blocks of rows. The sample has every region of the first embedding in proportion, and is the same in all maps of a page.
PCA, the components included that t-SNE and UMAP see, is of all images. Numbers are then of images drawn at random, laid
out or placed. Pages, terminal and JSON say so.

A map is kept in the user's cache folder (`$XDG_CACHE_HOME/dvme/maps`, by default `~/.cache`), not in the embedding
cache, which may be read-only or another's. Its key is a hash of what determines it: the fingerprint, the images' ids,
the start, method, settings, seed and the libraries' versions. Its quality is kept beside it, under that hash and one of
labels, groups and which images are asked. Nothing ever deletes kept maps.

Beside every map stand trustworthiness (Venna and Kaski 2001) and preservation, the share of the 15 nearest neighbours
that the map keeps; and in the original space silhouette and the accuracy of a vote of neighbours, where an image's own
group has no vote. In reports, and with a head, these two use test images only, voted on by the others, because the
fused embedding has seen all other labels. It is the layer before the classifier, of the first fold: folds have spaces
of their own. Dense features lie on a map by the mean of their tokens.
"""
