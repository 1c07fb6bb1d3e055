"""The published accuracy of the architecture on a whole data set, whatever the task."""

from dataclasses import dataclass
from typing import Any, ClassVar

from pipeline.core.config import knob
from pipeline.core.errors import ConfigError, UnknownNameError
from pipeline.data.accuracy_tables import PARTS
from pipeline.recipes.oracles import ORACLES, Bench, Question


@ORACLES.register("table_oracle")
@dataclass(frozen=True)
class TableOracle:
    """Accuracy in per cent, looked up.

    All tasks give an architecture the same number, since nobody published accuracies of subsets of classes: what is
    learned from such a database knows nothing of tasks.
    """

    dataset: str | None = knob(None, "data set of the table; null for the source itself, which must then be in it")
    part: str = knob("valid", "images that the accuracies are of; searches are judged by the test part", choices=PARTS)

    needs_table: ClassVar[bool] = True
    knows_tasks: ClassVar[bool] = False
    unit: ClassVar[str] = "per cent"

    def check(self, bench: Bench) -> None:
        """Raises UnknownNameError when the table lacks the data set or the part, ConfigError when it is another's."""
        if bench.table_facts["space"] != bench.space.name:
            raise ConfigError(
                f"The table is about the space {bench.table_facts['space']}, but database.space is {bench.space.name}. "
                "Set database.space to the table's, or database.oracle to train."
            )
        if self._dataset(bench) not in bench.table.datasets:
            raise UnknownNameError(
                "data set of the table",
                self._dataset(bench),
                bench.table.datasets,
                "Name one of them in oracle.table.dataset, or set database.oracle to train.",
            )
        bench.table.column(self._dataset(bench), self.part)

    def facts(self, bench: Bench) -> dict[str, Any]:
        dataset, facts = self._dataset(bench), bench.table_facts
        return {
            "meaning": (
                f"accuracy on all classes of {dataset} ({self.part}), published in {facts['name']}; the same for every "
                "task, though a task holds only some of the classes"
            ),
            "table": {
                "dataset": dataset,
                "part": self.part,
                **{name: facts[name] for name in ("name", "source", "sha256", "official")},
            },
        }

    def __call__(self, question: Question, bench: Bench) -> float:
        return 100 * bench.table.accuracy(question.genotype, self._dataset(bench), self.part)

    def _dataset(self, bench: Bench) -> str:
        return self.dataset or bench.prepared.name
