"""Tables as an author lays them out: cells of runs and published numbers, arranged by a layout file."""
