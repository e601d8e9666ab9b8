"""What plugins say to cite: every shipped one does, the entries are BibTeX, and say what the papers' own lists say."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from attacks.bridges.art import ART
from attacks.bridges.pyautoattack import PyAutoAttack
from attacks.bridges.torchattacks import Torchattacks
from harness.contracts import Metric
from harness.plugins.model import KINDS, PluginError
from harness.plugins.references import (
    SHIPPED,
    BibtexError,
    declared,
    escaped,
    parse_bibtex,
    plain,
    plugin_references,
    references_in,
    shipped_references,
)
from harness.plugins.registry import Registry
from harness.testing import ConformanceError, check_metric
from harness.testing.common import Report, expect_reference
from harness.testing.probes import probe_metric
from metrics_zoo.bridges.piq import Piq
from metrics_zoo.bridges.pyiqa import Pyiqa
from metrics_zoo.bridges.torchmetrics import TorchMetrics

ROOT = Path(__file__).parents[2]
BRIDGES = (ART, PyAutoAttack, Torchattacks, Piq, Pyiqa, TorchMetrics)

BIRQA_BIBLIOGRAPHY = """
wang2004ssim | Wang, Bovik, Sheikh, Simoncelli | 13(4):600–612 | 2004
wang2003msssim | Wang, Simoncelli, Bovik | 2:1398–1402 | 2003
sheikh2006vif | Sheikh, Bovik | 15(2):430–444 | 2006
zhang2011fsim | Zhang, Zhang, Mou, Zhang | 20(8):2378–2386 | 2011
wang2011iwssim | Wang, Li | 20(5):1185–1198 | *
zhang2012srsim | Zhang, Li | :1473–1476 | 2012
zhang2018unreasonable | Zhang, Isola, Efros, Shechtman, Wang | :586–595 | 2018
ding2022dists | Ding, Ma, Wang, Simoncelli | 44(5):2567–2581 | *
chen2024topiq | Chen, Mo, Hou, Wu, Liao, Sun, Yan, Lin | : | 2024
carlini2017towards | Carlini, Wagner | :39–57 | 2017
croce2020reliable | Croce, Hein | :2206–2216 | 2020
zhang2022perceptual | Zhang, Li, Min, Zhai, Guo, Yang, Ma | 35:2916–2929 | 2022
chistyakova2024increasing | Chistyakova, Antsiferova, Khrebtov, Lavrushkin, Arkhipenko, Vatolin, Turdakov | 12:220 | 2024
ghazanfari2023rlpips | Ghazanfari, Garg, Krishnamurthy, Khorrami, Araujo | : | 2023
liu2024norm | Liu, Yang, Li, Ding, Jiang | :25554–25563 | 2024
kettunen2019elpips | Kettunen, Härkönen, Lehtinen | : | 2019
nie2022diffpure | Nie, Guo, Huang, Xiao, Vahdat, Anandkumar | : | 2022
larson2010mad | Larson, Chandler | 19(1):011006 | 2010
lin2019kadid10k | Lin, Hosu, Saupe | :1–3 | 2019
liu2018hdds | Liu, Liu, Pei, Liu | 6:45427–45438 | 2018
prashnani2018pieapp | Prashnani, Cai, Mostofi, Sen | :1808–1817 | 2018
gu2020pipal | Gu, Cai, Chen, Ye, Ren, Dong | :633–651 | 2020
"""
"""From the reference list of the BiRQA paper: authors, volume(number):pages, year (* where it has that of the preprint)."""


@pytest.fixture(scope="module")
def plugins():
    return Registry()


def every_name(registry):
    for kind in KINDS:
        for name in registry.names(kind):
            source = registry.source(kind, name)
            if source.origin == source.module:
                yield kind, name


def strictly(text):
    """A reading of BibTeX that shares nothing with the program's: brace by brace, a line a field."""
    entries = {}
    for block in re.findall(r"^@.*?^\}$", text, re.DOTALL | re.MULTILINE):
        first, *lines = block.split("\n")
        kind, key = re.fullmatch(r"@([a-z]+)\{([a-z0-9_]+),", first).groups()
        fields = dict(re.fullmatch(r"  ([a-z]+) = \{(.*)\},", line).groups() for line in lines[:-1])
        assert key not in entries and len(fields) == len(lines) - 1
        for value in fields.values():
            depths = [value[: i + 1].count("{") - value[: i + 1].count("}") for i in range(len(value))]
            assert min(depths) >= 0 and depths[-1] == 0
            assert not re.search(r"(?<!\\)[%#&$_]", value), "what TeX would take for a command"
        entries[key] = (kind, fields)
    assert text.count("@") == len(entries), "nothing else begins with the sign"
    return entries


def test_shipped_entries_are_strict_bibtex_in_order():
    text = SHIPPED.read_text(encoding="utf-8")
    entries = strictly(text)
    assert list(entries) == sorted(entries) and len(entries) > 60 and text.isascii()
    assert {key: (one.kind, one.fields) for key, one in shipped_references().items()} == entries
    assert strictly("\n".join(one.bibtex() for one in shipped_references().values())) == entries, "written as read"
    without_year = {key for key, (_, fields) in entries.items() if not re.fullmatch(r"\d{4}", fields.get("year", ""))}
    assert without_year == {"gushchin_birqa", "robustiqa"}
    titles = [plain(fields["title"]).lower() for _, fields in entries.values()]
    assert len(set(titles)) == len(titles)


@pytest.mark.parametrize("line", BIRQA_BIBLIOGRAPHY.strip().splitlines())
def test_entries_say_what_the_paper_lists(line):
    key, authors, place, year = line.split(" | ")
    fields = shipped_references()[key].fields
    surnames = [plain(name.partition(",")[0]) for name in fields["author"].split(" and ")]
    assert surnames == authors.split(", ")
    assert year in ("*", fields["year"])
    volume, number, pages = re.fullmatch(r"([^(:]*)(?:\((.*)\))?:(.*)", place).groups()
    for name, value in (("volume", volume), ("number", number), ("pages", pages)):
        assert not value or name not in fields or plain(fields[name]) == value


def test_every_shipped_plugin_says_what_to_cite_and_every_entry_is_cited(plugins):
    cited = {"robustiqa"}
    for kind, name in every_name(plugins):
        found = plugin_references(kind, plugins.get(kind, name), {})
        assert found is not None, (kind, name)
        cited |= {one.key for one in found}
    with_parameters = (("attacks", "pgd", {"momentum": 1.0}), ("recipes", "rank2afc", {}))
    for kind, name, parameters in with_parameters:
        cited |= {one.key for one in declared(plugins, kind, name, parameters).own}
    for bridge in BRIDGES:
        library = references_in(bridge.cite)
        assert library, "a library has a paper or a page"
        cited |= {one.key for one in library}
        for name in () if bridge is Pyiqa else bridge().names():
            cited |= {one.key for one in references_in(bridge().cited(name))}
    assert cited == set(shipped_references()), "none unknown, none unused"


def test_parameters_decide_where_papers_differ(plugins):
    def keys(kind, name, **parameters):
        return [one.key for one in declared(plugins, kind, name, parameters).own]

    assert keys("attacks", "pgd") == ["madry2018towards"]
    assert keys("attacks", "pgd", momentum=1.0) == ["madry2018towards", "dong2018boosting"]
    assert keys("recipes", "r-lpips") == ["ghazanfari2023rlpips"]
    assert keys("recipes", "at-lpips") == ["chistyakova2024increasing"]
    assert keys("purifiers", "diffpure") == ["nie2022diffpure", "dhariwal2021diffusion"]
    assert keys("purifiers", "diffpure", model="./ddpm") == ["nie2022diffpure"]
    assert keys("metrics", "folds") == ["gushchin_birqa"] and keys("metrics", "folds", metric="dists") == [
        "ding2022dists"
    ]


def test_names_behind_a_bridge_cite_their_paper_and_the_library_without_it(plugins):
    found = declared(plugins, "attacks", "art:SimBA", {})
    assert [one.key for one in (*found.own, *found.library)] == ["guo2019simple", "nicolae2018art"]
    assert declared(plugins, "metrics", "pyiqa:cover", {}).own == ()
    with pytest.raises(PluginError, match="unknown metric 'piq:gmsdd'"):
        declared(plugins, "metrics", "piq:gmsdd", {})


def test_bibtex_as_authors_write_it_is_read():
    text = """% @ours is below; {
    @InProceedings{Le_2020:x, Author = "Le, {\\"U}n and M{\\"u}ller, J. and others", title={A {B} = "c", 50\\% {\\&} d},
       booktitle = {Proc. of
          X}, year=2020}  and @misc{b, title = {t}}"""
    with pytest.raises(BibtexError, match=r"'@ours is below; \{ @InProceedings\{Le_' begins no entry"):
        parse_bibtex(text)
    one, other = parse_bibtex(text.replace("@ours", "ours"))
    assert (one.kind, one.key, one.fields["booktitle"], one.fields["year"]) == (
        "inproceedings",
        "Le_2020:x",
        "Proc. of X",
        "2020",
    )
    assert one.text() == 'Ün Le, J. Müller et al. A B = "c", 50% & d. In Proc. of X, 2020.'
    assert other.bibtex() == "@misc{b,\n  title = {t},\n}"
    names = r"H{\"a}rk{\"o}nen Tram\`er {\O}re \v{S}a{\v c}a G\'{\i}l Stra{\ss}e {\l}a 39--57 a~b"
    assert plain(names) == "Härkönen Tramèr Øre Šača Gíl Straße ła 39–57 a b"


@pytest.mark.parametrize(
    ("cite", "said"),
    [
        ("nobody2020", "'nobody2020' is no BibTeX entry and no key of references.bib. Write cite = "),
        ("wang2004sim", "Did you mean 'wang2004ssim'?"),
        ("@article{a, author = {X}, title = {T}, year = 2000}", "entry 'a' lacks journal"),
        ("@misc{a, year = 2000}", "entry 'a' lacks title"),
        ("@misc{a, title = {T}, title = {U}}", "the field 'title' is there twice"),
        ("@misc{a, title = {T}", "neither a comma nor the closing brace"),
        ("@misc{a, title = {T", "never closed"),
        ("@misc{a, title = T}", "the field 'title' has no value in braces"),
        ("@misc{a, title {T}}", "'title {T}}' is neither a field"),
        ("@string{a = {b}}", "begins no entry"),
        ("see @home", "begins no entry"),
        ("@misc{a, title = {T}} @misc{a, title = {T}}", "two entries are called 'a'"),
    ],
)
def test_what_cannot_be_read_is_told(cite, said):
    with pytest.raises(BibtexError, match=re.escape(said)):
        references_in(cite)


class Silent(Metric):
    """Says nothing of a paper."""

    higher_is_better = False

    def score(self, reference, dist):
        return (dist - reference).square().flatten(1).mean(1)


def test_the_kit_asks_for_it_and_a_run_does_not():
    with pytest.raises(ConformanceError) as caught:
        check_metric(Silent())
    (fault,) = caught.value.faults
    assert fault.rule == "says what to cite" and 'cite = "" where there is no paper' in fault.cure
    assert probe_metric(Silent(), "silent")["faults"] == []


def test_the_kit_takes_what_can_be_read_and_nothing_else():
    def asked(cite):
        report = Report("metric", Silent(), None)
        expect_reference(report, type("Other", (Silent,), {"cite": cite})())
        report.settle()

    for cite in ("", "wang2004ssim", ("wang2004ssim", "@misc{a, title = {T}}")):
        asked(cite)
    with pytest.raises(ConformanceError, match="it cannot be read: entry 'a' lacks title"):
        asked("@misc{a, year = 2000}")
    with pytest.raises(ConformanceError, match="it cannot be read"):
        asked(3)


def test_a_class_that_cites_no_text_is_refused(tmp_path):
    file = tmp_path / "bad.py"
    file.write_text(
        "from harness.contracts import Metric, register\n\n\n@register('bad')\nclass Bad(Metric):\n"
        "    higher_is_better = True\n    cite = 3\n\n    def score(self, reference, dist):\n        return 0\n"
    )
    with pytest.raises(PluginError, match=r"class Bad must say cite = a BibTeX entry, a tuple of them, or .*, not 3"):
        Registry([file]).metric("bad")


def test_bibtex_itself_takes_every_entry(tmp_path):
    if shutil.which("bibtex") is None:
        pytest.skip("there is no bibtex (apt-get install texlive-binaries)")
    note = escaped("100 % of {x}_y & z#1 ~ ^ \\ @ $\n\x1b")
    entries = [one.bibtex() for one in shipped_references().values()] + [
        f"@misc{{own,\n  author = {{A}},\n  title = {{{note}}},\n}}"
    ]
    (tmp_path / "all.bib").write_text("% for metric a(at)b, } and {\n" + "\n".join(entries))
    (tmp_path / "all.aux").write_text("\\relax\n\\citation{*}\n\\bibstyle{plain}\n\\bibdata{all}\n")
    done = subprocess.run(["bibtex", "all"], cwd=tmp_path, capture_output=True, text=True, check=False)
    if "couldn't open style file" in done.stdout:
        pytest.skip("bibtex has no styles here (apt-get install texlive-base)")
    assert done.returncode == 0 and "Warning" not in done.stdout, done.stdout
    assert (tmp_path / "all.bbl").read_text().count("\\bibitem") == len(entries)


def test_citation_file_says_what_the_package_and_the_entry_say():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    cff = yaml.safe_load(text)
    known = "cff-version message title abstract type authors version doi license keywords references date-released url"
    assert {"cff-version", "message", "title", "authors"} <= set(cff) <= set(known.split())  # of the schema 1.2.0
    assert (cff["cff-version"], cff["type"], cff["title"]) == ("1.2.0", "software", project["name"])
    assert str(cff["version"]) == project["version"] and cff["license"] == project["license"]["text"]
    entry = shipped_references()["robustiqa"].fields
    assert plain(entry["author"]) == " and ".join(one["name"] for one in cff["authors"])
    assert plain(entry["title"]) == f"{cff['title']}: {cff['abstract'].rstrip('.')}"
    assert entry.get("doi") == cff.get("doi")
    (paper,) = cff["references"]
    people = " and ".join(f"{one['family-names']}, {one['given-names']}" for one in paper["authors"])
    theirs = shipped_references()["gushchin_birqa"].fields
    assert (plain(theirs["title"]), theirs["author"]) == (paper["title"], people)
