"""Batches that come as a file: every fault told by line before anything is posted."""

from __future__ import annotations

import asyncio
import datetime as dt
import io
import zipfile
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from sqlalchemy import text

from tests.factories import sheets
from tests.factories.running import Stage, problem

if TYPE_CHECKING:
    import httpx

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATH = "/v1/postings/batch"
ROWS = 1_000
BAD = 30
FAULTS: tuple[dict[str, Any], ...] = (
    {"valor": "1.234"},
    {"valor": 10.001},
    {"valor": "muito"},
    {"valor": -1},
    {"valor": None},
    {"data": "31/02/2026"},
    {"data": "20/11/26"},
    {"tipo": "a doar"},
    {"parcela": 1.5},
    {"diário": None},
)
CODES = [
    ("valor", "ambiguous_amount"),
    ("valor", "too_many_decimals"),
    ("valor", "no_amount"),
    ("valor", "greater_than_equal"),
    ("valor", "missing"),
    ("data", "no_date"),
    ("data", "no_date"),
    ("tipo", "unknown_word"),
    ("parcela", "no_whole_number"),
    ("diário", "missing"),
]


async def send(
    stage: Stage, content: bytes | str, *, name: str = "titles.xlsx", **values: Any
) -> httpx.Response:
    """A file as a browser sends it; None leaves a field out."""
    data = {"kind": "title_settlement", "connection": "main", **values}
    return await stage.client.post(
        PATH,
        data={name: value for name, value in data.items() if value is not None},
        files={"file": (name, content)},
    )


async def count(stage: Stage, table: str) -> int:
    """How many rows a table has."""
    async with stage.runtime.database.transaction() as connection:
        found = await connection.scalar(text(f"SELECT count(*) FROM {table}"))  # noqa: S608  ours
    return int(found or 0)


def new_rows(number: int) -> list[list[Any]]:
    """Rows of settlements that nobody has sent before."""
    lot = uuid4().hex
    return [sheets.row(place, referência=f"{lot} {place}") for place in range(number)]


def thousand_rows() -> list[list[Any]]:
    """Of 1,000 rows, 30 are wrong: each of the faults three times."""
    rows = new_rows(ROWS)
    for place in range(BAD):
        fault = FAULTS[place % len(FAULTS)]
        index = place * 33 + 5
        cells = dict(zip(sheets.HEADER, rows[index], strict=True)) | fault
        rows[index] = [cells[name] for name in sheets.HEADER]
    return rows


async def test_a_thousand_rows_of_which_thirty_are_wrong(desk: Stage) -> None:
    """All thirty by line and reason before anything is posted; with `partial` 970 posted once."""
    content = sheets.xlsx(*thousand_rows())
    before = await count(desk, "posting")

    refused = problem(await send(desk, content), 422)

    wrong = [(place * 33 + 7, *CODES[place % len(CODES)]) for place in range(BAD)]
    assert refused["code"] == "invalid_rows"
    assert refused["detail"] == "30 of 1000 rows are wrong: nothing was posted."
    told = [(found["line"], found["column"], found["code"]) for found in refused["errors"]]
    assert told == wrong
    assert all(found["message"] for found in refused["errors"])
    assert await count(desk, "posting") == before

    accepted = await send(desk, content, partial="true")

    assert accepted.status_code == 202, accepted.text
    batch = accepted.json()
    assert batch["answers"] == {"accepted": ROWS - BAD, "invalid": BAD}
    invalid = [item for item in batch["items"] if item["answer"] == "invalid"]
    assert [item["reference"] for item in invalid] == [f"line {line}" for line, *_ in wrong]
    assert [item["problems"][0]["line"] for item in invalid] == [line for line, *_ in wrong]
    assert await count(desk, "posting") == before + ROWS - BAD

    again = await send(desk, content, partial="true", again="true")

    assert again.json()["answers"] == {"live": ROWS - BAD, "invalid": BAD}
    assert await count(desk, "posting") == before + ROWS - BAD


async def test_a_file_is_taken_once(desk: Stage) -> None:
    """Its digest tells, whatever its name: 409 with the first batch, unless it is wanted again."""
    content = sheets.xlsx(*new_rows(2))
    first = (await send(desk, content)).json()

    refused = problem(await send(desk, content, name="other.xlsx"), 409)

    assert (refused["code"], refused["batch_id"]) == ("file_known", first["id"])
    again = (await send(desk, content, again="true")).json()
    assert again["file_sha256"] == first["file_sha256"]
    assert again["answers"] == {"live": 2}
    assert problem(await send(desk, content), 409)["batch_id"] == first["id"]


async def test_a_file_that_is_sent_by_two_at_once_is_taken_once(desk: Stage) -> None:
    """The second one sees the batch of the first."""
    content = sheets.xlsx(*new_rows(2))

    answers = await asyncio.gather(*(send(desk, content) for _ in range(6)))

    assert sorted(answer.status_code for answer in answers) == [202] + [409] * 5


@pytest.mark.parametrize(
    ("encoding", "delimiter", "amount"),
    [
        pytest.param("utf-8", ";", "1.980,10", id="UTF-8"),
        pytest.param("utf-8-sig", ";", "R$ 1980,10", id="byte order mark"),
        pytest.param("cp1252", ";", "1980.10", id="Windows-1252"),
        pytest.param("utf-8", ",", "1980.10", id="commas between"),
        pytest.param("utf-8", ",", '"1.980,10"', id="commas in quotes"),
    ],
)
async def test_a_csv_is_read_as_people_write_it(
    desk: Stage, encoding: str, delimiter: str, amount: str
) -> None:
    """Brazilian and ISO dates, comma and point, each with the same meaning."""
    rows = [sheets.row(referência=f"ação {uuid4()}", valor=amount) for _ in range(2)]
    rows[1][sheets.HEADER.index("data")] = "2026-11-20"
    content = sheets.csv(*rows, delimiter=delimiter).encode(encoding)

    batch = (await send(desk, content, name="titles.csv")).json()

    assert batch["answers"] == {"accepted": 2}, batch
    for item in batch["items"]:
        posting = await desk.runtime.ledger.get(item["posting_id"])
        assert posting.subject["principal"] == "1980.10"
        assert posting.subject["date"] == "2026-11-20"
        assert posting.document_key.startswith("receivable:140001/1:ação ")


async def test_a_row_that_comes_twice_is_posted_once(desk: Stage) -> None:
    """The second line of the same settlement is told with the first one's number."""
    [row] = new_rows(1)

    refused = problem(await send(desk, sheets.xlsx(row, [], row)), 422)

    assert [(one["line"], one["code"]) for one in refused["errors"]] == [(4, "repeated_row")]
    assert "line 2" in refused["errors"][0]["message"]


async def test_amounts_of_a_workbook_are_exact(desk: Stage) -> None:
    """A number is the shortest text that stands for it, and a date is the day it shows."""
    [row] = new_rows(1)
    row[sheets.HEADER.index("valor")] = 1_234_567.89
    row[sheets.HEADER.index("data")] = dt.datetime(2026, 11, 20)  # noqa: DTZ001  Excel has no zone

    [item] = (await send(desk, sheets.xlsx(row))).json()["items"]

    posting = await desk.runtime.ledger.get(item["posting_id"])
    assert (posting.subject["principal"], posting.subject["date"]) == ("1234567.89", "2026-11-20")


def bomb() -> bytes:
    """A workbook of which one part unpacks to 64 MB."""
    content = io.BytesIO(sheets.xlsx(*new_rows(1)))
    with zipfile.ZipFile(content, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/media/image1.png", b"\0" * 64 * 1024 * 1024)
    return content.getvalue()


def with_entities() -> bytes:
    """A workbook whose sheet would have to be expanded."""
    content = io.BytesIO(sheets.xlsx(*new_rows(1)))
    made = io.BytesIO()
    with zipfile.ZipFile(content) as source, zipfile.ZipFile(made, "w") as target:
        for part in source.infolist():
            inside = source.read(part)
            if part.filename == "xl/worksheets/sheet1.xml":
                inside = b'<!DOCTYPE a [<!ENTITY b "bbbb">]>' + inside
            target.writestr(part, inside)
    return made.getvalue()


GOOD = sheets.csv(sheets.row())


@pytest.mark.parametrize(
    ("content", "code"),
    [
        pytest.param("", "empty_file", id="nothing"),
        pytest.param(sheets.csv(), "empty_file", id="header only"),
        pytest.param(sheets.xlsx(), "empty_file", id="header of a workbook only"),
        pytest.param(GOOD.encode("utf-16"), "unknown_encoding", id="UTF-16"),
        pytest.param(GOOD.encode("cp850"), "unknown_encoding", id="DOS"),
        pytest.param(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" * 64, "old_format", id="XLS"),
        pytest.param(b"PK\x03\x04" + b"x" * 99, "malformed_xlsx", id="damaged archive"),
        pytest.param(sheets.xlsx()[:-200], "malformed_xlsx", id="cut off"),
        pytest.param(with_entities(), "malformed_xlsx", id="entities"),
        pytest.param(bomb(), "too_large", id="zip bomb"),
        pytest.param(GOOD + "x" * 4 * 1024 * 1024, "too_large", id="large"),
        pytest.param(sheets.csv(*[sheets.row()] * 1_001), "too_long", id="1,001 rows"),
        pytest.param(GOOD.replace("desconto", "desc."), "unknown_column", id="unknown column"),
        pytest.param(GOOD.replace("desconto", "principal"), "repeated_column", id="column twice"),
        pytest.param(GOOD.replace("parcela", ""), "missing", id="column left out"),
        pytest.param(GOOD + 'a;"b;c\r\n', "malformed_csv", id="open quotes"),
    ],
)
async def test_a_file_that_cannot_be_read_for_sure_is_refused(
    desk: Stage, content: bytes | str, code: str
) -> None:
    """As a whole, with the reason; `partial` changes nothing about that."""
    before = await count(desk, "batch")

    refused = problem(await send(desk, content, partial="true"), 422, "file")

    assert code in {found["code"] for found in refused["errors"]}
    assert await count(desk, "batch") == before


@pytest.mark.parametrize(
    ("values", "status", "field"),
    [
        pytest.param({"kind": None}, 422, "kind", id="no kind"),
        pytest.param({"kind": "letter"}, 404, "kind", id="unknown kind"),
        pytest.param({"kind": "freight_cte"}, 422, "kind", id="a kind without sheets"),
        pytest.param({"kind": "\x00"}, 422, "kind", id="NUL"),
        pytest.param({"connection": None}, 422, "connection", id="no connection"),
        pytest.param({"connection": "moon"}, 404, "connection", id="unknown connection"),
        pytest.param({"partial": "perhaps"}, 422, "partial", id="no truth value"),
        pytest.param({"reference": "x" * 201}, 422, "reference", id="a long reference"),
        pytest.param({"due": "now"}, 422, "due", id="a name not known"),
    ],
)
async def test_a_wrong_field_of_the_form_is_named(
    desk: Stage, values: dict[str, Any], status: int, field: str
) -> None:
    """What stands around the file is checked as well."""
    problem(await send(desk, GOOD, **values), status, field)


async def test_a_form_that_is_none_is_refused(desk: Stage) -> None:
    """With a problem, as anything else."""
    headers = {"Content-Type": "multipart/form-data; boundary=x"}

    problem(await desk.client.post(PATH, content=b"--y", headers=headers), 400)
    problem(await desk.client.post(PATH, headers={"Content-Type": "multipart/form-data"}), 400)
    text = {"kind": (None, "title_settlement"), "connection": (None, "main"), "file": (None, "x")}
    problem(await desk.client.post(PATH, files=text), 422, "file")
