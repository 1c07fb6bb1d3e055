"""The database of accuracies that was learned from."""

from typing import Any, ClassVar

from pipeline.stages.needs import NEEDS


@NEEDS.register("accuracy_database")
class AccuracyDatabase:
    """Opens as `pipeline.data.database.Database`."""

    files: ClassVar[dict[str, tuple[str, str]]] = {
        "tasks": ("database/{source}/tasks.json", "tasks of the database"),
        "triples": ("database/{source}/triples.csv", "accuracies of the database"),
        "database_report": ("database/{source}/report.json", "what the database says of itself"),
    }

    @staticmethod
    def open(paths: dict[str, str], prepared: Any, device: Any) -> Any:
        from pipeline.data.database import Database

        del prepared, device
        return Database.open(paths["tasks"], paths["triples"], paths["database_report"])
