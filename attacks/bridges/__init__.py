"""Attacks of other libraries under their names there: `torchattacks:PGD`, `art:DeepFool`, `pyautoattack:square`."""
