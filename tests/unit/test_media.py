"""Content types and negotiation. The ids are rules of the corpus (tests/corpus)."""

from __future__ import annotations

import pytest

from featurizer import model as featurizer
from featurizer.records import ACCEPTED
from predictor import features
from predictor import model as predictor
from serving.errors import NotAcceptable, UnsupportedMediaType
from serving.media import content_type, negotiate, parse_media_type, preferred
from serving.payload import CSV, JSON, JSONLINES, NPY
from tests.pace import cost, least_cost

JUNK = "x" * 8192


@pytest.mark.parametrize(
    ("text", "name", "parameters"),
    [
        pytest.param("text/csv", CSV, {}, id="M1"),
        pytest.param("text/csv; charset=utf-8", CSV, {"charset": "utf-8"}, id="M2"),
        pytest.param('Text/CSV;CHARSET="UTF-8"', CSV, {"charset": "UTF-8"}, id="M2 quoted"),
        pytest.param("text/csv; charset=us-ascii", CSV, {"charset": "us-ascii"}, id="M2 ASCII"),
        pytest.param("text/csv; header=present", CSV, {"header": "present"}, id="M4"),
        pytest.param("text/csv; foo=bar; label_size=1", CSV, {"foo": "bar", "label_size": "1"}, id="M6"),
        pytest.param("text/csv;;;=;", CSV, {}, id="M10 empty parameters"),
        pytest.param("text/csv;contract=ab12", CSV, {"contract": "ab12"}, id="the hop"),
        pytest.param('text/csv; charset=""', CSV, {"charset": ""}, id="a charset that says nothing"),
        pytest.param(r'text/csv; charset="u\tf\-8"', CSV, {"charset": "utf-8"}, id="a quoted pair"),
        pytest.param('text/csv; a=";charset=utf-16;"', CSV, {"a": ";charset=utf-16;"}, id="semicolons in quotes"),
        pytest.param('text/csv; charset=utf-8; a="b;c', CSV, {"charset": "utf-8"}, id="a quote that is open"),
        pytest.param("application/json", JSON, {}, id="JSON"),
        pytest.param("application/jsonlines", JSONLINES, {}, id="L5"),
        pytest.param("application/x-jsonlines", JSONLINES, {}, id="L5 x-jsonlines"),
        pytest.param("application/x-ndjson", JSONLINES, {}, id="L5 x-ndjson"),
    ],
)
def test_a_supported_content_type_is_read_with_its_parameters(text: str, name: str, parameters: dict[str, str]) -> None:
    media = content_type(text, ACCEPTED)

    assert media.name == name
    assert media.parameters == parameters


@pytest.mark.parametrize(
    ("text", "code"),
    [
        *(
            (f"text/csv; charset={charset}", "unsupported_charset") for charset in ("iso-8859-1", "utf-16", "bogus")
        ),  # M3
        *(
            (text, "unsupported_media_type")
            for text in ("", " ", "text/", "csv", "/", "text csv", "text/csv, text/csv")
        ),
        *((text, "unsupported_media_type") for text in (JUNK, f"text/{JUNK}", f"{JUNK}/csv", "/" * 8192)),  # M10
        *(
            (text, "unsupported_media_type")
            for text in (
                *("application/octet-stream", "text/plain", "application/x-www-form-urlencoded"),  # M8
                *("multipart/form-data; boundary=x", "application/xml"),
                *("application/python-pickle", "application/x-joblib", "application/vnd.bentoml+pickle"),  # M9
                *("text/libsvm", "application/x-recordio-protobuf"),  # P22
            )
        ),
    ],
)
def test_another_content_type_is_refused_with_the_supported_ones(text: str, code: str) -> None:
    with pytest.raises(UnsupportedMediaType) as caught:
        content_type(text, features.ACCEPTED)

    assert (caught.value.status, caught.value.code) == (415, code)
    if code == "unsupported_media_type":
        came = f"got {text[:63]}" if text else "got no Content-Type"
        assert caught.value.message.startswith(f"expected Content-Type {' or '.join(features.ACCEPTED)}, {came}")


def test_npy_is_no_raw_record() -> None:
    with pytest.raises(UnsupportedMediaType):
        content_type(NPY, ACCEPTED)


@pytest.mark.parametrize(
    "text",
    [
        JUNK,
        f"text/csv;{'x=' * 4000}",
        f'text/csv;a="{"a" * 8000}',
        "text/csv" + ";" * 8000,
        'text/csv;a="' + r"\"" * 4000,
        "text/csv" + ';"' * 4000,
    ],
)
def test_junk_in_a_header_is_read_in_no_time(text: str) -> None:  # M10, M21
    def read() -> None:
        parse_media_type(text)
        negotiate(",".join(["application/xml;q=0.5"] * 1000) + ",text/csv", (CSV,))

    assert least_cost(lambda: cost(read), 0.05) <= 0.05


@pytest.mark.parametrize(
    ("accept", "of_featurizer", "of_predictor"),
    [
        pytest.param("", CSV, JSON, id="M13 absent"),
        pytest.param("*/*", CSV, JSON, id="M13 any"),
        pytest.param("text/*", CSV, CSV, id="M13 text"),
        pytest.param("application/json", JSON, JSON, id="M14 JSON"),
        pytest.param("application/jsonlines", JSONLINES, JSONLINES, id="M14 JSON Lines"),
        pytest.param("application/x-npy", NPY, NPY, id="M14 NPY"),
        pytest.param("TEXT/CSV", CSV, CSV, id="upper case"),
        pytest.param("text/csv; charset=utf-8; header=absent", CSV, CSV, id="parameters"),
        pytest.param("application/x-ndjson", JSONLINES, JSONLINES, id="an alias"),
        pytest.param("application/xml;q=0.9, text/csv;q=0.1", CSV, CSV, id="M16"),
        pytest.param("text/csv;q=0, */*", JSON, JSON, id="M18"),
        pytest.param("application/json;q=0, */*", CSV, CSV, id="M18 JSON"),
        pytest.param("text/csv;q=2", CSV, JSON, id="M19 q=2"),
        pytest.param(";;;", CSV, JSON, id="M19 ;;;"),
        pytest.param("text/csv;q=abc", CSV, JSON, id="M19 q=abc"),
        pytest.param("text/csv;q=2, application/x-npy", NPY, NPY, id="M19 beside a good one"),
        pytest.param("application/json, text/csv", CSV, JSON, id="M20"),
        pytest.param("text/csv;q=0.5, application/json;q=0.500", CSV, JSON, id="M20 with q"),
        pytest.param("application/*", JSON, JSON, id="application"),
        pytest.param("text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2", CSV, JSON, id="Java"),
        pytest.param('text/csv;a="b,c";q=0.1, application/jsonlines;q=0.5', JSONLINES, JSONLINES, id="comma in quotes"),
        pytest.param("text/csv;version=2;q=0, text/csv;q=0.5", CSV, CSV, id="a kind of CSV is refused"),
        pytest.param("application/*;q=0.9, text/csv;q=0.8", JSON, JSON, id="the higher q"),
        pytest.param(",".join(["application/xml"] * 1000) + ",text/csv", CSV, CSV, id="M21"),
    ],
)
def test_the_answer_is_of_the_type_most_wanted(accept: str, of_featurizer: str, of_predictor: str) -> None:
    assert negotiate(accept, featurizer.OFFERED).name == of_featurizer
    assert negotiate(accept, predictor.OFFERED).name == of_predictor


@pytest.mark.parametrize(
    "accept",
    [
        pytest.param("application/xml", id="M15"),
        pytest.param("text/csv;q=0", id="M17"),
        pytest.param("*/*;q=0", id="M17 any"),
        pytest.param("image/*, audio/*;q=0.1", id="other kinds"),
        pytest.param("text/html", id="a sibling"),
    ],
)
def test_what_nobody_can_answer_is_refused_with_what_is_offered(accept: str) -> None:
    with pytest.raises(NotAcceptable) as caught:
        negotiate(accept, featurizer.OFFERED)

    assert caught.value.status == 406
    assert all(name in caught.value.message for name in featurizer.OFFERED)


@pytest.mark.parametrize(
    ("default", "first"),
    [("", CSV), (NPY, NPY), ("application/x-ndjson", JSONLINES), ("Application/JSON; charset=utf-8", JSON)],
)
def test_the_default_of_the_container_comes_first(default: str, first: str) -> None:
    offered = preferred(featurizer.OFFERED, default)

    assert offered[0] == first
    assert sorted(offered) == sorted(featurizer.OFFERED)
    assert negotiate("*/*", offered).name == first


@pytest.mark.parametrize("default", ["application/xml", "csv"])
def test_a_default_that_is_not_offered_is_refused(default: str) -> None:
    with pytest.raises(ValueError, match="SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT"):
        preferred(featurizer.OFFERED, default)
