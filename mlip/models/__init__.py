"""Architectures and the model file."""
