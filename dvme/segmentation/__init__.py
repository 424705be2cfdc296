"""Where in the image: classes of the tokens of dense features."""
