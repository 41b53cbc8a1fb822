"""cook show: what stands in a sequence is what is shown, told apart with and without colour, and obeyed by nothing."""

import fcntl
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pyte
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cook as package
from conftest import entry, pair, write_shard
from cook import OutputError, Recipe, RecipeError, TokenizerError, mix, read_cooked, run, show
from cook.core.files import sha256_of
from cook.shapes.formatter import Formatter
from cook.store import manifest
from cook.views.visible import abbreviated, is_right_to_left, visible, visible_pieces

HOSTILE = (
    "Clear\x1b[2J title\x1b]0;owned\x07 C1\x9b31m\x84 nul\x00 end.  \n  tab\there\u200b \u202eevil\u202c </s> ⟦U+0041⟧"
)
HEBREW = "מה קרא הנער אתמול בערב לכל הילדים בבית הספר הישן"
CHINESE = "这条河流过三座城市以后在哪里流进大海"
ROWS = [
    entry("The pump runs at 3 bar.", pair("At what pressure?", "3 bar"), pair("What runs?", "The pump")),
    entry(HOSTILE, pair(f"{HEBREW}?", "שלום"), pair(f"{CHINESE}？", "👨\u200d👩\u200d👧 ❤\ufe0f")),
    entry("Long. " * 900, pair("Why?", "Because.")),
]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A ROOT with two datasets and a mix; `odd` in shard order, an entry a sequence."""
    folder = tmp_path_factory.mktemp("shown")
    write_shard(folder, "odd", ROWS)
    write_shard(folder, "plain", [entry(f"Context {i}.", pair(f"Question {i}?", f"Answer {i}")) for i in range(30)])
    common = {"tokenizer": "llama3", "source": folder, "output": folder / "out", "cache": "none"}
    run(Recipe(datasets="odd", packing="none", **common))
    run(Recipe(datasets="plain", max_length=90, validation=0.2, **common))
    mix(folder / "out", folder / "out" / "all", seed=3)
    return folder / "out"


def undone(text):
    """What `visible` was given: the test's own reading of the table in its module."""
    signs = {"␣": " ", "⇥": "\t", "↵\n": "\n"}
    mark = re.compile(r"⟦U\+([0-9A-F]+)⟧|⟦([0-9A-F]{2})⟧|↵\n|[␣⇥]")
    return mark.sub(
        lambda m: chr(int(m[1], 16)) if m[1] else chr(0xDC00 + int(m[2], 16)) if m[2] else signs[m[0]], text
    )


@given(st.text() | st.text("ab \t\n\r⟦⟧␣⇥↵\u200b\u00a0\udc80\x1b\x9b\u202e"))
def test_what_is_shown_stands_for_one_text_alone(text):
    shown = visible(text)
    assert undone(shown) == text
    assert all(line.isprintable() and line == line.strip(" ") and "  " not in line for line in shown.split("\n"))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, <|eot_id|>", "plain text, <|eot_id|>"),
        (" a b  c ", "␣a b␣␣c␣"),
        ("a \nb\r\n", "a␣↵\nb⟦U+000D⟧↵\n"),
        ("\tx\u00a0\u3000y", "⇥x⟦U+00A0⟧⟦U+3000⟧y"),
        ("zero\u200bwidth\u200d\ufeff", "zero⟦U+200B⟧width⟦U+200D⟧⟦U+FEFF⟧"),
        ("\u202eevil\u2066\u061c", "⟦U+202E⟧evil⟦U+2066⟧⟦U+061C⟧"),
        ("\x1b[2J\x9b1m\x7f", "⟦U+001B⟧[2J⟦U+009B⟧1m⟦U+007F⟧"),
        ("\ufe0f\u115f\u3164\u034f", "⟦U+FE0F⟧⟦U+115F⟧⟦U+3164⟧⟦U+034F⟧"),
        ("⟦U+0041⟧␣↵", "⟦U+27E6⟧U+0041⟦U+27E7⟧⟦U+2423⟧⟦U+21B5⟧"),
        (b"\xe4\xb8".decode(errors="surrogateescape"), "⟦E4⟧⟦B8⟧"),
        ("é e\u0301 中 שלום", "é e\u0301 中 שלום"),
    ],
)
def test_each_kind_of_what_is_not_seen(text, shown):
    assert visible(text) == shown


def test_an_over_long_text_is_folded_between_its_ends():
    assert "".join(piece.text for piece in abbreviated("abcdefgh", 3, 2)) == "abc\n⟦… 3 letters left out …⟧\ngh"
    assert list(abbreviated("abcde", 3, 2)) == list(visible_pieces("abcde"))
    assert is_right_to_left("abc ا")
    assert not is_right_to_left("abc 中")


def test_a_sequence_in_a_pipe(cook, root):
    """Nothing but this, and no line of the text is broken."""
    assert cook("show", str(root / "odd")).stdout.splitlines() == [
        "odd · train · sequence 0 (of 0 to 2) · 1 example · 46 of at most 4,096 tokens · 31 trained (67.4%)",
        "  context   ▌ trained   ⟦special token⟧   ␣ ⇥ ↵ space, tab, newline",
        "── example 1 ── 00000.jsonl:1 ── 46 tokens, 31 trained ───",
        "  ⟦<|begin_of_text|>⟧␣<CON> The pump runs at 3 bar. </CON>↵",
        "  ↵",
        "▌ <QUE> At what pressure? <ANS> 3 bar </END>↵",
        "▌ ↵",
        "▌ <QUE> What runs? <ANS> The pump </END>⟦<|end_of_text|>⟧",
    ]


def test_hostile_text_in_a_pipe(cook, root):
    lines = cook("show", str(root / "odd"), "--sequence", "1").stdout.splitlines()
    assert lines[3:5] == [
        "  ⟦<|begin_of_text|>⟧␣<CON> Clear⟦U+001B⟧[2J title⟦U+001B⟧]0;owned⟦U+0007⟧ C1⟦U+009B⟧31m⟦U+0084⟧ "
        "nul⟦U+0000⟧ end.␣␣↵",
        "  ␣␣tab⇥here⟦U+200B⟧ ⟦U+202E⟧evil⟦U+202C⟧ </s> ⟦U+27E6⟧U+0041⟦U+27E7⟧ </CON>↵",
    ]
    assert lines[6] == f"▌ <QUE> {HEBREW}? <ANS> שלום </END>↵"


def test_tokens_in_a_pipe(cook, root):
    lines = cook("show", str(root / "odd"), "--tokens").stdout.splitlines()
    row = next(read_cooked(root / "odd").sequences())
    assert lines[3:8] == [
        "  at       id mask  text",
        "   0   128000    0  ⟦<|begin_of_text|>⟧",
        "   1      366    0  ␣<",
        "   2     5910    0  CON",
        "   3       29    0  >",
    ]
    table = [re.fullmatch(r"([▌ ]) +(\d+) +(\d+) +([01])  (.+)", line) for line in lines[4:]]
    assert [int(found[3]) for found in table] == row.input_ids.tolist()
    assert [int(found[4]) for found in table] == row.loss_mask.tolist()
    assert all((found[1] == "▌") == (found[4] == "1") for found in table)
    assert [int(found[2]) for found in table] == list(range(46))


def test_what_is_long_is_folded(cook, root):
    short, full = (cook("show", str(root / "odd"), "--sequence", "2", *more).stdout for more in ((), ("--full",)))
    assert "⟦… 3,816 letters left out: --full …⟧" in short
    assert short.count("Long.") < 300
    assert full.count("Long.") == 900
    tokens = cook("show", str(root / "odd"), "--sequence", "2", "--tokens").stdout
    assert re.search(r"⟦… 1,\d\d\d tokens left out: --full …⟧", tokens)
    assert len(cook("show", str(root / "odd"), "--sequence", "2", "--tokens", "--full").stdout.splitlines()) > 1800


def terminal(folder, *arguments, width, **environment):
    """The command in a real pseudo-terminal: the screen of an emulator that read what it wrote, and its bytes."""
    command = [sys.executable, "-m", "cook", "show", *map(str, arguments)]
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    inherited = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES")}
    environment = inherited | {"TERM": "xterm-256color"} | environment
    process = subprocess.Popen(
        command, stdin=follower, stdout=follower, stderr=follower, env=environment, cwd=folder, close_fds=True
    )
    os.close(follower)
    written = b""
    while True:
        try:
            chunk = os.read(leader, 1 << 16)
        except OSError:  # Linux's word for the end, where the other side is closed
            chunk = b""
        if not chunk:
            break
        written += chunk
    os.close(leader)
    assert process.wait(timeout=60) == 0, written.decode()
    screen = pyte.Screen(width, 400)
    pyte.ByteStream(screen).feed(written)
    return screen, written


def text_rows(screen):
    """The rows of the screen from the first example on."""
    rows = [row.rstrip() for row in screen.display]
    rule = next(i for i, row in enumerate(rows) if row.startswith("── example"))
    first = next(i for i, row in enumerate(rows) if i > rule and row.startswith("  "))
    last = max(i for i, row in enumerate(rows) if row)
    return range(first, last + 1)


@pytest.mark.parametrize("width", [34, 80, 200])
@pytest.mark.parametrize("colour", [True, False], ids=["colour", "NO_COLOR"])
def test_a_terminal_shows_it_aligned(root, width, colour):
    """Each row begins with its mark, none runs over the edge, and nothing in the data moved or named anything."""
    settings = {} if colour else {"NO_COLOR": "1"}
    screen, written = terminal(root, "odd", "--sequence", "1", width=width, **settings)
    assert screen.title == ""
    text = ""
    for y in text_rows(screen):
        row, trained = screen.buffer[y], screen.buffer[y][0].data == "▌"
        assert row[0].data in "▌ "
        assert row[1].data == " "
        assert row[2].data.strip(), "a row of the text that does not begin where all do"
        text += ("1" if trained else "0") + "".join(row[x].data for x in range(2, width)).rstrip() + "\n"
        if colour:
            colours = {row[x].fg for x in range(2, width) if row[x].data.strip() and row[x].fg != "magenta"}
            assert colours <= ({"green"} if trained else {"cyan"}) | {"default"}
        else:
            assert {row[x].fg for x in range(width)} == {"default"}
    assert (b"\x1b[36m" in written) == colour
    whole = re.sub(r"\n[01]", " ", text)
    for words in ("Clear⟦U+001B⟧[2J title⟦U+001B⟧]0;owned⟦U+0007⟧ C1⟦U+009B⟧31m", f"{HEBREW}?", f"{CHINESE}？"):
        assert words.replace(" ", "") in whole.replace(" ", "")
    assert "owned" in whole
    trained = [line[1:] for line in text.splitlines() if line[0] == "1"]
    assert trained[0].startswith("<QUE>")
    assert trained[-1].endswith("⟧")
    assert "<CON>" not in "".join(trained)


def test_wide_letters_take_their_room(root):
    """At 34 columns 16 Chinese letters fill a row to its edge, and the next ones stand in the next."""
    screen, _ = terminal(root, "odd", "--sequence", "1", width=34)
    rows = [screen.display[y].rstrip() for y in text_rows(screen)]
    [at] = [i for i, row in enumerate(rows) if row.startswith(f"▌ {CHINESE[0]}")]
    assert rows[at].replace("▌ ", "") == CHINESE[:16]
    assert rows[at + 1].startswith(f"▌ {CHINESE[16:]}")


def test_lines_from_right_to_left_keep_their_mark_at_the_left(cook, root):
    """By a left-to-right mark before it: on a terminal, which turns lines; never in a pipe."""
    _, written = terminal(root, "odd", "--sequence", "1", width=80)
    lines = written.decode().replace("\r", "").split("\n")
    turned = [line for line in lines if any("א" <= letter <= "ת" for letter in line)]
    assert turned
    assert all(line.startswith("\u200e") and line.count("\u200e") == 2 for line in turned)
    assert "\u200e" not in cook("show", str(root / "odd"), "--sequence", "1").stdout


def test_tokens_in_a_terminal(root):
    screen, _ = terminal(root, "odd", "--tokens", width=60)
    rows = [screen.display[y].rstrip() for y in text_rows(screen)]
    assert rows[0].split() == ["at", "id", "mask", "text"]
    assert rows[1] == "   0   128000    0  ⟦<|begin_of_text|>⟧"
    assert rows[-1] == "▌ 45   128001    1  ⟦<|end_of_text|>⟧"


def test_a_terminal_of_few_letters(root):
    """An encoding without ▌ and ⟦: > and [, and what it lacks is written out."""
    command = [sys.executable, "-m", "cook", "show", str(root / "odd"), "--sequence", "1"]
    done = subprocess.run(command, env=os.environ | {"PYTHONIOENCODING": "ascii"}, capture_output=True, check=True)
    lines = done.stdout.decode("ascii").splitlines()
    assert lines[3].startswith("  [<|begin_of_text|>]_<CON> Clear[U+001B][2J")
    assert lines[6].startswith("> <QUE> \\u05de\\u05d4 ")


@pytest.mark.parametrize("model", ["llama2", "without BOS"])
def test_the_text_is_the_text_that_was_cooked(request, tmp_path, model):
    """Also where a tokenizer puts a space before a text, which is not the text's."""
    rows = [ROWS[0], entry("  Two spaces, é and 中", pair(" lead", "trail "), pair("x", "y\n")), entry("", pair())]
    write_shard(tmp_path, "set", rows)
    told = {"tokenizer": "llama3", "bos": "none"}
    if model == "llama2":
        told = {"tokenizer": str(request.getfixturevalue("models")[model])}
    recipe = Recipe(datasets="set", source=tmp_path, output=tmp_path / "out", cache="none", **told)
    run(recipe)
    if model == "llama2":
        with pytest.raises(TokenizerError, match="--tokenizer with its folder"):
            show(tmp_path / "out")  # a manifest holds no path, and the name may be anybody's
    formatter = Formatter(recipe)
    bos = ["<s>"] if model == "llama2" else []
    seen = []
    for example in show(tmp_path / "out", tokenizer=told["tokenizer"]).examples:
        line = int(example.place.removeprefix("00000.jsonl:"))
        seen.append(line)
        pairs = [(each["Q"], each["A"]) for each in rows[line - 1]["QA_list"]]
        texts = [formatter.input_text(rows[line - 1]["context"]), formatter.output_text(pairs)]
        assert [part.text for part in example.parts if part.kind != "special"] == texts
        assert [part.kind for part in example.parts] == ["special"] * len(bos) + ["context", "trained", "special"]
        assert [part.text for part in example.parts if part.kind == "special"][:-1] == bos
        assert example.parts[-1].trained
        assert example.trained_tokens == sum(part.end - part.begin for part in example.parts if part.trained)
    assert sorted(seen) == [1, 2, 3]


def test_json(cook, root):
    """Its schema, which docs/views.md tells; and no letter in it that a terminal would obey."""
    found = cook("show", str(root / "odd"), "--sequence", "1", "--tokens", "--json").stdout
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b\u202e]", found)
    shown = orjson.loads(found)
    examples = shown.pop("examples")
    assert shown == {
        "dataset": "odd", "folder": str(root / "odd"), "mix": False, "split": "train", "sequence": 1, "sequences": 3,
        "seed": None, "max_length": 4096, "tokens": shown["tokens"], "trained_tokens": shown["trained_tokens"],
    }  # fmt: skip
    [example] = examples
    assert example.keys() == {"source", "tokens", "trained_tokens", "goes_on", "cut", "parts", "token_list"}
    assert example["source"] == "00000.jsonl:2"
    assert example["tokens"] == shown["tokens"] == len(example["token_list"])
    assert example["parts"][1]["text"] == f" <CON> {HOSTILE} </CON>\n\n"
    assert all(part.keys() == {"kind", "trained", "tokens", "text"} for part in example["parts"])
    assert example["token_list"][0] == {"id": 128000, "mask": 0, "text": "<|begin_of_text|>", "special": True}
    assert example["token_list"][1] == {"id": 366, "mask": 0, "text": " <", "special": False}
    assert sum(token["mask"] for token in example["token_list"]) == shown["trained_tokens"]
    assert "token_list" not in orjson.loads(cook("show", str(root / "odd"), "--json").stdout)["examples"][0]


def test_every_sequence_can_be_asked_for(root):
    """Each is the row that `read_cooked` has, in each split and in the mix, and says where it came from."""
    for folder, split in (("plain", "train"), ("plain", "validation"), ("all", "train")):
        rows = list(read_cooked(root / folder).sequences(split))
        assert len(rows) > 1
        for number, row in enumerate(rows):
            shown = show(root / folder, split=split, sequence=number)
            assert np.array_equal(shown.sequence.input_ids, row.input_ids)
            assert shown.sequence.dataset == row.dataset
            assert shown.output.name == folder
            lines = [f"00000.jsonl:{line}" for line in row.source_line.tolist()]
            assert [each.place for each in shown.examples] == lines
            for example, line in zip(shown.examples, row.source_line.tolist(), strict=True):
                if row.dataset == "plain":
                    assert f"Answer {line - 1} </END>" in example.parts[-2].text


def test_a_dataset_of_a_mix(root):
    rows = list(read_cooked(root / "all").sequences())
    of_odd = [number for number, row in enumerate(rows) if row.dataset == "odd"]
    assert len(of_odd) == 3
    assert [show(root / "all", dataset="odd", sequence=i).number for i in range(3)] == of_odd
    assert {show(root / "all", dataset="odd", draw=True, seed=i).number for i in range(6)} == set(of_odd)


def test_a_mix_far_from_its_datasets(root, tmp_path):
    """The shards' names are in the datasets' manifests; without them, their numbers are shown."""
    shutil.copytree(root / "all", tmp_path / "away" / "all")
    assert show(tmp_path / "away" / "all").examples[0].place.startswith("shard 0:")


def test_one_at_random_can_be_had_again(cook, root):
    drawn = [show(root, draw=True, seed=seed) for seed in range(12)]
    assert len({(each.sequence.dataset, each.number) for each in drawn}) > 4
    assert {each.output.name for each in drawn} == {"odd", "plain"}, "a mix holds the same sequences again"
    first = cook("show", str(root), "--random", "--seed", "7").stdout
    assert first == cook("show", str(root), "--random", "--seed", "7").stdout
    by_itself = cook("show", str(root), "--random").stdout
    seed = re.search(r"drawn by --seed (\d+)", by_itself)[1]
    assert cook("show", str(root), "--random", "--seed", seed).stdout == by_itself


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("nowhere",), 1, "nowhere: no such folder"),
        (("odd", "--sequence", "3"), 2, "train has no number 3; it has 3, from 0"),
        (("odd", "--sequence", "-1"), 2, "train has no number -1; it has 3, from 0"),
        (("odd", "--split", "test"), 2, "has no split 'test'; it has train"),
        (("plain", "--split", "validation", "--sequence", "999"), 2, "validation has"),
        ((".", "--sequence", "1"), 2, "holds odd, plain, all; name the dataset"),
        ((".", "-d", "other"), 2, "holds no other; it holds odd, plain, all"),
        (("all", "-d", "other"), 2, "holds no other; it holds odd, plain"),
        (("odd", "--sequence", "1", "--random"), 2, "leave one of them out"),
        (("odd", "--seed", "1"), 2, "--seed goes with --random"),
        (("odd/cook.json",), 1, "is a file"),
        (("odd", "-t", "llama2"), 1, "the data was cooked with llama3; pass --tokenizer"),
        (("odd", "-t", "./away"), 1, "./away: no such folder or file"),
    ],
)
def test_what_cannot_be_shown(cook, root, arguments, code, told):
    path, *rest = arguments
    done = cook("show", str(root / path), *rest)
    assert done.exit_code == code, done.stderr
    assert told in done.stderr
    assert done.stdout == ""


def test_the_dataset_of_a_root_in_any_case(root):
    assert show(root, dataset="PLAIN", sequence=1).sequence.dataset == "plain"
    assert show(root).sequence.dataset == "odd"


def test_a_damaged_file_is_not_shown(root, tmp_path):
    folder = tmp_path / "odd"
    shutil.copytree(root / "odd", folder)
    [path] = folder.glob("*.parquet")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(OutputError, match="its sha256 is"):
        show(folder)
    path.unlink()
    with pytest.raises(OutputError, match="is missing"):
        show(folder)


@pytest.mark.parametrize(
    ("column", "change", "told"),
    [
        ("input_ids", lambda rows: [[*rows[0][:-1], 128256], *rows[1:]], "rows that cook does not write"),
        ("input_ids", lambda rows: [[-1, *rows[0][1:]], *rows[1:]], "rows that cook does not write"),
        ("loss_mask", lambda rows: [rows[0][:-1], *rows[1:]], "rows that cook does not write"),
        ("loss_mask", lambda rows: [[2, *rows[0][1:]], *rows[1:]], "rows that cook does not write"),
        ("seq_lengths", lambda rows: [[1, *rows[0]], *rows[1:]], "rows that cook does not write"),
        ("source_line", lambda rows: [[], *rows[1:]], "rows that cook does not write"),
        ("labels", None, "its columns are not those that cook writes"),
    ],
)
def test_a_forged_file_is_an_error(root, tmp_path, column, change, told):
    """Its manifest's hashes are right: they show damage, not who made them."""
    folder = shutil.copytree(root / "odd", tmp_path / "odd")
    [path] = folder.glob("*.parquet")
    table = pq.read_table(path)
    at = table.schema.get_field_index(column)
    field = table.schema.field(at)
    values = table.column(at).to_pylist()
    table = table.set_column(at, field, pa.array(change(values), field.type)) if change else table.remove_column(at)
    pq.write_table(table, path)
    fields = manifest.read_manifest(folder)
    fields["outputs"][0] |= {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
    (folder / "cook.json").write_bytes(manifest.seal(fields))
    with pytest.raises(OutputError, match=f"{told}; run `cook verify`"):
        show(folder)
    fields["outputs"][0]["rows"] = "many"
    (folder / "cook.json").write_bytes(manifest.seal(fields))
    with pytest.raises(OutputError, match="does not say how many rows"):
        show(folder)


def test_an_export_is_refused(root, tmp_path):
    package.export(root / "odd", "trl", tmp_path / "text")
    with pytest.raises(OutputError, match="is an export"):
        show(tmp_path / "text")
    with pytest.raises(RecipeError):
        show(root / "odd", split="nothing")


def test_only_the_row_group_that_is_asked_for_is_read(root, monkeypatch):
    """However large the file."""
    read = []
    plain = pq.ParquetFile.read_row_group
    monkeypatch.setattr(pq.ParquetFile, "read_row_group", lambda self, i, **k: read.append(i) or plain(self, i, **k))
    show(root / "plain", sequence=2)
    assert len(read) == 1
