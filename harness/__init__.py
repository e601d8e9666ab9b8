"""The engine of robustiqa: it knows the contracts of `harness.contracts` and names no plugin."""

__version__ = "0.1.0"
