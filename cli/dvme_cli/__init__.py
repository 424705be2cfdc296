"""The command line of dvme: parses, calls dvme, prints. Computes nothing."""
