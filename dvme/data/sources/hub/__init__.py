"""Tables with images inside, as the package `datasets` writes them and hubs offer them."""
