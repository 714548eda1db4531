"""Who may look at the arrays of a training step while they are there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from fusednn.layers.step import Array, Step

if TYPE_CHECKING:
    from fusednn.models.plan import Plan


class Watch(Protocol):
    """What a plan tells of one training step; arrays lie where the plan computes."""

    def begin(self, plan: Plan) -> None:
        """Expect the steps of this plan."""

    def saw_output(self, step: Step, y: Array) -> None:
        """Look at what a step returned; a later one may overwrite it."""

    def saw_gradient(self, step: Step, grad: Array) -> None:
        """Look at the gradient with respect to that output, before it is overwritten."""

    def saw_weights(self) -> None:
        """Look at the gradients of the weights, which the optimizer has not used yet."""
