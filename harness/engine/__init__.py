"""The engine: what a plan asks for is computed, block by block, and kept in the run folder."""
