"""Checks of numeric arguments, with messages that name argument, expectation and value."""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Mapping
from typing import Any

import numpy as np


def check_number(
    name: str,
    value: Any,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> float:
    """Return `value` as a float, or raise an error that names it.

    Parameters
    ----------
    name
        The argument's name, as the caller knows it.
    value
        A Python or NumPy integer or floating-point number; neither NaN nor infinite.
    minimum, maximum
        Bounds that belong to the interval.
    above, below
        Bounds that do not.

    Raises
    ------
    TypeError
        `value` is no number (booleans are none either).
    ValueError
        `value` is not finite, or outside the interval.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"`{name}` must be a number. Received: {name}={value!r}")
    number = float(value)
    inside = (
        math.isfinite(number)
        and (minimum is None or number >= minimum)
        and (maximum is None or number <= maximum)
        and (above is None or number > above)
        and (below is None or number < below)
    )
    if not inside:
        expectation = _interval(minimum, maximum, above, below)
        raise ValueError(f"`{name}` must be {expectation}. Received: {name}={value}")
    return number


def check_count(name: str, value: Any, minimum: int = 1) -> int:
    """Return `value` as an int, or raise an error that names it."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"`{name}` must be an integer. Received: {name}={value!r}")
    if value < minimum:
        raise ValueError(f"`{name}` must be at least {minimum}. Received: {name}={value}")
    return int(value)


def check_optional_number(name: str, value: Any, **bounds: float) -> float | None:
    """Return None for None, else what `check_number` returns."""
    return None if value is None else check_number(name, value, **bounds)


def refuse_absent(options: dict[str, Any], absent: Mapping[str, str]) -> None:
    """Take options of Keras that are off out of `options`, and refuse those that are set.

    Parameters
    ----------
    options
        Keyword arguments that were given.
    absent
        What does not exist here, by name, with what to do instead.

    Raises
    ------
    ValueError
        One of them is neither None nor False.
    """
    for name in [name for name in options if name in absent]:
        value = options.pop(name)
        if value is not None and value is not False:
            raise ValueError(
                f"`{name}` must be off, fusednn does not have it: {absent[name]}. "
                f"Received: {name}={value!r:.200}"
            )


def refuse_unknown(made: object, unknown: Mapping[str, object]) -> None:
    """Raise Python's TypeError for an argument that no constructor of the object's class has.

    It names the class that was called, not the base class that the argument was passed on to.
    """
    if not unknown:
        return
    name = next(iter(unknown))
    constructors = [vars(c)["__init__"] for c in type(made).__mro__ if "__init__" in vars(c)]
    known = [
        parameter.name
        for constructor in constructors
        for parameter in list(inspect.signature(constructor).parameters.values())[1:]
        if parameter.kind not in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}
    ]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f". Did you mean {near[0]!r}?" if near else ""
    raise TypeError(f"{type(made).__name__}() got an unexpected keyword argument {name!r}{hint}")


def _interval(
    minimum: float | None, maximum: float | None, above: float | None, below: float | None
) -> str:
    low = f"[{minimum:g}" if minimum is not None else None if above is None else f"({above:g}"
    high = f"{maximum:g}]" if maximum is not None else None if below is None else f"{below:g})"
    if low is not None and high is not None:
        return f"in {low}, {high}"
    if low is not None:
        return f"a finite number {'>=' if low[0] == '[' else '>'} {low[1:]}"
    if high is not None:
        return f"a finite number {'<=' if high[-1] == ']' else '<'} {high[:-1]}"
    return "a finite number"
