"""Gradient-boosted trees that tell the time left, trained offline; run where scikit-learn is.

    python -m benchmarks.etas.boosted FOLDER COLUMNS [CATEGORY...]

In the folder: `train`, rows of doubles: the features (nan: not known), the time left [s], the
length of the task [s]; `looks`, rows of features. Writes `told`: for each look the time left, and
its 10th and 90th percentile [s]. The categories are the columns that are numbers of categories.
"""

import sys
from pathlib import Path

import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor

LOW, HIGH = 0.1, 0.9
# Training ends when this many trees more are no better on the tenth that is kept back.
TREES, PATIENCE = 200, 10
LEAVES, RATE = 31, 0.1


def main(folder: Path, columns: int, categories: list[int]) -> None:
    """Train on the one file, and tell for the other."""
    train = np.fromfile(folder / "train").reshape(-1, columns + 2)
    looks = np.fromfile(folder / "looks").reshape(-1, columns)
    features, left, whole = train[:, :columns], train[:, columns], train[:, columns + 1]
    told = []
    for loss, quantile in (("absolute_error", None), ("quantile", LOW), ("quantile", HIGH)):
        model = HistGradientBoostingRegressor(
            loss=loss,
            quantile=quantile,
            categorical_features=categories,
            max_iter=TREES,
            max_leaf_nodes=LEAVES,
            learning_rate=RATE,
            early_stopping=True,
            n_iter_no_change=PATIENCE,
            random_state=0,
        )
        # The error is measured as a share of the length.
        model.fit(features, left, sample_weight=1 / whole)
        told.append(np.maximum(model.predict(looks), 0.0))
        print(f"{loss} {quantile}: {model.n_iter_} trees", flush=True)
    np.stack(told, axis=1).astype(float).tofile(folder / "told")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), [int(text) for text in sys.argv[3:]])
