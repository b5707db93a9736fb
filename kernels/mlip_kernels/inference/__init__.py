"""A whole potential as one program: energies, forces and virial in one call, without autograd.

`spec` describes a network by what its layers do to channels, `workspace` says where numbers lie, and `geometry`,
`steps` and `layers` emit the code. Receivers are worked on in tiles, so that what is wide lives in the caches only.
"""
