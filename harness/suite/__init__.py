"""A suite: from its YAML file to a validated suite and the plan of what has to be computed. Runs nothing."""
