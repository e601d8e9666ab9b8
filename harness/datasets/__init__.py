"""Data sets, one module each, in their official layouts."""
