"""What every training by minibatches shares: the order of rows, learning rates, early stopping."""
