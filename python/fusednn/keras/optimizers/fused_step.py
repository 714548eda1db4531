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
    #: Whether the kernel clips and decays in the step of Keras' that is under way.
    _fuses: bool = False

    gradient_accumulation_steps: int | None
    loss_scale_factor: float | None
    global_clipnorm: float | None
    use_ema: bool

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
        if scale is None or self._kernels is None or not self._kernels.divides(self):
            super().apply(grads, trainable_variables)  # type: ignore[misc]
            return
        self._undivided, self.loss_scale_factor = float(scale), None
        try:
            super().apply(grads, trainable_variables)  # type: ignore[misc]
        finally:
            self._undivided, self.loss_scale_factor = 1.0, scale

    def _backend_apply_gradients(self, grads: Sequence[Any], variables: Sequence[Any]) -> None:
        kernels = self._kernels
        if kernels is None or not kernels.can_step(grads, variables):
            if self._undivided != 1.0:
                grads = [grad / self._undivided for grad in grads]
            super()._backend_apply_gradients(grads, variables)  # type: ignore[misc]
        elif hasattr(kernels, "step"):
            kernels.step(self, grads, variables)
        else:
            self._fuses = True
            try:
                super()._backend_apply_gradients(grads, variables)  # type: ignore[misc]
            finally:
                self._fuses = False

    def finalize_variable_values(self, var_list: Sequence[Any]) -> None:
        """Let the variables hold their moving averages, with `use_ema`, at the end of `fit`."""
        super().finalize_variable_values(var_list)  # type: ignore[misc]
        part = getattr(self._kernels, "part_from_averages", None)
        if self.use_ema and part is not None:
            part(var_list)

    # What follows are parts of Keras' step, for backends whose module does them in one `update`.

    def _clip_gradients(self, grads: Sequence[Any]) -> Sequence[Any]:
        if self._fuses and not self.global_clipnorm:
            return grads
        clipped: Sequence[Any] = super()._clip_gradients(grads)  # type: ignore[misc]
        return clipped

    def _apply_weight_decay(self, variables: Sequence[Any]) -> None:
        if not self._fuses:
            super()._apply_weight_decay(variables)  # type: ignore[misc]

    def _backend_update_step(
        self, grads: Sequence[Any], variables: Sequence[Any], learning_rate: Any
    ) -> None:
        if self._fuses and self._kernels is not None:
            self._kernels.update(self, grads, variables, learning_rate)
        else:
            super()._backend_update_step(grads, variables, learning_rate)  # type: ignore[misc]
