"""What goes into a paper: how a run was made, in words, and whom to cite."""
