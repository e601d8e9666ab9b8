"""Full-reference image-quality metrics, one plugin per registered name."""
