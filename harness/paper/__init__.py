"""The paper's tables and figures: what each is made of, what of it is missing on a machine, and all of them in small."""
