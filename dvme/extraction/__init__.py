"""From images to embeddings: hashing, decoding ahead of the model, committing shard by shard.

One pass. Every image that any backbone lacks is read and decoded once, and cropped once for each distinct
preprocessing. Portions of work follow the batches of the backbone that lacks most. Each backbone gathers its own
batches from what arrives, in whatever order (`gathering`). A batch ends with its shard and holds only rows that the
backbone lacks, so a resumed run computes the same batches as an uninterrupted one. A run that ends early commits all
whole batches.

Beginning (`beginning`). Images are hashed while backbones load: the backbones in the caller's thread, so that Ctrl-C
ends the load as ever, the images in others. Backbones that are known from an earlier load are loaded only once an image
shows that there is something to compute. What ends one side ends the other: hashing after the file at hand, loading
before the next backbone. Progress is told by one thread at a time, which is not always the caller's.

Failures keep their row. An image that cannot be decoded has state 2 and a reason. Later runs leave it alone unless they
are told to retry, and every command says how many rows it left out. A file that changes or vanishes during the run is
no such failure: its row stays pending, and is reported. A file that cannot be read when the run begins has no row.
Neither it nor a folder that cannot be listed is gone: `extract` names both and leaves what the cache has of them, and
`prune` and `--replace`, which would erase it, refuse.

Lanes (`lanes`, `pace`). On a CPU a lane of one thread reads, decodes and embeds batches of its own and waits for
nobody. The threads of one convolution wait for each other after every layer. Which is faster is measured as the run
goes on. An embedding is what one thread computes of its batch, on however many cores. Where a lane has more threads,
one thread computes their first batch of each size as well; if any bit differs, the pass goes on without them.

Another device has one lane, for which images are decoded ahead (`staging`). Events put the waiting thread to sleep, for
spinning takes a core from those who decode. Apple's GPUs share the machine's memory, and copies to them that nobody
waits for read what may be gone (pytorch issue 189690), so they wait. No GPU was measured; the way through streams is
tested on the CPU, where torch has streams that do nothing.

Memory. A batch that does not fit is halved until it does. The backbone remembers the size, and no row is lost; an image
that does not fit alone is one line. On CUDA the batch size is found by trial where there are 4,096 images or more
(`batch_size`): doubled from 32 as long as that is faster by 5 per cent, at most to 512. So two runs on a GPU may differ
in the last bits, by the size that each found. A size that is asked for is kept, unless memory runs short.

torch.compile and CUDA graphs are not used. They would be worth it from some number of images on, and then an embedding
would depend on how many others are extracted with it: compiled kernels give other bits under one fingerprint. A graph
saves launches, which at the batch sizes above run ahead of the kernels anyway.

Images that are only predicted get no row in a study's cache (`beside`). `dvme predict --cache NAME.zarr` reads that
cache and writes NAME.predicted.zarr, a cache without labels, splits and groups. So a study is the same to the last byte
before and after. Extraction takes over what that cache has by content and fingerprint, and pruning erases there as
well.
"""
