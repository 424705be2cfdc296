"""Published checkpoints that cannot be loaded safely, turned into flat .safetensors files.

TensorFlow's tensor bundles are SSTable blocks, checksums and raw arrays. Pickles are read by an unpickler that looks up
no name: foreign objects become records, and arrays are rebuilt by knowledge of numpy's, jax's and torch's formats.
"""
