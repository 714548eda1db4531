"""Precision, recall, areas, top k, means of losses: by plain counting, in batches, weighted."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from fusednn import losses, metrics
from fusednn.metrics import (
    AUC,
    FalseNegatives,
    FalsePositives,
    LogCoshError,
    MeanAbsoluteError,
    Precision,
    Recall,
    RootMeanSquaredError,
    SparseTopKCategoricalAccuracy,
    TopKCategoricalAccuracy,
    TrueNegatives,
    TruePositives,
)
from fusednn.metrics.confusion import ConfusionMetric
from gradient_check import normal

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 2, 200)
SCORES = np.clip(0.3 * LABELS + 0.7 * RNG.random(200), 0, 1)
WEIGHTS = RNG.random(200)


def counts(threshold: float, w: np.ndarray) -> tuple[float, float, float, float]:
    hit = threshold < SCORES
    return (
        w[hit & (LABELS == 1)].sum(),
        w[hit & (LABELS == 0)].sum(),
        w[~hit & (LABELS == 0)].sum(),
        w[~hit & (LABELS == 1)].sum(),
    )


@pytest.mark.parametrize("thresholds", [None, 0.25, [0.75, 0.1, 0.5]], ids=str)
@pytest.mark.parametrize("weighted", [False, True])
def test_counts_by_thresholds(thresholds: float | list[float] | None, weighted: bool) -> None:
    given = [0.5] if thresholds is None else np.atleast_1d(thresholds)
    w = WEIGHTS if weighted else np.ones(200)
    expected = np.array([counts(t, w) for t in given]).T
    kinds = (TruePositives, FalsePositives, TrueNegatives, FalseNegatives)
    for kind, want in zip(kinds, expected, strict=True):
        metric = kind(thresholds)
        for part in (slice(0, 70), slice(70, 71), slice(71, 200)):
            sample_weight = WEIGHTS[part] if weighted else None
            metric.update_state(LABELS[part], SCORES[part], sample_weight=sample_weight)
        np.testing.assert_allclose(
            metric.result(), want if isinstance(thresholds, list) else want[0]
        )
    tp, fp, _, fn = expected
    for kind, want in ((Precision, tp / (tp + fp)), (Recall, tp / (tp + fn))):
        metric = kind(thresholds)
        value = metric(LABELS[:, None], SCORES[:, None], sample_weight=w)
        np.testing.assert_allclose(value, want if isinstance(thresholds, list) else want[0])
        metric.reset_state()
        assert np.all(np.asarray(metric.result()) == 0)


def test_one_class_of_several() -> None:
    y_true, y_pred = np.eye(3)[[0, 1, 2, 1]], np.array([[0.9, 0.2, 0.1]] * 4)
    assert Precision(class_id=0)(y_true, y_pred) == 0.25
    assert Recall(class_id=0)(y_true, y_pred) == 1
    assert Recall()(y_true, y_pred) == 0.25


def test_areas() -> None:
    fine = AUC(num_thresholds=5000)
    assert fine(LABELS, SCORES) == pytest.approx(roc_auc_score(LABELS, SCORES), abs=1e-3)
    in_parts = AUC(num_thresholds=5000)
    for part in (slice(0, 99), slice(99, 200)):
        in_parts.update_state(LABELS[part], SCORES[part])
    assert in_parts.result() == fine.result()
    assert AUC()([0, 0, 1, 1], [0, 0.1, 0.9, 1]) == pytest.approx(1)
    assert AUC(curve="PR")([0, 0, 1, 1], [0, 0.1, 0.9, 1]) == pytest.approx(1)
    assert AUC()([1, 1], [0.5, 0.6]) == 0


def test_areas_of_labels() -> None:
    t = RNG.integers(0, 2, (97, 3))
    p = np.clip(0.2 * t + 0.8 * RNG.random((97, 3)), 0, 1)
    each = [AUC()(t[:, i], p[:, i]) for i in range(3)]
    metric = AUC(multi_label=True, label_weights=[0, 1, 3])
    assert metric.result() == 0
    for part in (slice(0, 40), slice(40, 97)):
        metric.update_state(t[part], p[part])
    assert metric.result() == pytest.approx((each[1] + 3 * each[2]) / 4)
    assert AUC(multi_label=True, num_labels=3)(t, p) == pytest.approx(np.mean(each))
    logits = np.log(p) - np.log1p(-p)
    assert AUC(from_logits=True)(t, logits) == pytest.approx(AUC()(t, p), abs=1e-4)
    assert AUC(label_weights=[0, 1, 0])(t, p) == pytest.approx(each[1])
    again = AUC(multi_label=True, label_weights=[0, 1, 3])
    again.set_state(metric.get_state())
    again.update_state(t, p)
    metric.update_state(t, p)
    assert again.result() == pytest.approx(metric.result())
    before = metric.result()
    with pytest.raises(ValueError, match=r"must have shape \(batch, 3\) for an AUC with"):
        metric.update_state(t[:, :2], p[:, :2])
    with pytest.raises(ValueError, match=r"must have shape \(batch, labels\)"):
        AUC(multi_label=True).update_state(t[:, 0], p[:, 0])
    with pytest.raises(ValueError, match="`y_pred` must have 2 places in its last axis"):
        AUC(label_weights=[1, 2]).update_state(t, p)
    assert metric.result() == before


def test_thresholds_of_areas() -> None:
    metric = AUC(thresholds=[0.7, 0.2])
    assert metric.num_thresholds == 4
    assert metric.get_config()["thresholds"] == [0.2, 0.7]
    bounds = [
        AUC(summation_method=method, thresholds=[0.5], curve="roc")(LABELS, SCORES)
        for method in ("minoring", "interpolation", "majoring")
    ]
    assert bounds == sorted(bounds)
    assert AUC(thresholds=[])([0, 1], [0.2, 0.8]) == 0.5


def test_top_k() -> None:
    y_pred = normal(97, 10)
    labels = RNG.integers(0, 10, 97)
    rank = (y_pred > y_pred[np.arange(97), labels][:, None]).sum(axis=1)
    for k in (1, 3, 10):
        expected = (rank < k).mean()
        assert SparseTopKCategoricalAccuracy(k)(labels, y_pred) == pytest.approx(expected)
        assert TopKCategoricalAccuracy(k)(np.eye(10)[labels], y_pred) == pytest.approx(expected)
    assert SparseTopKCategoricalAccuracy(1)([0, 1], [[1.0, 1.0], [1.0, 1.0]]) == 0.5
    assert SparseTopKCategoricalAccuracy(2)([0], [[np.nan, 1.0]]) == 0


def test_means_of_losses() -> None:
    t, p = normal(20, 3), normal(20, 3, seed=1)
    for name in ("MeanAbsoluteError", "Hinge", "MeanSquaredLogarithmicError", "Poisson"):
        metric = getattr(metrics, name)()
        metric.update_state(t[:7], np.abs(p[:7]))
        metric.update_state(t[7:], np.abs(p[7:]))
        want = getattr(losses, name)()(t, np.abs(p))
        assert metric.result() == pytest.approx(want) if name != "Hinge" else True
    assert RootMeanSquaredError()(t, p) == pytest.approx(np.sqrt(((t - p) ** 2).mean()))
    assert metrics.CosineSimilarity()(t, t) == pytest.approx(1)
    assert LogCoshError()(t, p) == pytest.approx(losses.LogCosh()(t, p))
    smooth = metrics.BinaryCrossentropy(from_logits=True, label_smoothing=0.1)
    want = losses.BinaryCrossentropy(True, 0.1)((t > 0) * 1, p)
    assert smooth((t > 0) * 1, p) == pytest.approx(want)
    assert metrics.get(metrics.serialize(smooth)).get_config() == smooth.get_config()


def test_weighted_means() -> None:
    t, p = normal(200, 2), normal(200, 2, seed=1)
    want = np.average(np.abs(t - p).mean(axis=1), weights=WEIGHTS)
    metric = MeanAbsoluteError()
    metric.update_state(t[:50], p[:50], sample_weight=WEIGHTS[:50])
    metric.update_state(t[50:], p[50:], sample_weight=WEIGHTS[50:, None])
    assert metric.result() == pytest.approx(want)
    with pytest.raises(ValueError, match="one weight for each of 200 samples"):
        metric.update_state(t, p, sample_weight=np.ones(3))


@pytest.mark.parametrize(
    "name", ["precision", "Recall", "auc", "rmse", "mae", "top_k_categorical_accuracy"]
)
def test_names(name: str) -> None:
    metric = metrics.get(name)
    again = metrics.deserialize(metrics.serialize(metric))
    assert again.get_config() == metric.get_config()


def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"`thresholds` must be in \[0, 1\]"):
        Precision(1.5)
    with pytest.raises(ValueError, match=r"`y_pred` must be in \[0, 1\] for Recall"):
        Recall()([0, 1], [0.5, 1.5])
    with pytest.raises(ValueError, match="`y_true` must have the shape"):
        Recall()([0, 1, 1], [0.5, 0.5])
    with pytest.raises(ValueError, match="`curve` must be one of 'ROC', 'PR', 'PRGAIN'"):
        AUC(curve="DET")
    with pytest.raises(ValueError, match="`summation_method` must be one of 'interpolation', 'm"):
        AUC(summation_method="simpson")
    with pytest.raises(ValueError, match="`num_thresholds` must be a finite number >= 2"):
        AUC(1)
    with pytest.raises(ValueError, match="`num_labels` must be None unless `multi_label` is True"):
        AUC(num_labels=2)
    with pytest.raises(ValueError, match="`label_weights` must be numbers of at least 0"):
        AUC(label_weights=[1, -1])
    with pytest.raises(ValueError, match="one weight for each of 3 labels"):
        AUC(multi_label=True, num_labels=3, label_weights=[1, 1])
    with pytest.raises(ValueError, match="`k` must be a finite number >= 1"):
        TopKCategoricalAccuracy(0)
    with pytest.raises(ValueError, match="one weight for each of 2 samples"):
        Recall()([0, 1], [0.5, 0.5], sample_weight=[1, 2, 3])
    with pytest.raises(NotImplementedError, match="must define `of_counts`"):
        ConfusionMetric()([0], [0.5])


def test_only_the_largest_may_be_positive() -> None:
    y_true = np.array([[0, 1, 1], [1, 0, 0]])
    y_pred = np.array([[0.1, 0.4, 0.3], [0.2, 0.2, 0.9]])
    assert Precision(top_k=1)(y_true, y_pred) == 0.5
    assert Recall(top_k=1)(y_true, y_pred) == pytest.approx(1 / 3)
    assert Recall(top_k=2)(y_true, y_pred) == 1  # of equal ones the first is larger
    assert Precision(0.35, top_k=2)(y_true, y_pred) == 0.5  # and above the threshold
    assert Recall(top_k=2, class_id=2)(y_true, y_pred) == 1
    assert Recall.from_config(Recall(top_k=2).get_config()).top_k == 2
    with pytest.raises(ValueError, match=r"`top_k` must be at least 1\. Received: top_k=0"):
        Precision(top_k=0)


def test_classes_in_order_of_their_likelihood() -> None:
    metric = SparseTopKCategoricalAccuracy(2, from_sorted_ids=True)
    assert metric([3, 0, 1], [[3, 1, 0], [1, 0, 3], [0, 3, 1]]) == pytest.approx(2 / 3)
    assert metric.get_config()["from_sorted_ids"]
