"""What the training loop of `whyvae.train` is made of."""
