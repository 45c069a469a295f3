"""The contract of a data set like abalone, made without training, and the row that the tables are about."""

from __future__ import annotations

from serving.contract import Column, ColumnType, Contract, LabelPlace, Task

MEASURES = ("length", "diameter", "height", "whole_weight", "shucked_weight", "viscera_weight", "shell_weight")
CONTRACT = Contract(
    dataset="abalone",
    task=Task.REGRESSION,
    columns=(
        Column("sex", ColumnType.CATEGORICAL, ("F", "I", "M")),
        *(Column(name, ColumnType.NUMERIC) for name in MEASURES),
        Column("rings", ColumnType.LABEL, range=(1.0, 29.0), whole=True),
    ),
    features=(*MEASURES, "sex_F", "sex_I", "sex_M"),
    training={"seed": 42, "rows": 3759},
    labelled_rows=LabelPlace.LAST,
)

ROW = "M,0.455,0.365,0.095,0.514,0.2245,0.101,0.15"
SEX, LENGTH = "M", 0.455
REST = ROW.partition("0.455,")[2]
HEADER = "sex," + ",".join(MEASURES)


def with_sex(sex: str) -> str:
    """The row with another first cell."""
    return f"{sex},0.455,{REST}"


def with_length(length: str) -> str:
    """The row with another second cell, the first numeric one."""
    return f"M,{length},{REST}"
