"""The one trainer behind every recipe: a recipe file in, a weight file and its manifest entry out.

A run is a deterministic function of the recipe file, the data set and the versions: batches and augmentation are drawn
from (seed, step), torch runs on the recipe's `threads` (one by default) whatever the machine has, and a run that was
killed resumes from its last validation and ends with the same bytes.
"""

from harness.training.images import ImageCache
from harness.training.measures import COLLAPSE, Validation
from harness.training.train import Preview, TrainResult, preview, train

__all__ = ["COLLAPSE", "ImageCache", "Preview", "TrainResult", "Validation", "preview", "train"]
