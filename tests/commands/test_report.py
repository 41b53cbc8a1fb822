"""cook report: the page is whole HTML that loads nothing, its numbers are right, and text of the data is text."""

import base64
import hashlib
import re
import shutil
import sys
from html.parser import HTMLParser

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import entry, pair, write_shard
from cook import (
    CookError,
    OutputError,
    OutputExists,
    Recipe,
    RecipeError,
    TokenizerError,
    mix,
    read_cooked,
    report,
    run,
)
from cook.core.progress import no_progress
from cook.views import counts as tally
from cook.views.counts import LengthCounts
from cook.views.outputs import find_outputs
from cook.views.parts import SequenceDecoder
from cook.views.plots import bar_chart, histogram
from tokenizer.test_control import wordpiece, write

pytest.importorskip("jinja2", reason="Jinja is not installed: pip install '.[report]'")
SCRIPT = "<script>alert(1)</script><img src=x onerror=alert(2)> {{ 7*7 }} &lt;b&gt; \x1b[2J\u202e"
VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """A page taken apart; an element that is not closed, or closed twice, is an error."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.elements, self.texts = [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), (tag, attrs)
        self.elements.append((tag, dict(attrs), [*self.open]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), [*self.open]))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append((data, [*self.open]))

    def of(self, tag, **attributes):
        return [
            attrs
            for name, attrs, _ in self.elements
            if name == tag and all(attrs.get(key.rstrip("_")) == value for key, value in attributes.items())
        ]

    def text(self, *inside):
        return "".join(data for data, where in self.texts if all(tag in where for tag in inside))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A ROOT with hostile text, entries that are left out and split, a validation split, and a mix."""
    folder = tmp_path_factory.mktemp("reported")
    rows = [entry(f"Context {i}. " + SCRIPT * (i % 2), *[pair(f"Q{j}?", f"A{j} {SCRIPT}") for j in range(i % 4 + 1)])
            for i in range(24)]  # fmt: skip
    rows += [entry("x", pair(" ", "a")), {"context": "none", "QA_list": []}, b"{", entry("word " * 900)]
    rows += [entry("A long context. " * 25, *(pair(f"Long {i}?", f"Answer {i}.") for i in range(30)))]
    write_shard(folder, "hostile & odd", rows)
    write_shard(folder, "plain", [entry(f"Context {i}.") for i in range(30)])
    common = {"tokenizer": "llama3", "source": folder, "output": folder / "out", "cache": "none", "max_length": 300}
    run(Recipe(datasets="hostile & odd", on_error="skip", max_dropped=1.0, validation=0.3, **common))
    run(Recipe(datasets="plain", **common))
    mix(folder / "out", folder / "out" / "all")
    return folder / "out"


@pytest.fixture(scope="module")
def page(root, tmp_path_factory):
    to = tmp_path_factory.mktemp("page") / "report.html"
    report(root, to)
    return to.read_text("utf-8")


def test_the_page_is_whole(page):
    parsed = Page(page)
    ids = [attrs["id"] for _, attrs, _ in parsed.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    for attribute in ("aria-labelledby", "for"):
        assert {attrs[attribute] for _, attrs, _ in parsed.elements if attribute in attrs} <= set(ids)
    links = [attrs["href"] for _, attrs, _ in parsed.elements if attrs.get("href", "data:,") != "data:,"]
    assert links
    assert all(link[0] == "#" and link[1:] in ids for link in links)
    assert page.startswith("<!DOCTYPE html>")
    [language] = parsed.of("html")
    assert language["lang"] == "en"


def test_nothing_is_loaded_and_nothing_else_may_run(page):
    parsed = Page(page)
    [policy] = [attrs["content"] for attrs in parsed.of("meta") if attrs.get("http-equiv")]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    script, style = (parsed.text(tag) for tag in ("script", "style"))
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (script, style)]
    assert rules == {
        "default-src": "'none'", "script-src": f"'sha256-{hashes[0]}'", "style-src": f"'sha256-{hashes[1]}'",
        "img-src": "data:", "base-uri": "'none'", "form-action": "'none'",
    }  # fmt: skip
    for tag, attrs, _ in parsed.elements:
        assert tag not in ("iframe", "object", "embed", "img", "form", "base", "image", "foreignobject")
        assert not [name for name in attrs if name.startswith("on") or name in ("style", "src", "srcset", "xlink:href")]
    assert len(parsed.of("script")) == len(parsed.of("style")) == 1
    assert "http" not in re.sub(r"http-equiv|http://www\.w3\.org/\d+/svg", "", page)
    assert "@import" not in style
    assert "url(" not in style


def test_text_of_the_data_is_text(page):
    parsed = Page(page)
    shown = parsed.text("article")
    assert "<script>alert(1)</script><img src=x onerror=alert(2)> {{ 7*7 }} &lt;b&gt; ⟦U+001B⟧[2J⟦U+202E⟧" in shown
    assert "hostile & odd" in parsed.text("h2")
    assert "alert" not in parsed.text("script")
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", page)
    assert parsed.of("svg")
    assert all(attrs["role"] == "img" and attrs["aria-label"] for attrs in parsed.of("svg"))


def test_trained_text_is_marked(page, root):
    """What stands in <mark> is what is trained, in each sample, special tokens in <b>."""
    parsed = Page(page)
    trained, context = (
        re.sub(r"\s", "", "".join(data for data, where in parsed.texts if "article" in where and (tag in where)
                          and "section" in where))
        for tag in ("mark", "span")
    )  # fmt: skip
    assert trained.count("<QUE>") == trained.count("</END>") > 10
    assert "<QUE>" not in context
    assert trained.count("<|end_of_text|>") == context.count("<CON>") == context.count("<|begin_of_text|>")
    assert "trained:bearsloss" not in trained


def test_the_numbers_are_the_manifests(page, root):
    text = re.sub(r"\s+", " ", Page(page).text())
    made = {name: read_cooked(root / name).manifest for name in ("hostile & odd", "plain")}
    for fields in made.values():
        counts = fields["counts"]
        row = " ".join(f"{counts[key]:,}" for key in ("entries", "pairs", "examples", "sequences", "tokens"))
        assert re.sub(r" ", "", row) in text.replace(" ", "")
        assert f"{fields['figures']['utilisation']:.1%}" in text
        assert f"{fields['figures']['trained_share']:.1%}" in text
    total = sum(fields["counts"]["tokens"] for fields in made.values())
    assert f"tokens {total:,}" in text.replace("tokens", "tokens ").replace("  ", " ")
    for told in ("entries without pairs", "entries too long for a sequence", "lines of another form than an entry's",
                 "pairs with a blank question", "splits", "validation", "Entries left out: 4"):  # fmt: skip
        assert told.lower() in text.lower()
    assert "Also there, and not in these numbers: all" in text
    for what in ("Length of examples", "Length of sequences", "Examples per sequence", "Pairs per entry",
                 "Trained share of sequences"):  # fmt: skip
        assert text.count(what) >= 2


def test_what_the_tokenizer_lacks_is_told(tmp_path):
    row = entry("the lamp is Ж<b> " + "the cup " * 20, pair("what", "lamp"))
    write_shard(tmp_path / "s", "d", [row])
    folder = write(tmp_path / "t", wordpiece())
    run(Recipe(datasets="d", tokenizer=str(folder), source=tmp_path / "s", output=tmp_path / "o"))
    report(tmp_path / "o", tmp_path / "page.html", tokenizer=str(folder))
    text = Page((tmp_path / "page.html").read_text()).text()
    assert re.search(r"1 of \d+ characters \(\d.\d%\) are none that the tokenizer holds: Ж \(1\)\.", text)


def test_a_tally_is_what_counting_says(root):
    """Against all sequences in memory, and the shard's own pairs."""
    output = next(each for each in find_outputs(root, "report") if each.name.startswith("hostile"))
    made = tally.count_output(output, SequenceDecoder(output.manifest["tokenizer"]), 5, 0, no_progress)
    rows = [row for split in ("train", "validation") for row in read_cooked(output.folder).sequences(split)]

    def counts(numbers):
        return np.bincount(list(numbers)).tolist()

    assert made.example_tokens.counts.tolist() == counts(np.concatenate([row.seq_lengths for row in rows]))
    assert made.sequence_tokens.counts.tolist() == counts(len(row.input_ids) for row in rows)
    assert made.examples_per_sequence.counts.tolist() == counts(len(row.seq_lengths) for row in rows)
    shares = (100 * int(row.loss_mask.sum()) // len(row.input_ids) for row in rows)
    assert made.trained_percent.counts.tolist() == counts(shares)
    assert made.pairs_per_entry.counts.tolist() == counts([*(i % 4 + 1 for i in range(24)), 30])
    assert made.entries == 25
    places = [(each.split, each.number) for each in made.sample]
    assert len(set(places)) == 5
    for split, number, sequence in made.sample:
        row = list(read_cooked(output.folder).sequences(split))[number]
        assert np.array_equal(row.input_ids, sequence.input_ids)
        assert np.array_equal(row.loss_mask, sequence.loss_mask)
        assert sequence.dataset == row.dataset


def test_a_sample_of_more_than_there_are_is_all(root):
    output = next(each for each in find_outputs(root, "report") if each.name.startswith("hostile"))
    made = tally.count_output(output, None, 10**6, 0, no_progress)
    rows = {split: len(list(read_cooked(output.folder).sequences(split))) for split in ("train", "validation")}
    every = [(split, number) for split, count in rows.items() for number in range(count)]
    assert [(each.split, each.number) for each in made.sample] == every


def test_of_many_entries_some_have_their_pairs_counted(root, monkeypatch):
    monkeypatch.setattr(tally, "MAX_COUNTED_ENTRIES", 10)
    output = next(each for each in find_outputs(root, "report") if each.name == "plain")
    made = tally.count_output(output, SequenceDecoder(output.manifest["tokenizer"]), 0, 0, no_progress)
    assert made.pairs_per_entry.counts.tolist() == [0, made.entries]
    assert 5 <= made.entries <= 15
    assert made.example_tokens.total == 30


@given(st.lists(st.integers(0, 300), min_size=1), st.floats(0, 1))
def test_quantiles_and_means(numbers, share):
    lengths = LengthCounts()
    half = len(numbers) // 2
    for part in (numbers[:half], numbers[half:]):
        lengths.add(np.array(part, np.int32))
    assert lengths.total == len(numbers)
    assert lengths.mean == pytest.approx(np.mean(numbers))
    assert lengths.quantile(0.0) == min(numbers)
    assert lengths.quantile(1.0) == max(numbers)
    found = lengths.quantile(share)
    assert found in numbers
    assert sum(number <= found for number in numbers) >= share * len(numbers) - 1e-9


def test_plots_follow_the_pages_colours():
    lengths = LengthCounts()
    lengths.add(np.array([1, 5, 5, 900]))
    drawn = [histogram(lengths, 'A "title" <b>', "tokens", "examples"),
             bar_chart(["ab", "<x>"], {"trained": [1, 2], "context": [0, 4]}, "two", "tokens")]  # fmt: skip
    for svg in drawn:
        Page(svg)
        assert "var(--ink)" in svg
        assert "style" not in svg
        assert len(svg) < 12_000
    assert Page(drawn[0]).of("svg")[0]["aria-label"] == 'A "title" <b>'
    assert "<b>" not in drawn[0]
    assert "<x>" not in drawn[1]
    assert all(f"var(--{colour})" in drawn[1] for colour in ("trained", "context"))


def test_a_number_stands_once_on_an_axis():
    """Also where all are the same, and only one whole number is in sight."""
    lengths = LengthCounts()
    lengths.add(np.array([1, 1, 1]))
    svg = histogram(lengths, "pairs per entry", "pairs", "entries")
    assert sorted(re.findall(r">(\d+)<", svg)) == ["0", "1", "1", "2", "3"]  # of both axes


def test_the_same_output_gives_the_same_bytes(root, page, tmp_path, monkeypatch):
    """Wherever it lies; a bare `.` is the folder's name."""
    moved = tmp_path / "elsewhere" / root.name
    shutil.copytree(root, moved)
    monkeypatch.chdir(moved)
    done = report(".", tmp_path / "again.html")
    assert (tmp_path / "again.html").read_text("utf-8") == page
    assert done.bytes == len(page.encode())
    assert str(root) not in page
    assert list(tmp_path.glob(".*")) == []


def test_one_dataset_a_mix_and_json(cook, root, tmp_path):
    told = orjson.loads(cook("report", str(root / "plain"), "--to", "plain.html", "--json", "-q").stdout)
    assert told == {
        "page": "plain.html", "bytes": (tmp_path / "plain.html").stat().st_size, "datasets": ["plain"],
        "samples": min(12, read_cooked(root / "plain").manifest["counts"]["sequences"]),
    }  # fmt: skip
    assert "Nothing: every pair of every entry is in." in (tmp_path / "plain.html").read_text("utf-8")
    done = cook("report", str(root / "all"), "--samples", "3")
    assert done.stdout == ""
    assert "1 dataset, " in done.stderr
    mixed = Page((tmp_path / "report.html").read_text("utf-8"))
    assert len(mixed.of("article")) == 3
    assert "Tokens by dataset" in mixed.text("figcaption")
    assert "A mix leaves nothing out" in mixed.text()
    assert re.search(r"00000\.jsonl:\d+", mixed.text("h4"))


def test_other_samples_by_another_seed(root, tmp_path):
    pages = []
    for seed in (0, 1):
        report(root / "plain", tmp_path / "page.html", samples=2, seed=seed)
        pages.append(Page((tmp_path / "page.html").read_text("utf-8")).text("h3"))
    assert pages[0] != pages[1]


def test_a_long_text_does_not_make_a_large_page(tmp_path, monkeypatch):
    """Not the sample's number, nor a context's length: parts are folded, and a page has room for so much text."""
    rows = [entry("A long word " * 4000, pair(f"{i}", "x" * 300)) for i in range(40)]
    write_shard(tmp_path, "long", rows)
    run(Recipe(datasets="long", tokenizer="llama3", source=tmp_path, output=tmp_path / "out", max_length=100_000))
    monkeypatch.setattr("cook.views.html_report.SAMPLE_BYTES", 60_000)
    done = report(tmp_path / "out", tmp_path / "page.html", samples=1000)
    assert done.bytes < 150_000
    parsed = Page((tmp_path / "page.html").read_text("utf-8"))
    assert "⟦… 42,516 letters left out …⟧" in parsed.text("i")
    sequences = list(read_cooked(tmp_path / "out" / "long").sequences())
    assert len(parsed.of("article")) == done.samples == 4 < len(sequences)  # 60,000 bytes, at 3 examples of 6,000 each
    told = re.findall(r"… and (\d+) more examples; cook show shows them all", parsed.text("article"))
    assert [int(left) + 3 for left in told] == [len(row.seq_lengths) for row in sequences[: len(told)]]
    assert len(told) == 4


def test_templates_of_white_space_have_no_pairs_to_count(tmp_path):
    write_shard(tmp_path, "set", [entry("x", pair("a", "b"), pair("c", "d"))])
    recipe = Recipe(datasets="set", tokenizer="llama3", source=tmp_path, output=tmp_path / "out",
                    pair_template="{question} {answer}")  # fmt: skip
    run(recipe)
    report(tmp_path / "out", tmp_path / "page.html")
    text = Page((tmp_path / "page.html").read_text("utf-8")).text()
    assert "cannot be counted: the templates put only white space between pairs" in text
    assert "Pairs per entry: " not in text


def test_what_cannot_be_reported(root, tmp_path, monkeypatch):
    with pytest.raises(RecipeError, match="samples: must be 0 or more"):
        report(root, tmp_path / "x.html", samples=-1)
    with pytest.raises(OutputError, match="no such folder"):
        report(tmp_path / "nowhere", tmp_path / "x.html")
    with pytest.raises(OutputError, match="cannot be written: No such file"):
        report(root / "plain", tmp_path / "none" / "x.html", samples=0)
    with pytest.raises(TokenizerError, match="cooked with llama3; pass --tokenizer"):
        report(root / "plain", tmp_path / "x.html", tokenizer="llama2")
    folder = shutil.copytree(root / "plain", tmp_path / "plain")
    [path] = folder.glob("*.parquet")
    path.write_bytes(path.read_bytes()[:-9] + b"something")
    with pytest.raises(OutputError, match="its sha256 is "):
        report(folder, tmp_path / "x.html", samples=0)
    assert not (tmp_path / "x.html").exists()
    with pytest.raises(OutputError, match="is no file"):
        report(root / "plain", "/dev/null", samples=0)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(CookError, match=r"pip install -e '\.\[report\]'"):
        report(root, tmp_path / "x.html")


def test_a_page_is_replaced_and_another_file_only_with_overwrite(root, tmp_path):
    page = tmp_path / "page.html"
    report(root / "plain", page, samples=0)
    report(root / "plain", page, samples=0)
    page.write_text("mine")
    with pytest.raises(OutputExists, match=r"page\.html: exists, and is not a page of cook"):
        report(root / "plain", page, samples=0)
    assert page.read_text() == "mine"
    report(root / "plain", page, samples=0, overwrite=True)
    assert page.read_bytes().startswith(b"<!DOCTYPE html>")


def test_without_samples_no_tokenizer_is_needed(root, tmp_path, monkeypatch):
    monkeypatch.setattr(SequenceDecoder, "__init__", lambda *given: pytest.fail("a tokenizer was looked for"))
    assert report(root / "plain", tmp_path / "x.html", samples=0).samples == 0
    assert "Pairs per entry were not counted" in (tmp_path / "x.html").read_text("utf-8")
