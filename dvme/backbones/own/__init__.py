"""The user's own backbones, in TOML or Python.

The fingerprint of a model in Python has the source files of its function and classes, what they were given, and every
attribute, because no parameter shows a changed `forward`.

What a backbone knows (`trained_on`). Extraction copies the list of the images that weights were trained on into the
cache, so a cache is enough to refuse a study: 8 bytes an image, 1.2 MB for 112,120 of them. A list that cannot be read
ends the extraction. A cache that should have one and has none ends the study. Groups are those of all rows of the
cache, also of images that take no part. What is imported `--like` such embeddings takes the list over.
"""
