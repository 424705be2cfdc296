"""Networks: the attention that fuses backbones, and its controls, trained in batches of jobs.

`dvme` is the head of Truong et al. 2021, in the only reading that has its 3.6 million parameters: 3,675,141 before the
classifier for embeddings of 2048, 2048 and 1536 values, five of them in the attention. The tokens are the T = 512 M
projected values, of dimension one (`attention` has the formulas). The grid of a sample is chosen by its range of u,
from (1 piece, 8 nodes) to (16, 24). A sample that no grid serves is computed exactly, and counted (`count_grids`).
Moments are taken about the largest or smallest token or the mean, whichever keeps the digits; the derivative in a
second pass.

What the five parameters can do: the LayerNorm after the attention takes away b and the size of p v, so one number, q k,
and one sign are left. The block attention that `dvme explain` shows is a picture of that number and of the spread of
each backbone's projected values. It does not show importance; hence the losses beside it.

`dvme-noattn` is the paper's ablation: projections straight into the classifier. `dvme-tokens` is what most readers
expect: M tokens of 512 under eight heads. The controls ask whether a gain is more than width. `mlp` has one hidden
layer and, within one unit, dvme's number of parameters. `concat` is exact logistic regression on embeddings of length 1
side by side. `mean-logits` averages the logits of one logistic regression for each backbone.

Training (`batched_training`). All jobs of a group are at the same step of Adam, so jobs of one learning rate are one
fused update. The gradient of a weight is computed as it lies in memory (`dvme.heads.exact.affine`): autograd would
transpose it, which the fused update then reads slowly. A group holds as many jobs as the memory budget allows; on a CPU
never more than its caches can feed, which for a dvme head of the paper's size is one. First parameters are drawn on the
CPU, so that a seed means the same on every device. Dropout is drawn on the device, by a generator of each job.

The protocol is the paper's: Adam 1e-3, batch 64, at least 30 and at most 50 epochs, a tenth of the learning rate after
more than five epochs without progress, the end ten epochs after the best. The paper watches "the validation loss" in
section 5.2 and "the validation score" in appendix B.1; here it is the log loss, the less noisy of the two with few
rows. Classes of unequal size are oversampled, each equally often in an epoch (`sampling`). The watched loss stays the
plain mean over validation rows. Counting classes alike there too was tried: it stopped so early that on the demo's
photographs the validation AUC of every such head fell by 0.015 to 0.021.
"""
