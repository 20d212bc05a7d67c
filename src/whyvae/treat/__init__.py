"""ACT: change one thing, retrain the user's own script, compare."""
