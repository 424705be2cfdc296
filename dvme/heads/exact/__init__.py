"""Logistic regression to its optimum, for many jobs and strengths at once."""
