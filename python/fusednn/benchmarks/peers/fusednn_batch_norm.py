"""fusednn's BatchNorm + leaky ReLU, and passes over memory of the same traffic."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from fusednn import ops
from fusednn.benchmarks import inputs
from fusednn.benchmarks.case import Case
from fusednn.benchmarks.contender import Answer, Contender
from fusednn.benchmarks.inputs import Activations, UnavailableError
from fusednn.benchmarks.peers.roof import build_roof
from fusednn.benchmarks.samples import sample_channels
from fusednn.benchmarks.shapes import EPS, NEGATIVE_SLOPE


def build(case: Case, name: str) -> Contender:
    """Return the contender: the roof, or fusednn with reused or fresh output buffers."""
    if name.startswith("roof"):
        return build_roof(case, name)
    fresh = name.endswith("fresh")
    data = inputs.activations(case)
    if case.variant == "in_place":
        if fresh:
            raise UnavailableError("in place there is no fresh output")
        return _in_place(data)
    calls = {
        "forward": [partial(_forward, data, fresh)],
        "backward": [partial(_backward, data, fresh)],
        "both": [partial(_forward, data, fresh), partial(_backward, data, fresh)],
        "inference": [partial(_inference, data, fresh)],
    }
    built = [call() for call in calls[case.variant]]

    def run() -> None:
        for call, _ in built:
            call()

    def answer() -> Answer:
        results: dict[str, Any] = {}
        for call, names in built:
            outputs = call()
            results |= zip(
                names, outputs if isinstance(outputs, tuple) else (outputs,), strict=True
            )
        return sample_channels(data, results)

    return Contender(built[0][0] if len(built) == 1 else run, answer, reuses=not fresh)


def _affine(data: Activations) -> dict[str, Any]:
    return {"negative_slope": NEGATIVE_SLOPE, "channel_axis": data.layout.channel_axis}


def _outputs(data: Activations, fresh: bool) -> Any:
    if fresh:
        return None
    vectors = (np.empty_like(data.gamma), np.empty_like(data.gamma))
    return (inputs.aligned_empty(data.x.shape, data.x.dtype), *vectors)


def _forward(data: Activations, fresh: bool) -> tuple[Any, tuple[str, ...]]:
    call = partial(
        ops.batch_norm_forward,
        data.x,
        data.gamma,
        data.beta,
        running_mean=data.running_mean.copy(),
        running_var=data.running_var.copy(),
        eps=EPS,
        out=_outputs(data, fresh),
        **_affine(data),
    )
    return call, ("y", "mean", "inv_std")


def _backward(data: Activations, fresh: bool) -> tuple[Any, tuple[str, ...]]:
    _, mean, inv_std = ops.batch_norm_forward(
        data.x, data.gamma, data.beta, eps=EPS, **_affine(data)
    )
    call = partial(
        ops.batch_norm_backward,
        data.grad,
        data.x,
        data.gamma,
        data.beta,
        mean,
        inv_std,
        out=_outputs(data, fresh),
        **_affine(data),
    )
    return call, ("grad_x", "grad_gamma", "grad_beta")


def _inference(data: Activations, fresh: bool) -> tuple[Any, tuple[str, ...]]:
    call = partial(
        ops.batch_norm_inference,
        data.x,
        data.gamma,
        data.beta,
        data.running_mean,
        data.running_var,
        eps=EPS,
        out=None if fresh else inputs.aligned_empty(data.x.shape, data.x.dtype),
        **_affine(data),
    )
    return call, ("y",)


def _in_place(data: Activations) -> Contender:
    # y replaces x, then grad_x replaces y: each run normalises what the one before left.
    x = inputs.aligned_copy(data.x)
    _, _, inv_std = vectors = (x, np.empty_like(data.gamma), np.empty_like(data.gamma))
    gradients = (x, np.empty_like(data.gamma), np.empty_like(data.gamma))
    options: dict[str, Any] = {
        "running_mean": data.running_mean.copy(),
        "running_var": data.running_var.copy(),
    }
    affine = _affine(data)

    def forward() -> None:
        ops.batch_norm_forward(x, data.gamma, data.beta, eps=EPS, out=vectors, **options, **affine)

    def backward() -> None:
        ops.batch_norm_backward_from_output(
            data.grad, x, data.gamma, data.beta, inv_std, out=gradients, **affine
        )

    def run() -> None:
        forward()
        backward()

    def answer() -> Answer:
        forward()
        y = sample_channels(data, {"y": x})
        backward()
        names = ("grad_x", "grad_gamma", "grad_beta")
        return {**y, **sample_channels(data, dict(zip(names, gradients, strict=True)))}

    return Contender(run, answer, reuses=True)
