"""One study: its design, its methods, its jobs, the run they are kept in, and what may be said of them.

`dvme probe` is a study of one size, all there is; `dvme sweep` is one of several. Both ask `conduct`. So a probe and a
sweep of one seed give the same numbers at the full size, to the last digit. A table of several sizes makes more
comparisons, so its intervals are wider.

Jobs. A job's key is a hash of its head and settings, the fingerprints of its embeddings, its training and validation
images in their order with their labels, the test images, the seed, and the `revision` of the head's class: everything
that determines its predictions, and nothing else, neither device, memory, path nor the jobs beside it. A change of the
code that changes what a head predicts raises its revision (tests/dvme/heads/test_revisions.py fails until it does). The
job's file names the versions of the packages, and a sweep says which jobs others fitted. Labels of test images are
hidden from every method (-1).

A job keeps log probabilities. As float32 probabilities those of a confident head are all 1: ties whose AUC depends on
which class is named first. Everything ranks by the log odds, log p - log (1 - p), and refuses what does not sum to 1.

A run is this folder:

    RUN/run.json            configuration, keys of all jobs
    RUN/subsets.json        the manifest
    RUN/seen.npz            copies and near-duplicates, found once
    RUN/jobs/KEY.npz        test and validation log probabilities, what was chosen, seconds, versions
    RUN/heads/NAME/         the heads of a method at the largest size, a fold for each draw
    RUN/pictures/KEY/       of a segmentation: planes of its best, median and worst test images, and pictures.json
    RUN/training/KEY/       of jobs that train a backbone and are not finished: the state after their last whole epoch
    RUN/results.csv         one row per measurement
    RUN/predictions.parquet one row per test image and job: image, path, content id, label, p(CLASS) of each class
    RUN/suspects.csv        labels that are likely wrong, with image, path, prediction, how sure, fold, and content id
    RUN/summary.json        what was printed
    RUN/duplicates.csv      near-duplicates on two sides
    .RUN.lock               beside it; whoever writes to the run holds it, and it stays
    .RUN.parts/3-of-16.lock beside it, of the parts; the next whole study removes those of parts that ended

Each finished job is a file with its scores, written aside and renamed. Jobs are synced, and heads whose other draws
take long go to disk one by one, every half minute: a kill or a power cut costs at most the fits of that time. A file
that it tears is fitted again. A folder that takes another's place is synced first; the old one lies aside for a moment,
where readers find it after a kill (`dvme.files`). Every head of the largest size is kept, so that the recommended one
can predict (`kept_heads`).

Parts (`division`). Each bundle of jobs, the longest first, goes to the part that has the least to do yet. Costs are
counted in operations, and hold within a factor of 3 of the measured time for the heads that take longest, and of 12 for
`knn` and `linear-adam`, which take seconds. Splitting by draw costs up to twice the time where fits are short. Whole
heads as bundles would leave most of 16 parts without work. Jobs of one key are of one part. A part's heads stay by
themselves (`jobs/KEY/`), for another part may hold the other draws; the study that judges gathers them. A job in a part
or on a worker gives what it gives in one process up to rounding: `knn` to the bit, `linear` and what is made of it
within 1e-15 in float64, networks within 3e-7 after 5 epochs (2 to 12 jobs).

Memory: by default half of what is free. Embeddings are read once and held together where they take at most a third of
it, and where what they and their copies leave holds the largest fit. Else they are looked at one backbone after the
other, and read again set by set for the fits. More memory never makes a study impossible.

One reference (`standing`). Methods are ranked on validation, and all that is said goes by it: the marks of a table, the
verdict, gains, headline and figures. `*` leads on validation, others are judged against it; the highest test score is
bold and claims nothing. A fusion by attention brings its rivals along: `linear` on every single backbone, and the
controls. It is worth its cost where it beats every single backbone that is not told apart from the one that leads among
them: an intersection-union test, to which the factor of the table stays. What is shown is the rival that it exceeds the
least. Where an interval includes 0, no gain is shown, and that is what the line says.

The answers (`findings`) single out by validation and judge on test, all at the largest size. Backbone: the leading
single one; another is worse where all of its methods are. Fusion: the one that leads on validation, less every single
backbone that cannot be told apart from the leading one; others that are shown to gain are named as picked on the test
set. Intervals and p are for all comparisons of the table (Bonferroni), so an interval and a verdict never contradict
each other. A gain has to hold against every rival, a loss against the one that validation chose; so neither is said too
often, though more pairs are shown than are counted. How many labels: growth over the last doubling, by the crossed test
with the larger size's share of common rows, which is the careful one; and the labels that come within 0.02 of the score
with all. Fine-tuning (`frozen`): what leads of the fine-tuned against every frozen method, fusions included, that may
be the best, with its controls beside it. Its curve crosses the frozen leader's where their gap, made monotone, reaches
0. Where no test can be made there is no verdict.

What can be trusted (`trust`) comes first where images may have several findings: those whose AUC is above 0.5 by
intervals for all judged findings together (Bonferroni), then where these heads lose, and the largest gap of subgroups.

Reliability (`assess`) is said of each finding, or of each class against the others. A threshold and a scaling belong to
one head and its own validation images; scores are means over the heads; an unknown cell is masked for that finding
alone. The AUC's interval is the study's own. A sensitivity has Wilson's interval with the images' effective number, by
patient where there are any (`dvme.stats.shares`). F1 and predictive values are put together from sensitivity and
specificity, at a prevalence that is taken as given. Average precision is resampled: whole patients, or else images,
within the classes where an image has one. Calibration errors have wide intervals that always hold, as no resampling
covers an error near 0 (`dvme.stats.miscalibration`). Oracle AUC has the interval of an AUC, which takes the referred
images as given and so is wide where many are.

Labels saved: the curve of the single backbone that the fusion exceeds the least is made monotone, and interpolated
linearly in log n; where it reaches the fusion's score is what it needs. The interval is of scores drawn with the
covariance that test images and training draws give them (`dvme.stats.elsewhere`). An end beyond the sweep is a bound,
and is shown as one.

Quadratic kappa weighs by how far apart classes stand in their order. So with more than two classes `Task.is_ordered`
must hold: the user gave the order, or every name is a number or begins with one that stands for itself (`33%`, `1
mild`, not `3T3`) and no two are equal. Jobs depend on the order, not on who gave it. A run goes on in its own order
only, and says so where the cache has another one by then.

Masks are studied in the same way (`segmenting`). `Targets` say which classes occur in which image, by which draws are
stratified, and what identifies each mask, which is part of every job's key. A job says three counts of pixels for each
class, (N, L, 3): from these come Dice and IoU of images, whose means are judged by the crossed test as accuracy is,
over images or patients. Intervals of such means are Wilson's with the number of observations that has their variance,
without a cap: images' scores vary less than shares of right and wrong images do. Outlines are scored while pixels are
counted, so that each mask is read once: HD95 and boundary Dice, (N, L, 2), lie beside the counts, and the tolerance is
part of the key where it is asked. VOID is outside of every class in mask and prediction. HD95 is a mean over the images
that have the class in both, with t's interval over those alone; images in which it is missed or invented are counted
beside it, and boundary Dice is 0 there. Images with the class in neither are left out of both, and counted.

Pictures of a segmentation (`pictures`) are made at the fit, where the segmenter is in hand: every method keeps its
three best, median and worst test images of the first draw and the largest size, by Dice. Which method leads is known
after all fits, and may be another when the run goes on. Nine pictures of 1 bit a pixel and class, at most 256 pixels
wide and high, are cheaper than a second fit: 8 kB each at most. A job whose pictures are gone is fitted again.

Predictions that are shown of an image are of heads that did not learn from it: test images by all draws, the others by
the draws in which settings were chosen on them. Likely wrong labels are confident learning's (Northcutt et al. 2021).

Scores of a table are mean and sample standard deviation over the draws' heads, which share the test set. That spread
shows what the choice of training rows does, not what the choice of test images does; hence the interval beside it.
"""
