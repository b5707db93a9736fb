"""Programs for the CPU's vector units, written in Python and compiled by Numba.

A program is emitted as straight-line LLVM code on explicit vectors by ordinary Python functions: `code` has loops,
numbers and vectors, `reduction`, `functions` and `matrix` what is built of them, and `program` compiles the result once
and keeps it on disk. Numba's front end sees only one small loop over threads, so that a program of thousands of
instructions compiles in seconds.
"""
