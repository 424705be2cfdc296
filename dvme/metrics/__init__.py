"""Scores of predictions: pure functions of labels and probabilities; a new metric goes here."""
