"""The optimizers of the cases, plain and with one option each."""

from __future__ import annotations

from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Optimizer:
    """An optimizer with options, in PyTorch's formula.

    Attributes
    ----------
    kind : str
        "sgd", "adagrad", "rmsprop", "adam", "adamax" or "nadam".
    states : tuple of str
        Its states, as ``fusednn.ops`` names them.
    hyperparameters : dict
        Besides the learning rate, as ``fusednn.ops`` names them.
    weight_decay : float
    decoupled : bool
        Whether the decay is; else it is added to the gradient (L2).
    grad_scale : float or None
        That gradients are divided by.
    clip_value : float or None
        That gradients' elements are clipped to, either way.
    max_norm : float or None
        The global norm that gradients are clipped to before.
    max_norm_each : float or None
        The norm that each array's gradient is clipped to before.
    skip_nonfinite : bool
        Whether gradients are looked through for infinities and NaN first.
    ema_momentum : float or None
        Of an average of the parameters, kept beside them.
    low_precision_copy : bool
        Whether a bfloat16 copy of the parameters is written.
    stochastic_rounding : bool
        Whether what is bfloat16 is rounded at random.
    quantized : bool
        Whether the states are kept in 8 bits.
    new_gradients : bool
        Whether each step is given gradients in new arrays, made before the clock starts: those of
        training where ``zero_grad(set_to_none=True)`` comes before each backward pass.
    plain : str or None
        The variant without the option, which is timed beside this one.
    """

    kind: str
    states: tuple[str, ...]
    hyperparameters: dict[str, float | bool] = field(default_factory=dict)
    weight_decay: float = 0.0
    decoupled: bool = False
    grad_scale: float | None = None
    clip_value: float | None = None
    max_norm: float | None = None
    max_norm_each: float | None = None
    skip_nonfinite: bool = False
    ema_momentum: float | None = None
    low_precision_copy: bool = False
    stochastic_rounding: bool = False
    quantized: bool = False
    new_gradients: bool = False
    plain: str | None = None

    def takes(self, dtype: str) -> bool:
        """Whether parameters may have this dtype."""
        if self.stochastic_rounding:
            return dtype == "bfloat16"
        if self.low_precision_copy:
            return dtype == "float32"
        if self.clips_by_norm and dtype == "float16":
            return False  # peers' float16 averages of such small squares would be 0
        return not (self.quantized and dtype == "float64")

    @property
    def clips_by_norm(self) -> bool:
        """Whether gradients are read for a norm before any update."""
        return self.max_norm is not None or self.max_norm_each is not None

    @property
    def lacking_in_peers(self) -> str:
        """What no peer has; empty where they may."""
        if self.stochastic_rounding:
            return "stochastic rounding"
        return "8-bit states" if self.quantized else ""


_ADAM = ("exp_avgs", "exp_avg_sqs")

_PLAIN: dict[str, Optimizer] = {
    "sgd": Optimizer("sgd", ()),
    "momentum": Optimizer("sgd", ("momentum_buffers",), {"momentum": 0.9}),
    "nesterov": Optimizer("sgd", ("momentum_buffers",), {"momentum": 0.9, "nesterov": True}),
    "adagrad": Optimizer("adagrad", ("sums",), {"eps": 1e-8}),
    "rmsprop": Optimizer("rmsprop", ("square_avgs",), {"rho": 0.99, "eps": 1e-8}),
    "rmsprop-centered": Optimizer(
        "rmsprop", ("square_avgs", "grad_avgs"), {"rho": 0.99, "eps": 1e-8, "centered": True}
    ),
    "rmsprop-momentum": Optimizer(
        "rmsprop", ("square_avgs", "momentum_buffers"), {"rho": 0.99, "eps": 1e-8, "momentum": 0.9}
    ),
    "adam": Optimizer("adam", _ADAM, {"eps": 1e-8}),
    "amsgrad": Optimizer("adam", (*_ADAM, "max_exp_avg_sqs"), {"eps": 1e-8, "amsgrad": True}),
    "adamax": Optimizer("adamax", ("exp_avgs", "exp_infs"), {"eps": 1e-8}),
    # The decay that Keras' Nadam has.
    "nadam": Optimizer("nadam", _ADAM, {"eps": 1e-8, "momentum_decay": 1.0}),
}


def _with(plain: str, **option: object) -> Optimizer:
    return replace(_PLAIN[plain], plain=plain, **option)  # type: ignore[arg-type]


OPTIMIZERS: dict[str, Optimizer] = _PLAIN | {
    "adamw": _with("adam", weight_decay=0.01, decoupled=True),
    "adam-clip": _with("adam", max_norm=1.0),
    "adam-clip-each": _with("adam", max_norm_each=1.0),
    "adam-l2": _with("adam", weight_decay=0.01),
    "adam-clip-value": _with("adam", clip_value=0.5),
    "adam-grad-scale": _with("adam", grad_scale=8.0),
    "adam-skip-nonfinite": _with("adam", skip_nonfinite=True),
    "adam-ema": _with("adam", ema_momentum=0.9),
    "adam-low-precision-copy": _with("adam", low_precision_copy=True),
    "adam-stochastic-rounding": _with("adam", stochastic_rounding=True),
    "adam-8bit": _with("adam", quantized=True),
    "adam-new-gradients": _with("adam", new_gradients=True),
    "momentum-l2": _with("momentum", weight_decay=0.01),
    "momentum-clip": _with("momentum", max_norm=1.0),
    "momentum-clip-value": _with("momentum", clip_value=0.5),
    "momentum-grad-scale": _with("momentum", grad_scale=8.0),
    "momentum-stochastic-rounding": _with("momentum", stochastic_rounding=True),
    "momentum-8bit": _with("momentum", quantized=True),
    "rmsprop-clip-value": _with("rmsprop", clip_value=0.5),
    "rmsprop-8bit": _with("rmsprop", quantized=True),
}

#: Of every optimizer; larger for short types, in which a step of 0.01 would mostly round away.
LEARNING_RATES = {"float32": 0.01, "float64": 0.01, "bfloat16": 0.1, "float16": 0.1}
