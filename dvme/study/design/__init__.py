"""Who takes part, trains, chooses and tests: snapshots, splits, sizes, folds and repeats."""
