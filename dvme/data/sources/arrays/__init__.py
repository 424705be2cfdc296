"""Arrays of which a row is an image: rows become picture files, are read in bounded memory, and are told of."""
