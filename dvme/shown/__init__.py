"""How results look: a few lines in a terminal, a small table in a notebook, a table in a paper, a frame of pandas."""
