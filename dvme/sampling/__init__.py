"""Which images train, choose and test: sizes, folds and repeats as one portable file."""
