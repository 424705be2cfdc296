"""One HTML file that opens without a network: its frame, figures, tables, maps to explore, and thumbnails."""
