"""The estimators for scikit-learn: its own checks, pipelines, searches, refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_iris
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from fusednn import utils
from fusednn.layers import Dense, Input
from fusednn.models import Sequential
from fusednn.optimizers import Adam
from fusednn.wrappers import SKLearnClassifier, SKLearnRegressor


def network(
    X: np.ndarray, y: np.ndarray, units: int = 16, loss: str = "mse", dtype: str = "float32"
) -> Sequential:
    last = "softmax" if "entropy" in loss else None
    model = Sequential(
        [
            Input((X.shape[1],)),
            Dense(units, "tanh", dtype=dtype),
            Dense(y.shape[1], last, dtype=dtype),
        ]
    )
    model.compile(Adam(0.05), loss)
    return model


CROSS_ENTROPY = {"loss": "categorical_crossentropy"}


def classifier(**options: Any) -> SKLearnClassifier:
    how: dict[str, Any] = {"fit_kwargs": {"epochs": 30}, "random_state": 0} | options
    return SKLearnClassifier(network, model_kwargs=CROSS_ENTROPY, **how)


def regressor(**options: Any) -> SKLearnRegressor:
    how: dict[str, Any] = {"fit_kwargs": {"epochs": 30}, "random_state": 0} | options
    return SKLearnRegressor(network, **how)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("make", [classifier, regressor])
def test_scikit_learns_checks(make: Any, dtype: str) -> None:
    estimator = make()
    estimator.model_kwargs = (estimator.model_kwargs or {}) | {"dtype": dtype}
    results = check_estimator(estimator, on_skip=None, on_fail="raise")
    assert len(results) > 40
    assert {r["status"] for r in results} <= {"passed", "skipped"}


def test_in_pipelines_and_searches() -> None:
    X, y = load_iris(return_X_y=True)
    names = np.array(["setosa", "versicolor", "virginica"])[y]
    pipeline = make_pipeline(StandardScaler(), classifier())
    assert cross_val_score(pipeline, X, names, cv=3).mean() > 0.9
    search = GridSearchCV(
        classifier(), {"model_kwargs": [CROSS_ENTROPY | {"units": n} for n in (2, 8)]}, cv=2
    )
    search.fit(StandardScaler().fit_transform(X), names)
    assert set(search.predict(X)) <= set(names)
    assert search.best_estimator_.predict_proba(X).shape == (150, 3)
    X, y = load_diabetes(return_X_y=True)
    scaled = make_pipeline(StandardScaler(), regressor())
    scaled.fit(X, (y - y.mean()) / y.std())
    assert scaled.score(X, (y - y.mean()) / y.std()) > 0.5


def test_seeds_models_and_warm_starts() -> None:
    X, y = load_iris(return_X_y=True)
    utils.set_random_seed(5)
    expected = utils.random_generator().random()
    utils.set_random_seed(5)
    first, second = classifier().fit(X, y), classifier().fit(X, y)
    assert utils.random_generator().random() == expected
    np.testing.assert_array_equal(first.predict_proba(X), second.predict_proba(X))
    model = network(X, np.eye(3)[y], **CROSS_ENTROPY)
    before = model.get_weights()
    cloned = SKLearnClassifier(model, fit_kwargs={"epochs": 2}).fit(X, y, epochs=1)
    assert len(cloned.history_["loss"]) == 1
    assert cloned.model_ is not model
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    warm = classifier(warm_start=True).fit(X, y)
    steps = warm.model_.optimizer.iterations
    assert warm.fit(X, y).model_.optimizer.iterations == 2 * steps


def test_several_outputs() -> None:
    X = np.random.default_rng(0).standard_normal((60, 4))
    y = X @ np.random.default_rng(1).standard_normal((4, 2))
    fitted = regressor().fit(X, y)
    assert fitted.predict(X).shape == (60, 2)
    assert fitted.score(X, y) > 0.8
    assert fitted.predict(X).dtype == np.float64
    fitted = regressor().fit(X, y[:, 0].astype(np.float32))
    assert fitted.predict(X).shape == (60,)
    assert fitted.predict(X).dtype == np.float32


def test_refusals() -> None:
    X, y = load_iris(return_X_y=True)
    with pytest.raises(ValueError, match="only one class"):
        classifier().fit(X, np.zeros(len(X)))
    with pytest.raises(TypeError, match="`model` must return a compiled Sequential"):
        SKLearnClassifier(lambda X, y: Sequential([Dense(3)])).fit(X, y)
    with pytest.raises(ValueError, match="`model` must be compiled"):
        SKLearnClassifier(Sequential([Dense(3)])).fit(X, y)
