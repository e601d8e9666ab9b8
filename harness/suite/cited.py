"""What to cite for a suite or a finished run: the harness, and every plugin that the file names, as it declares it.

Names are read from the file alone. Nothing has to be on this machine that a run would need (data, weights, libraries,
plugins of others); what cannot be had is said.
"""

from __future__ import annotations

import contextlib
import re
import textwrap
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from harness.errors import UserError
from harness.plugins.bridges import SEPARATOR
from harness.plugins.model import Kind, PluginError, library_version, singular
from harness.plugins.references import HARNESS, Reference, declared, escaped, shipped_references
from harness.plugins.registry import Registry
from harness.plugins.weights.locate import RANDOM_WEIGHTS, read_manifest, trained, zoo
from harness.plugins.weights.manifest import SUFFIX, file_in_folder
from harness.suite.compose import expand, read
from harness.suite.keys import CHAIN, SuiteFile, as_entry, read_file
from harness.suite.model import Suite
from harness.suite.over_splits import NUMBER
from harness.suite.places import settle
from harness.suite.resolve import load_suite
from harness.suite.stored_plan import adapter
from harness.suite.strict_yaml import Problem
from harness.suite.verdict_cells import MAY_BE_ADDED, added_plugins
from harness.wording import NO_DEFENSE, joined, quoted, trained_name

Form = Literal["bibtex", "text"]
PROTOCOL_PAPER = "gushchin_birqa"
"""Key of the paper whose protocol is reimplemented."""
TRAINING = "training of "
_WIDTH = 100


@dataclass(frozen=True)
class Cited:
    """What to cite, and what for.

    Attributes:
        title: 'suite quickstart', or 'run quickstart'.
        entries: Each reference once, sorted by key, with what it stands for.
        no_paper: What says that it has none.
        library_only: What comes through a bridge that names no paper but the library's.
        silent: What declares nothing.
        unknown: What cannot be had or read, each with the reason.
    """

    title: str
    entries: Sequence[tuple[Reference, str]]
    no_paper: str
    library_only: str
    silent: str
    unknown: Sequence[str]

    def remarks(self) -> list[str]:
        """What has no entry, as lines."""
        known = {"No paper, as declared": self.no_paper, "Its paper is for its library to say": self.library_only}
        return [*(f"{name}: {text}." for name, text in known.items() if text), *self.gaps()]

    def gaps(self) -> list[str]:
        """What ought to have an entry and has none, as lines."""
        gaps = {"Declares no reference": self.silent, "Not known": "; ".join(self.unknown)}
        return [f"{name}: {text}." for name, text in gaps.items() if text]

    def bibtex(self) -> str:
        """A BibTeX file; comments say what each entry stands for, and what has none."""
        head = [f"To cite for the {self.title}, as its plugins declare it; from `robustiqa cite`.", *self.remarks()]
        blocks = ["\n".join(map(_comment, head))]
        blocks += [f"{_comment(roles)}\n{reference.bibtex()}" for reference, roles in self.entries]
        return "\n\n".join(blocks) + "\n"

    def text(self) -> str:
        """One paragraph for each reference, for people."""
        blocks = [f"To cite for the {self.title}, as its plugins declare it:"]
        blocks += [f"{reference.text()}\n    for {roles}" for reference, roles in self.entries]
        return "\n\n".join([*blocks, *self.remarks()]) + "\n"


_OTHER_KINDS = {
    "rows": "a layout of a table",
    "layouts": "a file of layouts",
    "features": "a file of feature sets",
    "recipe": "a recipe",
}
"""A key that files of another kind have -> what they are."""


def cited(
    file: Path,
    registry: Registry,
    *,
    versions: Sequence[str] = (),
    weights: Collection[str] | None = None,
    suite: Suite | None = None,
) -> Cited:
    """What to cite for a suite file, or for a run by the suite in its folder.

    Args:
        file: The suite file.
        registry: Where its plugin names are looked up.
        versions: Those of robustiqa that made the run; empty for a suite, which is today's.
        weights: sha256 of the weight files that the run used; None for a suite.
        suite: What was read of the file, if it was read already.

    Raises:
        UserError: The file is no suite, or two plugins give one key to different papers.
    """
    keys, finder, book = _suite_in(file), _Finder(file, registry, weights, suite), _Book(registry)
    book.add(_harness(versions or [library_version(HARNESS)]), "robustiqa itself")
    book.add(shipped_references()[PROTOCOL_PAPER], "the protocol that robustiqa reimplements")
    for used in finder.of_suite(keys):
        book.note(used)
    return book.closed(f"{'suite' if weights is None else 'run'} {keys.name}", finder.unknown)


def page_of(found: Cited, planned: str) -> dict[str, Any]:
    """What provenance keeps of it: plugins and manifests are asked while they are there.

    Args:
        found: What to cite for a run.
        planned: sha256 of the plan of that run.
    """
    return {"planned": planned, "cited": asdict(found)}


def cited_in(pages: Sequence[Mapping[str, Any]], planned: str, versions: Sequence[str]) -> Cited | None:
    """What `page_of` kept for a plan, with the versions of robustiqa that took part; None where it kept nothing."""
    kept = [page["cited"] for page in pages if page.get("planned") == planned and "cited" in page]
    if not kept:
        return None
    try:
        found = adapter(Cited).validate_python(kept[-1])
    except ValueError:
        return None
    own = _harness(versions or [library_version(HARNESS)])
    entries = [(own if reference.key == HARNESS else reference, roles) for reference, roles in found.entries]
    return replace(found, entries=entries)


_BETWEEN_ROLES = re.compile(r", (?![^()]*\))")


def cited_together(found: Sequence[Cited], title: str) -> Cited:
    """What to cite for several runs as for one.

    Args:
        found: Of each.
        title: 'run both'.
    """
    entries: dict[str, tuple[Reference, str]] = {}
    for one in found:
        for reference, roles in one.entries:
            known = entries.get(reference.key, (reference, ""))
            entries[reference.key] = known[0], _roles_together([known[1], roles])
    texts = {
        name: _roles_together([getattr(one, name) for one in found]) for name in ("no_paper", "library_only", "silent")
    }
    unknown = list(dict.fromkeys(text for one in found for text in one.unknown))
    return Cited(title, [entries[key] for key in sorted(entries)], **texts, unknown=unknown)


def _roles_together(texts: Sequence[str]) -> str:
    """Lists of roles as one, each role once."""
    return ", ".join(dict.fromkeys(role for text in texts if text for role in _BETWEEN_ROLES.split(text)))


def _suite_in(path: Path) -> SuiteFile:
    """The keys of a suite file; its plugins need not be there."""
    document = read(path)
    settle(document)
    document = expand(document)
    if not isinstance(document.value, dict):
        raise document.report(document.problems or [Problem((), "no suite; a suite is a mapping of keys to values.")])
    _refuse_others(path, document.value)
    file, problems = read_file(document.value)
    problems += [
        Problem(("defenses", i, "chain"), f"should be a list of names and mappings, got {quoted(entry)}.")
        for i, entry in enumerate(document.value.get("defenses") or [])
        if isinstance(entry, dict) and "chain" in entry and not isinstance(entry["chain"], list)
    ]
    if document.problems or problems or file is None:
        raise document.report([*document.problems, *problems])
    return file


def _refuse_others(path: Path, keys: Collection[str]) -> None:
    """Refuse files of another kind as a whole, not key by key.

    Raises:
        UserError: It is one.
    """
    for key, kind in _OTHER_KINDS.items() if not {"datasets", "metrics"} & set(keys) else ():
        if key in keys:
            raise UserError(f"{path}: {kind}, which cites nothing. Give a suite file, or a run folder.")


def _harness(versions: Sequence[str]) -> Reference:
    """The entry of the harness with the versions that are meant."""
    own = shipped_references()[HARNESS]
    note = f"Version{'s' if len(versions) > 1 else ''} {joined(list(versions))}"
    return replace(own, fields={**own.fields, "note": escaped(note)})


@dataclass(frozen=True)
class _Used:
    """A plugin as a suite, or what a suite uses, names it."""

    kind: Kind
    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    why: str = ""
    """Where the suite does not list it, what for: 'training of birqa-tiny@aat'."""

    @property
    def what(self) -> str:
        """'attack pgd'."""
        return f"{singular(self.kind)} {self.name}"

    @property
    def role(self) -> str:
        """'attack pgd', 'recipe aat (training of birqa-tiny@aat)'."""
        return self.what + (f" ({self.why})" if self.why else "")


class _Finder:
    """Every plugin that takes part in a suite: those it lists, those that they ask for, those that made weights.

    Attributes:
        unknown: What was found to be used and cannot be told.
    """

    def __init__(
        self, file: Path, registry: Registry, weights: Collection[str] | None, suite: Suite | None = None
    ) -> None:
        self.unknown: list[str] = []
        self._file, self._registry, self._weights, self._suite = file, registry, weights, suite
        self._followed: set[str] = set()
        self._splits = 1

    def of_suite(self, suite: SuiteFile) -> Iterator[_Used]:
        """In the order of the suite."""
        self._splits = suite.splits or 1
        metrics = [entry.model_dump() for entry in suite.metrics]
        yield from (_used("datasets", entry.model_dump()) for entry in suite.datasets)
        for entry in metrics:
            yield from self._plugin(_used("metrics", entry))
        for defense in suite.defenses:
            yield from self._defense(defense.model_dump(), metrics)
        for attack in suite.attacks:
            yield from self._plugin(_used("attacks", attack.model_dump()))
        if suite.verdicts and suite.verdicts is not True:
            yield from self._by_verdicts()

    def _by_verdicts(self) -> Iterator[_Used]:
        """What cells are added of; where that cannot be told, because the suite cannot run here, what may be."""
        added, why = MAY_BE_ADDED, "verdicts, perhaps"
        with contextlib.suppress(UserError):
            added, why = (
                added_plugins(self._suite or load_suite(self._file, self._registry), self._registry),
                "verdicts",
            )
        for kind, names in added.items():
            yield from (_Used(kind, name, why=why) for name in names if self._registry.knows(kind, name))

    def _plugin(self, used: _Used) -> Iterator[_Used]:
        """It, the metrics it asks for, and what its weights were made by."""
        yield used
        if used.kind in ("attacks", "recipes"):
            for name in self._asked_for(used):
                yield from self._plugin(_Used("metrics", name, why=f"asked for by {used.name}"))
        if used.kind in ("metrics", "purifiers"):
            for file in self._each(used.parameters.get("weights") or self._default_weights(used)):
                yield from self._training(used.role, file)

    def _asked_for(self, used: _Used) -> Sequence[str]:
        """The metrics that an attack or a recipe uses; what cannot be built says so where it is looked up."""
        if used.name not in self._registry.names(used.kind):
            return ()
        try:
            plugin = self._registry.get(used.kind, used.name)
            known = [parameter.name for parameter in plugin.parameters()]
            built = plugin.build({name: value for name, value in used.parameters.items() if name in known})
            return tuple(built.uses_metrics())
        except Exception:
            return ()

    def _default_weights(self, used: _Used) -> str:
        try:
            known = used.name in self._registry.names(used.kind)
            return (self._registry.get(used.kind, used.name).weights or "") if known else ""
        except PluginError:
            return ""

    def _defense(self, entry: Mapping[str, Any], metrics: Sequence[Mapping[str, Any]]) -> Iterator[_Used]:
        for link in map(as_entry, entry["chain"]) if entry["name"] == CHAIN else [entry]:
            if not isinstance(link, dict) or not isinstance(link.get("name"), str):
                self.unknown.append(f"the defense {quoted(link)}, which is neither a name nor a mapping with one")
            elif link["name"] == NO_DEFENSE:
                continue
            elif link["name"] in self._registry.names("purifiers") or not self._is_training(link):
                yield from self._plugin(_used("purifiers", link))
            else:
                wanted = dict.fromkeys(pair for metric in metrics for pair in self._weights_of(link, metric))
                if not wanted:
                    self.unknown.append(f"how the weights of defense {link['name']} were trained")
                for name, file in wanted:
                    yield from self._training(f"defense {link['name']} of {name}", file)

    def _is_training(self, entry: Mapping[str, Any]) -> bool:
        return entry["name"] in trained() or "weights" in entry

    def _weights_of(self, defense: Mapping[str, Any], metric: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """(label of the metric, name or path of weights that it has under a defense), where it has any."""
        given, label = defense.get("weights"), metric.get("label") or metric["name"]
        names = list(dict.fromkeys(trained_name(one, defense["name"]) for one in (label, metric["name"])))
        if isinstance(given, dict):
            files = self._each(given.get(label))
        elif given is None:
            files = [name for name in names if name in read_manifest()][:1]
        else:
            files = []
            for folder in self._each(given):
                named = (str(Path(folder) / file_in_folder(name)) for name in names)
                listed = [file for file in named if self._entry(file)]
                files += listed[:1]
        yield from ((label, file) for file in files)

    def _each(self, weights: Any) -> list[str]:
        """The weights of every split, where a suite or a run has a list of them, or one name with a number in it."""
        listed = [one for one in (weights if isinstance(weights, list) else [weights]) if isinstance(one, str)]
        named = (one.replace(NUMBER, str(index)) for one in listed for index in range(self._splits))
        return list(dict.fromkeys(named))

    def _training(self, role: str, weights: str) -> Iterator[_Used]:
        """Recipe, inner attack and data set that made weights, as the manifest has it; nothing of published ones."""
        if weights in ("", RANDOM_WEIGHTS):
            return
        entry = self._entry(weights)
        if entry is None:
            self.unknown.append(f"how the weights of {role} were trained ({Path(weights).name})")
            return
        if weights in self._followed:
            return
        self._followed.add(weights)
        name = Path(weights).name.removesuffix(SUFFIX)
        for end in ("from", "to"):
            if isinstance(mixed := entry.get("mixed"), dict) and isinstance(mixed.get(end), dict):
                yield from self._training(f"{role}, mixed {end}", str(Path(weights).with_name(str(mixed[end]["name"]))))
        recipe, why = entry.get("recipe"), TRAINING + name
        for kind, key in _MADE_BY.items():
            made = recipe.get(key) if isinstance(recipe, dict) else None
            if isinstance(made, dict) and isinstance(made.get("name"), str):
                yield from self._plugin(_Used(kind, made["name"], made, why))

    def _entry(self, weights: str) -> Mapping[str, Any] | None:
        """What a manifest says of weights: the zoo's, or that beside a file; of a run's it names the same sha256."""
        path, shipped = Path(weights).expanduser(), read_manifest()
        if weights in shipped:
            return shipped[weights]
        beside = shipped if path.parent == zoo() else read_manifest(path.parent)
        for manifest in (beside, shipped) if self._weights is not None else (beside,):
            entry = manifest.get(path.name.removesuffix(SUFFIX))
            if isinstance(entry, dict) and (self._weights is None or entry.get("sha256") in self._weights):
                return entry
        return None


_MADE_BY: Mapping[Kind, str] = {"recipes": "recipe", "attacks": "inner", "datasets": "dataset"}
"""Kind -> the key of a recipe file that names one."""


def _used(kind: Kind, entry: Mapping[str, Any]) -> _Used:
    return _Used(kind, entry["name"], entry)


class _Book:
    """References as they come in, each once."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._entries: dict[str, tuple[Reference, _Roles]] = {}
        self._no_paper, self._library_only, self._silent = _Roles(), _Roles(), _Roles()
        self._unknown: dict[str, None] = {}

    def add(self, reference: Reference, what: str, why: str = "") -> None:
        """Note one, and what it stands for.

        Raises:
            UserError: Another paper has its key.
        """
        there, roles = self._entries.setdefault(reference.key, (reference, _Roles()))
        if there != reference and reference.key != HARNESS:  # whose entry here has its version
            raise UserError(
                f"{what} and {roles}: they give the key '{reference.key}' to different entries. Give one of them "
                "another key, in `cite` of its class."
            )
        roles.add(what, why)

    def note(self, used: _Used) -> None:
        """Note what a plugin declares, or that it declares nothing, or cannot be had."""
        prefix, behind, _ = used.name.partition(SEPARATOR)
        if not behind and used.name not in self._registry.names(used.kind):
            self._unknown[f"{used.role}, of which there is no plugin here"] = None
            return
        try:
            found = declared(self._registry, used.kind, used.name, used.parameters)
        except PluginError as error:
            self._unknown[f"{used.role} ({str(error).rstrip('.')})"] = None
            return
        for reference in found.library or ():
            self.add(reference, f"the library behind {prefix}{SEPARATOR}")
        for reference in found.own or ():
            self.add(reference, used.what, used.why)
        if found.library is None:
            self._silent.add(f"bridge {prefix}", "")
        if not found.own:
            paperless = self._library_only if behind else self._no_paper
            (self._silent if found.own is None else paperless).add(used.what, used.why)

    def closed(self, title: str, unknown: Sequence[str]) -> Cited:
        """Everything that was noted, in order."""
        entries = [(reference, str(roles)) for _, (reference, roles) in sorted(self._entries.items())]
        no_paper, library_only, silent = map(str, (self._no_paper, self._library_only, self._silent))
        return Cited(title, entries, no_paper, library_only, silent, list(dict.fromkeys([*self._unknown, *unknown])))


class _Roles:
    """What one thing stands for, such as 'attack fgsm, attack pgd (training of birqa-tiny@aat)'."""

    def __init__(self) -> None:
        self._whys: dict[str, dict[str, None]] = {}

    def add(self, what: str, why: str) -> None:
        """Note one; why is empty where the suite itself names it."""
        self._whys.setdefault(what, {})[why] = None

    def __str__(self) -> str:
        """All of them; reasons stand where the suite itself does not name a thing."""
        parts = []
        for what, whys in self._whys.items():
            trainings = [why.removeprefix(TRAINING) for why in whys if why.startswith(TRAINING)]
            others = [why for why in whys if not why.startswith(TRAINING)]
            told = [*others, *([TRAINING + ", ".join(trainings)] if trainings else [])]
            parts.append(what if "" in whys else f"{what} ({'; '.join(told)})")
        return ", ".join(parts)


def _comment(text: str) -> str:
    """A comment of a BibTeX file, which passes over all that stands between entries but the sign they begin with."""
    return textwrap.fill(
        text.replace("@", "(at)"),
        _WIDTH,
        initial_indent="% ",
        subsequent_indent="%   ",
        break_long_words=False,
        break_on_hyphens=False,
    )
