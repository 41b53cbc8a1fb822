"""What differs between two manifests, in words."""

from cook.store.manifest import differences


def test_inputs_that_came_went_or_changed_are_named():
    old = [{"name": name, "sha256": "1"} for name in ("a", "b", "c")]
    new = [{"name": name, "sha256": sha} for name, sha in (("b", "2"), ("c", "1"), ("d", "1"))]
    assert differences({"inputs": old}, {"inputs": new}, ["inputs"]) == ["inputs: a, b, d"]
    many = [{"name": str(number)} for number in range(7)]
    assert differences({"inputs": []}, {"inputs": many}, ["inputs"]) == ["inputs: 0, 1, 2, 3, 4 and 2 more"]
    assert differences({"inputs": []}, {"inputs": many[:5]}, ["inputs"]) == ["inputs: 0, 1, 2, 3, 4"]


def test_settings_are_named_by_their_path_with_both_values():
    old, new = {"recipe": {"seed": 1, "long": "x" * 90}}, {"recipe": {"seed": 2, "long": None}}
    assert differences(old, new, ["recipe"]) == [
        f'recipe.long: it has "{"x" * 76}…, this run null',
        "recipe.seed: it has 1, this run 2",
    ]
    assert differences(old, new, ["inputs"]) == differences(old, old, ["recipe"]) == []
