"""What every training by minibatches shares: the order of rows, learning rates, early stopping.

Rates are written into the optimizer's groups at every step, by depth and by schedule; no scheduler is asked. Every rate
sees the same order of rows and the same motions, whose random numbers follow from the seed and the epoch.

After every epoch all that the next one follows from is kept in `RUN/training/KEY/last.pt` (`checkpoints`). It is one
file, so that the best weights and those on their way never disagree: weights, optimizer, average, the best so far. They
are kept in the order in which they lie in memory, for fused steps round by it. A kill costs the epoch that it comes in.
On as many threads the result has the bits of a training in one go. A state of other starting weights, rows, labels,
recipe or seed is passed over (`course`); the pixels are in the key. The folder goes once the job is synced in the
ledger. Pixels that memory does not hold lie in a file without a name in `RUN/training`, which a kill removes. They are
read anew, as every image is compared with its content id in any case.
"""
