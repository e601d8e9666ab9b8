"""What plugins declare to cite: BibTeX entries of their own, or keys of `references.bib`; read, checked, written.

What is read of BibTeX is what an author writes for one paper: entries with values in braces or quotation marks. Macros
(``@string``, ``#``) are refused, so that every entry can be copied alone.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import PluginFaultError, UserError
from harness.plugins.bridges import SEPARATOR, NoSuchNameError
from harness.plugins.model import Kind, Plugin, PluginError, singular
from harness.wording import did_you_mean, joined

if TYPE_CHECKING:
    from harness.plugins.registry import Registry

Cite = str | tuple[str, ...] | None
"""What `harness.contracts.Citable.cite` may be."""
SHIPPED = Path(__file__).with_name("references.bib")
HARNESS = "robustiqa"
"""Key of the harness itself."""
DECLARE = (
    'cite = """@article{key, author = {...}, title = {...}, journal = {...}, year = {...}}""", or '
    'cite = "" where there is no paper'
)
"""How a plugin says what to cite."""

UNSAID = f"it does not say what to cite. State it on the class: {DECLARE}"
"""What is said of a plugin without `cite`."""

_HEAD = re.compile(r"@\s*([A-Za-z]+)\s*\{\s*([^\s,{}()\"#%'=~\\@]+)\s*,")
_FIELD = re.compile(r"([A-Za-z][A-Za-z_-]*)\s*=\s*")
_REFUSED = ("comment", "string", "preamble")
_NEEDED: Mapping[str, tuple[str, ...]] = {
    "article": ("author", "title", "journal", "year"),
    "inproceedings": ("author", "title", "booktitle", "year"),
    "phdthesis": ("author", "title", "school", "year"),
    "techreport": ("author", "title", "institution", "year"),
}
"""Fields without which BibTeX's own styles complain; of any other kind a title will do."""
_WITH_SYMBOL = re.compile(r"\\([\"'`^~=.])\s*\{?\\?([A-Za-z])\}?")
_WITH_LETTER = re.compile(r"\\([vcuHkr])(?:\s+|\{)([A-Za-z])\}?")
_ACCENTS = dict(
    zip("\"'`^~=.vcuHkr", map(chr, (776, 769, 768, 770, 771, 772, 775, 780, 807, 774, 779, 808, 778)), strict=True)
)
_LETTERS = {
    r"\ss": "ß",
    r"\o": "ø",
    r"\O": "Ø",
    r"\l": "ł",
    r"\L": "Ł",
    r"\ae": "æ",
    r"\AE": "Æ",
    r"\aa": "å",
    r"\AA": "Å",
}
_LETTER = re.compile(r"(\\(?:ss|ae|AE|aa|AA|[oOlL]))(?![A-Za-z])\s*")
_SPECIAL = {c: f"\\{c}" for c in "#$%&_"} | {
    "\\": r"\textbackslash ",
    "~": r"\textasciitilde ",
    "^": r"\textasciicircum ",
}
_SPECIAL |= {"{": "(", "}": ")", "@": "(at)"}


class BibtexError(UserError):
    """A text is no BibTeX that can be read; says what of it, to be read after whose it is."""


@dataclass(frozen=True)
class Reference:
    """One entry of a bibliography."""

    kind: str
    """"article", "inproceedings", ..., in lower case."""
    key: str
    fields: Mapping[str, str]
    """Name in lower case -> value as BibTeX has it, without its outer braces."""

    def bibtex(self) -> str:
        """The entry, one field a line, without a line's end after it."""
        lines = [f"  {name} = {{{value}}}," for name, value in self.fields.items()]
        return "\n".join([f"@{self.kind}{{{self.key},", *lines, "}"])

    def text(self) -> str:
        """The entry as plain text on one line: 'Ian Goodfellow. Explaining. In ICLR, 2015.'."""
        given = {name: plain(value) for name, value in self.fields.items()}
        place = next(
            (given[name] for name in ("journal", "school", "institution", "howpublished") if name in given), ""
        )
        place = f"In {given['booktitle']}" if "booktitle" in given else place
        number = f"({given['number']})" if "number" in given else ""
        volume = f" {given['volume']}{number}" if "volume" in given else ""
        pages = f", {'' if volume else 'pp. '}{given['pages']}" if "pages" in given else ""
        published = ", ".join(part for part in (f"{place}{volume}{pages}".strip(), given.get("year", "")) if part)
        link = f"https://doi.org/{given['doi']}" if "doi" in given else given.get("url", "")
        parts = [_people(self.fields.get("author", "")), given["title"], published, given.get("note", ""), link]
        return " ".join(part if part == link else f"{part.rstrip('.')}." for part in parts if part)


def parse_bibtex(text: str) -> tuple[Reference, ...]:
    """Every entry of a text; what stands between entries is passed over, as BibTeX does.

    Raises:
        BibtexError: It is no BibTeX, lacks a field that its kind needs, or has two entries of one key.
    """
    found: dict[str, Reference] = {}
    at = text.find("@")
    while at >= 0:
        entry, end = _entry(text, at)
        if entry.key in found:
            raise BibtexError(f"two entries are called '{entry.key}'")
        found[entry.key] = entry
        at = text.find("@", end)
    return tuple(found.values())


def _entry(text: str, at: int) -> tuple[Reference, int]:
    head = _HEAD.match(text, at)
    if head is None or head[1].lower() in _REFUSED:
        seen = " ".join(text[at : at + 40].split())
        raise BibtexError(f"'{seen}' begins no entry, which is written @article{{key, author = {{...}}, ...}}")
    kind, key, fields = head[1].lower(), head[2], dict[str, str]()
    at = _past_space(text, head.end())
    while text[at : at + 1] != "}":
        name = _FIELD.match(text, at)
        if name is None:
            seen = " ".join(text[at : at + 40].split())
            raise BibtexError(f"entry '{key}': '{seen}' is neither a field, name = {{value}}, nor the closing brace")
        value, at = _value(text, name.end(), f"entry '{key}': the field '{name[1]}'")
        if name[1].lower() in fields:
            raise BibtexError(f"entry '{key}': the field '{name[1]}' is there twice")
        fields[name[1].lower()] = " ".join(value.split())
        at = _past_space(text, at)
        if text[at : at + 1] == ",":
            at = _past_space(text, at + 1)
        elif text[at : at + 1] != "}":
            raise BibtexError(f"entry '{key}': after the field '{name[1]}' neither a comma nor the closing brace")
    lacking = [name for name in _NEEDED.get(kind, ("title",)) if not fields.get(name)]
    if lacking:
        raise BibtexError(f"entry '{key}' lacks {joined(lacking)}")
    return Reference(kind, key, fields), at + 1


def _value(text: str, at: int, who: str) -> tuple[str, int]:
    """A value in braces or quotation marks, or a number; and where it ends. Braces count as BibTeX counts them."""
    if number := re.compile(r"\d+").match(text, at):
        return number[0], number.end()
    opening = text[at : at + 1]
    if opening not in ("{", '"') or not opening:
        raise BibtexError(f"{who} has no value in braces")
    depth = 0
    for end in range(at + 1, len(text)):
        if depth == 0 and text[end] == ("}" if opening == "{" else '"'):
            return text[at + 1 : end], end + 1
        depth += (text[end] == "{") - (text[end] == "}")
        if depth < 0:
            break
    raise BibtexError(f"{who} has a brace or quotation mark that is never closed")


def _past_space(text: str, at: int) -> int:
    return at + len(text[at:]) - len(text[at:].lstrip())


def _people(authors: str) -> str:
    """'Last, First and Last, First and others' as 'First Last, First Last et al.'."""
    parts = [plain(name) for name in re.split(r"\s+and\s+(?![^{]*\})", authors) if name.strip()]
    names = [" ".join(reversed(name.split(", ", 1))) for name in parts if name != "others"]
    return ", ".join(names) + " et al." if "others" in parts else joined(names)


def plain(value: str) -> str:
    """A value of BibTeX as a person reads it: accents, dashes and special letters, without braces and commands."""
    text = _WITH_SYMBOL.sub(_accented, value)
    text = _LETTER.sub(lambda found: _LETTERS[found[1]], _WITH_LETTER.sub(_accented, text))
    text = re.sub(r"\\(?:url|emph|textit|textbf|texttt)(?=\{)", "", text)
    text = re.sub(r"\\([#$%&_{}])", r"\1", text.replace(r"\{", "(").replace(r"\}", ")"))
    text = re.sub(r"(?<!\\)~", " ", text).replace("---", "—").replace("--", "–")
    return unicodedata.normalize("NFC", " ".join(re.sub(r"[{}]", "", text).split()))


def _accented(found: re.Match[str]) -> str:
    return unicodedata.normalize("NFC", found[2] + _ACCENTS[found[1]])


def escaped(text: str) -> str:
    """Any text as a value of BibTeX."""
    return "".join(_SPECIAL.get(c, c) for c in " ".join(text.split()) if c.isprintable())


@functools.cache
def shipped_references() -> Mapping[str, Reference]:
    """What is in `references.bib`, by key."""
    return {entry.key: entry for entry in parse_bibtex(SHIPPED.read_text(encoding="utf-8"))}


def references_in(cite: Cite) -> tuple[Reference, ...]:
    """The entries that a declaration stands for.

    Args:
        cite: As a plugin declares it: entries written out, keys of `references.bib`, or empty.

    Raises:
        BibtexError: One is neither; says which, and the cure.
    """
    found: list[Reference] = []
    for text in (cite,) if isinstance(cite, str) else cite or ():
        if "@" in text:
            found += parse_bibtex(text)
        elif text.strip():
            known = shipped_references()
            if text not in known:
                hint = did_you_mean(text, list(known))
                near = hint if "Did you mean" in hint else ""  # and not the whole list
                raise BibtexError(f"'{text}' is no BibTeX entry and no key of {SHIPPED.name}.{near} Write {DECLARE}")
            found.append(known[text])
    return tuple(found)


@dataclass(frozen=True)
class Declared:
    """What there is to cite for a plugin as it is used.

    Attributes:
        own: Its entries; empty where it says that there is no paper, None where it says nothing.
        library: Those of the library that it comes through; None where its bridge says nothing, empty without one.
    """

    own: tuple[Reference, ...] | None
    library: tuple[Reference, ...] | None = ()


def declared(registry: Registry, kind: Kind, name: str, parameters: Mapping[str, Any]) -> Declared:
    """What a plugin declares; of one behind a bridge what the bridge knows, for which no library is imported.

    Args:
        registry: Where it is found.
        kind: What it is.
        name: Its registered name.
        parameters: Those that a suite gives it; the others are its defaults.

    Raises:
        PluginError: It cannot be had, or what it declares cannot be read.
    """
    who = f"{singular(kind)} '{name}'"
    prefix, behind, inner = name.partition(SEPARATOR)
    if behind and name not in registry.names(kind):
        bridge = registry.opened(kind, name)
        try:
            return Declared(_read(who, bridge.cited(inner)), _read(f"bridge '{prefix}'", bridge.cite))
        except NoSuchNameError:
            raise PluginError(f"unknown {who}. 'robustiqa show {prefix}' lists the names.") from None
    return Declared(plugin_references(kind, registry.get(kind, name), parameters))


def plugin_references(kind: Kind, plugin: Plugin[Any], parameters: Mapping[str, Any]) -> tuple[Reference, ...] | None:
    """The entries that a plugin's class declares for these parameters; None where it declares nothing.

    Raises:
        PluginError: What it declares cannot be read.
    """
    who = f"{singular(kind)} '{plugin.name}' from {plugin.origin}"
    values = {p.name: parameters.get(p.name, p.default) for p in plugin.parameters()}
    try:
        cite = plugin.cls.cited(values)
    except PluginFaultError as error:
        raise PluginError(f"{error}. Mend the plugin.") from error
    except Exception as error:
        raise PluginError(f"{who}: cited() failed: {type(error).__name__}: {error}. Mend the plugin.") from error
    return _read(who, cite)


def _read(who: str, cite: Cite) -> tuple[Reference, ...] | None:
    if not (
        cite is None or isinstance(cite, str) or (isinstance(cite, tuple) and all(isinstance(c, str) for c in cite))
    ):
        raise PluginError(f"{who}: to cite is {cite!r}, which is no text. Write {DECLARE}.")
    try:
        return None if cite is None else references_in(cite)
    except BibtexError as error:
        raise PluginError(f"{who}: what to cite cannot be read: {error}. Mend `cite` in its class.") from error
