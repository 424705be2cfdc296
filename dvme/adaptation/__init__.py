"""`dvme adapt`: the weights of a backbone trained further on the user's own images, as a backbone of their own."""
