"""What a list of an optimizer leaves on the device: between steps, in graphs, after failures."""

from __future__ import annotations

from collections.abc import Callable

import ml_dtypes
import numpy as np
import pytest
from optimizer_calls import PER_THREAD_STREAM, CallError, Lists, on_stream
from optimizer_cases import assert_same, compare_steps, new_grads, numpy_lists

import fusednn
from fusednn import ops

FNN_ERROR_MEMORY, FNN_ERROR_DEVICE = 4, 6


def test_one_launch_and_nothing_else(gpu):
    """From the second step on: no upload, no allocation, no wait; also where the steps differ."""
    ours = Lists.on(gpu, numpy_lists("adam", {}))
    ours.step([1, 2, 3, 4, 5, 6], lr=0.1)
    before = gpu.counts
    ours.step([2, 3, 4, 5, 6, 7], lr=0.2)
    after = gpu.counts
    assert after.launches - before.launches == 1
    ours.step([3, 4, 5, 6, 7, 8], lr=0.2, max_norm=1.0)
    last = gpu.counts
    assert last.launches - after.launches == 2
    for name in ("allocations", "synchronisations", "copies"):
        assert getattr(last, name) == getattr(before, name), name


def test_long_lists(gpu):
    """More tensors than one packet of a table holds."""
    sizes = tuple(i % 5 for i in range(400))
    theirs = numpy_lists("rmsprop", {}, sizes)
    ours = Lists.on(gpu, theirs)
    compare_steps(theirs, ours, steps=2, lr=0.1)


def test_a_new_list_takes_the_memory_of_one_that_is_gone(gpu):
    Lists.on(gpu, numpy_lists("adam", {})).step(1, lr=0.1)
    ours = Lists.on(gpu, numpy_lists("adam", {}))
    before = gpu.counts.allocations
    ours.step(1, lr=0.1)
    assert gpu.counts.allocations == before


def test_memory_is_not_lent_to_another_stream(gpu):
    Lists.on(gpu, numpy_lists("adam", {})).step(1, lr=0.1)
    ours = Lists.on(gpu, numpy_lists("adam", {}))
    before = gpu.counts.allocations
    with on_stream(PER_THREAD_STREAM):
        ours.step(1, lr=0.1)
    assert gpu.counts.allocations == before + 1


def test_states_that_a_step_does_not_need_stay(gpu):
    options = {"momentum": 0.9}
    theirs = numpy_lists("sgd", options)
    ours = Lists.on(gpu, theirs)
    for t, more in enumerate(({}, options, {}, options), 1):
        for lists in (theirs, ours):
            lists.step(t, lr=0.1, **more)
        assert_same(ours.values(), theirs.values())


def test_capture_needs_memory_of_a_step_before(gpu):
    ours = Lists.on(gpu, numpy_lists("sgd", {}))
    captured = pytest.raises(CallError, match="captur")
    with on_stream(gpu.new_stream()), gpu.capture(), captured as raised:
        ours.step(1, lr=0.1)
    assert raised.value.status == FNN_ERROR_DEVICE


def test_memory_is_allocated_beside_the_capture_of_another_stream(gpu):
    """In CUDA's default mode, PyTorch's, an allocation anywhere would end that capture."""
    stream = gpu.new_stream()
    gpu.set(outside_capture=stream)
    ours = Lists.on(gpu, numpy_lists("sgd", {}))
    before = gpu.counts.allocations
    with on_stream(stream), gpu.capture():
        ours.step(1, lr=0.1)
    assert gpu.counts.allocations == before + 1


def test_a_graph_keeps_the_memory_of_its_list(gpu):
    """It is replayed when the list is long gone: nobody else may have its memory."""
    first, second = (Lists.on(gpu, numpy_lists("sgd", {})) for _ in range(2))
    with on_stream(gpu.new_stream()):
        first.step(1, lr=0.1)
        with gpu.capture():
            first.step(2, lr=0.1)
        del first
        before = gpu.counts.allocations
        second.step(1, lr=0.1)
    assert gpu.counts.allocations == before + 1


def test_a_graph_that_is_gone_gives_its_memory_back(gpu):
    first, second, third = (Lists.on(gpu, numpy_lists("sgd", {})) for _ in range(3))
    with on_stream(gpu.new_stream()):
        first.step(1, lr=0.1)
        with gpu.capture():
            first.step(2, lr=0.1)
        graphs = [gpu.keep_graph()]
        with gpu.capture():
            first.step(3, lr=0.1)
        graphs.append(gpu.keep_graph())
        del first
        before = gpu.counts.allocations
        gpu.destroy(graphs[0])  # the other has it still
        second.step(1, lr=0.1)
        assert gpu.counts.allocations == before + 1
        gpu.destroy(graphs[1])
        third.step(1, lr=0.1)
        assert gpu.counts.allocations == before + 1


def test_a_list_goes_on_in_its_memory_when_the_graph_is_gone(gpu):
    theirs = numpy_lists("adam", {})
    ours = Lists.on(gpu, theirs)
    with on_stream(gpu.new_stream()):
        compare_steps(theirs, ours, steps=1, lr=0.1)
        with gpu.capture():
            ours.step(2, lr=0.1)
        gpu.destroy(gpu.keep_graph())
        before = gpu.counts.allocations
        # Another table, which would need other memory if a graph still read the old one.
        for lists in (theirs, ours):
            lists.step([5, 3, 4, 6, 2, 7], lr=0.1)
        assert gpu.counts.allocations == before
    assert_same(ours.values(), theirs.values())


@pytest.mark.parametrize("replays", [0, 1])
def test_what_a_capture_uploads_is_there_after_a_replay_alone(gpu, replays):
    """The table of a step that was only recorded is not on the device yet."""
    theirs = numpy_lists("adam", {})
    ours = Lists.on(gpu, theirs)
    steps = [1, 3, 2, 5, 4, 6]
    with on_stream(gpu.new_stream()):
        Lists.on(gpu, theirs).step(1, lr=0.1)  # leaves memory for the capture
        with gpu.capture():
            ours.step(steps, lr=0.1)
            ours.step(steps, lr=0.1)
        graph = gpu.keep_graph()
        for _ in range(replays):
            gpu.launch(graph)
            for _ in range(2):
                theirs.step(steps, lr=0.1)
        for lists in (theirs, ours):
            lists.step([s + 1 for s in steps], lr=0.1)
        gpu.launch(graph)
        for _ in range(2):
            theirs.step(steps, lr=0.1)
        assert_same(ours.values(), theirs.values())


def test_memory_of_streams_that_are_gone_is_bounded(gpu):
    fusednn.release_cuda_memory()
    x = gpu.array(np.ones(1, np.float32))
    before = gpu.counts.live_allocations
    most = 256
    for i in range(most + 20):
        x.stream = gpu.new_stream()
        assert ops.global_norm([x]) == 1
        assert gpu.counts.live_allocations - before == min(i, most) + 1
    assert fusednn.release_cuda_memory() >= most * 4096
    assert gpu.counts.live_allocations == before


def test_memory_in_use_is_not_released(gpu):
    fusednn.release_cuda_memory()
    theirs = numpy_lists("adam", {})
    ours, gone = Lists.on(gpu, theirs), Lists.on(gpu, theirs)
    with on_stream(gpu.new_stream()):
        gone.step(1, lr=0.1)
        with gpu.capture():
            gone.step(2, lr=0.1)
        graph = gpu.keep_graph()
        arrays = Lists(gone.kind, gone.arrays)
        del gone
        ours.step(1, lr=0.1)
        assert fusednn.release_cuda_memory() == 0
        gpu.launch(graph)
        ours.step(2, lr=0.1)
        assert_same(arrays.values(), ours.values())
        gpu.destroy(graph)
        assert fusednn.release_cuda_memory() > 0
    assert fusednn.release_cuda_memory() == 0


def test_a_release_that_fails(gpu):
    fusednn.release_cuda_memory()
    Lists.on(gpu, numpy_lists("adam", {})).step(1, lr=0.1)
    with gpu.capture(), pytest.raises(RuntimeError, match=r"^release_memory: .*captur"):
        fusednn.release_cuda_memory()
    assert fusednn.release_cuda_memory() > 0


def test_replayed_steps(gpu):
    """A captured step goes on with the device's own step and rate, whatever its list did since."""
    options = {"max_norm_each": 64.0, "skip_nonfinite": True, "stochastic_rounding_seed": 3}
    dtypes = {"params": ml_dtypes.bfloat16, "states": np.uint8}
    theirs = numpy_lists("adam", {}, (300, 4100, 7), dtypes)
    ours = Lists.on(gpu, theirs)
    scalars = {
        "lr": gpu.array(np.zeros(1, np.float32)),
        "step": gpu.array(np.zeros(1, np.float32)),
        "stepped": gpu.array(np.zeros(1, np.int32)),
    }

    def both(t: int, our_step: Callable[[], object]) -> None:
        lr = np.float32(0.1 / t)
        scalars["lr"].set(np.array([lr]))
        for lists in (theirs, ours):
            lists.set_grads(new_grads(theirs, t))
        theirs.step(t, lr=lr, **options)
        our_step()
        assert_same(ours.values(), theirs.values())
        assert (scalars["step"].get()[0], scalars["stepped"].get()[0]) == (t, 1)

    both(1, lambda: ours.step(1, lr=99.0, scalars=scalars, **options))
    with gpu.capture():
        ours.step(1, lr=99.0, scalars=scalars, **options)
    both(2, gpu.replay)
    both(3, gpu.replay)
    # Other steps, hence another table, of no consequence to the graph.
    both(4, lambda: ours.step([1, 2, 3], lr=99.0, scalars=scalars, **options))
    both(5, gpu.replay)


def test_work_that_starts_late(gpu):
    """Nothing that the host gives up at a call's end is read by the device later."""
    theirs = numpy_lists("rmsprop", {"momentum": 0.9}, (300, 4100, 7))
    ours = Lists.on(gpu, theirs)
    gpu.set(deferred=1)
    compare_steps(theirs, ours, lr=0.1, momentum=0.9, skip_nonfinite=True)
    arrays = ours.arrays["params"]
    np.testing.assert_allclose(
        ops.global_norm(arrays), ops.global_norm(theirs.arrays["params"]), 1e-13
    )
    Lists.on(gpu, theirs).step(4, lr=0.1)  # gone before it began
    assert_same(ours.values(), theirs.values())


def test_failures_change_nothing(gpu):
    theirs = numpy_lists("adam", {})
    ours = Lists.on(gpu, theirs)
    before = ours.values()
    for nth in (1, 2, 3):  # one of the uploads, or the update
        gpu.set(fail_launch=nth)
        with pytest.raises(CallError) as raised:
            ours.step(1, lr=0.1)
        assert raised.value.status == FNN_ERROR_DEVICE
        assert_same(ours.values(), before)
    compare_steps(theirs, ours, lr=0.1)
    large = Lists.on(gpu, numpy_lists("adam", {}, (1,) * 5000))  # as in test_capture
    before = large.values()
    gpu.set(fail_allocation=1)
    with pytest.raises(CallError) as raised:
        large.step(1, lr=0.1)
    assert raised.value.status == FNN_ERROR_MEMORY
    assert_same(large.values(), before)
