"""What the suite promises to have, written out: a case, a peer or a number lost is noticed."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from fusednn import _core
from fusednn.benchmarks import bandwidth, catalogue, shapes
from fusednn.benchmarks.optimizers import OPTIMIZERS
from fusednn.benchmarks.peers import PEERS, REQUIREMENTS
from fusednn.benchmarks.targets import TARGETS

DTYPES = ("float32", "bfloat16", "float64")
PASSES = ("forward", "backward", "both", "inference", "in_place")

#: Name -> shape in the order of memory, axis of the channels.
LAYOUTS = {
    "nchw-32x64x112x112": ((32, 64, 112, 112), 1),
    "nchw-32x256x56x56": ((32, 256, 56, 56), 1),
    "nchw-32x256x14x14": ((32, 256, 14, 14), 1),
    "nhwc-32x112x112x64": ((32, 112, 112, 64), 3),
    "nhwc-32x56x56x256": ((32, 56, 56, 256), 3),
    "nhwc-32x14x14x256": ((32, 14, 14, 256), 3),
    "nc-32x100": ((32, 100), 1),
    "nc-256x1024": ((256, 1024), 1),
    "nc-8192x1024": ((8192, 1024), 1),
    "nc-65536x256": ((65536, 256), 1),
}
#: Name -> arrays, numbers in all.
LISTS = {
    "2x16M": (2, 33_554_432),
    "resnet50": (161, 25_557_032),
    "100x100x100": (200, 1_010_000),
    "500x32": (500, 16_000),
    "1x1k": (1, 1024),
}
PLAIN_OPTIMIZERS = {
    *("sgd", "momentum", "nesterov", "adagrad", "rmsprop", "rmsprop-centered", "rmsprop-momentum"),
    *("adam", "amsgrad", "adamax", "nadam"),
}
#: Variant -> the option that sets it apart from the optimizer that its name begins with.
OPTIONS: dict[str, dict[str, Any]] = {
    "adamw": {"weight_decay": 0.01, "decoupled": True},
    "adam-l2": {"weight_decay": 0.01},
    "adam-clip": {"max_norm": 1.0},
    "adam-clip-each": {"max_norm_each": 1.0},
    "adam-clip-value": {"clip_value": 0.5},
    "adam-grad-scale": {"grad_scale": 8.0},
    "adam-skip-nonfinite": {"skip_nonfinite": True},
    "adam-ema": {"ema_momentum": 0.9},
    "adam-low-precision-copy": {"low_precision_copy": True},
    "adam-stochastic-rounding": {"stochastic_rounding": True},
    "adam-8bit": {"quantized": True},
    "adam-new-gradients": {"new_gradients": True},
    "momentum-l2": {"weight_decay": 0.01},
    "momentum-clip": {"max_norm": 1.0},
    "momentum-clip-value": {"clip_value": 0.5},
    "momentum-grad-scale": {"grad_scale": 8.0},
    "momentum-stochastic-rounding": {"stochastic_rounding": True},
    "momentum-8bit": {"quantized": True},
    "rmsprop-clip-value": {"clip_value": 0.5},
    "rmsprop-8bit": {"quantized": True},
}
ROUNDED = {"adam-stochastic-rounding", "momentum-stochastic-rounding"}
#: Name -> widths, batch.
MODELS = {
    "784-300-100-10-batch32": ((784, 300, 100, 10), 32),
    "784-300-100-10-batch256": ((784, 300, 100, 10), 256),
    "3072-20x100-10-batch32": ((3072, *[100] * 20, 10), 32),
    "784-4x1024-10-batch256": ((784, 1024, 1024, 1024, 1024, 10), 256),
}
OPS = ("batch_norm", "leaky_relu")
#: Name -> families; "torch-aten" is eager torch without autograd.
PEERS_OF_OTHERS = {
    "numpy": (*OPS, "optimizer", "step"),
    "torch": (*OPS, "optimizer", "step"),
    "torch-aten": OPS,
    "torch-foreach": ("optimizer",),
    "torch-fused": ("optimizer", "step"),
    "torch-compile": (*OPS, "optimizer", "step"),
    "onednn": ("batch_norm",),
    "jax": (*OPS, "optimizer", "step"),
    "keras-torch": (*OPS, "optimizer", "step"),
    "keras-jax": (*OPS, "optimizer", "step"),
    "sklearn": ("step",),
}

CASES = [
    *(f"batch_norm/{p}/{name}/{d}" for p, name, d in product(PASSES, LAYOUTS, DTYPES)),
    *(
        f"leaky_relu/{p}/{name}/{d}"
        for p, name, d in product(
            ("forward", "backward"),
            ("nc-32x100", "nchw-32x256x14x14", "nchw-32x64x112x112"),
            DTYPES,
        )
    ),
    *(f"optimizer/{o}/{name}/{d}" for o, name, d in product(PLAIN_OPTIMIZERS, LISTS, DTYPES)),
    *(f"optimizer/{o}/100x32/bfloat16" for o in ROUNDED),
    *(f"optimizer/{o}/100x32/float32" for o in OPTIONS if o not in ROUNDED | {"adam-clip"}),
    *(f"optimizer/adam-clip/{name}/float32" for name in LISTS),
    *(f"optimizer/adam-new-gradients/{n}/float32" for n in ("100x100x100", "500x32")),
    *(f"step/adam/{model}/float32" for model in MODELS),
    "neighbour/batch_norm-forward/nc-8192x1024/float32",
    "neighbour/batch_norm-forward/nchw-32x256x14x14/float32",
    "neighbour/optimizer-adam/100x100x100/float32",
]


@pytest.fixture(scope="module")
def of_default_run() -> set[tuple[str, int]]:
    return {(case.name, threads) for case, threads in catalogue.select([], [], [], 2)}


def test_every_case_can_be_run() -> None:
    assert sorted(set(CASES) - set(catalogue.all_cases())) == []


def test_a_run_without_arguments_has_them_in_float32(of_default_run: set[tuple[str, int]]) -> None:
    wanted = {name for name in CASES if name.endswith("/float32")}
    assert sorted(wanted - {name for name, threads in of_default_run if threads == 2}) == []


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_a_run_without_arguments_has_other_dtypes(
    of_default_run: set[tuple[str, int]], dtype: str
) -> None:
    for variant in (
        *("batch_norm/forward", "batch_norm/backward", "leaky_relu/forward", "leaky_relu/backward"),
        *("optimizer/adam", "optimizer/momentum", "optimizer/rmsprop"),
    ):
        subject = "500x32" if variant.startswith("optimizer") else "nc-32x100"
        assert (f"{variant}/{subject}/{dtype}", 2) in of_default_run
    for variant in ROUNDED:
        assert (f"optimizer/{variant}/100x32/bfloat16", 2) in of_default_run
    layouts = {n.split("/")[2] for n, _ in of_default_run if n.startswith("batch_norm/forward")}
    assert layouts >= set(LAYOUTS)


def test_a_run_without_arguments_has_one_thread(of_default_run: set[tuple[str, int]]) -> None:
    for case in (
        *("batch_norm/forward/nchw-32x64x112x112", "batch_norm/backward/nc-8192x1024"),
        *(
            "leaky_relu/forward/nchw-32x64x112x112",
            "optimizer/adam/2x16M",
            "optimizer/rmsprop/500x32",
        ),
        *(f"step/adam/{model}" for model in MODELS),
    ):
        assert {(f"{case}/float32", 1), (f"{case}/float32", 2)} <= of_default_run


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts(name: str) -> None:
    layout = shapes.LAYOUTS[name]
    assert (layout.shape, layout.channel_axis) == LAYOUTS[name]


def test_lists() -> None:
    found = {name: (len(shapes.LISTS[name]), shapes.size_of(shapes.LISTS[name])) for name in LISTS}
    assert found == LISTS
    assert set(shapes.LISTS["100x100x100"]) == {(100, 100), (100,)}


def test_models() -> None:
    found = {name: (shapes.MODELS[name].widths, shapes.MODELS[name].batch) for name in MODELS}
    assert found == MODELS


def test_optimizers() -> None:
    assert {name for name, optimizer in OPTIMIZERS.items() if optimizer.plain is None} == (
        PLAIN_OPTIMIZERS
    )
    assert {optimizer.kind for optimizer in OPTIMIZERS.values()} == set(_core.optimizer_names())
    for name in OPTIMIZERS.keys() - PLAIN_OPTIMIZERS:
        optimizer = OPTIMIZERS[name]
        assert optimizer.plain is not None
        plain = vars(OPTIMIZERS[optimizer.plain]) | {"plain": optimizer.plain}
        changed = {k: v for k, v in vars(optimizer).items() if v != plain[k]}
        assert name.startswith(optimizer.plain)
        assert changed == OPTIONS[name]


def test_peers() -> None:
    found = {peer.name: peer.families for peer in PEERS if not (peer.is_roof or peer.is_ours)}
    assert found == PEERS_OF_OTHERS
    needed = {package for packages in REQUIREMENTS.values() for package in packages}
    assert needed == {"torch", "jax", "optax", "keras", "sklearn"}


def test_own_forms() -> None:
    """With and without buffers that exist; beside the roof through the caches and past them."""
    names = {peer.name for peer in PEERS if peer.is_roof or peer.is_ours}
    assert names >= {"fusednn", "fusednn-fresh", "fusednn-plain", "roof", "roof-non-temporal"}


def test_passes_over_memory() -> None:
    assert set(bandwidth.LEVELS) == {"L2", "L3", "memory"}
    assert {"read", "copy", "copy, non-temporal", "update in place"} <= set(bandwidth.PASSES)


#: About, figure, bound.
BOUNDS = {
    ("BatchNorm + leaky ReLU forward, large", "time / non-temporal copy", 1.4),
    ("BatchNorm + leaky ReLU forward, large", "x torch eager", 6),
    ("BatchNorm + leaky ReLU forward, large", "x the best peer", 3),
    ("BatchNorm + leaky ReLU backward, large", "time / roof", 1.4),
    ("BatchNorm + leaky ReLU backward, large", "x torch eager", 4),
    ("BatchNorm + leaky ReLU backward, large", "x the best peer", 2),
    ("BatchNorm + leaky ReLU, large, bfloat16", "time / roof", 1.5),
    ("BatchNorm + leaky ReLU, large, bfloat16", "x torch eager", 4),
    ("BatchNorm + leaky ReLU forward + backward, (32, 100)", "x torch eager", 8),
    ("Adam, AdaGrad, momentum, Nesterov, large", "roof / time", 0.95),
    ("Adam, AdaGrad, momentum, Nesterov, large", "x torch fused", 0.95),
    ("RMSProp, also centered or with momentum, large", "roof / time", 0.95),
    ("RMSProp, also centered or with momentum, large", "x torch foreach", 4),
    ("Adam, AdaGrad, momentum, Nesterov, 500 arrays of 32", "x torch fused", 8),
    ("Adam, 100 arrays of 100 x 100 and 100", "x torch fused", 4),
    ("RMSProp, 100 arrays of 100 x 100 and 100", "x torch foreach", 10),
    ("Adam with clipping by global norm, large", "x torch clip_grad_norm_ and fused", 2),
    ("A call on a (32, 100) array", "us a call", 3),
    ("Adam, 100 arrays of 32", "us beyond the roof", 10),
    ("Threads", "x one thread / threads, where the roof's is as much", 0.85),
    ("A busy neighbour", "x one thread beside the neighbour", 0.95),
}
STEP_BOUNDS = {
    ("784-300-100-10-batch32", "x the best peer", 2),
    ("3072-20x100-10-batch32", "x the best peer", 2),
    ("784-300-100-10-batch256", "x the best peer", 1.2),
    ("784-4x1024-10-batch256", "x JAX", 1.2),
    ("784-4x1024-10-batch256", "x torch", 0.9),
}


def test_targets() -> None:
    steps = [target for target in TARGETS if target.about == "Training step"]
    assert {(*t.subjects, t.figure.name, t.bound) for t in steps} == STEP_BOUNDS
    assert {(t.about, t.figure.name, t.bound) for t in TARGETS} >= BOUNDS
