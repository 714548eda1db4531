"""What all optimizers share: hyper-parameters, states, clipping, decay, averages, the one call."""

from __future__ import annotations

import inspect
import math
import operator
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fusednn import ops
from fusednn._arguments import check_number, check_optional_number, refuse_absent
from fusednn._serialization import Configurable
from fusednn.optimizers.calls import Call, average_untouched, by_group, check_gradients
from fusednn.optimizers.learning_rate import Rate, RateNumber
from fusednn.optimizers.options import ABSENT, Array, LearningRate, State, check_together
from fusednn.optimizers.signatures import whole_signature
from fusednn.optimizers.slots import DecayExclusion, Group, Slots
from fusednn.optimizers.state_variables import StateVariable, variables_of

if TYPE_CHECKING:
    from fusednn.variable import Variable


class Optimizer(Configurable):
    """Base class: applies gradients to variables, in place, one kernel call for the whole list.

    In this order, as Keras 3: clip the gradients, decay the weights ``p -= p * weight_decay * lr``
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
    loss_scale_factor, gradient_accumulation_steps
        Keras', which must be None.
    quantized_states
        Keep the states in 8 bits (`ops.QuantizedState`) instead of 32: for Adam 2.03 bytes per
        parameter instead of 8, at the price of noise that `ops.QuantizedState` tells of. Averages
        and variables stay as they are. Not for float64 variables. (Keras has no such option; the
        configuration holds it only where it is True.)
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
        name: str | None = None,
        lr: LearningRate | None = None,
        decay: float | None = None,
    ) -> None:
        if lr is not None:
            default = inspect.signature(type(self)).parameters["learning_rate"].default
            if learning_rate != default:
                raise ValueError(
                    "`lr` is another name of `learning_rate`: give one of them. "
                    f"Received: lr={lr}, learning_rate={learning_rate}"
                )
            learning_rate = lr
        check_together(clipnorm, clipvalue, global_clipnorm, ema_overwrite_frequency)
        refuse_absent({"loss_scale_factor": loss_scale_factor}, ABSENT)
        refuse_absent({"gradient_accumulation_steps": gradient_accumulation_steps}, ABSENT)
        self.name = name or type(self).__name__.lower()
        self._rate = Rate(learning_rate, decay or 0.0)
        self.weight_decay = check_optional_number("weight_decay", weight_decay, minimum=0)
        self.clipnorm = check_optional_number("clipnorm", clipnorm, minimum=0)
        self.clipvalue = check_optional_number("clipvalue", clipvalue, minimum=0)
        self.global_clipnorm = check_optional_number("global_clipnorm", global_clipnorm, minimum=0)
        self.use_ema = bool(use_ema)
        self.ema_momentum = check_number("ema_momentum", ema_momentum, minimum=0, maximum=1)
        self.ema_overwrite_frequency = ema_overwrite_frequency
        self.quantized_states = bool(quantized_states)
        self._iterations = 0
        self._exempt = DecayExclusion()
        self._slots: Slots | None = None
        self._latest: Call | None = None

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
    ) -> None:
        """Call the kernel: ``ops.<family>_step(params, grads, ..., **options)``."""
        raise NotImplementedError(f"{type(self).__name__} must define `step`.")

    # What a user calls.

    @property
    def iterations(self) -> int:
        """Number of steps taken. Settable, to go on where a saved run stopped."""
        return self._iterations

    @iterations.setter
    def iterations(self, value: int) -> None:
        if value != int(value) or value < 0:
            raise ValueError(f"`iterations` must be an integer >= 0. Received: iterations={value}")
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
        return config | {"quantized_states": True} if self.quantized_states else config

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
                exempt=self._exempt,
            )

    def apply(
        self, grads: Sequence[Array | None], variables: Sequence[Variable] | None = None
    ) -> None:
        """Update the variables, in place, and count the step.

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
            self._update(self._slots, self._slots.groups, latest.grads, latest.lists)
            self._slots.constrain(variables)
            self._iterations += 1
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
            self._update(self._slots, self._slots.groups, grads, lists)
            if isinstance(grads, tuple) and isinstance(variables, tuple):
                self._latest = Call(grads, variables, lists)
        else:
            self._update_some(self._slots, grads, variables)
        self._slots.constrain([v for v, g in zip(variables, grads, strict=True) if g is not None])
        self._iterations += 1

    def apply_gradients(self, grads_and_vars: Iterable[tuple[Array | None, Variable]]) -> int:
        """`apply`, with (gradient, variable) pairs. Returns the number of steps taken."""
        pairs = list(grads_and_vars)
        self.apply([grad for grad, _ in pairs], [variable for _, variable in pairs])
        return self._iterations

    def finalize_variable_values(self, variables: Sequence[Variable]) -> None:
        """Set the variables to their moving averages; does nothing without `use_ema`."""
        if self._slots is None or self._slots.averages is None:
            return
        self._follow_variables()
        for position in [self._slots.position(variable) for variable in variables]:
            variable = self._slots.variables[position]
            with variable.device.working():
                np.copyto(variable.value, self._slots.averages[position], casting="same_kind")

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_latest": None}  # a copy has arrays of its own

    # How a step is made.

    def _follow_variables(self) -> None:
        """Arrange everything anew if variables moved or got other rates since the last step."""
        if self._slots is not None and self._slots.follow_variables():
            self._latest = None

    def _refuse_quantized_states(self, option: str) -> None:
        """Raise ValueError where `option`, which is set, needs states that 8 bits cannot hold."""
        if self.quantized_states:
            raise ValueError(
                f"`quantized_states` must be False with `{option}`, whose states do not bear "
                f"errors of 8 bits. Received: quantized_states=True, {option}=True"
            )

    def _update_some(
        self, slots: Slots, grads: Sequence[Array | None], variables: Sequence[Variable]
    ) -> None:
        pairs = list(zip(grads, variables, strict=True))
        given = {slots.position(variable): grad for grad, variable in pairs if grad is not None}
        if not given:
            raise ValueError("`grads` must hold a gradient for some variable. Received: only None")
        missing = [variable.path for grad, variable in pairs if grad is None]
        if len(given) + len(missing) < len(pairs):
            raise ValueError(
                f"`variables` must be distinct. Received: {[v.path for v in variables]}"
            )
        if missing:
            warnings.warn(f"No gradient was given for {', '.join(missing)}.", stacklevel=3)
        every = [given.get(position) for position in range(len(slots.variables))]
        groups = slots.grouped(sorted(given))
        self._update(slots, groups, every, by_group(groups, every))

    def _update(
        self,
        slots: Slots,
        groups: Sequence[Group],
        grads: Sequence[Array | None],
        lists: Sequence[list[Array]],
    ) -> None:
        step = self._iterations + 1
        lr = self._rate.after(step - 1)
        numbers = [{"step": step, "lr": lr * group.rate} for group in groups]
        self._call_kernels(slots, groups, grads, lists, numbers)
        if slots.averages is not None:
            # The kernel, too, sets the average to the variable at the first step.
            average_untouched(slots, groups, self.ema_momentum if step > 1 else 0.0)
            self._overwrite_with_averages(slots, step)

    def _overwrite_with_averages(self, slots: Slots, step: int) -> None:
        if self.ema_overwrite_frequency and step % self.ema_overwrite_frequency == 0:
            self.finalize_variable_values(slots.variables)

    def _call_kernels(
        self,
        slots: Slots,
        groups: Sequence[Group],
        grads: Sequence[Array | None],
        lists: Sequence[list[Array]],
        numbers: Sequence[Mapping[str, Any]],
    ) -> None:
        """Call the kernel for each group, with its learning rate and number of the step."""
        options: dict[str, Any] = {"convention": "keras"}
        # What is not set is left out: each option takes a tenth of a small step's time.
        if self.clipvalue:
            options["clip_value"] = self.clipvalue
        if self.clipnorm:
            options["max_norm_each"] = self.clipnorm
        if self.global_clipnorm:
            options["max_norm"] = self.global_clipnorm
        if slots.averages is not None:
            options["ema_momentum"] = self.ema_momentum
        if len(groups) > 1:
            # A call that fails must not come after one that did not.
            check_gradients(grads, slots.variables)
        if len(groups) > 1 and self.global_clipnorm:
            # The norm spans the groups, so no single call can take it.
            norm = ops.global_norm([grad for grad in grads if grad is not None])
            options["max_norm"] = None
            if math.isfinite(norm):
                options["grad_scale"] = max(norm / self.global_clipnorm, 1.0)
        for group, grads_of_group, own_numbers in zip(groups, lists, numbers, strict=True):
            own = dict(own_numbers)
            if self.weight_decay and group.decays:
                own["weight_decay"] = self.weight_decay
            if group.averages is not None:
                own["ema"] = group.averages
            self.step(group.params, grads_of_group, group.states, **options, **own)
