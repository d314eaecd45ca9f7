"""One module per system that is measured; each runs in that system's own environment, as `python -m`."""
