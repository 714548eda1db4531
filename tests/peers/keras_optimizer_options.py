"""Sets of options that each optimizer of Keras is tested with."""

from __future__ import annotations

from typing import Any

#: The plainest first; the last of each meets the options that all optimizers have.
OWN: dict[str, list[dict[str, Any]]] = {
    "SGD": [{}, {"nesterov": True}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}],
    "Adagrad": [{}, {"initial_accumulator_value": 0.0, "epsilon": 1e-2}],
    "RMSprop": [
        {},
        {"rho": 0.95, "epsilon": 1e-3},
        {"momentum": 0.9},
        {"centered": True, "epsilon": 1e-3},
        {"momentum": 0.5, "centered": True, "epsilon": 1e-3},
    ],
    "Adam": [{}, {"amsgrad": True}, {"beta_1": 0.8, "beta_2": 0.9, "epsilon": 1e-3}],
    "Adamax": [{}, {"beta_1": 0.8, "beta_2": 0.9, "epsilon": 1e-3}],
    "Nadam": [{}, {"beta_1": 0.8, "beta_2": 0.9, "epsilon": 1e-3}],
    "AdamW": [{}, {"weight_decay": 0.2, "amsgrad": True}],
}
