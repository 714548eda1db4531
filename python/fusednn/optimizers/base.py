"""What all optimizers share: hyper-parameters, states, clipping, decay, averages, the one call."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fusednn._arguments import check_number, check_optional_number, refuse_unknown
from fusednn._serialization import Configurable
from fusednn.optimizers.calls import Call, by_group, check_gradients
from fusednn.optimizers.learning_rate import Rate, RateNumber
from fusednn.optimizers.options import (
    OWN_OPTIONS,
    Array,
    LearningRate,
    State,
    check_accumulation,
    check_seed,
    check_together,
)
from fusednn.optimizers.signatures import whole_signature
from fusednn.optimizers.slots import DecayExclusion, Slots
from fusednn.optimizers.state_variables import StateVariable, variables_of
from fusednn.optimizers.stepping import Stepping

if TYPE_CHECKING:
    from fusednn.variable import Variable


#: What the configuration holds only where it is set.
_WHERE_SET = ("loss_scale_factor", "gradient_accumulation_steps", *OWN_OPTIONS)


class Optimizer(Stepping, Configurable):
    """Base class: applies gradients to variables, in place, one kernel call for the whole list.

    In this order, as Keras 3: unscale, sum up and clip the gradients,
    decay the weights ``p -= p * weight_decay * lr``
    (decoupled from the gradient, for every optimizer; PyTorch's `weight_decay` is L2 except in
    AdamW), update, move the averages ``a = ema_momentum * a + (1 - ema_momentum) * p``
    (``a = p`` at the first step); at last the variables' constraints are applied.

    The rate of a variable is `learning_rate` times its own `learning_rate_multiplier`
    (`Layer.learning_rate_multiplier`), and variables of one rate take one kernel call; norms for
    `global_clipnorm` are over all of them.

    A new optimizer is a subclass with four members: `config_names` for its hyper-parameters,
    `initial_states`, `unsigned_states`, and `step`, which calls its kernel.

    Parameters
    ----------
    learning_rate
        A number >= 0, or a function or one of `optimizers.schedules` that returns it when called
        with the number of steps already taken. Keras calls plain functions without argument.
    weight_decay
        Decay per unit of learning rate, >= 0, or None.
    clipnorm
        Largest Euclidean norm of each gradient, or None (0 too is no clipping, as in Keras).
    clipvalue
        Largest absolute value of each gradient element, or None (or 0).
    global_clipnorm
        Largest norm of all gradients together, or None (or 0). At most one of the three.
    use_ema
        Keep an exponential moving average of the variables.
    ema_momentum
        In [0, 1].
    ema_overwrite_frequency
        Every so many steps the variables are set to their averages. None: only where
        `finalize_variable_values` is called, as `Sequential.fit` does at its end.
    loss_scale_factor
        > 0, or None. `apply` takes gradients for those of a loss times this factor (`scale_loss`)
        and divides them by it. `Sequential.fit` has no need of it, as there is no mixed precision,
        and gives plain gradients; Keras multiplies and divides.
    gradient_accumulation_steps
        Step only at every so many calls of `apply`, by the mean of their gradients; at least 2, or
        None. `iterations` counts the steps, but schedules are asked for the number of calls;
        averages move at each call and constraints are applied at each, all as in Keras.
    quantized_states
        Keep the states in 8 bits (`ops.QuantizedState`) instead of 32: for Adam 2.03 bytes per
        parameter instead of 8, at the price of noise that `ops.QuantizedState` tells of. Averages
        and variables stay as they are. Not for float64 variables. (Keras has no such option; the
        configuration holds it only where it is True.)
    skip_nonfinite
        Leave out a step whose gradients hold an infinity or a NaN: nothing changes, `iterations`
        neither, and `skipped` counts it. With `gradient_accumulation_steps` all the calls of that
        step are dropped. Several rates or decays in one model cost one more read of the gradients.
        (Keras' `LossScaleOptimizer` does so.)
    stochastic_rounding_seed
        In [0, 2**64): round variables, all of which must be bfloat16, at random, so that small
        steps add up; see `ops`. The bits follow from the seed, the step and the place, so that a
        resumed run has the same. None: to nearest. Layers have no bfloat16 variables, so this is
        for variables of your own. (Not in Keras.)
    name
        Defaults to the class name in lower case (Keras: "SGD" for that one).
    lr
        Keras 2's name of `learning_rate`.
    decay
        Keras 2's: >= 0, the learning rate is divided by ``1 + decay * steps taken``. (Keras 3
        ignores it with a warning; the configuration holds it only where it is set.)

    Raises
    ------
    ValueError, TypeError
        An argument is out of its range, NaN, or no number; two ways of clipping are set; both `lr`
        and `learning_rate` are given; `quantized_states` with states that cannot be in 8 bits.
    """

    config_names: ClassVar[tuple[str, ...]] = (
        "name",
        "learning_rate",
        "weight_decay",
        "clipnorm",
        "clipvalue",
        "global_clipnorm",
        "use_ema",
        "ema_momentum",
        "ema_overwrite_frequency",
    )
    ignored_config_names: ClassVar[tuple[str, ...]] = (
        "is_legacy_optimizer",
        "jit_compile",
        "use_locking",
    )

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.__signature__ = whole_signature(cls, Optimizer)  # type: ignore[attr-defined]

    #: The states that are averages or sums of squares: their 8-bit codes have no sign.
    unsigned_states: ClassVar[frozenset[str]] = frozenset()

    def __init__(
        self,
        learning_rate: LearningRate,
        *,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None,
        quantized_states: bool = False,
        skip_nonfinite: bool = False,
        stochastic_rounding_seed: int | None = None,
        name: str | None = None,
        lr: LearningRate | None = None,
        decay: float | None = None,
        **unknown: Any,
    ) -> None:
        refuse_unknown(self, unknown)
        if lr is not None:
            default = inspect.signature(type(self)).parameters["learning_rate"].default
            if learning_rate != default:
                raise ValueError(
                    "`lr` is another name of `learning_rate`: give one of them. "
                    f"Received: lr={lr}, learning_rate={learning_rate}"
                )
            learning_rate = lr
        check_together(clipnorm, clipvalue, global_clipnorm, ema_overwrite_frequency)
        self.name = name or type(self).__name__.lower()
        self._rate = Rate(learning_rate, decay or 0.0)
        self.weight_decay = check_optional_number("weight_decay", weight_decay, minimum=0)
        self.clipnorm = check_optional_number("clipnorm", clipnorm, minimum=0)
        self.clipvalue = check_optional_number("clipvalue", clipvalue, minimum=0)
        self.global_clipnorm = check_optional_number("global_clipnorm", global_clipnorm, minimum=0)
        self.use_ema = bool(use_ema)
        self.ema_momentum = check_number("ema_momentum", ema_momentum, minimum=0, maximum=1)
        self.ema_overwrite_frequency = ema_overwrite_frequency
        self.loss_scale_factor = check_optional_number(
            "loss_scale_factor", loss_scale_factor, above=0
        )
        self.gradient_accumulation_steps = check_accumulation(gradient_accumulation_steps)
        self.quantized_states = bool(quantized_states)
        self.skip_nonfinite = bool(skip_nonfinite)
        self.stochastic_rounding_seed = check_seed(stochastic_rounding_seed)
        self.skipped = 0
        self._scaled = True
        self._iterations = 0
        self._exempt = DecayExclusion()
        self._slots: Slots | None = None
        self._latest: Call | None = None
        #: Whether the variables hold the averages for now, and these the variables, see
        #: `swap_averages`.
        self.swapped = False

    # What a subclass defines.

    def initial_states(self) -> dict[str, float]:
        """Return the name and the initial value of each state; arrays are shaped as variables."""
        raise NotImplementedError(f"{type(self).__name__} must define `initial_states`.")

    def step(
        self,
        params: list[Array],
        grads: list[Array],
        states: Mapping[str, list[State]],
        **options: Any,
    ) -> bool | None:
        """Call the kernel: ``return ops.<family>_step(params, grads, ..., **options)``."""
        raise NotImplementedError(f"{type(self).__name__} must define `step`.")

    # What a user calls.

    @property
    def iterations(self) -> int:
        """Number of steps taken. Settable, to go on where a saved run stopped."""
        return self._iterations // (self.gradient_accumulation_steps or 1)

    @iterations.setter
    def iterations(self, value: int) -> None:
        if value != int(value) or value < 0:
            raise ValueError(f"`iterations` must be an integer >= 0. Received: iterations={value}")
        self._iterations = int(value) * (self.gradient_accumulation_steps or 1)

    @property
    def calls(self) -> int:
        """Number of calls of `apply`: `iterations` unless gradients are accumulated. Settable."""
        return self._iterations

    @calls.setter
    def calls(self, value: int) -> None:
        self._iterations = int(value)

    @property
    def learning_rate(self) -> float:
        """Learning rate of the next step, before `decay`.

        Settable, to a number unless it follows a schedule, as in Keras; also by its own `assign`.
        """
        return RateNumber.of(self._rate, self._rate.before_decay(self._iterations))

    @learning_rate.setter
    def learning_rate(self, value: LearningRate) -> None:
        self._rate.replace(value)

    lr = learning_rate

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments.

        A schedule is a dictionary; a plain function is returned as the object that it is.
        """
        config = super().get_config() | {"learning_rate": self._rate.config()}
        if self._rate.decay:
            config["decay"] = self._rate.decay
        unset = (None, False)
        return config | {n: v for n in _WHERE_SET if (v := getattr(self, n)) not in unset}

    @property
    def follows_schedule(self) -> bool:
        """Whether the learning rate is a function of the steps."""
        return self._rate.varies

    @property
    def built(self) -> bool:
        """Whether the states are allocated."""
        return self._slots is not None

    @property
    def states(self) -> dict[str, list[State]]:
        """States by name, in the order of the variables; empty before `build`.

        They are the optimizer's own: what is written to arrays, or to the `codes` and `scales` of
        quantized states, is what it goes on from.
        """
        return {} if self._slots is None else self._slots.states

    @property
    def averages(self) -> list[Array] | None:
        """Moving averages of the variables; None without `use_ema`, and before `build`."""
        return None if self._slots is None else self._slots.averages

    @property
    def sums(self) -> list[Array] | None:
        """Sums of gradients that wait for their step, as `averages`."""
        return None if self._slots is None else self._slots.sums

    @property
    def built_for(self) -> list[Variable]:
        """The variables that the states belong to; empty before `build`."""
        return [] if self._slots is None else list(self._slots.variables)

    @property
    def variables(self) -> list[StateVariable]:
        """Step number, learning rate unless there is a schedule, and states, as Keras lists them.

        What is assigned to one of them is what the optimizer goes on from.
        """
        return variables_of(self)

    def exclude_from_weight_decay(
        self, var_list: Iterable[Variable] | None = None, var_names: Iterable[str] | None = None
    ) -> None:
        """Exempt variables from `weight_decay`; call it before `build`.

        Parameters
        ----------
        var_list
            Variables to exempt.
        var_names
            Regular expressions; a variable is exempt where one is found in its `name`, e.g.
            ``["bias"]``.

        Raises
        ------
        ValueError
            The optimizer is built.
        """
        if self.built:
            raise ValueError(
                "`exclude_from_weight_decay()` must be called before the optimizer is built."
            )
        self._exempt = DecayExclusion(var_list or (), var_names or ())

    def build(self, variables: Sequence[Variable]) -> None:
        """Allocate the states for `variables`; does nothing where it was done before."""
        if self._slots is None:
            states = self.initial_states()
            codes = {name: name not in self.unsigned_states for name in states}
            self._slots = Slots(
                variables,
                states,
                codes=codes if self.quantized_states else None,
                use_ema=self.use_ema,
                sums=self.gradient_accumulation_steps is not None,
                exempt=self._exempt,
            )

    def apply(
        self, grads: Sequence[Array | None], variables: Sequence[Variable] | None = None
    ) -> None:
        """Update the variables, in place, and count the step; or add the gradients up for one.

        Parameters
        ----------
        grads
            One gradient per variable, of its shape and dtype. A variable whose gradient is None
            is left alone, with a warning; an empty list does nothing. The same two tuples as at
            the step before are known to fit, and are not looked through again.
        variables
            The variables; None means those that the optimizer was built with. The first call
            builds the optimizer; later ones may pass some of the same variables.

        Raises
        ------
        ValueError
            The lists differ in length, a shape differs, a variable is unknown, every gradient is
            None, or the optimizer is not built and `variables` is None.
        TypeError
            A gradient's dtype is not its variable's (Keras casts).
        """
        self._follow_variables()
        latest = self._latest
        if latest is not None and latest.grads is grads and latest.variables is variables:
            assert self._slots is not None
            self._advance(self._slots, self._slots.groups, latest.grads, latest.lists)
            return
        if len(grads) == 0:
            return
        if variables is None:
            if self._slots is None:
                raise ValueError(
                    "`variables` must be given where the optimizer is not built: "
                    "pass them, or call `build(variables)` first."
                )
            variables = self._slots.variables
        if len(grads) != len(variables):
            raise ValueError(
                "`grads` must hold one gradient per variable. "
                f"Received: {len(grads)} gradients, {len(variables)} variables"
            )
        if self._slots is None:
            check_gradients(grads, variables)
            self.build(variables)
        assert self._slots is not None
        if (
            len(variables) == len(self._slots.variables)
            and all(map(operator.is_, variables, self._slots.variables))
            and not any(grad is None for grad in grads)
        ):
            lists = by_group(self._slots.groups, grads)
            if self.gradient_accumulation_steps:
                check_gradients(grads, variables)
            self._advance(self._slots, self._slots.groups, grads, lists)
            if isinstance(grads, tuple) and isinstance(variables, tuple):
                self._latest = Call(grads, variables, lists)
        else:
            self._apply_some(self._slots, grads, variables)

    def apply_gradients(self, grads_and_vars: Iterable[tuple[Array | None, Variable]]) -> int:
        """`apply`, with (gradient, variable) pairs. Returns the number of calls that counted."""
        pairs = list(grads_and_vars)
        self.apply([grad for grad, _ in pairs], [variable for _, variable in pairs])
        return self._iterations

    def scale_loss(self, loss: Any) -> Any:
        """Return the loss times `loss_scale_factor`, whose gradients `apply` then takes."""
        return loss if self.loss_scale_factor is None else loss * self.loss_scale_factor

    def finalize_variable_values(self, variables: Sequence[Variable]) -> None:
        """Set the variables to their moving averages; does nothing without `use_ema`."""
        if self._slots is None or self._slots.averages is None:
            return
        self.swap_averages(False)
        self._follow_variables()
        for position in [self._slots.position(variable) for variable in variables]:
            variable = self._slots.variables[position]
            with variable.device.working():
                np.copyto(variable.value, self._slots.averages[position], casting="same_kind")

    def swap_averages(self, swapped: bool) -> None:
        """Exchange variables and moving averages, or back; see `callbacks.SwapEMAWeights`.

        Parameters
        ----------
        swapped
            Whether the variables shall have the averages, and these the variables' values. Nothing
            happens where it is so, without `use_ema`, and before `build`.
        """
        if self._slots is None or self._slots.averages is None or swapped == self.swapped:
            return
        self._follow_variables()
        for variable, average in zip(self._slots.variables, self._slots.averages, strict=True):
            with variable.device.working():
                kept = variable.value.copy()
                np.copyto(variable.value, average, casting="same_kind")
                np.copyto(average, kept, casting="same_kind")
        self.swapped = swapped

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_latest": None}  # a copy has arrays of its own
