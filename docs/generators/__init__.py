"""What docs/reference.py writes: the pages that follow from code, one module for each kind."""
