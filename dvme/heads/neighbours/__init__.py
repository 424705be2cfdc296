"""Votes of nearest neighbours.

`knn` is DINO's: cosine similarity, weight exp(sim / 0.07), k of 1 to 200 chosen on validation. FAISS searches, once for
each job at the largest k. Of the k within a standard error of the best, by the study's metric on validation, the
largest is chosen. With 150 images to choose on and 5 per cent positives the best k loses 0.025 AUC on the test set,
this one 0.001. By accuracy, as DINO chooses (`knn@choose-by=accuracy@standard-errors=0`), k is 1 where one class is
rare. One pooled search for all jobs gains nothing (0.93 to 1.19 times) where sizes grow by a factor.

From 250,000 rows the search is approximate, by inverted lists in a file, the square root of n of them. A query probes
as many as reach a recall of 0.99 on a sample. One exact search gives the true neighbours of the sample, and their lists
tell the recall of every number of probes. An HNSW graph of 100,000 rows takes nine times as long to build.
"""
