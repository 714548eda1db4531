"""What each framework's optimizers compute, in float64 NumPy, written as its own source has it.

`FORMULAS[kind][convention]` takes a parameter p, its gradient g (unscaled, clipped, decayed) and
its states by the operation's argument names, advances the states in place and returns the new
parameter. Defaults are the framework's; a hyper-parameter that it does not have is no argument, and
an optimizer that it does not have no entry.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable

import numpy as np

CONVENTIONS = ("torch", "keras", "tf1", "optax", "onnx", "mlx")

# --- Stochastic gradient descent ----------------------------------------------------------------


def sgd_torch(p, g, s, *, step, lr, momentum=0.0, dampening=0.0, nesterov=False):
    """torch/optim/sgd.py"""
    if momentum == 0:
        return p - lr * g
    b = s["momentum_buffers"]
    b[...] = g if step == 1 else momentum * b + (1 - dampening) * g
    return p - lr * (g + momentum * b if nesterov else b)


def sgd_keras(p, g, s, *, step, lr, momentum=0.0, nesterov=False):
    """keras/src/optimizers/sgd.py"""
    if momentum == 0:
        return p - lr * g
    m = s["momentum_buffers"]
    m[...] = momentum * m - lr * g
    return p + (momentum * m - lr * g if nesterov else m)


def sgd_tf1(p, g, s, *, step, lr, momentum=0.0, nesterov=False):
    """ApplyGradientDescent and ApplyMomentum of tensorflow/core/kernels/training_ops.cc"""
    if momentum == 0:
        return p - g * lr
    accum = s["momentum_buffers"]
    accum[...] = accum * momentum + g
    return p - (g * lr + accum * momentum * lr if nesterov else accum * lr)


def sgd_optax(p, g, s, *, step, lr, momentum=0.0, nesterov=False):
    """trace, then scale_by_learning_rate"""
    if momentum == 0:
        return p + -lr * g
    trace = s["momentum_buffers"]
    trace[...] = g + momentum * trace
    return p + -lr * (g + momentum * trace if nesterov else trace)


def sgd_onnx(p, g, s, *, step, lr, momentum=0.0, dampening=0.0, nesterov=False):
    """The operator Momentum with alpha = momentum, beta = 1 - dampening"""
    v = s.get("momentum_buffers", np.zeros_like(p))
    v[...] = momentum * v + (1 - dampening if step > 0 else 1) * g
    return p - lr * (g + momentum * v if nesterov else v)


def sgd_mlx(p, g, s, *, step, lr, momentum=0.0, dampening=0.0, nesterov=False):
    """mlx/optimizers/optimizers.py"""
    if momentum <= 0:
        return p - lr * g
    v = s["momentum_buffers"]
    v[...] = momentum * v
    v += (1 - dampening) * g if dampening > 0 else g
    return p - lr * (g + momentum * v if nesterov else v)


# --- AdaGrad ------------------------------------------------------------------------------------


def adagrad_torch(p, g, s, *, step, lr, lr_decay=0.0, eps=1e-10):
    """torch/optim/adagrad.py"""
    h = s["sums"]
    h += g**2
    return p - lr / (1 + (step - 1) * lr_decay) * g / (np.sqrt(h) + eps)


def adagrad_keras(p, g, s, *, step, lr, eps=1e-7):
    """keras/src/optimizers/adagrad.py"""
    h = s["sums"]
    h += g**2
    return p - lr * g / np.sqrt(h + eps)


def adagrad_tf1(p, g, s, *, step, lr):
    """ApplyAdagrad of tensorflow/core/kernels/training_ops.cc"""
    accum = s["sums"]
    accum += g**2
    return p - g * lr * (1 / np.sqrt(accum))


def adagrad_optax(p, g, s, *, step, lr, eps=1e-7):
    """scale_by_rss, then scale_by_learning_rate"""
    sums = s["sums"]
    sums += g**2
    inverse = np.zeros_like(p)
    np.divide(1, np.sqrt(sums + eps), where=sums > 0, out=inverse)
    return p + -lr * (inverse * g)


def adagrad_onnx(p, g, s, *, step, lr, lr_decay=0.0, eps=1e-6):
    """The operator Adagrad with decay_factor = lr_decay"""
    h = s["sums"]
    h += g * g
    return p - lr / (1 + step * lr_decay) * g / (np.sqrt(h) + eps)


def adagrad_mlx(p, g, s, *, step, lr, eps=1e-8):
    """mlx/optimizers/optimizers.py"""
    v = s["sums"]
    v += g**2
    return p - lr * g / (np.sqrt(v) + eps)


# --- RMSProp ------------------------------------------------------------------------------------


def rmsprop_torch(p, g, s, *, step, lr, rho=0.99, eps=1e-8, momentum=0.0, centered=False):
    """torch/optim/rmsprop.py"""
    v = s["square_avgs"]
    v[...] = rho * v + (1 - rho) * g**2
    spread = v
    if centered:
        a = s["grad_avgs"]
        a[...] = rho * a + (1 - rho) * g
        spread = v - a**2
    d = np.sqrt(spread) + eps
    if momentum == 0:
        return p - lr * (g / d)
    b = s["momentum_buffers"]
    b[...] = momentum * b + g / d
    return p - lr * b


def rmsprop_keras(p, g, s, *, step, lr, rho=0.9, eps=1e-7, momentum=0.0, centered=False):
    """keras/src/optimizers/rmsprop.py"""
    velocity = s["square_avgs"]
    velocity[...] = rho * velocity + (1 - rho) * g**2
    denominator = velocity + eps
    if centered:
        average_grad = s["grad_avgs"]
        average_grad[...] = rho * average_grad + (1 - rho) * g
        denominator = denominator - average_grad**2
    increment = lr * g / np.sqrt(denominator)
    if momentum == 0:
        return p - increment
    b = s["momentum_buffers"]
    b[...] = momentum * b + increment
    return p - b


def rmsprop_tf1(p, g, s, *, step, lr, rho=0.9, eps=1e-10, momentum=0.0, centered=False):
    """ApplyRMSProp and ApplyCenteredRMSProp of tensorflow/core/kernels/training_ops.cc"""
    ms, mom = s["square_avgs"], s.get("momentum_buffers", np.zeros_like(p))
    ms += (g**2 - ms) * (1 - rho)
    spread = ms
    if centered:
        mg = s["grad_avgs"]
        mg += (g - mg) * (1 - rho)
        spread = ms - mg**2
    mom[...] = mom * momentum + g * lr / np.sqrt(spread + eps)
    return p - mom


def rmsprop_optax(
    p,
    g,
    s,
    *,
    step,
    lr,
    rho=0.9,
    eps=1e-8,
    momentum=0.0,
    centered=False,
    nesterov=False,
    eps_in_sqrt=True,
    bias_correction=False,
):
    """scale_by_rms or scale_by_stddev, then scale_by_learning_rate, then trace"""
    correction = 1 - rho**step if bias_correction else 1
    nu = s["square_avgs"]
    nu[...] = (1 - rho) * g**2 + rho * nu
    spread = nu / correction
    if centered:
        mu = s["grad_avgs"]
        mu[...] = (1 - rho) * g + rho * mu
        spread = spread - (mu / correction) ** 2
    scaling = 1 / np.sqrt(spread + eps) if eps_in_sqrt else 1 / (np.sqrt(spread) + eps)
    update = -lr * (scaling * g)
    if momentum == 0:
        return p + update
    trace = s["momentum_buffers"]
    trace[...] = update + momentum * trace
    return p + (update + momentum * trace if nesterov else trace)


def rmsprop_mlx(p, g, s, *, step, lr, rho=0.99, eps=1e-8):
    """mlx/optimizers/optimizers.py"""
    v = s["square_avgs"]
    v[...] = rho * v + (1 - rho) * g**2
    return p - lr * g / (np.sqrt(v) + eps)


# --- Adam ---------------------------------------------------------------------------------------


def _moments(g, s, beta1, beta2):
    m, v = s["exp_avgs"], s["exp_avg_sqs"]
    m[...] = beta1 * m + (1 - beta1) * g
    v[...] = beta2 * v + (1 - beta2) * g**2
    return m, v


def _maximum(s, v):
    v_max = s["max_exp_avg_sqs"]
    v_max[...] = np.maximum(v_max, v)
    return v_max


def adam_torch(p, g, s, *, step, lr, beta1=0.9, beta2=0.999, eps=1e-8, amsgrad=False):
    """torch/optim/adam.py"""
    m, v = _moments(g, s, beta1, beta2)
    v = _maximum(s, v) if amsgrad else v
    denom = np.sqrt(v) / np.sqrt(1 - beta2**step) + eps
    return p - lr / (1 - beta1**step) * m / denom


def adam_keras(p, g, s, *, step, lr, beta1=0.9, beta2=0.999, eps=1e-7, amsgrad=False):
    """keras/src/optimizers/adam.py"""
    m, v = _moments(g, s, beta1, beta2)
    v = _maximum(s, v) if amsgrad else v
    alpha = lr * np.sqrt(1 - beta2**step) / (1 - beta1**step)
    return p - m * alpha / (np.sqrt(v) + eps)


def adam_tf1(p, g, s, *, step, lr, beta1=0.9, beta2=0.999, eps=1e-8):
    """ApplyAdam of tensorflow/core/kernels/training_ops.cc"""
    m, v = s["exp_avgs"], s["exp_avg_sqs"]
    alpha = lr * np.sqrt(1 - beta2**step) / (1 - beta1**step)
    m += (g - m) * (1 - beta1)
    v += (g**2 - v) * (1 - beta2)
    return p - m * alpha / (np.sqrt(v) + eps)


def adam_optax(p, g, s, *, step, lr, beta1=0.9, beta2=0.999, eps=1e-8, amsgrad=False, eps_root=0.0):
    """scale_by_adam or scale_by_amsgrad, then scale_by_learning_rate"""
    m, v = _moments(g, s, beta1, beta2)
    m_hat, v_hat = m / (1 - beta1**step), v / (1 - beta2**step)
    v_hat = _maximum(s, v_hat) if amsgrad else v_hat
    return p + -lr * (m_hat / (np.sqrt(v_hat + eps_root) + eps))


def adam_onnx(p, g, s, *, step, lr, beta1=0.9, beta2=0.999, eps=1e-6, norm_coefficient_post=0.0):
    """The operator Adam"""
    m, v = _moments(g, s, beta1, beta2)
    rate = lr * np.sqrt(1 - beta2**step) / (1 - beta1**step) if step > 0 else lr
    return (1 - norm_coefficient_post) * (p - rate * (m / (np.sqrt(v) + eps)))


def adam_mlx(p, g, s, *, step, lr, beta1=0.9, beta2=0.999, eps=1e-8, bias_correction=False):
    """mlx/optimizers/optimizers.py"""
    m, v = _moments(g, s, beta1, beta2)
    if not bias_correction:
        return p - lr * m / (np.sqrt(v) + eps)
    c1, c2 = lr / (1 - beta1**step), 1 / np.sqrt(1 - beta2**step)
    return p - c1 * m / (np.sqrt(v) * c2 + eps)


# --- Adamax -------------------------------------------------------------------------------------


def adamax_torch(p, g, s, *, step, lr, beta1=0.9, beta2=0.999, eps=1e-8):
    """torch/optim/adamax.py"""
    m, u = s["exp_avgs"], s["exp_infs"]
    m += (g - m) * (1 - beta1)
    u[...] = np.maximum(beta2 * u, abs(g) + eps)
    return p - lr / (1 - beta1**step) * m / u


def adamax_keras(p, g, s, *, step, lr, beta1=0.9, beta2=0.999, eps=1e-7):
    """keras/src/optimizers/adamax.py"""
    m, u = s["exp_avgs"], s["exp_infs"]
    m += (g - m) * (1 - beta1)
    u[...] = np.maximum(beta2 * u, abs(g))
    return p - lr * m / ((1 - beta1**step) * (u + eps))


def adamax_optax(p, g, s, *, step, lr, beta1=0.9, beta2=0.999, eps=1e-8):
    """scale_by_adamax, then scale_by_learning_rate"""
    mu, nu = s["exp_avgs"], s["exp_infs"]
    mu[...] = (1 - beta1) * g + beta1 * mu
    nu[...] = np.maximum(abs(g) + eps, beta2 * nu)
    return p + -lr * (mu / (1 - beta1**step) / nu)


def adamax_mlx(p, g, s, *, step, lr, beta1=0.9, beta2=0.999, eps=1e-8):
    """mlx/optimizers/optimizers.py"""
    m, v = s["exp_avgs"], s["exp_infs"]
    m[...] = beta1 * m + (1 - beta1) * g
    v[...] = np.maximum(beta2 * v, abs(g))
    return p - lr * m / (v + eps)


# --- Nadam --------------------------------------------------------------------------------------


def _scheduled_nadam(p, g, s, step, lr, beta1, beta2, eps, momentum_decay):
    """With the product that torch and keras keep as a state taken over all steps again."""
    m, v = _moments(g, s, beta1, beta2)
    mu = beta1 * (1 - 0.5 * 0.96 ** (np.arange(1, step + 2) * momentum_decay))
    now, following, product = mu[-2], mu[-1], np.prod(mu[:-1])
    denominator = np.sqrt(v / (1 - beta2**step)) + eps
    p = p - lr * (1 - now) / (1 - product) * g / denominator
    return p - lr * following / (1 - product * following) * m / denominator


def nadam_torch(p, g, s, *, step, lr, beta1=0.9, beta2=0.999, eps=1e-8, momentum_decay=4e-3):
    """torch/optim/nadam.py"""
    return _scheduled_nadam(p, g, s, step, lr, beta1, beta2, eps, momentum_decay)


def nadam_keras(p, g, s, *, step, lr, beta1=0.9, beta2=0.999, eps=1e-7):
    """keras/src/optimizers/nadam.py"""
    return _scheduled_nadam(p, g, s, step, lr, beta1, beta2, eps, 1)


def nadam_optax(p, g, s, *, step, lr, beta1=0.9, beta2=0.999, eps=1e-8, eps_root=0.0):
    """scale_by_adam with nesterov, then scale_by_learning_rate"""
    m, v = _moments(g, s, beta1, beta2)
    m_hat = beta1 * (m / (1 - beta1 ** (step + 1))) + (1 - beta1) * (g / (1 - beta1**step))
    return p + -lr * (m_hat / (np.sqrt(v / (1 - beta2**step) + eps_root) + eps))


# --- By name, and what goes around them -----------------------------------------------------------

FORMULAS: dict[str, dict[str, Callable[..., np.ndarray]]] = {
    kind: {c: globals()[f"{kind}_{c}"] for c in CONVENTIONS if f"{kind}_{c}" in globals()}
    for kind in ("sgd", "adagrad", "rmsprop", "adam", "adamax", "nadam")
}


def own_hyperparameters(kind: str, convention: str) -> set[str]:
    """The names that the framework's optimizer takes, without the learning rate."""
    parameters = inspect.signature(FORMULAS[kind][convention]).parameters
    return set(parameters) - {"p", "g", "s", "step", "lr"}


def step_number(convention: str, nth: int) -> int:
    """What the framework calls the n-th update, n from 1: ONNX counts those already made."""
    return nth - 1 if convention == "onnx" else nth


def decouples_decay(kind: str, convention: str) -> bool:
    """Keras everywhere; `optax.adamw` and `mlx.optimizers.AdamW`; the others add to the gradient.

    optax's other chains place `add_decayed_weights` as in adamw.
    """
    return convention in ("keras", "optax") or (kind, convention) == ("adam", "mlx")


def norm_epsilon(convention: str) -> float:
    """What `clip_grad_norm_` of PyTorch and `clip_grad_norm` of MLX add to the norm."""
    return 1e-6 if convention in ("torch", "mlx") else 0.0
