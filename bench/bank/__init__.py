"""A bank of injected faults: VAEs that are ill in a known way, and healthy ones; `python -m bench.bank --help`."""
