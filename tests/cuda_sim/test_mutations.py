"""The mutation check notices what is noticed, and says what is not."""

from pathlib import Path

import pytest
from mutation_record import add, differences, line
from mutations import (
    HERE,
    TARGETS,
    Builder,
    Mutation,
    Result,
    listed,
    lists,
    plant,
    read,
    try_mutation,
)
from simulator import Simulator


@pytest.fixture
def builder(selftest: Simulator) -> Builder:
    if selftest.sanitizer:
        pytest.skip("mutations are compiled without sanitizers")
    # FOLDER/tests/cuda_sim/LIBRARY
    return Builder(selftest.path.parents[2])


def test_noticed_and_surviving(builder):
    missing_barrier, no_change, not_looked_at = read(HERE / "selftest/mutations.toml")
    caught = try_mutation(missing_barrier, builder)
    assert caught.noticed, caught
    assert caught.is_good
    assert "test_shared_memory_and_barrier" in caught.output
    survivor = try_mutation(no_change, builder)
    assert not survivor.error
    assert not survivor.noticed
    assert survivor.is_good
    assert "survives: kernels.cu: nothing is different (32 is the default)" in str(survivor)
    unseen = try_mutation(not_looked_at, builder)
    assert not unseen.error
    assert not unseen.is_good
    assert "SURVIVES" in str(unseen)


MUTATION = Mutation("kernels.cu", "", "", "", ["kernels.cu"], [], target="selftest")


@pytest.mark.parametrize(("text", "count"), [("no such text", 0), ("__syncthreads();", "[1-9]")])
def test_a_text_that_is_not_there_once(tmp_path, text, count):
    mutation = Mutation(**{**vars(MUTATION), "text": text})
    assert_found = plant(mutation, tmp_path)
    assert assert_found.startswith("the text must be in kernels.cu once. Found: ")
    assert ("Found: 0" in assert_found) == (count == 0)


def test_a_bug_that_does_not_compile_says_nothing(builder):
    mutation = Mutation(
        **{**vars(MUTATION), "text": "constexpr int kThreads = 128;", "replacement": "nonsense"}
    )
    result = try_mutation(mutation, builder)
    assert result.error
    assert not result.is_good
    assert str(result).startswith("ERROR")


def test_a_survivor_that_is_noticed_is_an_error():
    survivor = Mutation(**{**vars(MUTATION), "survives": "a reason"})
    assert not Result(survivor, noticed=True).is_good
    assert Result(survivor).is_good


@pytest.mark.parametrize("path", lists(), ids=lambda path: path.stem)
def test_every_mutation_of_the_lists_can_be_made(tmp_path: Path, path: Path):
    for i, mutation in enumerate(read(path)):
        assert plant(mutation, tmp_path / str(i)) == "", mutation.name
        sources = TARGETS[mutation.target].sources
        assert all((sources / unit).exists() for unit in mutation.units), mutation.name
        assert mutation.why


def test_every_mutation_was_run():
    assert not differences(listed()), "`mutations.py --record --only WORD` runs and records them"


def test_a_record_is_of_what_was_run(tmp_path: Path):
    record = tmp_path / "record.txt"
    first, second = Mutation(**{**vars(MUTATION), "why": "a"}), MUTATION
    add(first, [first, second], record)
    assert record.read_text() == f"{line(first)}\n"
    assert differences([first], record) == []
    assert differences([first, second], record) == [f"was not run: {line(second)}"]
    # Another bug, other tests, and another verdict are each to be run.
    for change in ({"replacement": "x"}, {"tests": ["x.py"]}, {"survives": "a reason"}):
        changed = Mutation(**{**vars(first), **change})
        assert differences([changed], record) == [
            f"was not run: {line(changed)}",
            f"is not listed: {line(first)}",
        ]
    add(second, [second], record)
    assert record.read_text() == f"{line(second)}\n"
