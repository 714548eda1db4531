"""The "onnx" convention against ONNX's reference evaluator of ai.onnx.preview.training.

Its operators Momentum, Adagrad and Adam, over 200 steps from T = 0, with every attribute.
"""

from __future__ import annotations

import numpy as np
import pytest

import reference as ref
from fusednn import ops

onnx = pytest.importorskip("onnx", reason="compares with ONNX")
evaluation = pytest.importorskip("onnx.reference")

DOMAIN = "ai.onnx.preview.training"
SHAPE = (5, 19)
OPERATORS = {"sgd": "Momentum", "adagrad": "Adagrad", "adam": "Adam"}
# The operators' states, in their order, which is ours.
STATE_NAMES = {"sgd": ["V"], "adagrad": ["H"], "adam": ["V", "H"]}
# Of Adam, where rounded to float32 they would be seen.
DEFAULTS = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-6}
ATTRIBUTES = {
    "sgd": {"momentum": "alpha", "weight_decay": "norm_coefficient"},
    "adagrad": {
        "lr_decay": "decay_factor",
        "eps": "epsilon",
        "weight_decay": "norm_coefficient",
    },
    "adam": {
        "beta1": "alpha",
        "beta2": "beta",
        "eps": "epsilon",
        "weight_decay": "norm_coefficient",
        "norm_coefficient_post": "norm_coefficient_post",
    },
}


def evaluator(kind, options, dtype):
    """One node of the operator, with those of `options` that are its attributes."""
    given = dict(options)
    attributes = {
        ATTRIBUTES[kind][name]: given.pop(name) for name in options if name in ATTRIBUTES[kind]
    }
    if kind == "sgd":
        attributes["mode"] = "nesterov" if given.pop("nesterov", False) else "standard"
        attributes["beta"] = 1 - given.pop("dampening", 0.0)
        attributes = {"alpha": 0.0, "norm_coefficient": 0.0} | attributes  # without defaults
    assert not given
    names = ["X", "G", *STATE_NAMES[kind]]
    outputs = [f"{name}_new" for name in names if name != "G"]
    node = onnx.helper.make_node(
        OPERATORS[kind], ["R", "T", *names], outputs, domain=DOMAIN, **attributes
    )
    element = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [node],
        kind,
        [
            value("R", element, []),
            value("T", onnx.TensorProto.INT64, []),
            *(value(name, element, SHAPE) for name in names),
        ],
        [value(name, element, SHAPE) for name in outputs],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid(DOMAIN, 1)])
    onnx.checker.check_model(model, full_check=True)
    return evaluation.ReferenceEvaluator(model)


def cases():
    for kind in OPERATORS:
        own = ref.own_cases(kind, "onnx")
        for options in (*own, *({**o, "weight_decay": 0.1} for o in own)):
            yield kind, options
    yield "adam", {"weight_decay": 0.1, "norm_coefficient_post": 2**-7, "eps": 1e-3}


def as_attributes(kind, options):
    """`options` and what they leave to defaults, in float32 as attributes are."""
    given = (DEFAULTS if kind == "adam" else {}) | options
    return {n: float(np.float32(v)) if type(v) is float else v for n, v in given.items()}


@pytest.mark.parametrize("changing", [False, True], ids=["fixed", "changing"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize(("kind", "options"), list(cases()), ids=ref.case_id)
def test_200_steps(make, kind, options, dtype, changing):
    options = as_attributes(kind, options)
    peer = evaluator(kind, options, dtype)
    params = [make.normal(SHAPE, dtype)]
    scale = np.power(10, make.uniform(SHAPE, np.float64, -1, 1))
    row = ref.OPTIMIZERS[kind]
    initial = [np.full(SHAPE, row.initial.get(name, 0.0), dtype) for name in row.states]
    theirs = [params[0].copy(), *initial[: len(STATE_NAMES[kind])]]
    states = ref.initial_states(kind, params, options)
    states = {name: [a.astype(dtype) for a in arrays] for name, arrays in states.items()}
    for count in range(200):
        lr = np.asarray(0.02 * (1 + count % 7) / (1 + count / 20) if changing else 0.01, dtype)
        grad = (scale * make.normal(SHAPE, np.float64)).astype(dtype)
        names = ["X", *STATE_NAMES[kind]]
        feeds = {"R": lr, "T": np.array(count), "G": grad, **dict(zip(names, theirs, strict=True))}
        theirs = [np.asarray(a, dtype) for a in peer.run(None, feeds)]
        how = {"convention": "onnx", "step": count, "lr": float(lr)}
        assert ref.call_step(ops, kind, params, [grad], states, **how, **options)
    tolerance = 3e-5 if dtype == np.float32 else 1e-12
    # Without momentum we keep no buffer.
    ours = [params[0], *(arrays[0] for arrays in states.values())]
    for a, b in zip(ours, theirs[: len(ours)], strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * (1 + np.abs(b).max()))


@pytest.mark.parametrize("kind", ["adagrad", "adam"])
def test_defaults(make, kind):
    """With nothing given but the rate, and gradients near epsilon."""
    peer = evaluator(kind, {}, np.float32)
    params = [make.normal(SHAPE)]
    row = ref.OPTIMIZERS[kind]
    states = {name: [np.zeros(SHAPE, np.float32)] for name in row.state_names({})}
    theirs = [params[0].copy(), *(arrays[0].copy() for arrays in states.values())]
    for count in range(10):
        grad = make.normal(SHAPE, std=1e-6)
        names = ["X", *STATE_NAMES[kind]]
        feeds = {"R": np.float32(0.01), "T": np.array(count), "G": grad}
        theirs = [
            np.asarray(a, np.float32)
            for a in peer.run(None, feeds | dict(zip(names, theirs, strict=True)))
        ]
        how = {"step": count, "lr": 0.01, "convention": "onnx"}
        ref.call_step(ops, kind, params, [grad], states, **how)
    np.testing.assert_allclose(params[0], theirs[0], rtol=0, atol=1e-6)


def test_there_is_no_rmsprop():
    """Were ONNX to gain one, the convention should too."""
    found = {s.name for s in onnx.defs.get_all_schemas() if s.domain == DOMAIN}
    assert found & {"RMSProp", "RMSprop"} == set()
    assert found >= set(OPERATORS.values())
