"""Weights of metrics: what the manifest says, where files are, fetched and verified."""
