"""Shards: which of a plan's blocks each of several processes does."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from harness.engine.costs import Cost, merged, read_costs, read_paces, seconds_of_blocks
from harness.engine.page_checks import MOST_SHARDS
from harness.engine.run_folder import RunFolder
from harness.errors import UserError
from harness.suite.plan import Plan

SHARDS_PAGE = "shards"
"""The page of provenance that all shards share their blocks by."""

UNMEASURED = (
    "nothing was measured when its blocks were shared among these shards, so they count by evaluations alone, and "
    "shards may take very unequal times. In a new folder '--stage facts' before measures each metric."
)

BlockKey = tuple[str, str, int]


def shares(seconds: Mapping[BlockKey, float], count: int) -> dict[BlockKey, int]:
    """Block -> its shard: the longest first, each to the shard that has least to do so far.

    Args:
        seconds: Block -> what it costs, in the plan's order.
        count: How many shards there are.
    """
    loads = [(0.0, shard) for shard in range(min(count, len(seconds)))]  # more than there are blocks get none
    found = {}
    for key in sorted(seconds, key=lambda key: -seconds[key]):  # of equal ones in the plan's order
        load, shard = heapq.heappop(loads)
        found[key] = shard
        heapq.heappush(loads, (load + seconds[key], shard))
    return found


def shards_of(plan: Plan, store: RunFolder, count: int, device: str) -> dict[BlockKey, int]:
    """Block of a plan -> its shard, the same for every process that asks, whatever is done already.

    What the first of them knew is kept in the run folder, and all others go by it: costs of blocks, and where a scorer
    has none, what its calibration took.

    Args:
        plan: What is to be done.
        store: The run folder.
        count: How many shards there are.
        device: Where the first one runs.

    Raises:
        UserError: They are too many.
    """
    if count > MOST_SHARDS:
        raise UserError(f"{count} shards: should be at most {MOST_SHARDS:,}.")
    if not any(page["shards"] == count for page in store.read_provenance(SHARDS_PAGE)):
        costs, paces = read_costs(store.path), read_paces(store.path)
        new = {"shards": count, "device": device}
        new |= {name: [asdict(one) for one in known.values()] for name, known in (("costs", costs), ("paces", paces))}
        store.change_provenance(
            SHARDS_PAGE, lambda known: known if any(page["shards"] == count for page in known) else [*known, new]
        )
    page = next(page for page in store.read_provenance(SHARDS_PAGE) if page["shards"] == count)
    return _shares_by(page, plan)


def shared_unmeasured(store: RunFolder, count: int) -> bool:
    """Whether blocks were shared among so many shards before anything of them was measured."""
    pages = [page for page in store.read_provenance(SHARDS_PAGE) if page["shards"] == count]
    return any(not page["costs"] and not page.get("paces") for page in pages)


def shards_kept(plan: Plan, store: RunFolder) -> dict[int, dict[BlockKey, int]]:
    """Number of shards that blocks were shared among -> block -> its shard; empty where none were."""
    return {page["shards"]: _shares_by(page, plan) for page in store.read_provenance(SHARDS_PAGE)}


def _shares_by(page: Mapping[str, Any], plan: Plan) -> dict[BlockKey, int]:
    known = merged(Cost(**cost) for cost in page["costs"])
    paces = merged(Cost(**cost) for cost in page.get("paces", ()))
    blocks = plan.blocks({})
    seconds = seconds_of_blocks(plan, blocks, known, page["device"], paces)
    return shares(dict(zip([block.key for block in blocks], seconds, strict=True)), page["shards"])
