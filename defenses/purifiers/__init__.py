"""Input purifiers: transforms put before a metric, one file each."""
