"""Constants and functions of the rotation group, in float64."""
