"""PyTorch's batch_norm and leaky_relu: eager, compiled, ATen called directly, oneDNN."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from fusednn.benchmarks import inputs
from fusednn.benchmarks.case import Case
from fusednn.benchmarks.contender import Answer, Contender
from fusednn.benchmarks.inputs import Activations, UnavailableError
from fusednn.benchmarks.peers.torch_arrays import (
    activation_of,
    array_of,
    compiled,
    image_of,
    tensor_of,
)
from fusednn.benchmarks.samples import sample_channels
from fusednn.benchmarks.shapes import EPS, MOMENTUM, NEGATIVE_SLOPE

aten = torch.ops.aten
Results = dict[str, Any]


def build(case: Case, name: str) -> Contender:
    """Return the contender."""
    data = inputs.activations(case)
    tensors = Tensors(data)
    builders: dict[str, Callable[[Case, Tensors], tuple[Callable[[], Results], bool, str]]] = {
        "torch": _eager,
        "torch-compile": _compiled,
        "torch-aten": _aten,
        "onednn": _onednn,
    }
    run, reuses, note = builders[name](case, tensors)

    def answer() -> Answer:
        results = run()
        full = ("y", "grad_x")
        return sample_channels(
            data,
            {
                n: activation_of(t, data) if n in full else array_of(t)
                for n, t in results.items()
                if len(t)
            },
        )

    return Contender(run, answer, reuses=reuses, note=note)


class Tensors:
    """The inputs as tensors, channels on axis 1."""

    def __init__(self, data: Activations) -> None:
        self.x, self.grad = image_of(data.x, data), image_of(data.grad, data)
        self.gamma, self.beta = tensor_of(data.gamma), tensor_of(data.beta)
        self.running_mean = tensor_of(data.running_mean.copy())
        self.running_var = tensor_of(data.running_var.copy())

    def leaves(self) -> list[Any]:
        """Return x, gamma and beta as leaves that gradients are taken of."""
        return [t.detach().requires_grad_() for t in (self.x, self.gamma, self.beta)]

    def normalised(self, x: Any, gamma: Any, beta: Any, *, training: bool) -> Any:
        """Return the BatchNorm."""
        return functional.batch_norm(
            x, self.running_mean, self.running_var, gamma, beta, training, MOMENTUM, EPS
        )


def _activated(z: Any) -> Any:
    return functional.leaky_relu(z, NEGATIVE_SLOPE)


def _named(grads: Any) -> Results:
    return dict(zip(("grad_x", "grad_gamma", "grad_beta"), grads, strict=True))


def _eager(case: Case, t: Tensors) -> tuple[Callable[[], Results], bool, str]:
    if case.variant in ("forward", "inference"):
        training = case.variant == "forward"

        @torch.no_grad()  # type: ignore[untyped-decorator]
        def forward() -> Results:
            return {"y": _activated(t.normalised(t.x, t.gamma, t.beta, training=training))}

        return forward, False, ""
    leaves = t.leaves()
    if case.variant == "backward":
        kept = _activated(t.normalised(*leaves, training=True))
        return (
            lambda: _named(torch.autograd.grad(kept, leaves, t.grad, retain_graph=True)),
            False,
            "autograd alone, the graph kept",
        )
    in_place = case.variant == "in_place"

    def both() -> Results:
        z = t.normalised(*leaves, training=True)
        y = functional.leaky_relu_(z, NEGATIVE_SLOPE) if in_place else _activated(z)
        return {"y": y, **_named(torch.autograd.grad(y, leaves, t.grad))}

    return both, False, "the activation in place, x kept" if in_place else ""


def _compiled(case: Case, t: Tensors) -> tuple[Callable[[], Results], bool, str]:
    if case.variant in ("forward", "inference"):
        training = case.variant == "forward"
        function = compiled(
            lambda x, gamma, beta: _activated(t.normalised(x, gamma, beta, training=training))
        )

        @torch.no_grad()  # type: ignore[untyped-decorator]
        def forward() -> Results:
            return {"y": function(t.x, t.gamma, t.beta)}

        return forward, False, ""
    if case.variant == "backward":
        y, mean, inv_std = _saved(t)
        backward = compiled(
            lambda grad, x, y, gamma: _aten_backward(
                aten.leaky_relu_backward(grad, y, NEGATIVE_SLOPE, True), x, gamma, mean, inv_std
            )
        )
        return lambda: _named(backward(t.grad, t.x, y, t.gamma)), False, "the formula compiled"
    if case.variant == "in_place":
        raise UnavailableError("in place is fusednn's own form")
    leaves = t.leaves()
    whole = compiled(lambda *args: _activated(t.normalised(*args, training=True)))

    def both() -> Results:
        y = whole(*leaves)
        return {"y": y, **_named(torch.autograd.grad(y, leaves, t.grad))}

    return both, False, ""


def _saved(t: Tensors) -> tuple[Any, Any, Any]:
    """Return what a forward pass leaves for the backward one: y, mean and inv_std."""
    z, mean, inv_std = aten.native_batch_norm(
        t.x, t.gamma, t.beta, t.running_mean, t.running_var, True, MOMENTUM, EPS
    )
    return aten.leaky_relu_(z, NEGATIVE_SLOPE), mean, inv_std


def _aten_backward(g: Any, x: Any, gamma: Any, mean: Any, inv_std: Any) -> Any:
    return aten.native_batch_norm_backward(
        g, x, gamma, None, None, mean, inv_std, True, EPS, [True, True, True]
    )


def _aten(case: Case, t: Tensors) -> tuple[Callable[[], Results], bool, str]:
    training = case.variant != "inference"
    buffers = {
        "out": torch.empty_like(t.x),
        "save_mean": torch.empty_like(t.gamma if training else t.gamma[:0]),
        "save_invstd": torch.empty_like(t.gamma if training else t.gamma[:0]),
    }
    g = torch.empty_like(t.x)

    def forward() -> Results:
        z, mean, inv_std = aten.native_batch_norm.out(
            *(t.x, t.gamma, t.beta, t.running_mean, t.running_var, training, MOMENTUM, EPS),
            **buffers,
        )
        return {"y": aten.leaky_relu_(z, NEGATIVE_SLOPE), "mean": mean, "inv_std": inv_std}

    def backward(saved: Results) -> Results:
        aten.leaky_relu_backward.grad_input(t.grad, saved["y"], NEGATIVE_SLOPE, True, grad_input=g)
        return _named(_aten_backward(g, t.x, t.gamma, saved["mean"], saved["inv_std"]))

    if case.variant in ("forward", "inference"):
        return forward, True, "ATen's operators with out="
    note = "ATen's operators without autograd; grad_x is fresh"
    if case.variant == "backward":
        saved = forward()
        return lambda: backward(saved), False, note
    if case.variant == "in_place":
        raise UnavailableError("in place is fusednn's own form")

    def both() -> Results:
        saved = forward()
        return {**saved, **backward(saved)}

    return both, False, note


def _onednn(case: Case, t: Tensors) -> tuple[Callable[[], Results], bool, str]:
    """Through torch's mkldnn tensors, which have no leaky ReLU."""
    usable = case.dtype != "float64" and t.x.ndim == 4
    if case.variant not in ("forward", "inference") or not usable:
        raise UnavailableError("torch's mkldnn tensors reach oneDNN's BatchNorm of images, forward")
    training = case.variant == "forward"
    x = t.x.contiguous().to_mkldnn()

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def forward() -> Results:
        z = t.normalised(x, t.gamma, t.beta, training=training)
        return {"y": aten.leaky_relu_(z.to_dense(), NEGATIVE_SLOPE)}

    try:
        forward()
    except RuntimeError as error:
        raise UnavailableError(f"oneDNN has no BatchNorm of {case.dtype} here") from error
    note = "oneDNN's BatchNorm; leaky ReLU is ATen's, after a copy out of oneDNN"
    if case.subject.startswith("nhwc"):
        note += "; torch gives oneDNN images as NCHW: x was copied before, y is NCHW"
    return forward, False, note
