"""Plugins: found by name, checked, built, and given their weights."""
