"""Signatures of constructors that pass on what they do not name."""

from __future__ import annotations

import inspect


def whole_signature(cls: type, base: type) -> inspect.Signature:
    """Return the arguments of `cls`, with those of `base` that it takes as ``**options``.

    As in Keras, whose optimizers name them all.
    """
    constructor = next(c.__dict__["__init__"] for c in cls.__mro__ if "__init__" in c.__dict__)
    own = list(inspect.signature(constructor).parameters.values())[1:]
    if own and own[-1].kind is inspect.Parameter.VAR_KEYWORD:
        names = {parameter.name for parameter in own}
        common = inspect.signature(vars(base)["__init__"]).parameters.values()
        own[-1:] = [
            each
            for each in common
            if each.kind is inspect.Parameter.KEYWORD_ONLY and each.name not in names
        ]
    return inspect.Signature(own)
