"""Random recipes, a few, and real tokenizers where there are any, by the scripts that check them at length."""

import importlib.util
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
REAL = [Path(each) for each in os.environ.get("COOK_TOKENIZERS", "").split(os.pathsep) if each]


def script(name: str):
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def test_random_recipes_are_as_expected():
    """A few; `.ci/run` gives them a minute."""
    done = subprocess.run(
        [sys.executable, SCRIPTS / "random_recipes.py", "--count", "25"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "25 recipes" in done.stdout


@pytest.mark.skipif(not REAL, reason="COOK_TOKENIZERS names no folders of real tokenizers")
@pytest.mark.parametrize("folder", REAL, ids=lambda folder: folder.name)
def test_real_tokenizers(folder, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert script("check_tokenizers").check(folder, tmp_path) == []
