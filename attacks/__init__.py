"""Attacks and controls, one file each."""
