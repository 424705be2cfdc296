"""The command line of dvme: parses, calls dvme, prints. Computes nothing."""

INTERRUPTED = 130
"""The exit status after Ctrl-C; here, since neither the entry nor what it imports may import the other for it."""
