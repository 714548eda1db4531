"""Optimizer states in 8 bits."""

import math
import sys
from typing import Any

import numpy as np
import numpy.typing as npt

from fusednn import _core
from fusednn.ops.arrays import Array

#: Elements that share a scale.
BLOCK = 256


def require_numpy(name: str, value: object) -> None:
    """Refuse what is not a NumPy array."""
    if not isinstance(value, np.ndarray):
        raise TypeError(f"`{name}` must be a NumPy array. Received: type={type(value).__name__}")


class QuantizedState:
    """An optimizer's state as 8-bit codes, with a float32 scale for each 256 elements.

    It takes the place of a float32 array in the lists of states of the steps and is updated in
    place, in 1.016 bytes an element instead of 4: 2.03 bytes per parameter for Adam instead of 8.
    A code is a float of three mantissa bits: code ``c > 0`` stands for

    ``(1 + (c % 8) / 8) * 2**(c // 8 - top) * scale``

    and code 0 for 0. Unsigned codes have ``top = 31``: eight steps in each of 32 octaves, for
    averages of squares. Signed codes have the sign in their highest bit and ``top = 15``: 16
    octaves, for averages of gradients. The scale of a block, in the order of memory, is the power
    of two that brings its largest magnitude near the highest code.

    A step decodes, updates in float32 and rounds at random, so that averages keep their mean: to
    nearest, a slow average would never leave its code. The random bits are a function of
    `stochastic_rounding_seed` (0 if None), the step, the place in the lists and the element. Below
    the lowest code a signed value becomes that or 0 at random; an unsigned one becomes the lowest
    code, because a second moment of 0 would let the update explode. A block that would hold an
    infinity, a NaN or a magnitude above 1.875 * 2**127 becomes NaN as a whole; scales are at least
    2**-95.

    Allowed for `exp_avgs` and `momentum_buffers` (signed), `exp_avg_sqs`, `square_avgs` and `sums`
    (unsigned) of parameters that are not float64; the standard error of an average of squares is
    about a fifth. Refused are states that do not bear one of zero mean:

    - AMSGrad's `max_exp_avg_sqs` and its `exp_avg_sqs`: a maximum collects errors upwards;
    - centered RMSProp's `grad_avgs` and its `square_avgs`: their difference is small beside both.

    Saved and copied as any object (pickle, copy), or as its two arrays.

    Parameters
    ----------
    codes : array of uint8
        In the shape and memory layout of the parameter. Not copied. Of NumPy, or on a GPU, beside
        the other arrays of the step: of PyTorch, CuPy, or anything else with ``__dlpack__``. Only
        NumPy's are decoded here (`dequantize`, `assign`, ``numpy.asarray``, comparisons).
    scales : array of float32, shape (ceil(codes.size / 256),)
        Not copied; where the codes are.
    signed : bool
        Which of the two codes.

    Raises
    ------
    TypeError, ValueError
        For arrays of another type, dtype or shape.

    See Also
    --------
    quantized_state : a state of zeros for a parameter.

    Notes
    -----
    bitsandbytes' 8-bit optimizers (Dettmers et al. 2022, 8-bit Optimizers via Block-wise
    Quantization) divide by the largest magnitude and round to the nearest of a table of 256 numbers
    in seven decades. Its layout is another: states cannot be exchanged.
    """

    __slots__ = ("codes", "scales", "signed")

    codes: npt.NDArray[np.uint8]
    scales: npt.NDArray[np.float32]
    signed: bool

    def __init__(self, codes: Array, scales: Array, *, signed: bool) -> None:
        for name, array, dtype in (("codes", codes, "uint8"), ("scales", scales, "float32")):
            if not isinstance(array, np.ndarray) and not hasattr(array, "__dlpack__"):
                raise TypeError(
                    f"`{name}` must be a NumPy array, or one that has `__dlpack__`. "
                    f"Received: type={type(array).__name__}"
                )
            # PyTorch's names begin with its own.
            if str(array.dtype).removeprefix("torch.") != dtype:
                raise TypeError(f"`{name}` must be {dtype}. Received: dtype={array.dtype}")
        blocks = -(-math.prod(codes.shape) // BLOCK)
        if tuple(scales.shape) != (blocks,):
            raise ValueError(
                f"`scales` must have shape ({blocks},), one number per {BLOCK} codes. "
                f"Received: shape={tuple(scales.shape)}"
            )
        if not isinstance(signed, bool):
            raise TypeError(f"`signed` must be True or False. Received: signed={signed!r}")
        self.codes = codes
        self.scales = scales
        self.signed = signed

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the parameter."""
        return tuple(self.codes.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of codes and scales."""
        return self.size + 4 * math.prod(self.scales.shape)

    def dequantize(self) -> npt.NDArray[np.float32]:
        """Return the values as a new float32 array, exactly; of NumPy's codes alone."""
        require_numpy("codes", self.codes)
        values = np.empty_like(self.codes, np.float32)
        _core.codes_to_float(self.codes, self.scales, self.signed, values)
        return values

    def assign(self, values: npt.ArrayLike) -> None:
        """Take the codes nearest to `values`, for example a state that was saved in float32.

        Parameters
        ----------
        values : array-like
            Of the state's shape; none negative where the codes are unsigned.

        Raises
        ------
        ValueError
            For another shape, or negative values; the state stays as it was.
        TypeError
            If the codes are not NumPy's.
        """
        require_numpy("codes", self.codes)
        given = np.asarray(values)
        if given.shape != self.shape:
            raise ValueError(
                f"`values` must have shape {self.shape}. Received: shape={given.shape}"
            )
        floats = np.empty_like(self.codes, np.float32)
        floats[...] = given
        _core.codes_from_float(floats, self.codes, self.scales, self.signed)

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError(
                "`copy` must not be False: a quantized state is decoded. Received: copy=False"
            )
        return self.dequantize().astype(np.float32 if dtype is None else dtype, copy=False)

    def __eq__(self, other: object) -> bool:
        """Whether codes, scales and kind are the same."""
        if not isinstance(other, QuantizedState):
            return NotImplemented
        return (
            self.signed == other.signed
            and np.array_equal(self.codes, other.codes)
            and np.array_equal(self.scales, other.scales, equal_nan=True)
        )

    __hash__ = None  # type: ignore[assignment]  # it changes in place

    def __repr__(self) -> str:
        return f"QuantizedState(shape={self.shape}, signed={self.signed}, nbytes={self.nbytes})"

    def __getstate__(self) -> dict[str, Any]:
        return {"codes": self.codes, "scales": self.scales, "signed": self.signed}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]  # a damaged file must not make a damaged state


def quantized_state(like: Array, *, signed: bool = True) -> QuantizedState:
    """Make a state of zeros in 8 bits for a parameter.

    Parameters
    ----------
    like : array
        The parameter, of NumPy, PyTorch or CuPy: it gives shape and memory layout, and where the
        state is. Its dtype does not matter.
    signed : bool, default True
        True for averages of gradients (`exp_avgs`, `momentum_buffers`), False for averages and
        sums of squares (`exp_avg_sqs`, `square_avgs`, `sums`).

    Returns
    -------
    QuantizedState

    Raises
    ------
    TypeError
        If `like` is no array or `signed` no bool.

    Examples
    --------
    >>> import numpy as np
    >>> from fusednn import ops
    >>> p = np.ones(1000, np.float32)
    >>> m, v = ops.quantized_state(p), ops.quantized_state(p, signed=False)
    >>> ops.adam_step([p], [p.copy()], [m], [v], step=1, lr=0.5)
    True
    >>> m.nbytes + v.nbytes, p[0]
    (2032, np.float32(0.5))
    """
    blocks = -(-math.prod(getattr(like, "shape", ())) // BLOCK)
    if isinstance(like, np.ndarray):
        codes = np.zeros_like(like, np.uint8, subok=False)
        return QuantizedState(codes, np.zeros(blocks, np.float32), signed=signed)
    bases = {base.__module__.partition(".")[0] for base in type(like).__mro__}
    of_like: Any = like
    if "torch" in bases:
        torch: Any = sys.modules["torch"]
        zeros = torch.zeros_like(of_like, dtype=torch.uint8, requires_grad=False)
        scales = torch.zeros(blocks, dtype=torch.float32, device=of_like.device)
    elif "cupy" in bases:
        cupy: Any = sys.modules["cupy"]
        with cupy.cuda.Device(of_like.device.id):
            zeros = cupy.zeros_like(of_like, np.uint8)
            scales = cupy.zeros(blocks, np.float32)
    else:
        raise TypeError(
            "`like` must be an array of NumPy, PyTorch or CuPy. "
            f"Received: type={type(like).__name__}"
        )
    return QuantizedState(zeros, scales, signed=signed)
