"""Methods that learn from images: the backbone is trained as well, and not its head alone."""
