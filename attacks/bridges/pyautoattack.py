"""`pyautoattack:NAME`: the members of AutoAttack, and the whole, in their authors' code on any metric."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from attacks.bridges.classifier import BOTH, CLASSES, NEAREST, AsClassifier, Foreign, KnownAttack, attack_class
from harness.contracts import Attack, Norm, UserError
from harness.plugins.bridges import Bridge, NoSuchNameError, bridge, import_library

_INSTALL = "pip install --no-deps pyautoattack==0.2.0"
_NORMS: Mapping[Norm, Any] = {"linf": "Linf", "l2": "L2"}
QUIET = logging.Logger("pyautoattack", logging.CRITICAL + 1)
"""It warns of every image whose gradient vanishes."""
_APGD: Mapping[str, Any] = {"topk": None, "use_largereps": False, "is_tf_model": False, "logger": QUIET}
TARGETS: Mapping[str, Any] = {"n_target_classes": CLASSES - 1}

KNOWN: Mapping[str, tuple[str, KnownAttack]] = {
    "apgd-ce": (
        "autopgd_base.APGDAttack",
        KnownAttack(
            "APGD on cross-entropy (Croce & Hein 2020)",
            BOTH,
            norm=_NORMS,
            fixed={**_APGD, "loss": "ce"},
            cite="croce2020reliable",
        ),
    ),
    "apgd-dlr": (
        "autopgd_base.APGDAttack",
        KnownAttack(
            "APGD on the ratio of logits (Croce & Hein 2020)",
            BOTH,
            norm=_NORMS,
            fixed={**_APGD, "loss": "dlr"},
            cite="croce2020reliable",
        ),
    ),
    "apgd-t": (
        "autopgd_base.APGDAttack_targeted",
        KnownAttack(
            "APGD on the targeted ratio of logits (Croce & Hein 2020)",
            BOTH,
            norm=_NORMS,
            fixed={**_APGD, **TARGETS},
            cite="croce2020reliable",
        ),
    ),
    "fab": (
        "fab_pt.FABAttack_PT",
        KnownAttack("FAB (Croce & Hein 2020)", BOTH, norm=_NORMS, fixed=TARGETS, note=NEAREST, cite="croce2020fab"),
    ),
    "fab-t": (
        "fab_pt.FABAttack_PT",
        KnownAttack(
            "FAB for each other class in turn (Croce & Hein 2020)",
            BOTH,
            norm=_NORMS,
            fixed={**TARGETS, "targeted": True},
            note=NEAREST,
            cite="croce2020fab",
        ),
    ),
    "square": (
        "square.SquareAttack",
        KnownAttack(
            "Square (Andriushchenko et al. 2020)",
            BOTH,
            norm=_NORMS,
            spend=lambda queries, given: {"n_queries": queries},
            choices={"loss": ("margin", "ce")},
            cite="andriushchenko2020square",
        ),
    ),
    "standard": (
        "autoattack.AutoAttack",
        KnownAttack(
            "AutoAttack, version standard: apgd-ce, apgd-t, fab-t, square (Croce & Hein 2020)",
            BOTH,
            norm=_NORMS,
            fixed={"version": "standard"},
            note="Its Square takes 5,000 evaluations. A sample whose class flips skips the members that are left.",
            cite=("croce2020reliable", "croce2020fab", "andriushchenko2020square"),
        ),
    ),
}


class FromPyautoattack(Foreign):
    """A member of AutoAttack, or the whole."""

    def run(self, model: AsClassifier, start: Tensor, arguments: dict[str, Any], seed: int) -> Tensor:
        """What it returns; of APGD the image of highest loss, so that no restart is skipped once the class flips."""
        attack = self.library_class(model, seed=seed, device=start.device, **arguments)
        label = torch.zeros(1, dtype=torch.int64, device=start.device)
        if hasattr(attack, "run_standard_evaluation"):
            attack.logger = attack.apgd.logger = attack.apgd_targeted.logger = QUIET
            attack.apgd_targeted.n_target_classes = attack.fab.n_target_classes = CLASSES - 1
            attacked: Tensor = attack.run_standard_evaluation(start, label, batch_size=1)[0]
            return attacked
        options = {"best_loss": True} if "topk" in arguments and "loss" in arguments else {}
        attacked = attack.perturb(start, label, **options)
        return attacked


@bridge("pyautoattack", "attacks", library="pyautoattack", install="pip install --no-deps pyautoattack==0.2.0")
class PyAutoAttack(Bridge):
    """AutoAttack in its authors' code on a score as a classifier, one sample at a time."""

    cite = "croce2020reliable"

    def names(self) -> Sequence[str]:
        """The members, as the library names them, and the whole."""
        return list(KNOWN)

    def cited(self, name: str) -> str | tuple[str, ...]:
        """The paper of that name, where the bridge knows it."""
        if name not in KNOWN:
            raise NoSuchNameError(name)
        return KNOWN[name][1].cite

    def load(self, name: str) -> type[Attack]:
        """The member of that name.

        Raises:
            UserError: pyautoattack cannot be imported.
        """
        if name not in KNOWN:
            raise NoSuchNameError(name)
        place, known = KNOWN[name]
        module, _, called = place.partition(".")
        cls = getattr(import_library(f"pyautoattack.{module}", _INSTALL), called, None)
        if cls is None:
            raise UserError(f"the pyautoattack that is installed has no {place}. Get the one that has with: {_INSTALL}")
        return attack_class("pyautoattack", name, known, cls, FromPyautoattack)
