"""What every head shares: jobs that are fitted together, and choices on validation."""
