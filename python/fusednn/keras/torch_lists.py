"""Variables of Keras' PyTorch backend and their states, as the lists of kernel calls."""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import is_
from typing import Any, NamedTuple

import torch
from torch.autograd.graph import increment_version

from fusednn import ops
from fusednn.torch.optim.tensors import laid_out_as

Tensors = list[torch.Tensor]


class _Group(NamedTuple):
    """What one kernel call updates: on one device, all float64 or none, all decayed or none."""

    places: list[int]
    decays: bool
    params: Tensors
    states: dict[str, Tensors]
    averages: Tensors | None


class StepLists:
    """The variables of a step as groups, made once for as long as the same ones are stepped.

    Parameters
    ----------
    optimizer
        One of `fusednn.keras.optimizers`, built.
    variables
        Those of its variables that have a gradient.
    """

    def __init__(self, optimizer: Any, variables: Sequence[Any]) -> None:
        self._variables = list(variables)
        self._params: Tensors = [variable.value for variable in variables]
        indices = [optimizer._get_variable_index(variable) for variable in variables]

        def tensors(of_all: Sequence[Any]) -> Tensors:
            return [of_all[index].value for index in indices]

        states = {name: tensors(s) for name, s in optimizer._kernel_states().items()}
        averages = None
        #: Variables that are not stepped, whose averages Keras moves all the same.
        self._idle: list[tuple[Any, torch.Tensor]] = []
        if optimizer.use_ema:
            of_all = optimizer._model_variables_moving_average
            averages = tensors(of_all)
            self._idle = [
                (variable, average.value)
                for index, (variable, average) in enumerate(
                    zip(optimizer._trainable_variables, of_all, strict=True)
                )
                if index not in indices and average is not None
            ]
        self.accumulators: Tensors = []
        if optimizer.gradient_accumulation_steps:
            self.accumulators = tensors(optimizer._accumulated_gradients)
        places: dict[Any, list[int]] = {}
        for place, (variable, param) in enumerate(zip(variables, self._params, strict=True)):
            decays = bool(optimizer.weight_decay) and optimizer._use_weight_decay(variable)
            key = (param.device, param.dtype is torch.float64, decays)
            places.setdefault(key, []).append(place)
        self._groups = [
            _Group(
                members,
                decays,
                [self._params[place] for place in members],
                {name: [of_all[place] for place in members] for name, of_all in states.items()},
                None if averages is None else [averages[place] for place in members],
            )
            for (*_, decays), members in places.items()
        ]

    def are_of(self, variables: Sequence[Any]) -> bool:
        """Return whether these are the lists of `variables`, which hold the same tensors still."""
        return (
            len(variables) == len(self._variables)
            and all(map(is_, variables, self._variables))
            and all(map(is_, (v._value for v in variables), self._params))
        )

    def update(
        self, optimizer: Any, grads: Sequence[torch.Tensor], divisor: float, number: int
    ) -> None:
        """Make step `number`, with gradients that are to be divided by `divisor`."""
        grads = [_readable(g, param) for g, param in zip(grads, self._params, strict=True)]
        options: dict[str, Any] = {"convention": "keras", "step": number}
        # In the order in which Keras looks for them; what is not positive sets no limit.
        if (optimizer.clipnorm or 0) > 0:
            options["max_norm_each"] = optimizer.clipnorm
        elif (optimizer.global_clipnorm or 0) > 0:
            divisor = self._scale_down(grads, divisor, optimizer.global_clipnorm)
        elif (optimizer.clipvalue or 0) > 0:
            options["clip_value"] = optimizer.clipvalue
        if divisor != 1.0:
            options["grad_scale"] = divisor
        numbers = optimizer._hyperparameters()
        numbers["lr"] = float(optimizer._get_current_learning_rate())
        calls = []
        for group in self._groups:
            call = options | {
                "kind": optimizer.kind,
                "params": group.params,
                "grads": [grads[place] for place in group.places],
                "states": group.states,
                "hyperparameters": numbers,
            }
            if group.averages is not None:
                call |= {"ema": group.averages, "ema_momentum": optimizer.ema_momentum}
            if group.decays:
                call["weight_decay"] = optimizer.weight_decay
            calls.append(call)
        for call in calls if len(calls) > 1 else ():
            ops.optimizer_step(**call, check_only=True)
        for call in calls:
            ops.optimizer_step(**call)
        increment_version(self._params)
        for variable, average in self._idle:
            momentum = optimizer.ema_momentum if number > 1 else 0.0
            average.lerp_(variable.value, 1.0 - momentum)

    def _scale_down(self, grads: list[torch.Tensor], divisor: float, limit: float) -> float:
        """Return what to divide gradients by so that their norm together is at most `limit`."""
        # In the step itself the norm would be that of a group, and an infinite one make zeros.
        norms = [ops.global_norm([grads[i] for i in group.places]) for group in self._groups]
        norm = math.hypot(*norms)
        if not math.isfinite(norm):  # Keras' factor is NaN then
            grads[:] = [torch.full_like(grad, math.nan) for grad in grads]
            return 1.0
        return max(norm / limit, divisor)


def _readable(grad: torch.Tensor, param: torch.Tensor) -> torch.Tensor:
    """Return a gradient that the kernel takes for `param`."""
    if grad.dtype is not param.dtype and torch.float64 in (grad.dtype, param.dtype):
        grad = grad.to(param.dtype)
    return grad if grad.stride() == param.stride() else laid_out_as(param, grad)
