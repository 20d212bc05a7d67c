"""What `whyvae tune` is made of."""
