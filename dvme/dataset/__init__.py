"""A cache as a data set: columns and embeddings beside each other, for NumPy, pandas, torch, anndata and `datasets`."""
