"""A name becomes a model.

Loading goes one way. The model is built as published: native input size, three channels, no classifier. Every key of
the file matches `drop` (left over) or `keep` (used; the match is stripped, then `rename` and `tensors` apply), or is an
error. A parameter without a tensor is an error too. Only then is the model adapted: the first convolution is summed,
position embeddings are resampled. timm adapts while it loads and falls back to a lax load when anything differs; some
of its families are always lax. So what timm would load, after its own translation of the names, is caught on the way
into `nn.Module.load_state_dict`, and compared like any other file. Floats of any width do for a float parameter.
Integers, complex, quantised and sparse numbers do not.

What is known is not loaded (`known`). Of a fingerprint only the tensors' hash and the dimension need the model. Both
are kept under a hash of the whole spec, the file's path, the sources of `dvme.backbones`, the versions of torch,
torchvision, timm and safetensors, and the machine's name. They hold for a file of the same device, inode, size, mtime
and ctime, else for the same bytes; of a file that changed within two seconds before, for its bytes only. A run whose
images all have their embeddings then imports no torch. Damage on disk that is found on the way is extracted anew by the
model itself, whose fingerprint is compared once more. Models that Python builds, `timm:` and `hf-hub:` are loaded.
"""
