"""Whether this installation and this machine are fit for dvme; works where packages are broken or missing."""
