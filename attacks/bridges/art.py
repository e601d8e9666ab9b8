"""`art:CLASS`: evasion attacks of the Adversarial Robustness Toolbox on any metric."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from attacks.bridges.classifier import BOTH, CLASSES, L2, NEAREST, AsClassifier, Foreign, KnownAttack, attack_class
from harness.contracts import Attack, Norm, UserError
from harness.plugins.bridges import Bridge, NoSuchNameError, bridge, import_library

_INSTALL = 'pip install "adversarial-robustness-toolbox>=1.20,<2" packaging multiprocess'
_NORMS: Mapping[Norm, Any] = {"linf": np.inf, "l2": 2}
INIT = 4
"""Evaluations before the first step of Square: of the start, by the bridge and twice by ART, and of the stripes."""
ONE_STEP: Mapping[str, Any] = {"eps_step": 0.1, "minimal": False}
_PGD: Mapping[str, Any] = {"decay": None, "random_eps": False}

KNOWN: Mapping[str, KnownAttack] = {
    "AutoAttack": KnownAttack(
        "Its own AutoAttack: APGD on two losses, DeepFool, Square",
        BOTH,
        norm=_NORMS,
        step=2.0,
        fixed={"parallel_pool_size": 0},
        note="Five restarts of each: some 80,000 evaluations where the class does not flip.",
        cite="croce2020reliable",
    ),
    "AutoConjugateGradient": KnownAttack(
        "Auto conjugate gradient (Yamamura et al. 2022)",
        BOTH,
        norm=_NORMS,
        step=2.0,
        fixed={"loss_type": None},
        cite="yamamura2022acg",
    ),
    "AutoProjectedGradientDescent": KnownAttack(
        "APGD (Croce & Hein 2020)", BOTH, norm=_NORMS, step=2.0, fixed={"loss_type": None}, cite="croce2020reliable"
    ),
    "BasicIterativeMethod": KnownAttack("Iterated FGSM (Kurakin et al. 2016)", step=0.25, cite="kurakin2016physical"),
    "CarliniL2Method": KnownAttack("C&W in L2 (Carlini & Wagner 2017)", L2, eps="", cite="carlini2017towards"),
    "CarliniLInfMethod": KnownAttack("C&W in Linf (Carlini & Wagner 2017)", eps="", cite="carlini2017towards"),
    "DeepFool": KnownAttack(
        "DeepFool (Moosavi-Dezfooli et al. 2016)", L2, eps="", note=NEAREST, cite="moosavidezfooli2016deepfool"
    ),
    "FastGradientMethod": KnownAttack(
        "FGSM, in L2 along the gradient (Goodfellow et al. 2015)",
        BOTH,
        norm=_NORMS,
        fixed=ONE_STEP,
        cite="goodfellow2015explaining",
    ),
    "MomentumIterativeMethod": KnownAttack(
        "Iterated FGSM with momentum (Dong et al. 2018)", BOTH, norm=_NORMS, step=0.25, cite="dong2018boosting"
    ),
    "NewtonFool": KnownAttack("NewtonFool (Jang et al. 2017)", L2, eps="", cite="jang2017newtonfool"),
    "ProjectedGradientDescent": KnownAttack(
        "PGD (Madry et al. 2018)", BOTH, norm=_NORMS, step=0.25, fixed=_PGD, cite="madry2018towards"
    ),
    "ProjectedGradientDescentNumpy": KnownAttack(
        "PGD in numpy (Madry et al. 2018)", BOTH, norm=_NORMS, step=0.25, fixed=_PGD, cite="madry2018towards"
    ),
    "ProjectedGradientDescentPyTorch": KnownAttack(
        "PGD in torch (Madry et al. 2018)", BOTH, norm=_NORMS, step=0.25, fixed=_PGD, cite="madry2018towards"
    ),
    "RescalingAutoConjugateGradient": KnownAttack(
        "Rescaling auto conjugate gradient (Yamamura et al. 2024)",
        BOTH,
        norm=_NORMS,
        step=2.0,
        fixed={"loss_type": None},
    ),
    "SimBA": KnownAttack(
        "SimBA (Guo et al. 2019)",
        L2,
        eps="",
        spend=lambda queries, given: {"max_iter": max(1, (queries - 2) // 2)},
        defaults={"attack": "px"},
        choices={"attack": ("px", "dct"), "order": ("random", "diag")},
        note="epsilon is the length of one step; dct takes square images alone.",
        cite="guo2019simple",
    ),
    "SquareAttack": KnownAttack(
        "Square (Andriushchenko et al. 2020)",
        norm=_NORMS,
        spend=lambda queries, given: {"max_iter": max(1, (queries - INIT) // 3)},
        note="A step takes 3 evaluations. p_init is lowered on oblong images, where its first square would not fit.",
        cite="andriushchenko2020square",
    ),
    "ZooAttack": KnownAttack(
        "ZOO: C&W in L2 by finite differences (Chen et al. 2017)",
        L2,
        eps="",
        spend=lambda queries, given: {"max_iter": max(1, queries // (2 * given["nb_parallel"]))},
        defaults={"use_resize": False, "use_importance": False},
        note="A step takes 2 nb_parallel evaluations.",
        cite="chen2017zoo",
    ),
}

_DECISION = "it starts from an image of another class, and a score has none inside a budget"
_UNBOUNDED = "it keeps to no Linf or L2 budget: {}"
_OTHER = "it attacks {}, not a function of one image"
_FEW_PIXELS = "it changes few pixels by any amount (L0), and budgets here are Linf and L2"
_EVERY_VALUE = "it takes evaluations in proportion to the number of values of an image for one step"
REFUSED: Mapping[str, str] = {
    **dict.fromkeys(("BoundaryAttack", "BrendelBethgeAttack", "GeoDA", "HopSkipJump", "SignOPTAttack"), _DECISION),
    **dict.fromkeys(("CarliniL0Method", "PixelAttack", "SaliencyMapMethod"), _FEW_PIXELS),
    **dict.fromkeys(("ThresholdAttack", "VirtualAdversarialMethod"), _EVERY_VALUE),
    **{
        name: _UNBOUNDED.format(what)
        for name, what in {
            "AdversarialPatch": "it paints a patch",
            "AdversarialPatchNumpy": "it paints a patch",
            "AdversarialPatchPyTorch": "it paints a patch",
            "CompositeAdversarialAttackPyTorch": "it changes hue, saturation, angle, brightness and contrast",
            "ElasticNet": "it minimises L1",
            "GRAPHITEBlackbox": "it paints a patch",
            "GRAPHITEWhiteboxPyTorch": "it paints a patch",
            "LaserAttack": "it paints a beam",
            "ShadowAttack": "it shifts colours smoothly by any amount",
            "SpatialTransformation": "it turns and shifts the image",
            "Wasserstein": "its ball is one of the Wasserstein distance",
        }.items()
    },
    **{
        name: _OTHER.format(what)
        for name, what in {
            "AdversarialTexturePyTorch": "a tracker in a film",
            "CarliniWagnerASR": "a recogniser of speech",
            "DPatch": "a detector of objects",
            "DecisionTreeAttack": "a decision tree",
            "FrameSaliencyAttack": "the frames of a film",
            "HighConfidenceLowUncertainty": "a Gaussian process",
            "ImperceptibleASR": "a recogniser of speech",
            "ImperceptibleASRPyTorch": "a recogniser of speech",
            "LowProFool": "tables",
            "MalwareGDTensorFlow": "programs",
            "OverTheAirFlickeringPyTorch": "a film",
            "OverloadPyTorch": "a detector of objects",
            "RobustDPatch": "a detector of objects",
            "SNAL": "a detector of objects",
            "TargetedUniversalPerturbation": "a whole set of images with one perturbation",
            "UniversalPerturbation": "a whole set of images with one perturbation",
        }.items()
    },
    **dict.fromkeys(
        ("FeatureAdversariesNumpy", "FeatureAdversariesPyTorch", "FeatureAdversariesTensorFlowV2"),
        "it imitates the inner features of a second image",
    ),
    **dict.fromkeys(
        ("AdversarialPatchTensorFlowV2", "ProjectedGradientDescentTensorFlowV2"), "it takes TensorFlow's models alone"
    ),
}


class FromART(Foreign):
    """An evasion attack of ART."""

    def run(self, model: AsClassifier, start: Tensor, arguments: dict[str, Any], seed: int) -> Tensor:
        """What it returns; numpy in between."""
        del seed  # it draws from the global generators
        height, width = start.shape[-2:]
        classification = import_library("art.estimators.classification", _INSTALL)
        probabilities = self.library_class.__name__ == "SimBA"
        estimator = classification.PyTorchClassifier(
            model=nn.Sequential(model, nn.Softmax(dim=1)) if probabilities else model,
            loss=nn.CrossEntropyLoss(),
            input_shape=tuple(start.shape[1:]),
            nb_classes=CLASSES,
            clip_values=(0.0, 1.0),
            device_type="gpu" if start.is_cuda else "cpu",
        )
        if self.library_class.__name__ == "SquareAttack":  # it looks for a place in [0, side - side of the square)
            arguments["p_init"] = min(arguments["p_init"], (min(height, width) - 1.5) ** 2 / (height * width))
        if "verbose" in inspect.signature(self.library_class.__init__).parameters:
            arguments["verbose"] = False
        attack = self.library_class(estimator, **arguments)
        for member in getattr(attack, "attacks", ()):
            member.verbose = False
        label = np.eye(CLASSES, dtype=np.float32)[:1]
        return torch.from_numpy(attack.generate(x=start.cpu().numpy(), y=label))


@bridge(
    "art",
    "attacks",
    library="adversarial-robustness-toolbox",
    install='pip install "adversarial-robustness-toolbox>=1.20,<2" packaging multiprocess',
)
class ART(Bridge):
    """Evasion attacks of the Adversarial Robustness Toolbox on a score as a classifier, one sample at a time."""

    cite = "nicolae2018art"

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
            UserError: ART cannot be imported, or the class cannot serve a score.
        """
        if name in REFUSED:
            raise UserError(f"{REFUSED[name]}. 'robustiqa show art' lists those that can be had.")
        if name not in KNOWN:
            raise NoSuchNameError(name)
        evasion = import_library("art.attacks.evasion", _INSTALL)
        cls = getattr(evasion, name, None)
        if cls is None:
            raise UserError(f"the adversarial-robustness-toolbox that is installed has no {name}. {_INSTALL}")
        return attack_class("art", name, KNOWN[name], cls, FromART)
