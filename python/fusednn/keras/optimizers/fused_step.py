"""What the optimizers have in common: a step of all variables as one kernel call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from fusednn.keras.backends import kernels_of


class FusedStep:
    """The step of an optimizer of Keras, of all variables in one kernel call.

    Comes before Keras' class in a class' bases. Arguments, states, their order, serialisation and
    everything else that is not the step remain Keras'. What the backend's module cannot do, or is
    asked for one variable at a time (`update_step`), Keras does.
    """

    kind: ClassVar[str]
    #: What the gradients of the step under way are still to be divided by.
    _undivided: float = 1.0

    gradient_accumulation_steps: int | None
    loss_scale_factor: float | None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._kernels = kernels_of("optimizers")
        self._latest: Any = None

    # ---- What the optimizers say of themselves ----

    def _kernel_states(self) -> dict[str, list[Any]]:
        """Return the states of all variables by the kernel's names."""
        raise NotImplementedError

    def _hyperparameters(self) -> dict[str, Any]:
        """Return the numbers by the kernel's names, all but the learning rate."""
        raise NotImplementedError

    # ---- Keras' interface ----

    def apply(self, grads: Sequence[Any], trainable_variables: Sequence[Any] | None = None) -> None:
        """Update the variables, as `keras.optimizers.Optimizer.apply` does.

        Parameters
        ----------
        grads
            A gradient for each variable, or None.
        trainable_variables
            The variables; None means those that the optimizer was built with.
        """
        scale = self.loss_scale_factor
        # Accumulated gradients are divided before, so that what is saved is what Keras saves.
        if scale is None or self._kernels is None or self.gradient_accumulation_steps:
            super().apply(grads, trainable_variables)  # type: ignore[misc]
            return
        self._undivided, self.loss_scale_factor = float(scale), None
        try:
            super().apply(grads, trainable_variables)  # type: ignore[misc]
        finally:
            self._undivided, self.loss_scale_factor = 1.0, scale

    def _backend_apply_gradients(self, grads: Sequence[Any], variables: Sequence[Any]) -> None:
        if self._kernels is not None and self._kernels.can_step(grads, variables):
            self._kernels.step(self, grads, variables)
            return
        if self._undivided != 1.0:
            grads = [grad / self._undivided for grad in grads]
        super()._backend_apply_gradients(grads, variables)  # type: ignore[misc]
