"""A model as a table, as a configuration, and as files."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from fusednn.models.summary import summary_table

if TYPE_CHECKING:
    from fusednn.models.sequential import Sequential


class Described:
    """Base of `Sequential`: what is made of it that outlives the process."""

    def summary(
        self,
        line_length: int | None = None,
        positions: Sequence[float] | None = None,
        print_fn: Callable[[str], Any] | None = None,
        expand_nested: bool = False,
        show_trainable: bool = False,
        layer_range: Sequence[str] | None = None,
    ) -> None:
        """Print a table of layers, output shapes and numbers of parameters, as Keras does.

        Parameters
        ----------
        line_length : int, optional
            Width of the table; that of the terminal, up to 88, if not given.
        positions : sequence of float, optional
            Ends of the columns, as fractions of the line or in characters; 0.45, 0.8 and 1 if not
            given.
        print_fn : callable, optional
            Called once with the whole text, instead of `print`.
        expand_nested : bool
            Whether layers of models inside have rows, too.
        show_trainable : bool
            Whether a column says which layers train.
        layer_range : pair of str, optional
            Names, or regular expressions, of the first and the last layer to show.
        """
        table = summary_table(
            _model(self), line_length, positions, expand_nested, show_trainable, layer_range
        )
        (print if print_fn is None else print_fn)(table)

    def get_config(self) -> dict[str, Any]:
        """Return name and layers as Keras 3 writes them; `from_config` makes an equal model."""
        from fusednn.saving.model_config import model_config

        config: dict[str, Any] = model_config(_model(self))["config"]
        return config

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: Mapping[str, Any] | None = None
    ) -> Sequential:
        """Make a model with new weights from the configuration of another one, or of Keras'."""
        from fusednn.saving.model_config import model_from_config

        return model_from_config({"class_name": "Sequential", "config": config}, custom_objects)

    def to_json(self, **options: Any) -> str:
        """Return the architecture as JSON, which Keras 3's `model_from_json` reads.

        `options` are those of `json.dumps`.
        """
        import json

        from fusednn.saving.model_config import model_config

        return json.dumps(model_config(_model(self)), **options)

    def save(
        self,
        filepath: str | os.PathLike[str],
        overwrite: bool = True,
        zipped: bool | None = None,
        include_optimizer: bool = True,
    ) -> None:
        """Write the model to a ``.keras`` or ``.h5`` file; see `fusednn.saving.save_model`."""
        from fusednn.saving import save_model

        save_model(_model(self), filepath, overwrite, zipped, include_optimizer)

    def save_weights(
        self,
        filepath: str | os.PathLike[str],
        overwrite: bool = True,
        max_shard_size: float | None = None,
    ) -> None:
        """Write the weights to a ``.weights.h5``, ``.h5`` or ``.safetensors`` file.

        See `fusednn.saving.save_weights`.
        """
        from fusednn.saving import save_weights

        save_weights(_model(self), filepath, overwrite, max_shard_size)

    def load_weights(
        self,
        filepath: str | os.PathLike[str],
        skip_mismatch: bool = False,
        by_name: bool = False,
    ) -> None:
        """Read the weights from a file, all or none; see `fusednn.saving.load_weights`."""
        from fusednn.saving import load_weights

        load_weights(_model(self), filepath, skip_mismatch, by_name)

    def export(
        self,
        filepath: str | os.PathLike[str],
        format: str = "onnx",
        *,
        opset: int = 17,
        fold: bool = True,
    ) -> None:
        """Write the model for inference to an ONNX file; see `fusednn.saving.export_onnx`."""
        from fusednn.saving.onnx_file import export_onnx

        if format != "onnx":
            raise ValueError(f"`format` must be 'onnx'. Received: format={format!r}")
        export_onnx(_model(self), filepath, opset=opset, fold=fold)


def _model(described: Described) -> Sequential:
    return cast("Sequential", described)
