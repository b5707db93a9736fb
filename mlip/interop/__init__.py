"""Checkpoints of other packages, read without running anything that is in them."""
