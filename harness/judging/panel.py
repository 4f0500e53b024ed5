"""Several judges as one: each criterion's grade is their majority or their mean, and how far they agree is said."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Literal

from harness.errors import JudgeError
from harness.judging.protocol import Answer, Grade, Judge
from harness.judging.rubric import Rubric

__all__ = ["Panel"]


class Panel:
    """Asks every judge for every answer.

    judges: two or more that grade the rubric's criteria. combine: "majority" takes the grade that more than half of
    them gave, else the median; "mean" the mean. The score is the rubric's mean of these by weight.
    An answer that one of them did not grade has no grade. note: changes with what was graded, as agreement does.
    Raises JudgeError for fewer than two, for two of the same name, and for one that does not grade the criteria.
    """

    def __init__(
        self, judges: Sequence[Judge], rubric: Rubric, combine: Literal["majority", "mean"] = "majority"
    ) -> None:
        names = [judge.name for judge in judges]
        criteria = tuple(criterion.name for criterion in rubric.criteria)
        if len(set(names)) < 2 or len(set(names)) < len(names):
            raise JudgeError(f"a panel needs two or more judges that differ, got {', '.join(names) or 'none'}")
        for judge in judges:
            if set(judge.criteria) != set(criteria):
                raise JudgeError(
                    f"the judge {judge.name} cannot sit in a panel: it does not grade {', '.join(criteria)}"
                )
        self.name = f"panel of {', '.join(names)}"
        self.criteria = criteria
        self._judges = tuple(judges)
        self._rubric = rubric
        self._combine = combine
        self._same = self._pairs = 0
        self._distance = 0.0

    @property
    def note(self) -> str:
        """The judges' own notes, and how often two of them gave an answer's criterion the same grade."""
        notes = dict.fromkeys(judge.note for judge in self._judges if judge.note)
        said = f"panel of {len(self._judges)} judges by {self._combine}"
        if self._pairs:
            said += (
                f", two of them agree on {self._same / self._pairs:.0%} of the grades "
                f"(mean distance {self._distance / self._pairs:.2f})"
            )
        return "; ".join([said, *notes])

    def grade(self, items: Sequence[Answer], /) -> list[Grade]:
        """One Grade an item, in their order."""
        opinions = [judge.grade(items) for judge in self._judges]
        return [self._joined(item, [grades[k] for grades in opinions]) for k, item in enumerate(items)]

    def __repr__(self) -> str:
        return f"<Panel {self.name}>"

    def _joined(self, item: Answer, grades: Sequence[Grade]) -> Grade:
        missing = [
            f"{judge.name}: {grade.problem or 'no grade and no reason'}"
            for judge, grade in zip(self._judges, grades, strict=True)
            if grade.problem is not None or grade.score is None or set(grade.criteria) != set(self.criteria)
        ]
        if missing:
            return Grade(item.id, None, problem="; ".join(missing))
        self._compare([grade.criteria for grade in grades])
        criteria = {name: self._one([grade.criteria[name] for grade in grades]) for name in self.criteria}
        said = [f"{judge.name}: {grade.rationale}" for judge, grade in zip(self._judges, grades, strict=True)]
        return Grade(item.id, self._rubric.overall(criteria), criteria, rationale="\n".join(said))

    def _one(self, grades: Sequence[float]) -> float:
        if self._combine == "mean":
            return statistics.fmean(grades)
        grade, count = Counter(grades).most_common(1)[0]
        return grade if 2 * count > len(grades) else float(statistics.median(grades))

    def _compare(self, opinions: Sequence[Mapping[str, float]]) -> None:
        for one, other in combinations(opinions, 2):
            for name in self.criteria:
                self._pairs += 1
                self._same += one[name] == other[name]
                self._distance += abs(one[name] - other[name])
