"""Defenses: training recipes and input purifiers."""
