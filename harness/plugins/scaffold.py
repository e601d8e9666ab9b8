"""A plugin to start from: `robustiqa new` writes one that works, with its test and a suite that runs it."""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import io
import keyword
import os
import re
import shlex
import string
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.errors import UserError
from harness.files import shown, write_whole
from harness.plugins.model import KINDS, Kind, singular
from harness.plugins.registry import Registry

Template = Literal["metric", "attack", "defense", "dataset"]

_KIND: Mapping[Template, Kind] = {
    "metric": "metrics",
    "attack": "attacks",
    "defense": "purifiers",
    "dataset": "datasets",
}
_RESERVED: Mapping[tuple[Kind, str], str] = {
    ("purifiers", "base"): "in suites 'base' is the metric without a defense",
    ("attacks", "clean"): "in tables 'clean' is what was measured without an attack",
}
_NAME = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")
_LONGEST = 60
_TEMPLATES = Path(__file__).with_name("templates")


@dataclass(frozen=True)
class Created:
    """What was written, and what to type next."""

    files: tuple[Path, ...]
    commands: tuple[str, ...]


def create(what: Template, name: str, out: Path, registry: Registry, *, package: bool = False) -> Created:
    """Write a working plugin to start from: everything, or nothing if anything stands in the way.

    Args:
        what: Which kind.
        name: The name it is registered under.
        out: Folder to write into; made if it is not there.
        registry: The names that are taken.
        package: Write an installable package, with an entry point, in place of a lone file.

    Raises:
        UserError: The name cannot be used, a file exists already, or the folder cannot be written.
    """
    _check_name(what, name, registry)
    made = _Package(what, name, out) if package else _LoneFile(what, name, out)
    files = made.files()
    _refuse_existing(list(files), out)
    _write_all(files, out)
    return Created(tuple(files), tuple(made.commands()))


def _check_name(what: Template, name: str, registry: Registry) -> None:
    kind = _KIND[what]
    if not _NAME.fullmatch(name) or len(name) > _LONGEST:
        raise UserError(
            f"new {what} '{name}': a name has lower-case letters, digits, and single '_' or '-' between them, starts "
            f"with a letter and has at most {_LONGEST} characters. Take a name such as '{_mended(what, name)}'."
        )
    reason = _RESERVED.get((kind, name), "")
    if not reason and name in registry.names(kind):
        reason = f"the {singular(kind)} name '{name}' is already taken by {registry.source(kind, name).origin}"
    if not reason and (keyword.iskeyword(name) or keyword.iskeyword(_class_name(name)) or name == "null"):
        reason = f"'{name}' is a word of Python or YAML"
    if not reason and (place := _installed(_module(name))):
        reason = f"a module '{_module(name)}' is there already ({place}), and one of them would hide the other"
    if not reason and _class_name(name) in _names_used(what):
        reason = f"its class would be called {_class_name(name)}, which the file needs for something else"
    if reason:
        raise UserError(f"new {what} '{name}': {reason}. Take another name, such as 'my_{_module(name)}'.")


def _mended(what: Template, name: str) -> str:
    """A valid name near a wrong one: 'MyAttack 2' becomes 'my_attack_2'."""
    words = re.findall(r"[a-z0-9]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name).lower())
    mended = "_".join(words)[:_LONGEST].strip("_")
    return mended if _NAME.fullmatch(mended) else f"my_{what}"


def _module(name: str) -> str:
    return name.replace("-", "_")


def _class_name(name: str) -> str:
    return "".join(word[:1].upper() + word[1:] for word in re.split("[-_]", name))


def _installed(module: str) -> str:
    """Where a top-level module of this name is, or nothing."""
    if module in sys.stdlib_module_names:
        return "standard library"
    if module in {package.partition(".")[0] for package, _ in KINDS.values()}:
        return "robustiqa"
    spec = importlib.util.find_spec(module)
    if spec is None:
        return ""
    places = [Path(place) for place in [*(spec.submodule_search_locations or []), spec.origin or ""] if place]
    # `python -m harness` also finds what lies in the current folder, which nothing else can import.
    elsewhere = [place for place in places if Path.cwd() not in (place.parent, place.parent.parent)]
    return shown(elsewhere[-1]) if elsewhere else ""


def _names_used(what: Template) -> set[str]:
    """Every name the template uses, none of which its class may take over."""
    text = string.Template(_template(f"{what}.py")).substitute(name="x", module="x", class_name="_")
    nodes = list(ast.walk(ast.parse(text)))
    return {node.id for node in nodes if isinstance(node, ast.Name)} | {
        node.name for node in nodes if isinstance(node, ast.alias)
    }


def _template(name: str) -> str:
    return (_TEMPLATES / f"{name}.txt").read_text(encoding="utf-8")


class _LoneFile:
    """NAME.py, given with --plugin, with test_NAME.py and NAME.yaml beside it."""

    def __init__(self, what: Template, name: str, out: Path) -> None:
        self.what, self.name, self.out = what, name, out
        self.module, self.kind = _module(name), _KIND[what]

    def files(self) -> dict[Path, bytes]:
        """What to write, by path."""
        files = {
            self.out / f"{self.module}.py": self.text(f"{self.what}.py"),
            self.out / f"test_{self.module}.py": self.test(),
            self.out / f"{self.module}.yaml": self.text(f"{self.what}.yaml", run=self.run(Path())),
        }
        return {path: text.encode() for path, text in files.items()} | self.data(self.out)

    def commands(self) -> list[str]:
        """What to type next."""
        return [_shell("pytest", self.out / f"test_{self.module}.py"), self.run(self.out)]

    def run(self, folder: Path) -> str:
        """The command that runs the suite."""
        return _shell("robustiqa run", folder / f"{self.module}.yaml", "--plugin", folder / f"{self.module}.py")

    def test(self) -> str:
        """The test, which reads the plugin as --plugin does: it passes under any import mode of pytest's."""
        load = (
            "from pathlib import Path\n\n"
            "from harness.plugins.registry import Registry\n"
            f"from harness.testing import check_{self.checked}\n\n"
            f'PLUGIN = Registry([Path(__file__).with_name("{self.module}.py")]).{self.checked}("{self.name}")'
        )
        again = ", again=lambda: PLUGIN.build({})" if self.what == "dataset" else ""
        return self.text("test.py", load=load, check=f"check_{self.checked}(PLUGIN.build({{}}){again})")

    @property
    def checked(self) -> str:
        """What the conformance kit and the registry call the kind."""
        return self.kind.removesuffix("s")

    def text(self, template: str, **values: str) -> str:
        """A template filled in."""
        return string.Template(_template(template)).substitute(
            what="data set" if self.what == "dataset" else self.what,
            kind=self.kind,
            name=self.name,
            module=self.module,
            class_name=_class_name(self.name),
            **values,
        )

    def data(self, folder: Path) -> dict[Path, bytes]:
        """The images and labels of a data set, where its class looks for them."""
        if self.what != "dataset":
            return {}
        return {folder / f"{self.module}_data" / name: content for name, content in _example_images().items()}


class _Package(_LoneFile):
    """An installable package with an entry point, in a folder called like the distribution."""

    def __init__(self, what: Template, name: str, out: Path) -> None:
        # No such distribution may be on PyPI by chance, and no module is called like the folder.
        self.distribution = f"robustiqa-{name}"
        super().__init__(what, name, out / self.distribution)

    def files(self) -> dict[Path, bytes]:
        """What to write, by path."""
        files = {
            self.out / "pyproject.toml": self.text("pyproject.toml", distribution=self.distribution),
            self.out / "README.md": self.text("README.md", distribution=self.distribution),
            self.out / self.module / "__init__.py": self.text(f"{self.what}.py"),
            self.out / f"test_{self.module}.py": self.test(),
            self.out / f"{self.module}.yaml": self.text(f"{self.what}.yaml", run=self.run(Path())),
        }
        return {path: text.encode() for path, text in files.items()} | self.data(self.out / self.module)

    def commands(self) -> list[str]:
        """What to type next."""
        return [_shell("pip install -e", self.out), _shell("pytest", self.out), self.run(self.out)]

    def run(self, folder: Path) -> str:
        """The command that runs the suite once the package is installed."""
        return _shell("robustiqa run", folder / f"{self.module}.yaml")

    def test(self) -> str:
        """The test, which imports the package."""
        class_name = _class_name(self.name)
        load = f"from harness.testing import check_{self.checked}\n\nfrom {self.module} import {class_name}"
        again = f", again={class_name}" if self.what == "dataset" else ""
        return self.text("test.py", load=load, check=f"check_{self.checked}({class_name}(){again})")


def _shell(command: str, *words: Path | str) -> str:
    return " ".join([command, *(shlex.quote(str(word)) for word in words)])


def _example_images(references: int = 3, levels: int = 3, side: int = 64) -> dict[str, bytes]:
    """Made pictures of waves and a disc, each with growing noise, and labels.csv."""
    import numpy as np
    from PIL import Image

    files: dict[str, bytes] = {}
    lines = ["ref,dist,opinion"]

    def add(name: str, pixels: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> None:
        file = io.BytesIO()
        Image.fromarray((255 * pixels.clip(0, 1)).round().astype(np.uint8)).save(file, format="PNG")
        files[name] = file.getvalue()

    y, x = np.mgrid[:side, :side] / side
    for i in range(1, references + 1):
        rng = np.random.default_rng(i)
        waves = [np.sin(2 * np.pi * (a * x + b * y + c)) for a, b, c in rng.uniform(1, 5, (3, 3))]
        disc = np.hypot(x - rng.uniform(0.3, 0.7), y - rng.uniform(0.3, 0.7)) < 0.25
        picture = 0.45 + 0.15 * np.stack(waves, axis=-1) + 0.2 * disc[..., None]
        add(f"ref_{i}.png", picture)
        for level in range(1, levels + 1):
            name = f"ref_{i}_noise_{level}.png"
            add(name, picture + 0.05 * level * rng.standard_normal(picture.shape))
            lines.append(f"ref_{i}.png,{name},{1 - level / (levels + 1):g}")
    return {"labels.csv": "".join(f"{line}\n" for line in lines).encode(), **files}


def _refuse_existing(files: Sequence[Path], out: Path) -> None:
    """Nothing is overwritten, and a folder of the plugin's own is not mixed with what is in it."""
    nearest = next(folder for folder in (out, *out.parents) if os.path.lexists(folder))
    if not nearest.is_dir():
        raise UserError(f"{nearest} is a file, not a folder. Give another folder with --out.")
    own = {out / file.relative_to(out).parts[0] for file in files}
    there = sorted(str(path) for path in own if os.path.lexists(path))
    if there:
        exist = "exists" if len(there) == 1 else "exist"
        raise UserError(
            f"{', '.join(there)} {exist} already, and nothing is overwritten. "
            "Take another name, move what is there away, or give another folder with --out."
        )


def _write_all(files: Mapping[Path, bytes], out: Path) -> None:
    """Write every file, or leave the folder as it was."""
    made = {folder for file in files for folder in file.parents if not os.path.lexists(folder)}
    written: list[Path] = []
    try:
        for path, content in files.items():
            write_whole(path, content)
            written.append(path)
    except BaseException as error:
        for path in written:
            path.unlink(missing_ok=True)
        for folder in sorted(made, key=lambda folder: len(folder.parts), reverse=True):
            with contextlib.suppress(OSError):
                folder.rmdir()
        if isinstance(error, OSError):
            reason = error.strerror or type(error).__name__
            raise UserError(
                f"{out}: the folder cannot be written ({reason}), and nothing was. "
                "Give a folder of your own with --out."
            ) from error
        raise
