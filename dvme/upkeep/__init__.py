"""What keeps a cache in order: verify, repair, label, prune; and what takes embeddings out and in.

Imported embeddings have the file's content as their fingerprint, so that no others pass for them; or what the user says
made them (`made_by`, with dims, type and whether they are L2-normalised), or that of the cache that they are `like`.
The provenance keeps it as the user's word (`extractor`).
"""
