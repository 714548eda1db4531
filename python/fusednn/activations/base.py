"""What all activations share: a function of arrays, its derivative, its configuration."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fusednn._serialization import Configurable

Array = NDArray[Any]


class Activation(Configurable):
    """Base class: a function of arrays and its derivative.

    A new activation is a subclass with `forward` and `backward`; one that acts on each element
    alone is simpler to write as an `Elementwise`.

    Attributes
    ----------
    name : str
        Keras' name of the function.
    """

    name: ClassVar[str]
    #: How many arrays for intermediate results are of use, besides `out`.
    work_arrays: ClassVar[int] = 0
    #: Whether `backward` reads x; else y is enough, and may take the place of x in memory.
    needs_input: ClassVar[bool] = False
    #: Whether it runs on a GPU: by functions of NumPy that CuPy has too, with the same options.
    runs_on_gpu: ClassVar[bool] = False

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__init__" in vars(cls) and "__call__" not in vars(cls):
            type.__setattr__(cls, "__call__", _with_options_of(cls))

    def forward(self, x: Array, out: Array | None = None, work: Array | None = None) -> Array:
        """Return the function of `x`, a floating-point array.

        Parameters
        ----------
        x
            Input; softmax is over its last axis.
        out
            Where the result goes, of the shape and dtype of `x`; it may be `x` itself. None
            allocates it (`linear` returns `x`).
        work
            Where `work_arrays` is not 0: an array of shape ``(work_arrays, *x.shape)``, apart from
            the others, to be overwritten. None allocates it.
        """
        raise NotImplementedError(f"{type(self).__name__} must define `forward`.")

    def backward(
        self,
        grad: Array,
        x: Array | None,
        y: Array,
        out: Array | None = None,
        work: Array | None = None,
    ) -> Array:
        """Return the gradient with respect to `x`.

        Parameters
        ----------
        grad
            Gradient with respect to `y`.
        x, y
            Input and output of `forward`. Unless `needs_input`, only y is read: x may be
            overwritten, or None.
        out
            Where the result goes; it may be `grad`. None allocates it (`linear` returns `grad`).
        work
            As in `forward`.

        Raises
        ------
        ValueError
            `x` is None where `needs_input`.
        """
        raise NotImplementedError(f"{type(self).__name__} must define `backward`.")

    def __call__(self, x: ArrayLike) -> Array:
        """Return `forward` of anything array-like; what is not floating-point becomes float32.

        A class with arguments takes them here, too: ``elu(x, alpha=0.5)`` is ``ELU(alpha=0.5)(x)``.
        """
        array = np.asarray(x)
        # Kind V: bfloat16.
        return self.forward(array if array.dtype.kind in "fV" else array.astype(np.float32))

    def is_link(self, name: str | None) -> bool:
        """Whether this is the function `name`, in whose place a loss may take logits."""
        return self.name == name

    def _work(self, x: Array, work: Array | None) -> Array:
        return np.empty((self.work_arrays, *x.shape), x.dtype) if work is None else work


class Elementwise(Activation):
    """Base of functions of each element alone; a subclass defines `forward` and `slope`."""

    runs_on_gpu = True

    def slope(self, x: Array | None, y: Array, out: Array, work: Array) -> None:
        """Write the derivative to `out`, which lies apart from `x`, `y` and `work`.

        `work` has the shape ``(work_arrays, *y.shape)``; x may be None unless `needs_input`.
        """
        raise NotImplementedError(f"{type(self).__name__} must define `slope`.")

    def backward(
        self,
        grad: Array,
        x: Array | None,
        y: Array,
        out: Array | None = None,
        work: Array | None = None,
    ) -> Array:
        """See `Activation.backward`."""
        if self.needs_input and x is None:
            raise ValueError(f"`x` must be given: {self.name} needs its input. Received: x=None")
        slope = out
        if slope is None or any(
            a is not None and np.may_share_memory(slope, a) for a in (grad, x, y)
        ):
            slope = np.empty_like(y)
        self.slope(x, y, slope, self._work(y, work))
        return np.multiply(grad, slope, out=slope if out is None else out)


def _with_options_of(cls: type[Activation]) -> Any:
    """Make ``cls.__call__``, which takes the constructor's arguments after `x` and shows them."""

    def call(self: Activation, x: ArrayLike, *arguments: Any, **options: Any) -> Array:
        made = type(self)(*arguments, **options) if arguments or options else self
        return Activation.__call__(made, x)

    array = inspect.Parameter("x", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=ArrayLike)
    own, *others = inspect.signature(cls.__init__).parameters.values()
    call.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [own, array, *others], return_annotation=Array
    )
    call.__name__, call.__qualname__ = "__call__", f"{cls.__qualname__}.__call__"
    call.__doc__ = Activation.__call__.__doc__
    return call
