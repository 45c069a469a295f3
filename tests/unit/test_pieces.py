"""A large JSON body is read in pieces, and nothing is read or said otherwise than of the whole."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from serving.errors import ServingError
from serving.formats import pieces
from serving.formats.json import read_json
from serving.formats.pieces import lists_of_rows

ROUNDS = 4000
CELLS = [1, -0.5, 1e22, None, True, "M", "", "],[", "}, {", 'a"],["b', "\\", "é", [], [1], [[2], [3]], {}, {"a": [{}]}]
OF_THE_WHOLE = ("json_syntax", "duplicate_key", "json_shape", "too_many_rows")


def test_without_a_limit_there_may_be_any_number_of_rows() -> None:
    assert [len(found.rows) for found in read_json(b"[[1],[2],[3]]", 1)] == [3]


def rows_of(body: bytes, most: int = 0) -> tuple[list[Any], str, str]:
    """The rows, each with its number; and of an error its code and all that it says."""
    rows: list[Any] = []
    try:
        for found in read_json(body, 1, most):
            rows += enumerate(found.rows, found.first_row)
    except ServingError as error:
        return rows, error.code, f"{error.row} {error.message}"
    return rows, "", ""


def written(chance: random.Random) -> bytes:
    """A list of rows, or `instances`, as some library writes it; of one shape mostly."""
    width = chance.randint(1, 4)
    named = chance.random() < 0.4
    rows: list[Any] = []
    for _ in range(chance.randint(1, 12)):
        cells = [chance.choice(CELLS[: chance.choice([5, 11, len(CELLS)])]) for _ in range(width)]
        rows.append(dict(zip("abcd", cells, strict=False)) if named else cells)
    if chance.random() < 0.1:
        rows[chance.randrange(len(rows))] = chance.choice([5, None, [], {}, "row", [[1]]])
    document = {"instances": rows} if chance.random() < 0.4 else rows
    separators = chance.choice([(",", ":"), (", ", ": "), (" ,\n", " :\t")])
    return json.dumps(document, separators=separators, indent=chance.choice([None, None, 1])).encode()


def spoilt(body: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(body))
    what = chance.choice([b"", b"]", b"[", b"{", b"}", b",", b'"', b"],[", b"NaN", b"1e999", b"-0", b' "a":1,', b" "])
    return body[:place] + what + body[place + chance.randint(0, 2) :]


def test_a_body_in_pieces_is_read_as_the_whole_is(monkeypatch: pytest.MonkeyPatch) -> None:
    chance, cut, refused = random.Random(7), 0, 0
    for number in range(ROUNDS):
        body = written(chance)
        if number % 2:
            body = spoilt(body, chance)
        most = chance.choice([0, 0, 3, 8])
        monkeypatch.setattr(pieces, "BLOCK", 1 << 20)
        whole = rows_of(body, most)
        monkeypatch.setattr(pieces, "BLOCK", chance.choice([1, 4, 9, 30]))
        ours = rows_of(body, most)
        cut += len(list(lists_of_rows(body.decode()))) > 1
        refused += bool(whole[1])
        if whole[1] in OF_THE_WHOLE:  # it may be said of an earlier row first
            assert ours[1] in OF_THE_WHOLE, (body, whole, ours)
            assert ours[1:] == whole[1:] or ours[1] in ("json_shape", "too_many_rows"), (body, whole, ours)
        else:
            assert repr(ours) == repr(whole), (body, whole, ours)

    assert cut > ROUNDS / 3
    assert ROUNDS / 10 < refused < ROUNDS * 3 / 4


@pytest.mark.parametrize(
    "document", ["[[1],[2],[3]]", '{"instances": [[1] , [2] , [3]]}', '[{"a":1},{"a":2},{"a":3}]\n']
)
def test_every_piece_is_a_list_of_some_of_the_rows(monkeypatch: pytest.MonkeyPatch, document: str) -> None:
    monkeypatch.setattr(pieces, "BLOCK", 1)

    found = [json.loads(piece) for piece in lists_of_rows(document)]

    whole = json.loads(document)
    assert found == [[row] for row in (whole["instances"] if isinstance(whole, dict) else whole)]


@pytest.mark.parametrize(
    "document",
    ["[1,2,3]", "[[1]]", '{"a":[[1],[2]]}', '{"instances":[[1],[2]]', "[[1],[2]]}", '[[1],[2]] "', '"[[1],[2]]"'],
)
def test_what_is_no_list_of_rows_stays_whole(monkeypatch: pytest.MonkeyPatch, document: str) -> None:
    monkeypatch.setattr(pieces, "BLOCK", 1)

    assert list(lists_of_rows(document)) == []


@pytest.mark.parametrize(("blanks", "cut"), [(1023, True), (1024, False)])
def test_the_end_of_a_list_is_looked_for_among_the_last_1024_characters(
    monkeypatch: pytest.MonkeyPatch, blanks: int, cut: bool
) -> None:
    monkeypatch.setattr(pieces, "BLOCK", 1)

    assert (list(lists_of_rows("[[1],[2]]" + " " * blanks)) == ["[[1]]", "[[2]]"]) is cut
