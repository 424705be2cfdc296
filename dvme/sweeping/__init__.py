"""Subsets, backbones and heads in one pass; what is done stays done; a table whose marks mean something."""
