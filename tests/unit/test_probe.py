import numpy as np
import pytest

from discern.evaluation.probe import LinearProbe, fit, score

Labelled = tuple[np.ndarray, np.ndarray]
STRENGTHS = [0.001, 0.01, 0.1, 1.0]


def clusters(n: int, seed: int, classes: int = 4, dim: int = 8, noise: float = 1.5) -> Labelled:
    """Gaussian clusters in dimensions of very unequal scale, with one dead dimension."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    centres = np.random.default_rng(99).normal(size=(classes, dim))
    features = (centres[labels] + noise * rng.normal(size=(n, dim))) * np.logspace(-3, 2, dim) + 5
    features[:, 2] = 7
    return features.astype(np.float32), labels


def by_sklearn(train: Labelled, strength: float, features: np.ndarray) -> np.ndarray:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, tol=1e-8, max_iter=10_000))
    probabilities: np.ndarray = model.fit(train[0].astype(np.float64), train[1]).predict_proba(features)
    return probabilities


@pytest.mark.parametrize("classes", [2, 4])
def test_equals_logistic_regression_on_standardised_features(classes: int) -> None:
    train, val, test = (clusters(n, seed, classes) for seed, n in enumerate((300, 100, 200)))
    probe = fit(train, val, classes, STRENGTHS)
    expected = by_sklearn(train, probe.strength, test[0].astype(np.float64))
    np.testing.assert_allclose(probe.probabilities(test[0]), expected, atol=2e-3)
    assert (probe.logits(test[0]).argmax(axis=1) == expected.argmax(axis=1)).mean() > 0.99
    assert 1.2 / classes < (expected.argmax(axis=1) == test[1]).mean() < 0.99


def test_gradient_of_the_objective_vanishes() -> None:
    train = clusters(300, 0)
    probe = fit(train, clusters(100, 1), 4, [0.1])
    X = train[0].astype(np.float64)
    scale = np.where(X.std(axis=0) > 0, X.std(axis=0), 1)
    Z = (X - X.mean(axis=0)) / scale
    W = probe.weight * scale  # weights on the standardised features
    error = probe.probabilities(train[0]) - np.eye(4)[train[1]]
    gradient = (error.T @ Z + W / 0.1) / len(Z)
    assert np.abs(gradient).max() < 1e-3
    np.testing.assert_allclose(W.sum(axis=0), 0, atol=1e-3)


def test_strength_is_the_best_on_val() -> None:
    train, val = clusters(60, 0, noise=3), clusters(400, 1, noise=3)
    accuracy = {}
    for strength in STRENGTHS:
        single = fit(train, val, 4, [strength])
        accuracy[strength] = single.val_top1
    probe = fit(train, val, 4, STRENGTHS)
    assert len(set(accuracy.values())) > 1
    assert probe.val_top1 == max(value for value in accuracy.values() if value is not None)
    assert accuracy[probe.strength] == probe.val_top1


@pytest.mark.parametrize("order", [[0.1, 1.0, 10.0], [10.0, 0.1, 1.0]])
def test_of_equals_the_strongest_regularisation_whatever_the_order(order: list[float]) -> None:
    train = clusters(100, 0, noise=0.01)
    probe = fit(train, clusters(50, 1, noise=0.01), 4, order)
    assert probe.val_top1 == 1
    assert probe.strength == 0.1


def test_labels_of_test_cannot_matter() -> None:
    train, val, test = clusters(200, 0), clusters(80, 1), clusters(100, 2)
    probe = fit(train, val, 4, STRENGTHS)
    predictions = score(probe, *test).predictions
    shuffled = np.random.default_rng(0).permutation(test[1])
    np.testing.assert_array_equal(score(probe, test[0], shuffled).predictions, predictions)


@pytest.mark.parametrize(("strengths", "middle"), [(STRENGTHS, 0.01), ([1.0, 0.01, 0.1], 0.1), ([0.5], 0.5)])
def test_without_labels_in_val_the_middle_strength_is_taken_and_said(
    strengths: list[float], middle: float
) -> None:
    val = clusters(50, 1)[0], np.full(50, -1)
    probe = fit(clusters(100, 0), val, 4, strengths)
    assert probe.strength == middle
    assert probe.val_top1 is None
    assert len(probe.notes) == 1
    assert "val has no labelled images" in probe.notes[0]
    empty = np.empty((0, 0), np.float32), np.empty(0, np.int64)
    np.testing.assert_array_equal(fit(clusters(100, 0), empty, 4, strengths).weight, probe.weight)


def test_unlabelled_rows_are_left_out() -> None:
    features, labels = clusters(200, 0)
    some = np.where(np.arange(200) % 3 == 0, -1, labels)
    known = some >= 0
    one = fit((features, some), (features, some), 4, STRENGTHS)
    other = fit((features[known], labels[known]), (features[known], labels[known]), 4, STRENGTHS)
    np.testing.assert_array_equal(one.weight, other.weight)
    scores = score(one, features, some)
    np.testing.assert_array_equal(np.isnan(scores.correct), ~known)
    np.testing.assert_array_equal(np.isnan(scores.top5), ~known)
    assert len(scores.predictions) == 200


def test_a_class_that_training_never_showed_is_never_predicted_and_counts_as_wrong() -> None:
    features, labels = clusters(200, 0, classes=5)
    seen = labels != 3
    probe = fit((features[seen], labels[seen]), clusters(80, 1, classes=5), 5, STRENGTHS)
    scores = score(probe, features, labels)
    assert (scores.predictions != 3).all()
    assert (scores.correct[labels == 3] == 0).all()
    assert (scores.top5[labels == 3] == 0).all()
    assert (scores.top5[seen] == 1).all()
    np.testing.assert_allclose(probe.probabilities(features).sum(axis=1), 1)


def test_scores_equal_a_loop() -> None:
    rng = np.random.default_rng(0)
    probe = LinearProbe(rng.normal(size=(8, 3)), rng.normal(size=8), 1.0, None, ())
    features, labels = rng.normal(size=(60, 3)), rng.integers(0, 7, 60)  # class 7 is not among the labels
    scores = score(probe, features, labels)
    correct, top5 = [], []
    for row, label in zip(features, labels, strict=True):
        logits = [float(probe.weight[c] @ row + probe.bias[c]) for c in range(8)]
        best = sorted(range(8), key=lambda c: -logits[c])
        correct.append(best[0] == label)
        top5.append(label in best[:5])
    np.testing.assert_array_equal(scores.correct, correct)
    np.testing.assert_array_equal(scores.top5, top5)
    recalls, f1s = [], []
    for c in range(7):
        hits = int(((scores.predictions == c) & (labels == c)).sum())
        recalls.append(hits / int((labels == c).sum()))
        f1s.append(2 * hits / (int((labels == c).sum()) + int((scores.predictions == c).sum())))
    assert scores.balanced == pytest.approx(sum(recalls) / 7)
    assert scores.macro_f1 == pytest.approx(sum(f1s) / 7)


def test_collapsed_features_give_a_probe_all_the_same() -> None:
    labels = np.repeat([0, 1, 2], [50, 30, 20])
    features = np.full((100, 4), 0.3, np.float32)
    scores = score(fit((features, labels), (features, labels), 3, STRENGTHS), features, labels)
    assert (scores.predictions == 0).all()
    assert scores.balanced == pytest.approx(1 / 3)


def test_rounding_noise_in_a_dimension_is_not_blown_up() -> None:
    features, labels = clusters(200, 0)
    train = features.astype(np.float64)
    train[:, 2] += 1e-9 * np.random.default_rng(0).normal(size=200)
    test = train.copy()
    test[:, 2] += 1e-3  # a million standard deviations, and still nothing
    probe = fit((train, labels), (train, labels), 4, STRENGTHS)
    np.testing.assert_allclose(probe.probabilities(test), probe.probabilities(train), atol=1e-6)


def test_no_convergence_is_noted(monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder) -> None:
    monkeypatch.setattr("discern.evaluation.probe._MAX_ITERATIONS", 1)
    probe = fit(clusters(200, 0), clusters(80, 1), 4, [1.0])
    assert "not converged" in probe.notes[0]
    assert not recwarn.list
