"""A bag of words: logistic regression on TF-IDF of words and characters, kept as plain numbers in one file.

What is measured is what is used: predictions come from the numbers that the file holds, also before it is
written.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from finetooth.errors import DataError

# Word 1-2-grams, and character 3-5-grams within words.
FEATURES: tuple[dict[str, Any], ...] = (
    {"ngram_range": (1, 2), "token_pattern": r"(?u)\b\w+\b|[^\w\s]"},
    {"ngram_range": (3, 5), "analyzer": "char_wb"},
)


@dataclass(frozen=True, eq=False)
class BagOfWordsModel:
    """L labels, F features of the two kinds of FEATURES, one after the other.

    terms: the features' n-grams by kind; idf: their inverse document frequencies by kind. weight_LF, bias_L:
    float32. rows: a digest of the training rows.
    """

    labels: tuple[str, ...]
    terms: tuple[Sequence[str], ...]
    idf: tuple[NDArray[np.float64], ...]
    weight_LF: NDArray[np.float32]
    bias_L: NDArray[np.float32]
    rows: str

    @classmethod
    def fit(cls, texts: Sequence[str], targets: Sequence[str]) -> BagOfWordsModel:
        """Fit at least one row; of a single label, the model always answers it."""
        rows = rows_digest(texts, targets)
        if len(set(targets)) < 2:
            nothing = np.zeros((1, 0), np.float32)
            return cls((targets[0],), ((), ()), (np.zeros(0),) * 2, nothing, np.zeros(1, np.float32), rows)
        kinds = [TfidfVectorizer(sublinear_tf=True, **kind) for kind in FEATURES]
        features = sparse.hstack([kind.fit_transform(texts) for kind in kinds], format="csr")
        # The default tolerance: at 1e-2 the solver stops at once, with 0.7% instead of 91.2% on clinc150.
        classifier = LogisticRegression(C=10.0, max_iter=1_000).fit(features, targets)
        weight, bias = classifier.coef_, classifier.intercept_
        if len(weight) == 1:  # of two labels only the second has weights
            weight, bias = np.vstack([np.zeros_like(weight), weight]), np.append(0.0, bias)
        return cls(
            tuple(map(str, classifier.classes_)),
            tuple(kind.get_feature_names_out().tolist() for kind in kinds),
            tuple(kind.idf_ for kind in kinds),
            weight.astype(np.float32),
            bias.astype(np.float32),
            rows,
        )

    def probabilities(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """The probability of each label for each text: R x L."""
        if len(self.labels) == 1:
            return np.ones((len(texts), 1))
        parts = []
        for kind, terms, idf in zip(FEATURES, self.terms, self.idf, strict=True):
            vectorizer = TfidfVectorizer(sublinear_tf=True, vocabulary=list(terms), **kind)
            vectorizer.idf_ = idf
            parts.append(vectorizer.transform(texts))
        score_RL = sparse.hstack(parts, format="csr") @ self.weight_LF.T.astype(np.float64) + self.bias_L
        share_RL = np.exp(score_RL - score_RL.max(axis=1, keepdims=True))
        result: NDArray[np.float64] = share_RL / share_RL.sum(axis=1, keepdims=True)
        return result

    def digest(self) -> str:
        """A sha256 of all that decides its answers."""
        return hashlib.sha256(self.to_bytes(compressed=False)).hexdigest()

    def to_bytes(self, compressed: bool = True) -> bytes:
        """An .npz file: the texts as JSON in UTF-8, and arrays of numbers; nothing in it can run."""
        texts = {"labels": self.labels, "terms": self.terms, "rows": self.rows}
        arrays: dict[str, Any] = {
            "texts": np.frombuffer(json.dumps(texts).encode(), np.uint8),
            "weight": self.weight_LF,
            "bias": self.bias_L,
            **{f"idf_{number}": values for number, values in enumerate(self.idf)},
        }
        file = io.BytesIO()
        (np.savez_compressed if compressed else np.savez)(file, **arrays)
        return file.getvalue()

    @classmethod
    def read(cls, path: Path) -> BagOfWordsModel:
        """The model in a file. Raises DataError for one that is missing or damaged."""
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
                texts = json.loads(arrays["texts"].tobytes())
                idf = tuple(arrays[f"idf_{number}"] for number in range(len(FEATURES)))
                weight, bias = arrays["weight"], arrays["bias"]
            labels, terms = tuple(texts["labels"]), tuple(texts["terms"])
            sizes = [len(one) for one in terms]
            if sizes != [len(one) for one in idf] or weight.shape != (len(labels), sum(sizes)):
                raise ValueError("its arrays do not belong together")
            return cls(labels, terms, idf, weight, bias, str(texts["rows"]))
        except FileNotFoundError:
            raise DataError(f"{path}: no such file") from None
        except (ValueError, KeyError, TypeError, EOFError, OSError, zipfile.BadZipFile) as error:
            raise DataError(f"{path} is damaged. Delete it, and evaluate again.") from error


def rows_digest(texts: Sequence[str], targets: Sequence[str]) -> str:
    """A digest of training rows."""
    return hashlib.sha256(json.dumps([list(texts), list(targets)]).encode()).hexdigest()
