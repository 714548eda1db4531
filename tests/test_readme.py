"""The README's programs run, its commands are understood, its links lead somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from fusednn import cli

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
COMMANDS = re.findall(r"(?:^|&& )(fusednn .*)$", README, re.MULTILINE)


@pytest.mark.parametrize("program", PROGRAMS, ids=["train", "batch_norm", "optimizer_step"])
def test_program_runs(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    if "digits" in program:
        pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
    names: dict[str, object] = {"__name__": "__main__"}
    exec(compile(program, "README.md", "exec"), names)
    if "accuracy" in names:
        assert names["accuracy"] > 0.95
        assert "test accuracy 0.9" in capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_command_is_understood(command: str) -> None:
    arguments = cli.argument_parser().parse_args(shlex.split(command)[1:])
    assert arguments.run in (cli.bench.run, cli.info.run, cli.pretrain.run, cli.train.run)


def test_there_are_commands() -> None:
    assert "fusednn train digits" in COMMANDS
    assert len(COMMANDS) >= 4


def test_command_that_ci_runs() -> None:
    assert re.findall(r"^.*nox -s tests.*$", README, re.MULTILINE) == [
        "pip install nox && nox -s tests"
    ]


@pytest.mark.parametrize(
    "document",
    [
        *("README.md", "CONTRIBUTING.md", "CHANGELOG.md"),
        *(
            "docs/benchmarks.md",
            "docs/benchmarks/results.md",
            "benchmarks/README.md",
            "docs/cuda.md",
            "docs/torch.md",
            "docs/torch_optim.md",
            "docs/index.md",
            "docs/install.md",
            "docs/conventions.md",
            "docs/guide/index.md",
        ),
    ],
)
def test_links_within_the_repository(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    folder = (ROOT / document).parent
    for target in re.findall(r"\]\(([^)]+)\)", text):
        path, _, anchor = target.partition("#")
        if target.startswith("http"):
            continue
        linked_file = folder / path if path else ROOT / document
        assert linked_file.exists(), target
        if anchor:
            linked = linked_file.read_text(encoding="utf-8")
            headings = re.findall(r"^#+ (.+)$", linked, re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}
            assert anchor in slugs, target
