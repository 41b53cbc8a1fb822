"""The recipe and its YAML: every wrong setting named, at once."""

import pytest
import yaml

from cook import Recipe, RecipeError, read_config
from cook.core.recipe import SETTING_CHECKS


def make(**settings):
    return Recipe(**({"datasets": "squad", "tokenizer": "llama3"} | settings))


def test_defaults_are_the_published_ones():
    recipe = make()
    assert recipe.context_template == " <CON> {context} </CON>"
    assert recipe.pair_template == "<QUE> {question} <ANS> {answer} </END>"
    assert (recipe.delimiter, recipe.max_length, recipe.packing, recipe.overlong) == ("\n\n", 4096, "best-fit", "split")


def test_every_setting_has_a_check():
    assert list(SETTING_CHECKS) == list(make().as_dict())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"datasets": ()}, "datasets: name at least one dataset, or all"),
        ({"datasets": (1,)}, "datasets: must be names"),
        ({"tokenizer": ""}, "tokenizer: must not be empty"),
        ({"max_length": 1}, "max_length: must be a whole number from 2 to 16,777,216 (it is 1)"),
        ({"max_length": "4096"}, "max_length: must be a whole number"),
        ({"max_length": True}, "max_length: must be a whole number"),
        ({"packing": "greedy"}, "packing: must be one of best-fit, best-fit-decreasing, in-order, none"),
        ({"overlong": "cut"}, "overlong: must be one of split, truncate, drop, error"),
        ({"max_dropped": 1.5}, "max_dropped: must be a share from 0 to 1"),
        ({"max_dropped": "5%"}, "max_dropped: must be a share from 0 to 1"),
        ({"seed": -1}, "seed: must be a whole number from 0"),
        ({"eos": "none"}, "eos: every output ends with an EOS"),
        ({"context_template": "no place"}, "context_template: lacks {context}"),
        ({"pair_template": "{question} only"}, "pair_template: lacks {answer}"),
        ({"pair_template": "neither"}, "pair_template: lacks {question} and {answer}"),
        ({"delimiter": "\ud800"}, "delimiter: holds a lone surrogate"),
        ({"limit": 0}, "limit: must be a whole number from 1"),
        ({"jobs": 0}, "jobs: must be a whole number from 1"),
        ({"overwrite": "yes"}, "overwrite: must be true or false"),
    ],
)
def test_what_is_wrong_is_named(settings, message):
    with pytest.raises(RecipeError) as caught:
        make(**settings)
    assert message in str(caught.value)
    assert caught.value.exit_code == 2


def test_all_that_is_wrong_is_named_at_once():
    with pytest.raises(RecipeError) as caught:
        make(seed=-1, packing="x", limit=0)
    assert len(str(caught.value).splitlines()) == 3


def test_a_recipe_survives_yaml(tmp_path):
    recipe = make(seed=2**64 - 1, delimiter=" \n", bos="none", datasets=("squad", "QED"), max_dropped=1)
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe.as_dict() | {"bos": "none"}))
    assert Recipe(**read_config(path)) == recipe


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_lenght: 9", "unknown key 'max_lenght'; did you mean max_length?"),
        ("max-length: 9", "unknown key 'max-length'; did you mean max_length?"),
        ("dataset: squad", "unknown key 'dataset'; did you mean datasets?"),
        ("1: 2", "unknown key 1"),
        ("[a, b]", "must hold settings as `key: value` lines"),
        ("a: [", "is not YAML: expected the node content, but found '<stream end>' in line 1, column 5"),
        ("x: !!python/object:os.system {}", "is not YAML"),
        ("bos:", "bos: null says too little"),
        ("seed: 2001-99-99", "is not YAML: month must be in 1..12"),
        ("seed: 0b_", "is not YAML"),
        ("seed: !!int x", "is not YAML"),
        ("? 0x" + "f" * 5000 + "\n: 1", "unknown key a number too long to show"),
        ("a: &a [b]\nseed: *a", "aliases are not allowed"),
        ("a: &a {b: c}\n<<: [*a, *a]", "aliases are not allowed"),
        ("# " + "x" * (1 << 20), "is over 1 MiB"),
    ],
)
def test_a_wrong_file_is_named(tmp_path, text, message):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError) as caught:
        read_config(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_wrong_value_is_shown_in_short():
    with pytest.raises(RecipeError) as caught:
        make(max_length="9" * 10_000, seed=1 << 20_000)
    assert len(str(caught.value)) < 1000
    assert "seed: must be a whole number from 0 to 18,446,744,073,709,551,615 (it is a number too long to show)" in str(
        caught.value
    )


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(RecipeError, match="cannot be read: No such file"):
        read_config(tmp_path / "none.yaml")


def test_an_empty_file_says_nothing(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("# nothing\n")
    assert read_config(path) == {}


def test_yaml_that_is_wrong_names_the_file_on_one_line(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("datasets: [squad\nmax_length: 10\n")
    with pytest.raises(RecipeError) as failure:
        read_config(path)
    assert str(failure.value).startswith(f"{path}: is not YAML: ")
    assert "\n" not in str(failure.value)
    path.write_text("max_length: 10\nmax_length: 2048\n")
    with pytest.raises(RecipeError, match="'max_length' is there twice"):
        read_config(path)


def test_a_home_folder_that_no_shell_has_expanded(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Recipe(datasets="squad", tokenizer="llama3", output="~/cooked").output == str(tmp_path / "cooked")


@pytest.mark.parametrize(
    ("value", "fine"), [(0.0, False), (-0.5, False), (0.5, True), (1.0, False), (0, False), (1, True)]
)
def test_a_share_for_validation_is_neither_none_nor_all(value, fine):
    assert (SETTING_CHECKS["validation"](value) is None) == fine
