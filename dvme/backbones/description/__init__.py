"""What a backbone is, and how its name varies it.

A spec is data: architecture, how the keys of a published file map to it (`Layout`), pooling, preprocessing, licence. It
survives TOML and JSON, so a user's own spec is the same thing as the zoo's. The cache keeps it with the embeddings:
`dvme cache verify --images` can make them again when the TOML is gone.

A variation is a name. Pooling, input size, channels, preprocessing and precision change numbers, so they are in the
fingerprint. They are in the name as well, in a canonical order and only where they differ from the published value.
Otherwise `dino` with two poolings could not lie in one cache, and nobody could tell which of them was plotted.

A view is a variation too (`view`). So caches, verification, export, parts and plans know nothing of views, and the
plain view is what it was to the last bit. A view that is to be made in another way is refused by its fingerprint
(`view.revision`). Its random numbers come from a counter-based generator, keyed by the image's content id, as raw
numbers that no version of numpy changes. An image is read and decoded once for all views. Backbones that differ in the
view alone share one model.

Dense features are a variation of the plain view (`dense`). They have no pooling: `pool` beside `dense` is refused. The
image is squashed to the crop unless the name says otherwise, so that a cell of the grid is a known part of the image.

The fingerprint has a precision only where it is not float32, so that caches made before precisions existed stay valid.
It has no device: in half precision two devices differ by as much as each does from float32, and `dvme cache verify
--images` allows for that. TF32 is refused on a device that has none, or another: on AMD's GPUs it takes an environment
variable, and rounds to about the bits of bfloat16 on some.
"""
