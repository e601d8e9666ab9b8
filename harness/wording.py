r"""How names and numbers are written for people, and how each form prints a text as it is.

Text from suites, plugins and paths goes through the function of its form (`for_screen`, `for_markdown`, `for_html`,
`for_latex`, `for_plot`, `for_csv`): nothing in a name is markup, a formula or a command, and what has no look of its
own (control characters, marks that turn the direction of writing) stands as its code, such as ``\x1b``.
"""

from __future__ import annotations

import difflib
import functools
import html
import math
import re
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jinja2
    from rich.console import Console
    from rich.text import Text

MISSING = "–"
FAILED = "failed"
UNDEFINED = "n/a"
BROKEN = "†"
NO_DEFENSE = "base"
"""What stands for a metric as it is."""
USUAL_BUDGET = 8 / 255
"""The budget that is told of first when it was run; otherwise the largest."""

_OLD_FRACTION = re.compile(r"([=+]-?\d+(?:\.\d+)?):255(?=[,)+])")

_KEPT = "\n\t\u200c\u200d"
"""Characters without a look that are part of ordinary writing: lines, columns, and what joins letters and emoji."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What spreadsheets take for the beginning of a formula."""
_LATEX: Mapping[str, str] = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "_": r"\_",
    "&": r"\&",
    "%": r"\%",
    "#": r"\#",
    "$": r"\$",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    '"': "''",
    "`": r"\textasciigrave{}",
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",  # beside a line's end it would be that of \\*
    "\n": " ",
    "\t": " ",
    "–": "--",
    "—": "---",
    "−": "$-$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "÷": r"$\div$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "→": r"$\rightarrow$",
    "←": r"$\leftarrow$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "≈": r"$\approx$",
    "≠": r"$\neq$",
    "∞": r"$\infty$",
    "∈": r"$\in$",
    "∑": r"$\sum$",
    "√": r"$\surd$",
    "∥": r"$\|$",
    "✓": r"$\checkmark$",
    "✗": r"$\times$",
    "†": r"$\dagger$",
    "‡": r"$\ddagger$",
    "•": r"$\bullet$",
    "…": r"\dots{}",
    "°": r"$^\circ$",
    "“": r"\textquotedblleft{}",
    "”": r"\textquotedblright{}",
    "‘": r"\textquoteleft{}",
    "’": r"\textquoteright{}",
    "\u00a0": "~",
    "ß": r"\ss{}",
    "ø": r"\o{}",
    "Ø": r"\O{}",
    "æ": r"\ae{}",
    "Æ": r"\AE{}",
    "ł": r"\l{}",
    "Ł": r"\L{}",
    "€": r"\texteuro{}",
    "§": r"\S{}",
    "¶": r"\P{}",
    "©": r"\textcopyright{}",
    "ε": r"$\varepsilon$",
    "ℓ": r"$\ell$",
    "¡": r"\textexclamdown{}",
    "¿": r"\textquestiondown{}",
    "¢": r"\textcent{}",
    "£": r"\textsterling{}",
    "¤": r"\textcurrency{}",
    "¥": r"\textyen{}",
    "¦": r"\textbrokenbar{}",
    "¨": r"\textasciidieresis{}",
    "¯": r"\textasciimacron{}",
    "´": r"\textasciiacute{}",
    "¸": r"\c{}",
    "ª": r"\textordfeminine{}",
    "º": r"\textordmasculine{}",
    "¬": r"$\neg$",
    "®": r"\textregistered{}",
    "¼": r"\textonequarter{}",
    "½": r"\textonehalf{}",
    "¾": r"\textthreequarters{}",
    "⁄": "/",
    "ʼ": r"\textquoteright{}",
    "Œ": r"\OE{}",
    "œ": r"\oe{}",
    "ı": r"\i{}",
    "ȷ": r"\j{}",
}
_IN_T1 = r"{{\fontencoding{{T1}}\selectfont{}}}"
"""What is in the font encoding T1 alone, whatever that of the document is."""
_LATEX_T1: Mapping[str, str] = {
    "«": r"\guillemotleft{}",
    "»": r"\guillemotright{}",
    "‹": r"\guilsinglleft{}",
    "›": r"\guilsinglright{}",
    "„": r"\quotedblbase{}",
    "‚": r"\quotesinglbase{}",
    "Ð": r"\DH{}",
    "ð": r"\dh{}",
    "Đ": r"\DJ{}",
    "đ": r"\dj{}",
    "Þ": r"\TH{}",
    "þ": r"\th{}",
    "Ŋ": r"\NG{}",
    "ŋ": r"\ng{}",
}
_LATEX_ACCENTS: Mapping[str, str] = {
    "\u0300": r"\`",
    "\u0301": r"\'",
    "\u0302": r"\^",
    "\u0303": r"\~",
    "\u0304": r"\=",
    "\u0306": r"\u",
    "\u0307": r"\.",
    "\u0308": r"\"",
    "\u030a": r"\r",
    "\u030b": r"\H",
    "\u030c": r"\v",
    "\u0327": r"\c",
    "\u0328": r"\k",
}
_OGONEK = "\u0328"
_LIKE_LATIN = dict(zip("ΑΒΕΖΗΙΚΜΝΟΡΤΧο", "ABEZHIKMNOPTXo", strict=True))
"""Greek letters that LaTeX has no command for, as they look like others."""
_GREEK = (
    *("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu"),
    *("nu", "xi", "pi", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega"),
)
_LIGATURES = "-,'`?!"
"""Characters that LaTeX draws two of as another."""


@functools.lru_cache(maxsize=1000)
def budget_text(norm: str, eps: float) -> str:
    """A radius as people write it: ``8/255`` and ``0.5/255`` in the max norm, a short decimal as it is."""
    steps = eps * 255
    if norm != "l2" and 0 < round(steps) < 255 and abs(steps - round(steps)) < 1e-3:
        return f"{round(steps)}/255"
    short = f"{eps:.4g}"
    halves = round(steps, 2)
    if norm != "l2" and 0 < halves < 255 and abs(steps - halves) < 1e-5 and abs(float(short) - eps) > 1e-9:
        return f"{halves:g}/255"
    return short


def usual_of(radii: Iterable[float]) -> float:
    """The budget that is told of first: the usual one where it was run, otherwise the largest."""
    return min(set(radii), key=lambda eps: (abs(eps - USUAL_BUDGET) > 1e-6, -eps))


def value_text(value: Any) -> str:
    """A parameter's value as suites write it: ``2/255`` for a length in steps of 1/255, ``0.8`` for a share.

    >>> value_text(2 / 255), value_text(0.8), value_text([1 / 255, 4]), value_text("a/b")
    ('2/255', '0.8', '1/255+4', 'a|b')
    """
    if isinstance(value, float):
        steps = round(value * 255, 2)
        # A length in steps of 1/255 has no short decimal; a share such as 0.8 has one, though it is 204/255.
        if 0 < abs(steps) < 255 and abs(value * 255 - steps) < 1e-9 and float(f"{value:.4g}") != value:
            return f"{steps:g}/255"
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return "+".join(value_text(one) for one in value)
    return re.sub(r"[/\\]", "|", str(value))


def respelt_fractions(text: str) -> str:
    """Labels within a text as they are written now: those of older versions have ``step_size=2:255`` in them."""
    return _OLD_FRACTION.sub(r"\1/255", text)


@functools.lru_cache(maxsize=1000)
def scorer_text(metric: str, defense: str, threat: str, source: str) -> str:
    """A scorer's name: the metric, its defense if it has one, and how the attacker met it."""
    name = metric if defense in (NO_DEFENSE, "") else f"{metric} + {defense}"
    if threat == "transfer":
        return f"{name} (transfer from {source})"
    return f"{name} ({threat})" if threat in ("oblivious", "adaptive") else name


def trained_name(metric: str, training: str) -> str:
    """A metric with the weights of a training: ``birqa-tiny@aat``, as weights are named; its own without one."""
    return f"{metric}@{training}" if training else metric


def split_name(dataset: str, index: int) -> str:
    """A data set in one of several splits: ``kadid10k split 3``."""
    return f"{dataset} split {index}"


def marked(name: str, broken: str) -> str:
    """A scorer's name, with a mark where its metric broke its contract when it was probed."""
    return f"{name} {BROKEN}" if broken else name


def attack_text(attack: str, norm: str) -> str:
    """An attack's name, with the norm unless it is the max norm."""
    return f"{attack} (l2)" if norm == "l2" else attack


_LEFT_AWAY = re.compile(
    r"\(\w+=.*\)$|(?: \w+=\S+)+$|(?: SROCC)? of all$|(?<=^mean) over attacks$|(?<=^honest) reference$", re.DOTALL
)
"""Parameters, and what is said of rows that stand for several attacks."""


def short_names(labels: list[str]) -> dict[str, str]:
    """Labels without their parameters, where that leaves them distinct; names that a suite gives stay whole."""
    first = {label: _LEFT_AWAY.sub("", label) or label for label in labels}
    values = list(first.values())
    return {label: name if values.count(name) == 1 else label for label, name in first.items()}


def base_name(label: str) -> str:
    """The part of a label before its parameters: "pgd" of "pgd(steps=10)" or of "pgd steps=10"."""
    return label.replace("(", " ").split(" ")[0] or label


def number(value: float, digits: int = 2, signed: bool = False) -> str:
    """A number with a fixed count of decimals and a real minus sign; "n/a" for nan."""
    if math.isnan(value):
        return UNDEFINED
    text = f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("+-")
    return text.replace("-", "−")


def p_text(value: float) -> str:
    """A p-value with three decimals; "< 0.001" below."""
    return "< 0.001" if value < 0.001 else number(value, 3)


def significant(value: float, digits: int = 3) -> str:
    """A number of unknown scale with so many significant digits and a sign."""
    return UNDEFINED if math.isnan(value) else f"{value:+.{digits}g}".replace("-", "−")


def with_interval(value: float, low: float, high: float, digits: int = 2, signed: bool = False) -> str:
    """A figure with its interval: ``0.71 [0.62, 0.79]``; a dash where it has none: ``0.71 [–]``."""
    if math.isnan(value):
        return UNDEFINED
    if math.isnan(low) or math.isnan(high):
        return f"{number(value, digits, signed)} [{MISSING}]"
    return f"{number(value, digits, signed)} [{number(low, digits, signed)}, {number(high, digits, signed)}]"


def bytes_text(count: float) -> str:
    """'850 kB', '12.3 MB', '1.2 GB'."""
    for size, unit in ((1e9, "GB"), (1e6, "MB")):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count / 1e3:.0f} kB"


def counted(count: int, noun: str) -> str:
    """'1 photograph', '8 photographs'."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def joined(names: list[str]) -> str:
    """A list in words: "a", "a and b", "a, b and c"."""
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1] if names else ""


def few(names: Iterable[str]) -> str:
    """The first of some names, and how many more there are: 'a and 2 more'. A name may be a list 'a, b'."""
    distinct = list(dict.fromkeys(part for name in names for part in str(name).split(", ") if part))
    more = f" and {len(distinct) - 1} more" if len(distinct) > 1 else ""
    return distinct[0] + more if distinct else ""


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """' Did you mean 'x'?' or the whole short list; starts with a space."""
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    if near:
        return f" Did you mean '{near[0]}'?"
    return f" Known: {', '.join(known)}." if known else ""


def quoted(value: Any) -> str:
    """A value as a message quotes it."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def visible(text: str) -> str:
    r"""Text in which every character has a look: control characters and the like stand as their codes.

    Lines and columns stay. So an ESC comes out as ``\x1b``, and halves of characters, as paths that are no
    UTF-8 have, can be written to a file.
    """
    if text.isprintable():
        return text
    return "".join(one if _has_a_look(one) else _code(one) for one in text.replace("\r\n", "\n").replace("\r", "\n"))


def _has_a_look(character: str) -> bool:
    return character.isprintable() or character in _KEPT or unicodedata.category(character) == "Zs"


def _code(character: str) -> str:
    return ascii(character)[1:-1]


def for_screen(text: str) -> str:
    """Text for a terminal: nothing in it moves the cursor, changes a colour or turns the direction of writing."""
    return visible(text).replace("\t", " ")


def for_one_line(text: str) -> str:
    """Text for a line of a terminal, whose own lines are put together."""
    return for_screen(" ".join(text.split()))


def rich_text(text: str, style: str = "") -> Text:
    """Text for a terminal as `rich` takes it, in which nothing is markup."""
    from rich.text import Text

    return Text(for_screen(text), style=style)


def tell(message: str) -> None:
    """Say something beside the report, on standard error."""
    print(for_screen(message), file=sys.stderr)


def plain_console(**options: Any) -> Console:
    """A console of `rich` that prints strings as they are: no markup, no emoji by name, no colours of its own.

    Args:
        **options: Of `rich.console.Console`.
    """
    from rich.console import Console

    class Plain(Console):
        def render_str(self, text: str, **how: Any) -> Text:
            return super().render_str(for_screen(text), **how)

    return Plain(**{"highlight": False, "markup": False, "emoji": False, **options})


def for_markdown(text: str) -> str:
    """Text for one line of Markdown, within a table or outside of one; its lines are put together."""
    line = re.sub(r"([\\`*_{}\[\]<>|~$&])", r"\\\1", " ".join(visible(text).split("\n"))).strip()
    # What begins a list, a heading or a rule at the start of a line.
    return re.sub(r"^(\d*)([-+#=.)])(?=[\s=#-]|$)", r"\1\\\2", line)


def for_html(text: str) -> str:
    """Text for HTML, within an element or a quoted attribute."""
    return html.escape(visible(text))


def html_environment() -> jinja2.Environment:
    """Templates of HTML whose values come out as `for_html`."""
    import jinja2

    def finalize(value: Any) -> Any:
        return visible(value) if type(value) is str else value  # what is HTML already is of another type

    return jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, finalize=finalize)


def for_plot(text: str) -> str:
    """Text for matplotlib, which `harness.engine.drawing` draws without formulas and with fonts that have it."""
    return visible(text).replace("\t", " ")


def for_csv(text: str) -> str:
    """A value of a CSV file that no spreadsheet takes for a formula; the writer quotes what has commas and quotes."""
    return f"'{visible(text)}" if text.startswith(_FORMULA) else visible(text)


def for_latex(text: str) -> str:
    """Text for LaTeX, whatever its engine; a character that no font has stands as its code, such as U+4E2D."""
    out: list[str] = []
    for character in unicodedata.normalize("NFC", visible(text)):
        for part in [character] if _in_latex(character) else unicodedata.normalize("NFD", character):
            if part in _LATEX_ACCENTS and out:
                accented = f"{_LATEX_ACCENTS[part]}{{{out[-1]}}}"
                out[-1] = _IN_T1.format(accented) if part == _OGONEK else accented
            elif unicodedata.combining(part) and out:
                continue  # an accent that not every font encoding has
            else:
                out.append(_apart(_latex_of(part), out[-1] if out else ""))
    return "".join(out)


def _apart(latex: str, before: str) -> str:
    """What follows something of which it must not become a ligature."""
    if latex[:1] in _LIGATURES and before.rstrip("}")[-1:] in _LIGATURES and latex and before:
        return f"{{{latex}}}"
    return latex


def _in_latex(character: str) -> bool:
    return character in _LATEX or character in _LATEX_T1


def _latex_of(character: str) -> str:
    if character in _LATEX:
        return _LATEX[character]
    if character in _LATEX_T1:
        return _IN_T1.format(_LATEX_T1[character])
    if " " <= character <= "~":
        return character
    name = unicodedata.name(character, "")
    if greek := _LIKE_LATIN.get(character) or _greek(name):
        return greek
    plain = unicodedata.normalize("NFKD", character)  # a digit that is raised, a ligature, the sign for micro
    if plain != character:
        text = for_latex(plain)
        return f"\\textsuperscript{{{text}}}" if "SUPERSCRIPT" in name else text
    return f"U+{ord(character):04X}" if character.isprintable() else ""


def _greek(name: str) -> str:
    """A Greek letter by its Unicode name, GREEK SMALL LETTER SIGMA; nothing for what LaTeX has no command for."""
    start, _, word = name.lower().replace("lamda", "lambda").partition(" letter ")
    if start not in ("greek small", "greek capital"):
        return ""
    if word == "final sigma":
        return r"$\varsigma$"
    return f"$\\{word.capitalize() if start == 'greek capital' else word}$" if word in _GREEK else ""
