"""Classical full-reference metrics: no weights, differentiable, one file per metric."""
