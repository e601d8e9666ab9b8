"""The paper's tables and figures: what each is made of, what is missing on a machine, and all in small."""
