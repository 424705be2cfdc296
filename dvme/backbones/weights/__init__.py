"""Where weights are, and what a file of weights holds."""
