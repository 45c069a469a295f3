"""Where the cells of a row without names stand: the inputs in the contract's order, and the label where it may be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.cells import Beyond, is_number, not_finite, shown
from serving.contract import MISSING, Column, ColumnType, Contract, LabelPlace
from serving.errors import BadPayload, cut
from serving.formats.csv import WrongWidth

PARAMETERS = frozenset(["label", "label_size"])  # of a content type, which say whether rows have their label
_SIZES = {"0": LabelPlace.NONE, "1": LabelPlace.FIRST}  # as SageMaker's own algorithms say it


@dataclass(frozen=True)
class Layout:
    """`inputs` in their order. `order`: that of a header, the label among them.

    `place`: of the label in rows without names. `optional`: rows may lack it, all of them.
    """

    inputs: tuple[Column, ...]
    label: Column | None = None
    order: tuple[str, ...] = ()
    place: LabelPlace = LabelPlace.NONE
    optional: bool = False

    @classmethod
    def of(cls, contract: Contract, parameters: Mapping[str, str]) -> Layout:
        """As the contract has it and the content type's parameters ask. Raises `BadPayload` (400)."""
        place, optional = _label_place(parameters, contract.labelled_rows)
        order = tuple(column.name for column in contract.columns)
        return cls(contract.inputs, contract.label, order, place, optional)

    @classmethod
    def of_features(cls, features: Sequence[str], parameters: Mapping[str, str]) -> Layout:
        """Of a body of features, which has no label. Raises `BadPayload` (400) where one is asked for."""
        place, _ = _label_place(parameters, LabelPlace.NONE)
        if place is not LabelPlace.NONE:
            message = f"expected features without a label, got label={place}: leave the label out"
            raise BadPayload(message, code="bad_label")
        return _of_features(tuple(features))

    @cached_property
    def names(self) -> list[str]:
        return [column.name for column in self.inputs]

    @property
    def every(self) -> Sequence[str]:
        """The inputs, and the label where there is one, as a header may have them."""
        return self.order or self.names

    @cached_property
    def widths(self) -> set[int]:
        """How many cells a row may have."""
        width = len(self.inputs)
        with_label = {width + 1} if self.place is not LabelPlace.NONE else set()
        return with_label | ({width} if self.optional or not with_label else set())

    def cells(self, width: int) -> tuple[Column, ...]:
        """The columns of a row of that many cells, in their order."""
        if width == len(self.inputs):
            return self.inputs
        label = (self.label or Column("", ColumnType.LABEL),)
        return label + self.inputs if self.place is LabelPlace.FIRST else self.inputs + label

    def could_be_data(self, row: Sequence[str]) -> bool:
        """Whether each cell is a value of its column: a number, or a category that training saw."""
        return len(row) in self.widths and all(map(_is_value, row, self.cells(len(row))))

    def reads_alike(self, header: Sequence[str]) -> bool:
        """Whether rows without a header mean what they mean below this one, or are refused."""
        as_rows = [column.name for column in self.cells(len(header))] if len(header) in self.widths else list(header)
        return list(header) == as_rows and [name for name in header if name in self.names] == self.names

    def hint(self, error: BadPayload, body: bytes) -> None:
        """Say how to ask for a label where a row has a cell too many, and which line ends are none."""
        unlabelled = self.optional and self.label and self.place is LabelPlace.NONE
        if unlabelled and isinstance(error, WrongWidth) and error.got == len(self.inputs) + 1:
            error.message += "; if one is the label, add label=first or label=last to the Content-Type"
        if rb"\n" in body and b"\n" not in body:
            error.message += (
                r"; the body has \n in two characters: send line ends themselves, as a file or bash's $'...' has them"
            )


@lru_cache(8)
def _of_features(features: tuple[str, ...]) -> Layout:
    return Layout(tuple(Column(name, ColumnType.NUMERIC) for name in features))


def _label_place(parameters: Mapping[str, str], default: LabelPlace) -> tuple[LabelPlace, bool]:
    """Where a content type's parameters say that the label stands, and whether rows may lack it.

    Raises `BadPayload` (400) for a place that is none.
    """
    said = {name: parameters[name].lower() for name in sorted(PARAMETERS & parameters.keys())}
    places = {_SIZES.get(value) if name == "label_size" else _place(value) for name, value in said.items()}
    if not places:
        return default, True
    if None in places or len(places) > 1:
        came = "; ".join(f"{name}={cut(value)}" for name, value in said.items())
        message = f"expected label=first, label=last or label=none (or label_size=1 or 0), got {came}"
        raise BadPayload(message, code="bad_label")
    return LabelPlace(places.pop()), False  # type: ignore[arg-type]


def _place(text: str) -> LabelPlace | None:
    return LabelPlace(text) if text in list(LabelPlace) else None


def _is_value(cell: str, column: Column) -> bool:
    if cell in column.words:
        return True
    numeric = column.type is ColumnType.NUMERIC or (column.type is ColumnType.LABEL and not column.categories)
    return is_number(cell) if numeric else cell in column.known


def check_label_numbers(numbers: NDArray[np.float64], label: Column | None, first_row: int) -> None:
    """Refuse a label that no training row could have: out of their range, or broken where they are whole.

    Raises `BadPayload` (400) naming the row.
    """
    wrong = np.isnan(numbers)
    if label and label.range:
        least, most = label.range
        wrong |= (numbers < least) | (numbers > most)
        if label.whole:
            wrong |= numbers != np.floor(numbers)
    if wrong.any():
        index = int(wrong.argmax())
        raise _implausible(None if np.isnan(numbers[index]) else numbers[index].item(), label, first_row + index)


def check_label_classes(cells: Sequence[Any], label: Column | None, first_row: int) -> None:
    """Refuse a label that is no class of training's. Raises `BadPayload` (400) naming the row."""
    for row, cell in enumerate(cells, first_row):
        if isinstance(cell, Beyond):
            raise not_finite(cell, (row, label.name if label else ""))
        text = cell if isinstance(cell, str) else "" if cell is None else shown(cell)
        if not (text in label.known if label and label.categories else text not in MISSING):
            raise _implausible(None if text in MISSING else cell, label, row)


def _implausible(value: object, label: Column | None, row: int) -> BadPayload:
    name = label.name if label else None
    if value is None:
        message = "expected a label in each row, or in none; this one's is empty"
        return BadPayload(message, code="empty_label", row=row, column=name)
    expected = "no missing word"
    if label and label.categories:
        expected = f"one of {cut(', '.join(label.categories), 256)}"
    elif label and label.range:
        whole = "a whole number " if label.whole else ""
        expected = f"{whole}from {label.range[0]:g} to {label.range[1]:g}, as in training"
    message = f"expected a label that is {expected}; got {shown(value)}: is a cell too many in this row?"
    return BadPayload(message, code="bad_label", row=row, column=name)
