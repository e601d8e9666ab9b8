"""A metric trained by folds as one metric: each reference is judged by the member that has never seen it.

The weights are made by ``folds:`` in a recipe file of ``robustiqa train``: the members' state dicts under
``members.0.``, ``members.1.``, ..., and a table of references: ``fingerprints``, the sha256 of each one's 8-bit pixels,
and ``held_out``, the member whose training and validation left it out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _IncompatibleKeys

from harness.contracts import DataError, Metric, Tree, fingerprint, map_tree, register
from harness.plugins.build import build_metric, cited_by_metric

__all__ = ["Folds"]

Plain = bool | int | float | str

DIGEST = 32
"""Bytes of a sha256."""


@register("folds")
class Folds(Metric):
    """Members of a k-fold training of {metric}, each asked for references that it was neither trained nor chosen on.

    Direction, smallest image and kind of gradient are the members'. References are known by their pixels: another data
    set's, or one changed by a purifier, is refused. Without weights (a table of zeros) any reference is taken, by the
    member that its hash chooses.

    Scores are in the units of each reference's member. Members trained through an affine link (distances such as LPIPS)
    share no scale, because its a and b are no part of the weights. Ranks within a member do not depend on them, ranks
    pooled over folds may: the mean of the folds' own figures, in the summary.json of the training, does not.

    Args:
        metric: Registered name of the members' metric.
        parameters: Its parameters; its defaults unless given.
        folds: How many members, 2 or more.
        references: How many references the table holds.
    """

    cite = ""
    higher_is_better: ClassVar[bool] = True
    needs_weights: ClassVar[bool] = True
    fingerprints: Tensor
    held_out: Tensor

    @classmethod
    def cited(cls, parameters: Mapping[str, Any]) -> str | tuple[str, ...] | None:
        """What is to be cited for the members."""
        return cited_by_metric(parameters["metric"], parameters["parameters"] or {})

    def __init__(
        self,
        *,
        metric: str = "birqa-tiny",
        parameters: Mapping[str, Plain | list[Plain]] | None = None,
        folds: int = 5,
        references: int = 25,
    ) -> None:
        super().__init__()
        if metric == "folds":
            raise ValueError("the members of folds cannot be folds. Name another metric")
        for name, value, least in (("folds", folds, 2), ("references", references, 1)):
            if value < least:
                raise ValueError(f"{name} should be at least {least}, got {value}")
        members = [build_metric(metric, dict(parameters or {})) for _ in range(folds)]
        if not members[0].differentiable or not any(True for _ in members[0].parameters()):
            raise ValueError(f"'{metric}' has nothing to train, so it has no folds. Name another metric")
        for trait in ("higher_is_better", "exact_gradient", "minimum_size"):
            setattr(self, trait, getattr(members[0], trait))
        self.members = nn.ModuleList(members)
        self.register_buffer("fingerprints", torch.zeros(references, DIGEST, dtype=torch.uint8))
        self.register_buffer("held_out", torch.zeros(references, dtype=torch.int64))

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> _IncompatibleKeys:
        """As torch's, and the table may name no member that there is not.

        Raises:
            DataError: It does.
        """
        last = len(self.members) - 1
        named = state_dict["held_out"].tolist() if "held_out" in state_dict else []
        if wrong := [number for number in named if not 0 <= number <= last]:
            raise DataError(
                f"metric 'folds': its weights say that member {wrong[0]} held a reference out, and the members are 0 "
                f"to {last}. Restore the weight file, or train it anew."
            )
        found: _IncompatibleKeys = super().load_state_dict(state_dict, strict=strict, assign=assign)
        return found

    def encode(self, ref: Tensor) -> tuple[Tensor, Tree]:
        """The member of each reference, int64 [N], and what the members make of their references.

        Args:
            ref: Reference images, N x 3 x H x W in [0, 1].

        Raises:
            DataError: A reference is not in the table.
        """
        table, held_out = self.fingerprints.cpu(), self.held_out.tolist()
        chosen = [self._member_of(image, table, held_out) for image in ref]
        member = torch.tensor(chosen, dtype=torch.int64, device=ref.device)
        groups = _groups(chosen)
        parts = [self._member(number).encode(ref[rows]) for number, rows in groups]
        return member, _joined(parts, _order(groups))

    def score(self, reference: tuple[Tensor, Tree], dist: Tensor) -> Tensor:
        """Scores of shape [N], in the members' units and direction."""
        return self._asked("score", reference, dist)

    def surrogate(self, reference: tuple[Tensor, Tree], dist: Tensor) -> Tensor:
        """The members' surrogates, shape [N]."""
        return self._asked("surrogate", reference, dist)

    def probed(self) -> Metric:
        """The first member: the images that probes make are in no table."""
        return self._member(0)

    def _asked(self, method: Literal["score", "surrogate"], reference: tuple[Tensor, Tree], dist: Tensor) -> Tensor:
        """What a method of each row's member says of it, shape [N]."""
        member, encoded = reference
        groups = _groups(member.tolist())
        scores: list[Tensor] = [
            getattr(self._member(number), method)(map_tree(lambda t, rows=rows: t[rows], encoded), dist[rows])  # type: ignore[misc]
            for number, rows in groups
        ]
        return torch.cat(scores)[_order(groups)] if len(scores) > 1 else scores[0]

    def _member(self, number: int) -> Metric:
        member = self.members[number]
        assert isinstance(member, Metric)
        return member

    def _member_of(self, image: Tensor, table: Tensor, held_out: list[int]) -> int:
        digest = fingerprint(image)
        if not bool(table.any()):
            return int.from_bytes(digest, "big") % len(self.members)
        found = (table == torch.tensor(list(digest), dtype=torch.uint8)).all(dim=1).nonzero().flatten().tolist()
        if not found:
            raise DataError(
                f"metric 'folds': a reference of {image.shape[2]} x {image.shape[1]} px is none of the {len(table)} "
                "that its folds were made of, so no member is known to have held it out. Give images of the data set "
                "it was trained on, without purifiers, or take one member's weights."
            )
        member: int = held_out[found[0]]
        return member


_Group = tuple[int, list[int]]
"""A member and its rows."""


def _groups(members: list[int]) -> list[_Group]:
    """Rows of a batch by member, in the order of the members."""
    return [(number, [i for i, m in enumerate(members) if m == number]) for number in sorted(set(members))]


def _order(groups: list[_Group]) -> list[int]:
    """Where each row of the batch stands in the groups one after the other."""
    rows = [row for _, group in groups for row in group]
    return sorted(range(len(rows)), key=rows.__getitem__)


def _joined(parts: list[Tree], order: list[int]) -> Tree:
    """Trees of equal make as one, rows in the order of the batch."""
    first = parts[0]
    if isinstance(first, Tensor):
        return torch.cat(parts)[order] if len(parts) > 1 else first
    if isinstance(first, Mapping):
        return {key: _joined([part[key] for part in parts], order) for key in first}
    if isinstance(first, tuple) and hasattr(first, "_fields"):
        return type(first)(*(_joined(list(leaves), order) for leaves in zip(*parts, strict=True)))
    if isinstance(first, tuple | list):
        return type(first)(_joined(list(leaves), order) for leaves in zip(*parts, strict=True))
    return first
