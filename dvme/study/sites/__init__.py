"""Other sites: a study's heads, fitted once, on the images of other caches.

Heads are never fitted again, and settings, ranking and leader are those of the study. The kept heads of the largest
size are read back and asked about every labelled image of a site. So a call that is gone on with needs no file of its
own. What is compared is the same on both sides: findings that both can judge; where all images have one class, images
of the classes that both have.

The drop has two intervals: of these heads (two independent test sets, square and add), which is what a hospital gets
and what the words go by, and of heads fitted on other draws. The first is for all that is claimed together
(`one_family`, Bonferroni): the drops of one method at all sites are one family, the findings of the leading method at
all sites another. Scores and the second interval are for themselves.

Images that are files of the study's training, validation or test images are left out of a site by content id (`known`),
so that no head knows one, and the sides of a drop share none. A site of which none is left claims nothing.
Near-duplicates are looked for among the images of all caches together, and stay: a line that a site is not external
never takes it out of a table.
"""
