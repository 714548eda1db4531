"""The benchmarks' cases, their forms and inputs, and the peers that a run takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fusednn.benchmarks import catalogue, inputs, samples, shapes
from fusednn.benchmarks.case import Case
from fusednn.benchmarks.optimizers import OPTIMIZERS
from fusednn.benchmarks.peers import PEERS, numpy_batch_norm, select_peers

SMALL = "batch_norm/forward/nc-32x100/float32"


def case_named(name: str) -> Case:
    return catalogue.all_cases()[name]


class TestCases:
    def test_names_are_unique_and_say_everything(self) -> None:
        for name, case in catalogue.all_cases().items():
            assert name == f"{case.family}/{case.variant}/{case.subject}/{case.dtype}"

    @pytest.mark.parametrize(
        ("name", "elements_moved", "count", "item"),
        [
            ("batch_norm/forward/nc-32x100/float32", 2, 3200, 4),
            ("batch_norm/inference/nc-32x100/bfloat16", 2, 3200, 2),
            ("batch_norm/backward/nc-32x100/float64", 3, 3200, 8),
            ("batch_norm/both/nc-32x100/float32", 5, 3200, 4),
            ("batch_norm/in_place/nc-32x100/float32", 5, 3200, 4),
            ("leaky_relu/backward/nc-32x100/float32", 3, 3200, 4),
            ("optimizer/sgd/1x1k/float32", 3, 1024, 4),
            ("optimizer/momentum/1x1k/float32", 5, 1024, 4),
            ("optimizer/rmsprop-centered/1x1k/float32", 7, 1024, 4),
            ("optimizer/adam/1x1k/float32", 7, 1024, 4),
            ("optimizer/adamax/1x1k/float32", 7, 1024, 4),
            ("optimizer/nadam/1x1k/float32", 7, 1024, 4),
            ("optimizer/adam-clip/1x1k/float32", 8, 1024, 4),
            ("optimizer/adam-clip-each/1x1k/float32", 8, 1024, 4),
            ("optimizer/adam-new-gradients/1x1k/float32", 7, 1024, 4),
            ("optimizer/amsgrad/1x1k/bfloat16", 9, 1024, 2),
            ("optimizer/adam-ema/1x1k/float32", 9, 1024, 4),
            ("optimizer/adam-skip-nonfinite/1x1k/float32", 8, 1024, 4),
            ("optimizer/adam-clip-value/1x1k/float32", 7, 1024, 4),
            # States in 1 + 4/256 bytes, a copy in 2 bytes, float32 states of float16.
            ("optimizer/adam-8bit/1x1k/float32", 3 + 4 * (1 + 1 / 64) / 4, 1024, 4),
            ("optimizer/adam-low-precision-copy/1x1k/float32", 7 + 1, 1024, 4),
            ("optimizer/adam/1x1k/float16", 3 + 4 * 2, 1024, 2),
            ("neighbour/batch_norm-forward/nc-8192x1024/float32", 2, 1 << 23, 4),
        ],
    )
    def test_traffic(self, name: str, elements_moved: float, count: int, item: int) -> None:
        assert case_named(name).traffic == elements_moved * count * item

    def test_resnet50_is_complete(self) -> None:
        assert len(shapes.LISTS["resnet50"]) == 161
        assert shapes.size_of(shapes.LISTS["resnet50"]) == 25_557_032

    def test_patterns(self) -> None:
        case = case_named(SMALL)
        assert case.matches(["batch_norm"])
        assert case.matches(["*/forward/nc-*/float32"])
        assert case.matches(["nothing", SMALL])
        assert not case.matches(["forward"])
        assert not case.matches(["batch"])

    def test_forms(self) -> None:
        def names(form: str) -> set[tuple[str, int]]:
            return {(c.name, n) for c, n in catalogue.select([], [], [], 2, form)}

        full, default, quick = names("full"), names("default"), names("quick")
        one_too = {name for name in catalogue.all_cases() if not name.startswith("neighbour")}
        assert full == {(n, 2) for n in catalogue.all_cases()} | {(n, 1) for n in one_too}
        assert quick < default < full
        assert all(name.endswith("/float32") and n == 2 for name, n in quick)
        assert {name.split("/")[3] for name, _ in default} == set(shapes.ITEM_SIZES)
        assert {n for _, n in default} == {1, 2}

    def test_smoke_has_small_forms_of_all_that_a_default_run_has(self) -> None:
        def kinds(cases: Any) -> set[tuple[str, str, str]]:
            return {(c.family, c.variant, c.dtype) for c in cases}

        smoke = [case for case, _ in catalogue.select([], [], [], 2, "smoke")]
        assert kinds(smoke) == kinds(catalogue.all_cases().values())
        assert all(case.subject.endswith(shapes.SMALL) for case in smoke)
        assert max(case.traffic for case in smoke) < 1 << 22
        names = {case.name.replace(shapes.SMALL, "") for case in smoke}
        timed = {case.name for case, _ in catalogue.select([], [], [], 2, "quick")}
        assert timed <= names
        layouts = {case.subject for case in smoke if case.family == "batch_norm"}
        assert {name.removesuffix(shapes.SMALL) for name in layouts} == {
            *shapes.full_size(shapes.LAYOUTS)
        }

    def test_small_forms_keep_the_structure(self) -> None:
        for name in shapes.full_size(shapes.LAYOUTS):
            layout, small = shapes.LAYOUTS[name], shapes.LAYOUTS[name + shapes.SMALL]
            assert len(small.shape) == len(layout.shape)
            assert small.channel_axis == layout.channel_axis
            rows = [len(s.shape) > 2 or s.shape[0] >= s.channels for s in (layout, small)]
            assert rows[0] == rows[1]
        for name in shapes.full_size(shapes.MODELS):
            model, small_model = shapes.MODELS[name], shapes.MODELS[name + shapes.SMALL]
            assert len(small_model.widths) == len(model.widths)
            assert small_model.batch == model.batch
        for name in shapes.full_size(shapes.LISTS):
            ranks = [{len(s) for s in shapes.LISTS[n]} for n in (name, name + shapes.SMALL)]
            assert ranks[0] == ranks[1]

    def test_options_are_thinned_out_unless_they_are_named(self) -> None:
        def subjects(patterns: list[str]) -> set[str]:
            return {c.subject for c, _ in catalogue.select(patterns, [], [], 2, "quick")}

        assert subjects(["optimizer/adam-ema"]) == {*shapes.full_size(shapes.LISTS)}
        default = [case for case, _ in catalogue.select([], [], [], 2)]
        assert {c.subject for c in default if c.variant == "adam-ema"} == {"2x4M", "100x32"}
        new = {c.subject for c in default if c.variant == "adam-new-gradients"}
        assert new == {"100x100x100", "500x32", "100x32"}
        plain = [c for c in default if c.subject == "2x4M" and OPTIMIZERS[c.variant].plain is None]
        assert {c.variant for c in plain} == {"adam"}
        rounded = [c for c in default if c.variant == "adam-stochastic-rounding"]
        assert {c.dtype for c in rounded} == {"bfloat16"}

    def test_what_is_said_goes_before_the_form(self) -> None:
        chosen = catalogue.select([SMALL.replace("float32", "*")], ["float64"], [1], 2, "quick")
        assert [(case.dtype, threads) for case, threads in chosen] == [("float64", 1)]

    def test_refusals(self) -> None:
        with pytest.raises(ValueError, match="no case fits 'batchnorm': names are like"):
            catalogue.select(["batch_norm", "batchnorm"], [], [], 2)
        with pytest.raises(ValueError, match="no case is left"):
            catalogue.select(["step"], ["bfloat16"], [], 2)
        with pytest.raises(KeyError):
            catalogue.case_named("batch_norm/forward/nc-1x1/float32")

    def test_one_cpu_runs_each_case_once(self) -> None:
        chosen = catalogue.select([SMALL], [], [], 1)
        assert [threads for _, threads in chosen] == [1]


class TestPeers:
    def test_libraries_have_a_module_for_each_family(self) -> None:
        folder = Path(numpy_batch_norm.__file__).parent
        for peer in PEERS:
            for family in peer.families:
                assert (folder / f"{peer.library}_{family}.py").is_file()

    def test_selection(self) -> None:
        roof = ["roof", "roof-non-temporal"]
        ours = [peer.name for peer in PEERS if peer.is_ours and peer.library == "fusednn"]
        assert [peer.name for peer in select_peers(["numpy"])] == [*roof, *ours, "numpy"]
        ours.remove("fusednn-fresh")
        assert [p.name for p in select_peers(["fusednn"], ["fusednn-fresh"])] == [*roof, *ours]
        assert {"numpy", "sklearn"} <= {peer.name for peer in select_peers([])}

    def test_refusals(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(ValueError, match=r"--peers must be among fusednn, .*Received: mxnet"):
            select_peers(["mxnet"])
        with pytest.raises(ValueError, match=r"--without must be among .*Received: roof"):
            select_peers([], ["roof"])
        with pytest.raises(ValueError, match="--without cannot leave out fusednn, which all"):
            select_peers([], ["fusednn"])
        monkeypatch.setattr("fusednn.benchmarks.peers.find_spec", lambda name: None)
        with pytest.raises(ValueError, match="jax needs jax, optax, which is not installed"):
            select_peers(["jax"])


class TestInputs:
    def test_same_numbers_every_time_and_aligned(self) -> None:
        first = inputs.activations(case_named(SMALL))
        inputs.forget()
        second = inputs.activations(case_named(SMALL))
        assert first.x is not second.x
        np.testing.assert_array_equal(first.x, second.x)
        assert second.x.ctypes.data % 64 == 0
        assert not np.array_equal(second.x, second.grad)

    def test_long_arrays_repeat_a_prime_number_of_values(self) -> None:
        x = inputs.normals(0, (2, 1_100_000), np.dtype(np.float32))
        period = 1_048_573
        np.testing.assert_array_equal(x.reshape(-1)[period : 2 * period], x.reshape(-1)[:period])
        assert abs(float(x.mean())) < 0.01
        assert abs(float(x.std()) - 1) < 0.01

    def test_gradients_keep_their_distance_from_0(self) -> None:
        grads = inputs.lists(case_named("optimizer/adam/1x1k/float32")).grads
        assert min(float(np.abs(grad).min()) for grad in grads) >= 0.125

    def test_new_gradients_are_new_arrays_of_the_inputs_at_that_moment(self) -> None:
        data = inputs.lists(case_named("optimizer/adam-new-gradients/1x1k/float32"))
        same = inputs.Gradients(data, new=False)
        assert same.before is None
        assert same.arrays is data.grads
        grads = inputs.Gradients(data, new=True)
        assert grads.before is not None
        kept = [grads.arrays]
        for _ in range(2):
            grads.before()
            kept.append(grads.arrays)
        assert len({array.ctypes.data for (array,) in kept}) == 3
        np.testing.assert_array_equal(kept[2][0], data.grads[0])
        with inputs.turned(data.grads):
            grads.before()
            np.testing.assert_array_equal(grads.arrays[0], data.grads[0])
        assert not np.array_equal(grads.arrays[0], data.grads[0])

    def test_second_gradients_are_the_first_reversed_and_doubled(self) -> None:
        few = np.arange(6, dtype=np.float32).reshape(2, 3)
        many = np.arange(4000, dtype=np.float32)
        with inputs.turned([few, many]) as turned:
            np.testing.assert_array_equal(turned[0], [[10, 8, 6], [4, 2, 0]])
            kept = samples.sample_arrays([many])
        np.testing.assert_array_equal(few, np.arange(6).reshape(2, 3))
        np.testing.assert_array_equal(many, np.arange(4000))
        np.testing.assert_array_equal(kept, samples.sample_arrays([2 * many[::-1]]))
