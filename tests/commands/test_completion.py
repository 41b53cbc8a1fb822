"""Completion, as a shell asks for it, and its installation, in the shells that are there."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import entry, write_shard
from cook.core.catalog import CATALOG
from cook.core.choices import CORPUS_PACKINGS, PACKINGS, PRESET_NAMES, SOURCES

COOK = str(Path(sys.executable).with_name("cook"))


def offered(folder, *words):
    """What is offered for the last of the words."""
    environment = os.environ | {"_COOK_COMPLETE": "zsh_complete", "COMP_WORDS": "cook " + " ".join(words[:-1])}
    environment["COMP_WORDS"] += f" {words[-1]}"
    environment["COMP_CWORD"] = str(len(words))
    done = subprocess.run([COOK], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return set(done.stdout.split("\n")[1::3]) - {""}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("place")
    for name in ("apples", "pears"):
        write_shard(root / "own", name, [entry(f"{name} {i}") for i in range(20)])
    command = [COOK, "-d", "all", "-s", "own", "-t", "llama3", "-o", "out", "-q", "--validation", "0.3"]
    subprocess.run(command, cwd=root, check=True)
    subprocess.run([COOK, "mix", "out", "--to", "mixed", "-q"], cwd=root, check=True)
    return root


def test_values_complete(place):
    assert offered(place, "-d", "s") == {row.name for row in CATALOG if row.name.lower().startswith("s")}
    assert offered(place, "-s", "own", "-d", "''") == {"all", "apples", "pears"}
    assert offered(place, "-s", "sample", "-d", "r") == {"race"}
    assert offered(place, "-t", "''") == {*PRESET_NAMES}
    assert offered(place, "-s", "''") == {*SOURCES}
    assert offered(place, "--packing", "''") == {*PACKINGS}
    assert offered(place, "corpus", "own", "--packing", "''") == {*CORPUS_PACKINGS}
    assert offered(place, "corpus", "own", "-d", "''") == {"all", "apples", "pears"}
    assert offered(place, "mix", "out", "--weights", "''") == {"apples=", "pears="}
    assert offered(place, "show", "mixed", "-d", "p") == {"pears"}
    assert offered(place, "export", "out/apples", "--split", "''") == {"train", "validation"}
    assert offered(place, "help", "c") == {"cache", "cluster", "corpus"}
    assert offered(place, "ver") == {"verify", "version"}


def test_a_place_that_cannot_be_read_offers_nothing(place):
    assert offered(place, "mix", "nowhere", "--weights", "''") == set()
    assert offered(place, "export", "own", "--split", "''") == set()


# For each shell, a script that prints what it offers for `cook -t lla`.
ASKING = {
    "bash": 'COMP_WORDS=(cook -t lla); COMP_CWORD=2; _cook_completion cook; printf "%s\\n" "${COMPREPLY[@]}"',
    "zsh": "(( $+_comps[cook] )) && _cook_completion() { :; }; print -l $_comps[cook]",
    "fish": "complete -C 'cook -t lla'",
}


@pytest.mark.parametrize("shell", ASKING)
def test_a_shell_completes_after_the_installation(tmp_path, shell):
    path = shutil.which(shell)
    if path is None:
        pytest.skip(f"{shell} is not installed")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "ZDOTDIR"))}
    environment |= {"HOME": str(tmp_path), "SHELL": path, "PATH": f"{Path(COOK).parent}:{os.environ['PATH']}"}
    startup = tmp_path / {"bash": ".bashrc", "zsh": ".zshrc", "fish": ".none"}[shell]
    if shell != "fish":
        startup.write_text("export MINE=1", encoding="utf-8")  # without a newline
    installed = []
    for _ in range(2):
        done = subprocess.run(
            [COOK, "--install-completion"], env=environment, capture_output=True, text=True, check=True
        )
        installed.append({p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file() and "cook" in p.read_text()})
        assert str(tmp_path) in done.stderr
    assert installed[0] == installed[1]
    assert "up to date" in done.stderr
    asked = subprocess.run(
        [path, "-i", "-c", f"{'' if shell == 'fish' else 'echo MINE=$MINE; '}{ASKING[shell]}"],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = asked.stdout.split("\n")
    assert shell == "fish" or "MINE=1" in lines
    assert ("_cook_completion" if shell == "zsh" else "llama3") in lines


def test_an_installation_that_cannot_be(tmp_path):
    environment = os.environ | {"HOME": str(tmp_path), "SHELL": "/bin/tcsh"}
    done = subprocess.run([COOK, "--install-completion"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "name one: cook --install-completion bash" in done.stderr
    (tmp_path / ".local").write_text("a file")
    environment.pop("XDG_DATA_HOME", None)
    command = [COOK, "--install-completion", "bash"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"cook: {tmp_path}/.local" in done.stderr
    assert not (tmp_path / ".bashrc").exists()
