"""Splits, metrics, intervals, and the probe that brings them together."""
