"""Logistic regression to its optimum, for many jobs and strengths at once.

`linear` minimises scikit-learn's objective exactly, for every job and every strength on a path of eleven (`logistic`
has the objective and the ways to the optimum). One Gram matrix of all rows that the jobs name serves them all, wherever
it has fewer entries than theirs together and fits half the memory budget (`gram_pool`). The preconditioner has the 32
largest eigenvalues; plain L-BFGS needs thousands of iterations on such features, this one tens. The line search costs
no product, because logits are linear in the step. Jobs of like size share each product. A problem that has converged
leaves.

Near the optimum two points whose objectives agree to 1e-9 differ by up to 1e-3 of a probability. So L-BFGS only comes
near (1e-3 of the objective), and Newton steps by conjugate gradients end it (`newton`), at 1.1 to 1.5 times the cost.
The last decrement says whether a fit has converged. Order of rows, route and company then move no probability by more
than 1e-7. Coefficients of rows that are there twice, or of all rows but a far outlier, have a null space that rounding
feeds: where Newton's method gives up, the Gram matrix is factored into rows. Newton's method as the way from the start,
by conjugate gradients or Cholesky, larger ranks, and a full eigenbasis for every job were tried and are slower.

A job that memory does not hold is streamed (`streaming`): passes over blocks of its rows, each for all strengths, end
at the same optimum by the same criterion. A sample in memory says where to start and how F bends, so a pass is close to
a Newton step. A million rows of 256 values took 10 passes; a few thousand, whose samples are small, 15 to 26. An even
sample first finds the rows near the boundary, which the second is drawn from: with 240 rows in the first alone, nearly
separable classes took 321 passes, and with both 90. Several labels, and classes in order by one score, have to fit in
memory.

Penalties are relative to the training rows' mean squared distance from their mean, so one path serves every backbone.
Features are not standardised, as in the usual protocols. The strength with the lowest validation log loss wins. There
is no refit on training and validation rows, because the folds' spread is part of the result.

`linear@link=cumulative` is proportional odds (`cumulative`): one vector of weights, and cuts between classes in order.
C - 1 binary regressions would share the Gram matrix as well. But each has a vector of its own, so their probabilities
cross and have to be made monotone, and a rare grade has few rows to learn one from. The likelihood of proportional odds
comes apart into two binary losses for a row and a term for each gap between cuts, so it takes the same L-BFGS and
Newton steps. `tune=kappa` stores its cuts beside what validation chose (`chosen["cuts"]`); probabilities are those of
the untuned head to the last bit, and decisions are made of both where they are needed (`dvme.metrics.grades`). The cuts
are the best of all there are: `A - q B`, with kappa 1 - A / B, is least by one pass over the sorted images. They are
for single images of the study's own test set, so tuned heads are refused beside other sites, subgroups and joined
images.
"""
