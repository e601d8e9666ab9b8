"""`torchattacks:CLASS`: the attacks of torchattacks on any metric."""

from __future__ import annotations

import contextlib
import inspect
import io
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from attacks.bridges.classifier import BOTH, CLASSES, L2, NEAREST, AsClassifier, Foreign, KnownAttack, attack_class
from harness.contracts import Attack, Norm, UserError
from harness.plugins.bridges import Bridge, NoSuchNameError, bridge, import_library

_INSTALL = "pip install --no-deps torchattacks==3.5.1 tqdm"
_NORMS: Mapping[Norm, Any] = {"linf": "Linf", "l2": "L2"}
LOSSES = {"loss": ("ce", "dlr")}

KNOWN: Mapping[str, KnownAttack] = {
    "APGD": KnownAttack("APGD (Croce & Hein 2020)", BOTH, norm=_NORMS, choices=LOSSES, cite="croce2020reliable"),
    "APGDT": KnownAttack(
        "APGD on the targeted logit ratio (Croce & Hein 2020)", BOTH, norm=_NORMS, cite="croce2020reliable"
    ),
    "AutoAttack": KnownAttack(
        "AutoAttack, version standard (Croce & Hein 2020)",
        BOTH,
        norm=_NORMS,
        fixed={"version": "standard"},
        note="Its Square takes 5,000 evaluations. A sample whose class flips skips the members that are left.",
        cite=("croce2020reliable", "croce2020fab", "andriushchenko2020square"),
    ),
    "BIM": KnownAttack("Iterated FGSM (Kurakin et al. 2016)", cite="kurakin2016physical"),
    "CW": KnownAttack(
        "C&W in L2, c given (Carlini & Wagner 2017)",
        L2,
        eps="",
        defaults={"c": 1.0, "kappa": 0.0},
        cite="carlini2017towards",
    ),
    "DeepFool": KnownAttack(
        "DeepFool (Moosavi-Dezfooli et al. 2016)", L2, eps="", note=NEAREST, cite="moosavidezfooli2016deepfool"
    ),
    "EOTPGD": KnownAttack(
        "PGD on the mean gradient of several evaluations (Zimmermann 2019)", cite="zimmermann2019comment"
    ),
    "FAB": KnownAttack("FAB (Croce & Hein 2020)", BOTH, norm=_NORMS, note=NEAREST, cite="croce2020fab"),
    "FFGSM": KnownAttack("FGSM from a random start (Wong et al. 2020)", cite="wong2020fast"),
    "FGSM": KnownAttack("FGSM (Goodfellow et al. 2015)", cite="goodfellow2015explaining"),
    "Jitter": KnownAttack(
        "PGD on scaled logits with noise (Schwinn et al. 2021)", defaults={"scale": 10.0}, cite="schwinn2021jitter"
    ),
    "MIFGSM": KnownAttack("Iterated FGSM with momentum (Dong et al. 2018)", cite="dong2018boosting"),
    "NIFGSM": KnownAttack("Iterated FGSM with Nesterov momentum (Lin et al. 2020)", cite="lin2020nesterov"),
    "PGD": KnownAttack("PGD (Madry et al. 2018)", cite="madry2018towards"),
    "PGDL2": KnownAttack("PGD in L2 (Madry et al. 2018)", L2, cite="madry2018towards"),
    "PGDRS": KnownAttack(
        "PGD on the mean of noisy copies (Cohen et al. 2019)",
        choices={"noise_type": ("guassian", "uniform")},
        note="'guassian' is the library's spelling.",
        cite="cohen2019certified",
    ),
    "PGDRSL2": KnownAttack(
        "PGD in L2 on the mean of noisy copies (Cohen et al. 2019)",
        L2,
        choices={"noise_type": ("guassian", "uniform")},
        note="'guassian' is the library's spelling.",
        cite="cohen2019certified",
    ),
    "PIFGSM": KnownAttack("Patch-wise iterated FGSM (Gao et al. 2020)", eps="max_epsilon", cite="gao2020patchwise"),
    "PIFGSMPP": KnownAttack("Patch-wise++ iterated FGSM (Gao et al. 2020)", eps="max_epsilon"),
    "RFGSM": KnownAttack("FGSM after a random step (Tramèr et al. 2018)", cite="tramer2018ensemble"),
    "SINIFGSM": KnownAttack("Nesterov iterated FGSM on darkened copies (Lin et al. 2020)", cite="lin2020nesterov"),
    "SPSA": KnownAttack(
        "SPSA (Uesato et al. 2018)",
        spend=lambda queries, given: {"nb_iter": max(1, queries // (2 * given["nb_sample"]))},
        note="Steps follow from queries: one takes 2 nb_sample.",
        cite="uesato2018spsa",
    ),
    "Square": KnownAttack(
        "Square (Andriushchenko et al. 2020)",
        norm=_NORMS,
        spend=lambda queries, given: {"n_queries": queries},
        choices={"loss": ("margin", "ce")},
        note="In Linf alone: in L2 it fails on images that are not square.",
        cite="andriushchenko2020square",
    ),
    "TPGD": KnownAttack("PGD on the divergence from the clean output (Zhang et al. 2019)", cite="zhang2019trades"),
    "UPGD": KnownAttack("PGD with momentum and a choice of loss", choices={"loss": ("ce", "margin", "cw", "dlr")}),
    "VMIFGSM": KnownAttack("Momentum iterated FGSM with tuned variance (Wang & He 2021)", cite="wang2021variance"),
    "VNIFGSM": KnownAttack("Nesterov iterated FGSM with tuned variance (Wang & He 2021)", cite="wang2021variance"),
}

_FEW_PIXELS = "it changes few pixels by any amount (L0), and budgets here are Linf and L2"
_MISALIGNED = "it shrinks and pads the image but not the reference, so what is scored is a misaligned pair"
REFUSED: Mapping[str, str] = {
    "DIFGSM": _MISALIGNED,
    "EADEN": "it keeps to no budget but L1 with L2, and none of its images lies in an Linf or L2 ball by intent",
    "EADL1": "it minimises L1, and budgets here are Linf and L2",
    "GN": "it adds Gaussian noise of any size: take the control noise",
    "JSMA": _FEW_PIXELS,
    "LGV": "it trains the model further, and a metric here is frozen",
    "MultiAttack": "it is a list of other attacks: name them one by one",
    "OnePixel": _FEW_PIXELS,
    "Pixle": _FEW_PIXELS,
    "SparseFool": _FEW_PIXELS,
    "TIFGSM": _MISALIGNED,
    "VANILA": "it changes nothing",
}


class FromTorchattacks(Foreign):
    """An attack of torchattacks."""

    def run(self, model: AsClassifier, start: Tensor, arguments: dict[str, Any], seed: int) -> Tensor:
        """What it returns; where it takes a seed, it has the sample's."""
        takes = inspect.signature(self.library_class.__init__).parameters
        fixed = {name: value for name, value in {"seed": seed, "n_classes": CLASSES}.items() if name in takes}
        attack = self.library_class(model, **arguments, **fixed)
        with contextlib.redirect_stdout(io.StringIO()):
            attacked: Tensor = attack(start, torch.zeros(1, dtype=torch.int64, device=start.device))
        return attacked


@bridge("torchattacks", "attacks", library="torchattacks", install="pip install --no-deps torchattacks==3.5.1 tqdm")
class Torchattacks(Bridge):
    """Attacks of torchattacks on a score as a classifier, one sample at a time."""

    cite = "kim2020torchattacks"

    def names(self) -> Sequence[str]:
        """Its classes that a scalar score can serve."""
        return list(KNOWN)

    def cited(self, name: str) -> str | tuple[str, ...]:
        """The paper of that name, where the bridge knows it."""
        if name not in KNOWN:
            raise NoSuchNameError(name)
        return KNOWN[name].cite

    def load(self, name: str) -> type[Attack]:
        """The attack of that class.

        Raises:
            UserError: torchattacks cannot be imported, or the class cannot serve a score.
        """
        if name in REFUSED:
            raise UserError(f"{REFUSED[name]}. 'robustiqa show torchattacks' lists those that can be had.")
        if name not in KNOWN:
            raise NoSuchNameError(name)
        library = import_library("torchattacks", _INSTALL)
        return attack_class("torchattacks", name, KNOWN[name], getattr(library, name), FromTorchattacks)
