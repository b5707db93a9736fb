"""Microbenchmarks: tensor products against each other, and whole models over their tensor products."""
