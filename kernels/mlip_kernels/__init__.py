"""The operations that carry the models, one folder each: reference (plain torch), later CPU and GPU kernels."""
