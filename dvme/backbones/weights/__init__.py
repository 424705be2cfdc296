"""Where weights are, and what a file of weights holds.

Files are read, not run: by `torch.load` with weights_only, or by safetensors. The checksums of a zip file are compared
first, which PyTorch does not do. `dvme.backbones.conversion` reads the checkpoints of other frameworks.
"""
