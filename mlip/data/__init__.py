"""Structures, neighbour lists, stores and samplers."""
