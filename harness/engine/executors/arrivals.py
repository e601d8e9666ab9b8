"""What a job wrote elsewhere, written into the run folder."""

from __future__ import annotations

import json

from harness.engine import seal
from harness.engine.executors.node import Answer
from harness.engine.gallery_pool import candidates_in
from harness.engine.run_folder import FailureRecord, RunFolder


def keep(folder: RunFolder, answer: Answer) -> None:
    """Write what a job wrote, in its order.

    Args:
        folder: The run folder.
        answer: What came back.

    Raises:
        StoreError: It cannot be written.
    """
    from safetensors.torch import load

    for name, content in answer.files:
        parts = name.split("/")
        if content is None:
            folder.drop(name)
        elif parts[0] == "failures":  # what it says of files is to be true here
            about = seal.without_seal(json.loads(content))
            folder.write_failure(FailureRecord(**{**about, "message": about["message"].replace(answer.tree, "")}))
        elif parts[0] == "gallery":  # other slices of work may have added to it meanwhile
            folder.add_candidates(parts[2], int(parts[3].partition(".")[0]), candidates_in(load(content)))
        elif parts[0] == "records":
            folder.accept_records(name, content)
        else:
            folder.accept(name, content)
