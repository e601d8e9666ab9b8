"""Text of any kind as LaTeX that every engine compiles: special characters, symbols and letters with accents."""

from __future__ import annotations

import unicodedata

_SPECIAL = {
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
    "[": "{[}",
    "]": "{]}",
    "\n": " ",
    "\t": " ",
}
_SYMBOLS = {
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
    "“": "``",
    "”": "''",
    "‘": "`",
    "’": "'",
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
}
_ACCENTS = {
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
}
_LIKE_LATIN = dict(zip("ΑΒΕΖΗΙΚΜΝΟΡΤΧο", "ABEZHIKMNOPTXo", strict=True))
"""Greek letters that LaTeX has no command for, as they look like others."""
_GREEK = (
    *("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu"),
    *("nu", "xi", "pi", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega"),
)
_LIGATURES = "-,'`?!"
"""Characters of which two in a row are drawn as another."""


def escape(text: str) -> str:
    """Text as LaTeX prints it as it is; a character that no font has stands as its code, such as U+4E2D."""
    out: list[str] = []
    for character in unicodedata.normalize("NFC", text):
        for part in [character] if _known(character) else unicodedata.normalize("NFD", character):
            if part in _ACCENTS and out:
                out[-1] = f"{_ACCENTS[part]}{{{out[-1]}}}"
            elif unicodedata.combining(part) and out:
                continue  # an accent that not every font encoding has
            elif part in _LIGATURES and out and out[-1].strip("{}") == part:
                out.append(f"{{{part}}}")
            else:
                out.append(_one(part))
    return "".join(out)


def _known(character: str) -> bool:
    return character in _SPECIAL or character in _SYMBOLS


def _one(character: str) -> str:
    if character in _SPECIAL:
        return _SPECIAL[character]
    if character in _SYMBOLS:
        return _SYMBOLS[character]
    if " " <= character <= "~":
        return character
    name = unicodedata.name(character, "")
    if greek := _LIKE_LATIN.get(character) or _greek(name):
        return greek
    plain = unicodedata.normalize("NFKD", character)  # a digit that is raised, a ligature, the sign for micro
    if plain != character:
        text = escape(plain)
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
