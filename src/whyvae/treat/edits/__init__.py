"""The source form of remedies: one edit a file, named as the remedy."""
