"""A case: one piece of work that every contender does, and the memory that it must move."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fnmatch import fnmatchcase


@dataclass(frozen=True)
class Stream:
    """One pass over arrays of one size: the least traffic of a kernel.

    Attributes
    ----------
    inputs, updated, outputs : int
        How many arrays are read; read and written in place; written without being read.
    size : int
        Bytes of each.
    """

    inputs: int
    updated: int
    outputs: int
    size: int

    @property
    def traffic(self) -> int:
        """Bytes moved."""
        return (self.inputs + 2 * self.updated + self.outputs) * self.size


@dataclass(frozen=True)
class Case:
    """One piece of work. Its name, ``family/variant/subject/dtype``, says all about it.

    Attributes
    ----------
    family : str
        "batch_norm", "leaky_relu", "optimizer", "step"; or "neighbour": the work of another case
        while a neighbour keeps a CPU busy.
    variant : str
        The pass, or the optimizer with its options; of "neighbour", ``family-variant``.
    subject : str
        The layout and shape, the list of tensors, or the model and batch.
    dtype : str
        "float32", "bfloat16", "float16" or "float64".
    streams : tuple of Stream
        The least traffic, pass after pass: the roof by which the case is judged. Empty where
        the roof is another: matrix products for training steps.
    """

    family: str
    variant: str
    subject: str
    dtype: str
    streams: tuple[Stream, ...]

    @property
    def name(self) -> str:
        """``family/variant/subject/dtype``."""
        return f"{self.family}/{self.variant}/{self.subject}/{self.dtype}"

    @property
    def traffic(self) -> int:
        """Bytes that must be moved."""
        return sum(stream.traffic for stream in self.streams)

    @property
    def under_test(self) -> Case:
        """The case whose work is done: this one, or what the neighbour disturbs."""
        if self.family != "neighbour":
            return self
        family, _, variant = self.variant.partition("-")
        return replace(self, family=family, variant=variant)

    def matches(self, patterns: list[str]) -> bool:
        """Whether any of the shell patterns fits the name, or a leading part of it."""
        return any(
            fnmatchcase(self.name, pattern) or fnmatchcase(self.name, f"{pattern}/*")
            for pattern in patterns
        )
