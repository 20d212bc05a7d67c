"""Variational autoencoders, one family a file."""
