from __future__ import annotations

import math

import pandas as pd
import pytest

from featurizer.schema import BadDataset, Schema, labels, read_rows, read_schema, typed_frame
from serving.contract import Task
from serving.training import BadJob

SCHEMA = """
name = "shells"
task = "{task}"
[[columns]]
name = "sex"
type = "categorical"
[[columns]]
name = "length"
type = "{type}"
[[columns]]
name = "rings"
type = "{label}"
"""


SOUND = SCHEMA.format(task="binary", type="numeric", label="label")


def schema(task: str = "regression") -> Schema:
    return read_schema(SCHEMA.format(task=task, type="numeric", label="label"))


def rows(**columns: list[object]) -> pd.DataFrame:
    return pd.DataFrame({"sex": ["M", "F"], "length": ["0.1", "0.2"], "rings": ["3", "4"]} | columns, dtype=object)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("name = ", "schema"),
        (
            SOUND.replace('name = "length"', ""),
            r"^schema, \[\[columns\]\] number 2: expected name and type, name is missing$",
        ),
        (SOUND.replace('type = "numeric"', ""), r"^schema, \[\[columns\]\] number 2: .*, type is missing$"),
        ("a = " + "[" * 100_000, "^schema: expected TOML, got tables or lists too deep"),
        ("task = 'regression'", "is missing"),
        (SCHEMA.format(task="guess", type="numeric", label="label"), "expected one of regression, binary, multiclass"),
        (SCHEMA.format(task="binary", type="integer", label="label"), "^schema, column length: expected type numeric"),
        (SCHEMA.format(task="binary", type="numeric", label="numeric"), "expected one label"),
        (SCHEMA.format(task="binary", type="label", label="label"), "expected one label"),
        (SOUND.replace("sex", "rings"), "each column once, got rings twice"),
        ('name = "x"\ntask = "binary"\n[[columns]]\nname = "y"\ntype = "label"', "at least one other column"),
        (SOUND + "[split]\ntest_size = 2", "between 0 and 1"),
        ("name = 'x'\ntask = 'binary'\ncolumns = 3", "schema"),
        (SOUND.replace('"shells"', "5"), "expected names as text, in quotes; got 5"),
        (SOUND.replace('"length"', "[]"), r"expected names as text, in quotes; got \[\]"),
        (SOUND + "[split]\ntest_size = 1", "between 0 and 1, got 1.0"),
        (SOUND + "[split]\ntest_size = 0", "between 0 and 1, got 0.0"),
        (SOUND + "[split]\nseed = -1", "expected a seed from 0 to 2,147,483,647, got -1"),
        (SOUND + "[split]\nseed = 2147483648", "expected a seed from 0 to 2,147,483,647, got 2147483648"),
        (SOUND + "[split]\nseed = true", "expected a seed from 0 to 2,147,483,647, got True"),
        (SOUND + "[split]\nseed = 1.5", "expected a seed from 0 to 2,147,483,647, got 1.5"),
        ("search = 5\n" + SOUND, r"expected tables \[search\] and \[\[references\]\]"),
        ("references = [5]\n" + SOUND, r"expected tables \[search\] and \[\[references\]\]"),
        ("search = {grid = {eta = [nan]}}\n" + SOUND, r"expected finite numbers in \[search\]"),
        ("source = 5\n" + SOUND, r"expected \[source\] with a table `arguments`"),
        ("source = {arguments = 5}\n" + SOUND, r"expected \[source\] with a table `arguments`"),
        ("source = {decimals = true}\n" + SOUND, "a whole number `decimals`"),
        ("name = 'x'\ntask = 'binary'\n[columns]\nsize = 'numeric'", r"expected \[\[columns\]\] with name and type"),
    ],
)
def test_a_schema_that_says_too_little_is_refused_with_the_reason(text, reason):
    with pytest.raises(BadDataset, match=reason):
        read_schema(text)


def test_what_a_schema_says_of_split_and_source_is_kept() -> None:
    told = (
        "source = {loader = 'a:b', decimals = 3, arguments = {c = 1}}\n" + SOUND + "[split]\ntest_size = 0.25\nseed = 0"
    )

    read = read_schema(told)

    assert (read.test_size, read.seed, read_schema(SOUND).seed, read_schema(SOUND).test_size) == (0.25, 0, 42, 0.1)
    assert read.source == {"loader": "a:b", "decimals": 3, "arguments": {"c": 1}}
    assert read_schema(SOUND + "[split]\nseed = 2147483647").seed == 2**31 - 1


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (rows().drop(columns="length"), "expected a column length, got sex, rings"),
        (rows(length=["0.1", "big"]), "row 2, column length: expected a number, got 'big'"),
        (rows(length=["0.1", "1_000"]), "row 2, column length: expected a number"),
        (rows(length=["inf", "1"]), "row 1, column length: expected a finite number"),
    ],
)
def test_rows_that_do_not_fit_the_schema_are_refused_by_row_and_column(raw, reason):
    with pytest.raises(BadDataset, match=reason):
        typed_frame(raw, schema())


@pytest.mark.parametrize("absent", ["", "NaN", None, math.nan])
def test_a_row_without_its_label_is_refused(absent):
    with pytest.raises(BadDataset, match="row 2, column rings: expected a label"):
        labels(rows(rings=["3", absent]), schema())


def test_a_label_that_is_no_number_is_refused_in_a_regression():
    with pytest.raises(BadDataset, match="row 1, column rings: expected a number, got 'many'"):
        labels(rows(rings=["many", "3"]), schema())


@pytest.mark.parametrize(("task", "found"), [("binary", ["a", "a"]), ("multiclass", ["a", "a"])])
def test_a_classification_of_one_class_is_refused(task, found):
    with pytest.raises(BadDataset, match=f"expected {task} classes"):
        labels(rows(rings=found), schema(task))


def test_classes_are_sorted_as_text_and_numbered_in_that_order():
    numbers, classes = labels(rows(rings=[9, 10]), schema("binary"))

    assert classes == ("10", "9")
    assert numbers.tolist() == [1.0, 0.0]


def test_numbers_are_those_of_float_and_missing_ones_are_nan():
    texts = ["0.1009999999999999964472863211994990706443786621", "1e-7"]

    frame = typed_frame(rows(length=[texts[0][:60], texts[1]], sex=["NA", "M"]), schema())

    assert frame["length"].tolist() == [float(texts[0]), 1e-7]
    assert frame.dtypes.map(str).to_dict() == {"sex": "object", "length": "float64"}
    assert isinstance(frame["sex"][0], float)
    assert list(frame.columns) == ["sex", "length"]


def test_a_frame_of_numbers_and_one_of_their_text_are_the_same():
    numbers = [0.1 + 0.2, 1 / 3]

    typed = typed_frame(rows(length=numbers), schema())

    pd.testing.assert_frame_equal(typed, typed_frame(rows(length=[repr(n) for n in numbers]), schema()))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "expected at least one row"),
        (b"sex,length,rings\n", "at least one row after the header"),
        (b"sex,length,rings\nM,1,2\nF,1\n", "line 3: expected 3 columns, got 2"),
        (b"sex,length,rings\nM,1,2,9\n", "line 2: expected 3 columns, got 4"),
        (b"sex,length,rings\nM,1,2\n\nF,1,2\n", "line 3: expected a record, got a blank line"),
        (b"sex,sex,rings\nM,1,2\n", "header of different names"),
        (b"sex,,rings\nM,1,2\n", "header of different names"),
        (b"sex,length,rings\n\xff,1,2\n", "UTF-8"),
    ],
)
def test_a_file_that_is_no_table_is_refused_by_line(tmp_path, body, reason):
    path = tmp_path / "rows.csv"
    path.write_bytes(body)

    with pytest.raises(BadJob, match=reason):
        read_rows([path])


def test_files_with_different_headers_are_refused(tmp_path):
    for name, text in {"a": "x,y\n1,2\n", "b": "y,x\n1,2\n"}.items():
        (tmp_path / name).write_text(text)

    with pytest.raises(BadJob, match="expected the header x,y, as in a; got y,x"):
        read_rows([tmp_path / "a", tmp_path / "b"])


def test_quoted_names_and_cells_are_read(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text('"a, b",c\r\n"x, y","say ""hi"""\r\n')

    frame = read_rows([path])

    assert frame.to_dict("list") == {"a, b": ["x, y"], "c": ['say "hi"']}


def test_the_abalone_schema_names_nine_columns_of_a_regression():
    from pipeline.data import load_schema

    abalone = load_schema("abalone")

    assert abalone.task is Task.REGRESSION
    assert [c.name for c in abalone.columns][0::8] == ["sex", "rings"]
    assert len(abalone.columns) == 9


def test_of_too_many_classes_the_first_5_are_named() -> None:
    found = [*"gfedcba"]

    with pytest.raises(BadDataset, match=r"^data: expected binary classes in rings, got a, b, c, d, e$"):
        labels(rows(sex=found, length=found, rings=found), schema("binary"))
    assert labels(rows(rings=["a", "b"]), schema("multiclass"))[1] == ("a", "b")
