"""One study: its design, its methods, its jobs, the run they are kept in, and what may be said of them."""
