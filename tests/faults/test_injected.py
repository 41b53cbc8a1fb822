"""verify finds each fault that is put into a copy of what was cooked, and names it."""

import copy
import random
import shutil

import pytest

from cook import OutputError, SourceError, TokenizerError, verify
from cook.store import manifest
from faults.injecting import Bench, caught, inject, inner, numbers


def test_every_injected_fault_is_found(odd_set, tmp_path, pytestconfig, record_property):
    """Seeded random faults: detected / injected must be 1."""
    count = pytestconfig.getoption("--faults")
    missed = []
    for number in range(count):
        kind, bench, named = inject(odd_set / "out" / "set", odd_set, tmp_path / "set", number)
        if problem := caught(bench, named):
            missed.append((number, kind, named, problem))
    record_property("detected", f"{count - len(missed)} of {count}")
    assert missed == []


def test_every_number_of_a_manifest_is_checked(odd_set, tmp_path):
    bench = Bench(odd_set / "out" / "set", tmp_path / "set", odd_set)
    whole = copy.deepcopy(bench.fields)
    missed = []
    for place in numbers(whole):
        if place[0] == "recipe":
            continue  # below
        bench.fields = copy.deepcopy(whole)
        inner(bench.fields, place)[place[-1]] += 1
        (bench.folder / manifest.MANIFEST_NAME).write_bytes(manifest.seal(bench.fields))
        found = bench.findings(deep=place[0] in ("counts", "figures", "inputs"))
        if found == []:
            missed.append(place)
    assert missed == []


@pytest.mark.parametrize(
    ("setting", "value", "named"),
    [
        ("max_length", 149, "figures.utilisation is "),
        ("packing", "in-order", "expected another example here by --packing in-order and the seed"),
        ("seed", 1, "expected another example here by --packing best-fit and the seed"),
        ("overlong", "drop", "is here; expected to be left out"),
        ("max_dropped", 0.01, "expected every setting that determines bytes"),
        ("limit", 5, "counts.entries is 25; expected at most the recipe's limit, 5"),
        ("validation", 0.9, "expected in the split validation, by the hash of its context"),
        ("dedup", False, "it is left out as a repeat, without --dedup"),
        ("delimiter", "\n", 'expected "'),
        ("context_template", "{context}", "its input reads"),
        ("pair_template", "{question}{answer}", "what it trains reads"),
        ("fields", {"context": "QA_list", "pairs": "QA_list", "question": "Q", "answer": "A"}, "recipe: fields: "),
        ("max_length", "150", "wrong or missing: recipe.max_length"),
        ("unknown", 1, "recipe: "),
    ],
)
def test_each_setting_of_a_recipe(odd_set, tmp_path, setting, value, named):
    """Another recipe than the rows were made by, sealed."""
    bench = Bench(odd_set / "out" / "set", tmp_path / "set", odd_set)
    bench.fields["recipe"][setting] = value
    bench.seal()
    assert named in " ".join(map(str, bench.findings()))


def places(fields, where=()):
    """The place of everything in a manifest."""
    for key, value in fields.items() if isinstance(fields, dict) else enumerate(fields):
        yield (*where, key)
        if isinstance(value, (dict, list)):
            yield from places(value, (*where, key))


def test_no_manifest_ends_in_anything_but_findings_or_an_error(odd_set, tmp_path, pytestconfig):
    """Fields gone or of other types, sealed: never a pass where cook reads the field, never a traceback."""
    bench = Bench(odd_set / "out" / "set", tmp_path / "set", odd_set)
    whole = bench.fields
    rng = random.Random(0)  # noqa: S311 - faults
    tried = [(place, value) for place in places(whole) for value in (..., None, "x", -1, 1 << 60, [], {}, 0.5)]
    for place, value in rng.sample(tried, min(len(tried), 3 * pytestconfig.getoption("--faults"))):
        bench.fields = copy.deepcopy(whole)
        holder = inner(bench.fields, place)
        if value is ...:
            del holder[place[-1]]
        else:
            holder[place[-1]] = value
        (bench.folder / manifest.MANIFEST_NAME).write_bytes(manifest.seal(bench.fields))
        for deep in (False, True):
            try:
                found = verify(bench.folder, deep=deep, source=bench.source if deep else None).found
            except (SourceError, TokenizerError, OutputError):
                found = 1
        unread = place[0] == "versions" or place[-1] == "kind" or holder == inner(whole, place)
        assert found or unread, (place, value)
    shutil.rmtree(bench.folder)
