"""Methods that learn from images: the backbone is trained as well, and not its head alone.

A job is a backbone of its own under a linear head. It begins with the exact linear head of the same rows, fitted alone,
about the mean of their embeddings, so that the first logits are the cached head's. The untouched start is one of the
choices. Of classes in order the layer has one score, and cuts whose gaps are positive by construction. Low ranks are a
parametrization of torch, and are merged before anything is kept. A job that trains a backbone gives what other heads
give, and everything after the fit is the same.

Checks come before any head is fitted, frozen ones included: all images are compared with their content ids, the
backbone with its cached embeddings, and memory with what a step takes. The latter is counted on the way there of a step
on two images, by what autograd keeps for the way back: 0.91 to 1.15 times the measured peaks of `efficientnet-lite0`,
ResNets, a DenseNet and ViTs at minibatches of 8 to 32.

What is kept of a fold (`kept`): the linear head, as any other, and the backbone as three files beside it. So a fold's
head takes the embeddings of its own backbone, of which `predict` makes them as of any other, with a fingerprint that
proves the weights. The architecture in the TOML is the one of the input that was trained on, since what was adapted is
published nowhere. Each fold's backbone lies on disk, synced, before its job counts. Folds are put together by hard
links, so that nothing holds or hashes several: a ViT-B of five draws is 1.7 GB. Two folds that ended where they began
have the same fingerprint and two names. Means over ten crops, models of the hub and of Python are judged and not kept.
"""
