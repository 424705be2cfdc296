"""Figures as plain functions: each draws what it is given and computes nothing."""
