"""Saved heads at work on new images."""
