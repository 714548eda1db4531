"""Bringing features to a scale that a network learns from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fusednn.datasets.labeled_data import LabeledData


def scale_features(data: LabeledData) -> tuple[LabeledData, str]:
    """Scale the features, and say in words what was done.

    Pixels are divided by `data.pixel_max`. Other features are standardised, (x - mean) / std, each
    by the mean and the standard deviation (biased) of the training set alone, so that nothing of
    the test set reaches the training; a feature that is constant there becomes 0.

    Returns
    -------
    scaled : LabeledData
        The same data with new features, float32.
    description : str
        What was done, for the reader of a report.
    """
    if data.pixel_max is not None:
        factor = np.float32(1.0 / data.pixel_max)
        scaled = replace(data, x_train=data.x_train * factor, x_test=data.x_test * factor)
        return scaled, f"pixels divided by {data.pixel_max:g}"
    mean = data.x_train.mean(axis=0, dtype=np.float64)
    std = data.x_train.std(axis=0, dtype=np.float64)
    constant = data.x_train.min(axis=0) == data.x_train.max(axis=0)
    inv_std = np.where(constant, 0.0, 1.0 / np.where(constant, 1.0, std))
    scaled = replace(
        data,
        x_train=((data.x_train - mean) * inv_std).astype(np.float32),
        x_test=((data.x_test - mean) * inv_std).astype(np.float32),
    )
    return scaled, "each feature standardised by the training set's mean and deviation"
