"""Tables of the report, one file each; `harness.suite.tables` knows their names without importing them."""
