"""What a backbone is, and how its name varies it."""
