from __future__ import annotations

import re
import sys
import threading
import time
import warnings
from datetime import UTC, datetime
from decimal import Decimal
from importlib.resources import files
from string import ascii_uppercase, digits
from typing import TYPE_CHECKING, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import InvalidInput
from service.postings.freight_cte import fiscal_document
from service.postings.freight_cte.fiscal_document import (
    FreightType,
    Municipality,
    Party,
    TakerRole,
)
from tests.factories import cte

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from service.errors import Problem

T = TypeVar("T")

KEY = cte.make_key()
ALPHANUMERIC_KEY = cte.make_key(issuer=cte.ALPHANUMERIC)


def refusal(call: Callable[[], object]) -> list[Problem]:
    """Give the problems with which `call` is refused."""
    with pytest.raises(InvalidInput) as caught:
        call()
    return list(caught.value.problems)


def outcome(call: Callable[[], T]) -> T | InvalidInput:
    """Give what `call` gives, or its refusal; any other error passes."""
    try:
        return call()
    except InvalidInput as error:
        return error


def told(problems: Iterable[Problem]) -> set[tuple[str, str]]:
    """Give each problem's field and code."""
    return {(problem.field, problem.code) for problem in problems}


def xml_refusal(text: str | bytes) -> list[Problem]:
    """Give the problems with which an XML is refused."""
    return refusal(lambda: fiscal_document.parse_cte(text))


def replaced(text: str, old: str, new: str) -> str:
    """Replace a piece that stands in the text exactly once."""
    assert text.count(old) == 1, old
    return text.replace(old, new)


cnpjs = st.text(ascii_uppercase + digits, min_size=12, max_size=12).map(cte.make_cnpj)
numeric_cnpjs = st.text(digits, min_size=12, max_size=12).map(cte.make_cnpj)


def keys(issuers: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Give valid keys of every state, month, number and code."""
    return st.builds(
        cte.make_key,
        state=st.sampled_from(sorted(fiscal_document.STATES)),
        year=st.integers(2000, 2099),
        month=st.integers(1, 12),
        issuer=issuers.filter(lambda issuer: issuer != "0" * 14),
        series=st.integers(0, 919),
        number=st.integers(1, 999_999_999),
        emission=st.sampled_from("13478"),
        code=st.text(digits, min_size=8, max_size=8),
    )


class TestAccessKey:
    def test_parts(self) -> None:
        """A key tells its parts."""
        text = cte.make_key(
            state="41", year=2025, month=12, series=12, number=987654321, code="00000001"
        )

        key = fiscal_document.access_key(text)

        assert (str(key), key.state_code, key.year, key.month) == (text, "41", 2025, 12)
        assert (key.issuer_cnpj, key.model, key.series) == (cte.CARRIER, "57", 12)
        assert (key.number, key.emission_type, key.code) == (987654321, "1", "00000001")
        assert key.check_digit == int(text[-1])

    def test_real_numbers(self) -> None:
        """The check digit is the one of a key worked out by hand: remainder 0 and 1 give 0."""
        # weights from the right 2, 3, 4: 9x2 = 18, 18 mod 11 = 7, 11 - 7 = 4
        assert fiscal_document._check_digit("0" * 42 + "9") == 4
        # 4x3 = 12, remainder 1: the difference 10 is written 0
        assert fiscal_document._check_digit("0" * 41 + "40") == 0
        assert fiscal_document._check_digit("0" * 43) == 0
        # the letter A is worth 17: 17x2 = 34, remainder 1
        assert fiscal_document._check_digit("0" * 42 + "A") == 0

    @pytest.mark.parametrize(
        "text",
        [
            pytest.param(f"CTe{KEY}", id="prefix"),
            pytest.param(f"  {KEY}\n", id="margins"),
            pytest.param(" ".join(re.findall("....", KEY)), id="groups of four"),
            pytest.param("\N{NO-BREAK SPACE}".join(re.findall("....", KEY)), id="no-break spaces"),
        ],
    )
    def test_forgiven(self, text: str) -> None:
        """What people paste around a key is dropped."""
        assert fiscal_document.access_key(text).text == KEY

    def test_letters(self) -> None:
        """The letters of an alphanumeric CNPJ are kept, and lower case is raised."""
        assert fiscal_document.access_key(ALPHANUMERIC_KEY.lower()).text == ALPHANUMERIC_KEY
        assert fiscal_document.access_key(ALPHANUMERIC_KEY).issuer_cnpj == cte.ALPHANUMERIC

    @pytest.mark.parametrize(
        ("text", "code", "words"),
        [
            pytest.param("", "wrong_length", "44 characters, this one has 0", id="empty"),
            pytest.param(KEY[:-1], "wrong_length", "this one has 43", id="short"),
            pytest.param(KEY + "0", "wrong_length", "this one has 45", id="long"),
            pytest.param("A" + KEY[1:], "invalid_characters", "7th to the 18th", id="letter first"),
            pytest.param(KEY[:40] + "A" + KEY[41:], "invalid_characters", "digits", id="in code"),
            pytest.param(
                KEY[:18] + "AB" + KEY[20:], "invalid_characters", "CNPJ", id="CNPJ digits"
            ),
            pytest.param("٣" + KEY[1:], "invalid_characters", "digits", id="Arabic digit"),
            pytest.param(KEY[:9] + "ı" + KEY[10:], "invalid_characters", "A to Z", id="dotless i"),
            pytest.param(KEY[:20] + "-" + KEY[21:], "invalid_characters", "digits", id="dash"),
            pytest.param(
                cte.make_key(model="55"),
                "wrong_model",
                "this is a key of a NF-e (55), not of a CTe (57)",
                id="NF-e",
            ),
            pytest.param(f"NFe{cte.make_key(model='55')}", "wrong_model", "NF-e", id="NF-e prefix"),
            pytest.param(cte.make_key(model="67"), "wrong_model", "CTe-OS (67)", id="CTe-OS"),
            pytest.param(cte.make_key(model="99"), "wrong_model", "unknown model", id="unknown"),
            pytest.param(cte.make_key(state="34"), "wrong_state", "begins with 34", id="state"),
            pytest.param(cte.make_key(month=13), "wrong_month", "month 13", id="month 13"),
            pytest.param(cte.make_key(month=0), "wrong_month", "month 00", id="month 0"),
            pytest.param(
                cte.make_key(issuer="11222333000182"),
                "wrong_issuer",
                "the check digits are 82, but the 12 characters before them ask for 81",
                id="issuer",
            ),
            pytest.param(cte.make_key(issuer="0" * 14), "wrong_issuer", "zeros", id="no issuer"),
            pytest.param(
                cte.make_key(issuer="12345678900", series=920), "wrong_issuer", "CPF", id="CPF"
            ),
            pytest.param(cte.make_key(series=920), "wrong_issuer", "series 920", id="no CPF"),
        ],
    )
    def test_refused(self, text: str, code: str, words: str) -> None:
        """A wrong key is refused for one reason, with a stable code and a sentence that helps."""
        (problem,) = refusal(lambda: fiscal_document.access_key(text))

        assert (problem.field, problem.code) == ("access_key", code)
        assert words in problem.message

    def test_several_reasons(self) -> None:
        """Reasons that can be seen together are told together, under the field asked for."""
        text = cte.make_key(state="99", month=77)

        problems = refusal(lambda: fiscal_document.access_key(text, field="input.key"))

        assert told(problems) == {("input.key", "wrong_state"), ("input.key", "wrong_month")}

    def test_natural_person(self) -> None:
        """In the series 920 to 969 a CPF stands where the CNPJ is."""
        cpf = cte.make_cpf()

        key = fiscal_document.access_key(cte.make_key(issuer=cpf, series=969))

        assert key.issuer_cnpj == "000" + cpf

    @given(keys(cnpjs))
    def test_every_valid_key(self, text: str) -> None:
        """Every well-made key is read back unchanged."""
        assert fiscal_document.access_key(text).text == text

    @given(keys(numeric_cnpjs), st.data())
    def test_one_wrong_digit(self, text: str, data: st.DataObject) -> None:
        """One wrong digit is refused, unless modulo 11 itself cannot tell.

        It cannot where the check digit is 0, which stands for two remainders; and never where
        the check digit is the wrong one.
        """
        place = data.draw(st.integers(0, 43))
        wrong = data.draw(st.sampled_from(digits).filter(lambda digit: digit != text[place]))
        changed = text[:place] + wrong + text[place + 1 :]

        if text[43] == "0" and place != 43 and cte.key_digit(changed[:43]) == "0":
            return
        assert refusal(lambda: fiscal_document.access_key(changed))

    @given(keys(cnpjs), st.data())
    def test_never_repaired(self, text: str, data: st.DataObject) -> None:
        """A changed key is refused or stays another key: it is never taken for the first one."""
        place = data.draw(st.integers(0, 43))
        wrong = data.draw(st.characters().filter(lambda found: found.upper() != text[place]))
        changed = text[:place] + wrong + text[place + 1 :]

        key = outcome(lambda: fiscal_document.access_key(changed))

        assert isinstance(key, InvalidInput) or key.text == changed.upper() != text

    @given(st.text(max_size=60))
    def test_any_text(self, text: str) -> None:
        """Any text is a key or refused with problems; no other error leaves."""
        key = outcome(lambda: fiscal_document.access_key(text))

        if isinstance(key, InvalidInput):
            assert key.problems
        else:
            assert cte.key_digit(key.text[:43]) == key.text[43]


class TestCnpj:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            pytest.param("11222333000181", "11222333000181", id="digits"),
            pytest.param(" 11.222.333/0001-81 ", "11222333000181", id="formatted"),
            pytest.param("12ABC34501DE35", "12ABC34501DE35", id="letters"),
            pytest.param("12.abc.345/01de-35", "12ABC34501DE35", id="lower case"),
        ],
    )
    def test_read(self, text: str, expected: str) -> None:
        """A CNPJ is normalised, and its letters are kept."""
        assert fiscal_document.cnpj(text) == expected

    @pytest.mark.parametrize(
        ("text", "code"),
        [
            pytest.param("11222333000182", "wrong_check_digit", id="last digit"),
            pytest.param("12ABC34501DF35", "wrong_check_digit", id="letter"),
            pytest.param("11111111111111", "wrong_check_digit", id="ones"),
            pytest.param("00000000000000", "invalid_characters", id="zeros"),
            pytest.param("112223330001", "wrong_length", id="no check digits"),
            pytest.param(cte.make_cpf(), "wrong_length", id="CPF"),
            pytest.param("12ABC34501DE3A", "invalid_characters", id="letter at the end"),
            pytest.param("11222333_00181", "invalid_characters", id="underscore"),
            pytest.param("１1222333000181", "invalid_characters", id="full-width digit"),
            pytest.param("", "wrong_length", id="empty"),
        ],
    )
    def test_refused(self, text: str, code: str) -> None:
        """A wrong CNPJ is refused with a stable code."""
        assert told(refusal(lambda: fiscal_document.cnpj(text))) == {("cnpj", code)}

    def test_cpf_is_named(self) -> None:
        """Eleven characters are recognised as what they probably are."""
        (problem,) = refusal(lambda: fiscal_document.cnpj(cte.make_cpf(), field="taker"))

        assert problem.field == "taker"
        assert "as many as a CPF" in problem.message

    @given(cnpjs.filter(lambda text: text != "0" * 14))
    def test_every_valid_cnpj(self, text: str) -> None:
        """Every well-made CNPJ is accepted, bare and formatted."""
        formatted = f"{text[:2]}.{text[2:5]}.{text[5:8]}/{text[8:12]}-{text[12:]}"

        assert fiscal_document.cnpj(text) == fiscal_document.cnpj(formatted) == text


@pytest.fixture
def impatient_threads() -> Iterator[None]:
    """Let threads interrupt each other after every few instructions."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


class TestFacts:
    def test_normal(self) -> None:
        """A normal, authorised document tells all its facts."""
        invoices = [cte.make_key(model="55", number=n) for n in (7, 8)]

        document = fiscal_document.parse_cte(
            cte.cte_xml(amount_to_receive="1490.5".ljust(7, "0"), invoice_keys=invoices)
        )

        assert document.key == fiscal_document.access_key(KEY)
        assert (document.number, document.series) == (4321, 1)
        assert document.issued_at == datetime(2026, 7, 14, 12, 30, tzinfo=UTC)
        assert (document.type, document.complements, document.substitutes) == (
            FreightType.NORMAL,
            (),
            None,
        )
        assert document.issuer == Party(name="Transportes Aurora Ltda", cnpj=cte.CARRIER)
        assert (document.total, document.amount_to_receive, document.icms) == (
            Decimal("1500.00"),
            Decimal("1490.50"),
            Decimal("180.00"),
        )
        assert document.origin == Municipality(code="3550308", state="SP")
        assert document.destination == Municipality(code="4106902", state="PR")
        assert document.invoice_keys == tuple(invoices)
        assert (document.authorised, document.protocol) == (True, "135260000000123")
        assert not document.homologation

    @pytest.mark.parametrize(
        ("code", "role", "number"),
        [
            ("0", TakerRole.SENDER, cte.SENDER),
            ("1", TakerRole.DISPATCHER, cte.DISPATCHER),
            ("2", TakerRole.RECEIVER, cte.RECEIVER),
            ("3", TakerRole.RECIPIENT, cte.RECIPIENT),
            ("4", TakerRole.OTHER, cte.OTHER),
        ],
    )
    def test_taker(self, code: str, role: TakerRole, number: str) -> None:
        """The taker is the party that the layout's code names."""
        document = fiscal_document.parse_cte(cte.cte_xml(taker_code=code))

        assert (document.taker_role, document.taker.cnpj) == (role, number)

    def test_taker_is_a_person(self) -> None:
        """A taker may have a CPF and no CNPJ."""
        cpf = cte.make_cpf()

        document = fiscal_document.parse_cte(cte.cte_xml(taker_code="4", other_taker=cpf))

        assert document.taker == Party(name="Outro Tomador SA", cpf=cpf)

    def test_taker_abroad(self) -> None:
        """A party abroad, written with a CNPJ of zeros, has no CNPJ."""
        document = fiscal_document.parse_cte(cte.cte_xml(taker_code="0", sender="0" * 14))

        assert document.taker == Party(name="Remetente Indústria SA")

    def test_absent_parties(self) -> None:
        """Parties that do not take the freight may be absent."""
        document = fiscal_document.parse_cte(
            cte.cte_xml(taker_code="0", dispatcher=None, receiver=None, recipient=None)
        )

        assert document.taker.cnpj == cte.SENDER

    def test_alphanumeric(self) -> None:
        """An alphanumeric CNPJ is kept whole in the issuer, the taker and the key."""
        document = fiscal_document.parse_cte(
            cte.cte_xml(issuer=cte.ALPHANUMERIC, recipient=cte.ALPHANUMERIC)
        )

        assert document.issuer.cnpj == document.taker.cnpj == cte.ALPHANUMERIC == "12ABC34501DE35"
        assert document.key.issuer_cnpj == cte.ALPHANUMERIC

    def test_issuer_is_a_person(self) -> None:
        """A natural person issues in a series of its own, with a CPF."""
        cpf = cte.make_cpf()

        document = fiscal_document.parse_cte(cte.cte_xml(issuer=cpf, series=920))

        assert (document.issuer.cnpj, document.issuer.cpf) == (None, cpf)

    def test_complement(self) -> None:
        """A complement names the documents it adds to, up to ten."""
        originals = [cte.make_key(number=n) for n in (1, 2)]

        document = fiscal_document.parse_cte(cte.cte_xml(type_code="1", complements=originals))

        assert document.type is FreightType.COMPLEMENT
        assert [str(key) for key in document.complements] == originals
        assert document.invoice_keys == ()

    def test_substitute(self) -> None:
        """A substitute names the document it replaces."""
        original = cte.make_key(number=1)

        document = fiscal_document.parse_cte(cte.cte_xml(type_code="3", substitutes=original))

        assert (document.type, str(document.substitutes)) == (FreightType.SUBSTITUTE, original)

    def test_annulment(self) -> None:
        """An annulment, which only the layout 3.00 has, is recognised."""
        document = fiscal_document.parse_cte(cte.cte_xml(type_code="2", version="3.00"))

        assert document.type is FreightType.ANNULMENT

    @pytest.mark.parametrize(
        ("group", "expected"),
        [
            pytest.param("<ICMS20><vICMS>9.10</vICMS></ICMS20>", Decimal("9.10"), id="reduced"),
            pytest.param("<ICMS90><vICMS>0</vICMS></ICMS90>", Decimal(0), id="others"),
            pytest.param(
                "<ICMSOutraUF><vICMSOutraUF>7.00</vICMSOutraUF></ICMSOutraUF>",
                Decimal("7.00"),
                id="other state",
            ),
            pytest.param("<ICMS45><CST>40</CST></ICMS45>", None, id="exempt"),
            pytest.param("<ICMSSN><indSN>1</indSN></ICMSSN>", None, id="Simples Nacional"),
            pytest.param("<ICMS60><vICMSSTRet>5.00</vICMSSTRet></ICMS60>", None, id="withheld"),
        ],
    )
    def test_icms(self, group: str, expected: Decimal | None) -> None:
        """The ICMS is the carrier's own, in whichever group it stands."""
        assert fiscal_document.parse_cte(cte.cte_xml(icms=group)).icms == expected

    @pytest.mark.parametrize(
        ("status", "expected"), [("100", True), ("150", True), ("101", False), ("110", False)]
    )
    def test_authorised(self, status: str, expected: bool) -> None:  # noqa: FBT001  # a table
        """Only the statuses 100 and 150 of the protocol authorise."""
        document = fiscal_document.parse_cte(cte.cte_xml(protocol_status=status))

        assert document.authorised is expected

    def test_bare(self) -> None:
        """A document without its protocol is read, and is not authorised."""
        document = fiscal_document.parse_cte(cte.cte_xml(protocol_status=None))

        assert (document.authorised, document.protocol) == (False, None)

    def test_homologation(self) -> None:
        """A document of the authority's test environment is marked."""
        assert fiscal_document.parse_cte(cte.cte_xml(environment="2")).homologation

    def test_contingency(self) -> None:
        """A document issued in contingency is read like another."""
        document = fiscal_document.parse_cte(cte.cte_xml(emission="8"))

        assert document.key.emission_type == "8"

    def test_greatest_amount(self) -> None:
        """The greatest amount of the layout keeps every digit."""
        document = fiscal_document.parse_cte(cte.cte_xml(total="9999999999999.99"))

        assert document.total == Decimal("9999999999999.99")

    def test_what_is_not_read(self) -> None:
        """A new element, or an unknown value of one that is not read, stops nothing."""
        text = replaced(cte.cte_xml(), "<tpServ>0</tpServ>", "<tpServ>9</tpServ><novo>1</novo>")

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            document = fiscal_document.parse_cte(text)

        assert (document.number, caught) == (4321, [])

    def test_schema_instance(self) -> None:
        """Attributes of XML Schema, which could name other classes, are ignored."""
        text = cte.cte_xml().replace(
            "<vPrest>",
            '<vPrest xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="ns:TEvento">',
        )

        assert fiscal_document.parse_cte(text).total == Decimal("1500.00")

    @pytest.mark.usefixtures("impatient_threads")
    def test_threads(self) -> None:
        """Documents read in several threads leave the process's warning filters as they were."""
        before = list(warnings.filters)
        numbers: list[int] = []

        def read(first: int) -> None:
            texts = (cte.cte_xml(number=number) for number in range(first, first + 20))
            numbers.extend(fiscal_document.parse_cte(text).number for text in texts)

        threads = [threading.Thread(target=read, args=(first,)) for first in range(1, 81, 20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert sorted(numbers) == list(range(1, 81))
        assert list(warnings.filters) == before

    def test_document_of_others(self) -> None:
        """A document that this project did not make is read: a sample of the layout's library."""
        name = "51160624686092000173570010000000031000000020-cte.XML"
        sample = files("nfelib").joinpath("cte", "samples", "v4_0", name)

        document = fiscal_document.parse_cte(sample.read_bytes())

        assert str(document.key) == name[:44]
        assert document.issuer.cnpj == name[6:20]


class TestCharacters:
    NAME = "São João Transportes & Cia"

    @pytest.mark.parametrize(
        ("declared", "codec"),
        [
            pytest.param("UTF-8", "utf-8", id="UTF-8"),
            pytest.param("UTF-8", "utf-8-sig", id="byte order mark"),
            pytest.param("utf8", "utf-8", id="utf8"),
            pytest.param(None, "utf-8", id="undeclared"),
            pytest.param(None, "utf-8-sig", id="undeclared with byte order mark"),
            pytest.param("ISO-8859-1", "latin-1", id="Latin-1"),
            pytest.param("windows-1252", "cp1252", id="Windows-1252"),
        ],
    )
    def test_bytes(self, declared: str | None, codec: str) -> None:
        """Bytes are read in the encoding that they declare."""
        text = cte.cte_xml(issuer_name=self.NAME, encoding=declared)

        assert fiscal_document.parse_cte(text.encode(codec)).issuer.name == self.NAME

    @pytest.mark.parametrize("declared", ["UTF-8", "ISO-8859-1", "UTF-16", None])
    def test_text(self, declared: str | None) -> None:
        """A text is read as it is, whatever encoding it declares, and with a byte order mark."""
        text = cte.cte_xml(issuer_name=self.NAME, encoding=declared)

        for given_text in (text, "\ufeff" + text, "\r\n " + text):
            assert fiscal_document.parse_cte(given_text).issuer.name == self.NAME

    @pytest.mark.parametrize(
        ("data", "code"),
        [
            pytest.param(
                cte.cte_xml(issuer_name=NAME).encode("latin-1"), "malformed_xml", id="false UTF-8"
            ),
            pytest.param(
                cte.cte_xml(encoding="UTF-7").encode(), "unsupported_encoding", id="UTF-7"
            ),
            pytest.param(
                cte.cte_xml(encoding="UTF-16").encode("utf-16"), "malformed_xml", id="UTF-16"
            ),
            pytest.param(cte.cte_xml(issuer_name="\udc80"), "malformed_xml", id="surrogate"),
            pytest.param(cte.cte_xml(issuer_name="\0"), "malformed_xml", id="null"),
        ],
    )
    def test_refused(self, data: bytes | str, code: str) -> None:
        """Characters that are not what they claim are refused, and not guessed."""
        assert told(xml_refusal(data)) == {("xml", code)}


LAUGHS = "".join(
    f'<!ENTITY l{level} "{f"&l{level - 1};" * 10}">' if level else '<!ENTITY l0 "ha">'
    for level in range(30)
)


class TestHostile:
    @pytest.mark.parametrize(
        "doctype",
        [
            pytest.param(f"<!DOCTYPE CTe [{LAUGHS}]>", id="billion laughs"),
            pytest.param('<!DOCTYPE CTe [<!ENTITY x SYSTEM "file:///etc/passwd">]>', id="file"),
            pytest.param('<!DOCTYPE CTe [<!ENTITY x SYSTEM "http://127.0.0.1:9/">]>', id="URL"),
            pytest.param('<!DOCTYPE CTe SYSTEM "http://127.0.0.1:9/cte.dtd">', id="external DTD"),
            pytest.param("<!DOCTYPE CTe>", id="bare DTD"),
            pytest.param("<!-- a -->\n<?b c?> <!-- > -- --><!DOCTYPE CTe>", id="behind comments"),
            pytest.param("<!-- a -->" * 100_000 + "<!DOCTYPE CTe>", id="behind many comments"),
        ],
    )
    def test_dtd(self, doctype: str) -> None:
        """A document type definition is refused at once, whatever it defines."""
        text = cte.cte_xml(encoding=None)
        started = time.monotonic()

        assert told(xml_refusal(doctype + text)) == {("xml", "dtd_forbidden")}
        assert told(xml_refusal('<?xml version="1.0"?>' + doctype + text)) == {
            ("xml", "dtd_forbidden")
        }
        assert time.monotonic() - started < 2

    def test_undefined_entity(self) -> None:
        """An entity without a definition is malformed."""
        text = replaced(cte.cte_xml(), "Transportes Aurora", "&x; Aurora")

        assert told(xml_refusal(text)) == {("xml", "malformed_xml")}

    def test_inclusion(self) -> None:
        """XInclude is an unknown element like another: nothing is fetched."""
        inclusion = '<i:include xmlns:i="http://www.w3.org/2001/XInclude" href="/etc/passwd"/>'

        document = fiscal_document.parse_cte(
            cte.cte_xml().replace("<vPrest>", f"{inclusion}<vPrest>")
        )

        assert "root:" not in repr(document)

    def test_size(self) -> None:
        """A document above the limit is refused unread."""
        text = cte.cte_xml() + " " * fiscal_document.MAXIMUM_BYTES

        assert told(xml_refusal(text)) == {("xml", "too_large")}
        assert told(xml_refusal(text.encode())) == {("xml", "too_large")}

    @pytest.mark.parametrize(
        ("depth", "code"), [(40, "too_deep"), (200_000, "malformed_xml")], ids=["deep", "deeper"]
    )
    def test_depth(self, depth: int, code: str) -> None:
        """Elements nested beyond the layout are refused."""
        nested = "<a>" * depth + "</a>" * depth

        assert told(xml_refusal(cte.cte_xml().replace("<vPrest>", f"{nested}<vPrest>"))) == {
            ("xml", code)
        }

    def test_many_problems(self) -> None:
        """A document with thousands of problems tells a readable number of them."""
        assert len(xml_refusal(cte.cte_xml(invoice_keys=["1"] * 5000))) == 50
        assert (
            len(xml_refusal(replaced(cte.cte_xml(), "<cCT>", "<mod>57</mod>" * 99 + "<cCT>"))) == 50
        )

    @given(st.binary(max_size=200))
    def test_any_bytes(self, data: bytes) -> None:
        """Any bytes are refused with a problem; no other error leaves."""
        assert xml_refusal(data)

    @given(st.data())
    def test_any_damage(self, data: st.DataObject) -> None:
        """A document with a piece cut out or put in is read or refused; no other error leaves."""
        text = cte.cte_xml(invoice_keys=[cte.make_key(model="55")])
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(len(text), start + 40)))
        piece = data.draw(st.sampled_from(["", "<a/>", "<toma4/>", "-1", "&lt;", "\ud800"]))

        document = outcome(lambda: fiscal_document.parse_cte(text[:start] + piece + text[end:]))

        assert not isinstance(document, InvalidInput) or document.problems


class TestOtherDocuments:
    @pytest.mark.parametrize(
        ("text", "words"),
        [
            pytest.param(
                '<nfeProc xmlns="http://www.portalfiscal.inf.br/nfe"/>', "NF-e", id="nfeProc"
            ),
            pytest.param('<NFe xmlns="http://www.portalfiscal.inf.br/nfe"/>', "NF-e", id="NFe"),
            pytest.param(f'<CTeOS xmlns="{cte.NAMESPACE}"/>', "model 67", id="CTe-OS"),
            pytest.param(f'<GTVe xmlns="{cte.NAMESPACE}"/>', "GTV-e", id="GTV-e"),
            pytest.param(f'<cteSimpProc xmlns="{cte.NAMESPACE}"/>', "simplified", id="simplified"),
            pytest.param(f'<procEventoCTe xmlns="{cte.NAMESPACE}"/>', "event", id="event"),
            pytest.param("<html/>", "an unknown document (<html>)", id="HTML"),
            pytest.param("<CTe/>", "outside the namespace", id="no namespace"),
        ],
    )
    def test_refused(self, text: str, words: str) -> None:
        """Another document is refused by its root, and the sentence names what it is."""
        (problem,) = xml_refusal(text)

        assert (problem.field, problem.code) == ("xml", "wrong_document_type")
        assert words in problem.message
        assert problem.message.endswith("not a CTe")


class TestProblems:
    @pytest.mark.parametrize("text", ["", " ", "freight", "<CTe", cte.cte_xml()[:700]])
    def test_malformed(self, text: str) -> None:
        """Text that is not XML is refused with its place."""
        (problem,) = xml_refusal(text)

        assert (problem.field, problem.code) == ("xml", "malformed_xml")
        assert re.search(r"\(line \d+, column \d+\): \w+", problem.message)

    def test_malformed_place(self) -> None:
        """The place of the mistake is the one in the document."""
        (problem,) = xml_refusal("<a>\n  <b>\n</a>")

        assert "line 3, column" in problem.message

    def test_empty_document(self) -> None:
        """A document without its main part is one problem, not twenty."""
        for body in (f'<CTe xmlns="{cte.NAMESPACE}"/>', f'<cteProc xmlns="{cte.NAMESPACE}"/>'):
            assert told(xml_refusal(body)) == {("xml.infCte", "missing_element")}

    @pytest.mark.parametrize(
        ("piece", "path"),
        [
            (r"<vTPrest>.*</vTPrest>", "infCte.vPrest.vTPrest"),
            (r"<vRec>.*</vRec>", "infCte.vPrest.vRec"),
            (r"<nCT>.*</nCT>", "infCte.ide.nCT"),
            (r"<serie>.*</serie>", "infCte.ide.serie"),
            (r"<dhEmi>.*</dhEmi>", "infCte.ide.dhEmi"),
            (r"<tpCTe>.*</tpCTe>", "infCte.ide.tpCTe"),
            (r"<cUF>.*</cUF>", "infCte.ide.cUF"),
            (r"<cDV>.*</cDV>", "infCte.ide.cDV"),
            (r"<cMunIni>.*</cMunIni>", "infCte.ide.cMunIni"),
            (r"<UFFim>.*</UFFim>", "infCte.ide.UFFim"),
            (r"<toma3>.*</toma3>", "infCte.ide.toma3.toma"),
            (r"<emit>.*</emit>", "infCte.emit"),
            (r"<dest>.*</dest>", "infCte.dest"),
            (r"(?<=<dest>)<CNPJ>.{14}</CNPJ>", "infCte.dest.CNPJ"),
            (r"(?<=<emit>)<CNPJ>.{14}</CNPJ>", "infCte.emit.CNPJ"),
            (r'Id="CTe.{44}"', "infCte.Id"),
            (r'(?<=<infCte )versao="4.00"', "infCte.versao"),
            (r"<chCTe>.*</chCTe>", "protCTe.infProt.chCTe"),
            (r"<cStat>.*</cStat>", "protCTe.infProt.cStat"),
            (r"<vICMS>.*</vICMS>", "infCte.imp.ICMS.ICMS00.vICMS"),
        ],
    )
    def test_missing(self, piece: str, path: str) -> None:
        """A missing part is named by its path, and it alone."""
        text, count = re.subn(piece, "", cte.cte_xml())
        assert count == 1

        assert told(xml_refusal(text)) == {(f"xml.{path}", "missing_element")}

    @pytest.mark.parametrize("empty", ["<vRec/>", "<vRec></vRec>", "<vRec> </vRec>"])
    def test_empty(self, empty: str) -> None:
        """An empty part is a missing part."""
        text = replaced(cte.cte_xml(), "<vRec>1500.00</vRec>", empty)

        assert told(xml_refusal(text)) == {("xml.infCte.vPrest.vRec", "missing_element")}

    @pytest.mark.parametrize(
        ("amount", "code"),
        [
            pytest.param("-1500.00", "negative_amount", id="negative"),
            pytest.param("10000000000000.00", "invalid_amount", id="14 digits"),
            pytest.param("9" * 5000, "invalid_amount", id="5000 digits"),
            pytest.param("1e9", "invalid_amount", id="exponent"),
            pytest.param("1.500,00", "invalid_amount", id="Brazilian notation"),
            pytest.param("1500.001", "invalid_amount", id="three decimals"),
            pytest.param("NaN", "invalid_amount", id="NaN"),
            pytest.param("Infinity", "invalid_amount", id="infinity"),
            pytest.param("١٥٠٠", "invalid_amount", id="Arabic digits"),
        ],
    )
    def test_amount(self, amount: str, code: str) -> None:
        """An amount that the layout does not allow is refused, and quoted shortly."""
        problems = xml_refusal(cte.cte_xml(total=amount, amount_to_receive="0"))

        assert told(problems) == {("xml.infCte.vPrest.vTPrest", code)}
        assert len(problems[0].message) < 150

    @pytest.mark.parametrize(
        ("old", "new", "path"),
        [
            ("<tpCTe>0", "<tpCTe>7", "infCte.ide.tpCTe"),
            ("<toma>3", "<toma>9", "infCte.ide.toma3.toma"),
            ("<UFIni>SP", "<UFIni>XX", "infCte.ide.UFIni"),
            ("<cMunFim>4106902", "<cMunFim>410690", "infCte.ide.cMunFim"),
            ("<nCT>4321", "<nCT>0000004321", "infCte.ide.nCT"),
            ("<dhEmi>2026-07-14T", "<dhEmi>2026-07-32T", "infCte.ide.dhEmi"),
            ("09:30:00-03:00</dhEmi>", "09:30:00</dhEmi>", "infCte.ide.dhEmi"),
            ("<dhEmi>2026-07-14T", "<dhEmi>٢026-07-14T", "infCte.ide.dhEmi"),
            ('<infCte versao="4.00"', '<infCte versao="2.00"', "infCte.versao"),
        ],
    )
    def test_value(self, old: str, new: str, path: str) -> None:
        """A value outside its list or shape is a problem, and no warning."""
        text = replaced(cte.cte_xml(), old, new)

        assert told(xml_refusal(text)) == {(f"xml.{path}", "invalid_value")}

    def test_environments(self) -> None:
        """An unknown environment is refused, and so is a protocol from another one."""
        unknown = replaced(
            cte.cte_xml(protocol_status=None), "<tpAmb>1</tpAmb>", "<tpAmb>3</tpAmb>"
        )

        assert told(xml_refusal(unknown)) == {("xml.infCte.ide.tpAmb", "invalid_value")}
        assert told(xml_refusal(cte.cte_xml(environment="2", protocol_environment="1"))) == {
            ("xml.protCTe.infProt.tpAmb", "inconsistent_environment")
        }

    def test_wrong_check_digits(self) -> None:
        """The key's and the parties' check digits are verified, and told together."""
        wrong_key = KEY[:-1] + str((int(KEY[-1]) + 1) % 10)

        problems = xml_refusal(cte.cte_xml(key=wrong_key, recipient="77888999000180"))

        assert told(problems) == {
            ("xml.infCte.Id", "wrong_check_digit"),
            ("xml.infCte.dest.CNPJ", "wrong_check_digit"),
        }

    def test_wrong_cpf(self) -> None:
        """A taker's CPF is verified."""
        text = cte.cte_xml(taker_code="4", other_taker="12345678900")

        assert told(xml_refusal(text)) == {("xml.infCte.ide.toma4.CPF", "wrong_check_digit")}

    @pytest.mark.parametrize(
        ("key", "path"),
        [
            pytest.param(cte.make_key(state="41"), "infCte.ide.cUF", id="state"),
            pytest.param(cte.make_key(month=8), "infCte.ide.dhEmi", id="month"),
            pytest.param(cte.make_key(issuer=cte.OTHER), "infCte.emit", id="issuer"),
            pytest.param(cte.make_key(series=2), "infCte.ide.serie", id="series"),
            pytest.param(cte.make_key(number=1), "infCte.ide.nCT", id="number"),
            pytest.param(cte.make_key(emission="8"), "infCte.ide.tpEmis", id="emission"),
        ],
    )
    def test_key_of_another_document(self, key: str, path: str) -> None:
        """A key that belongs to other facts is inconsistent at the fact that differs."""
        assert told(xml_refusal(cte.cte_xml(key=key))) == {(f"xml.{path}", "inconsistent_key")}

    @pytest.mark.parametrize(
        ("old", "new", "path"),
        [
            ("<mod>57", "<mod>67", "infCte.ide.mod"),
            ("<cCT>10203040", "<cCT>10203041", "infCte.ide.cCT"),
            (f"<cDV>{KEY[-1]}", f"<cDV>{(int(KEY[-1]) + 1) % 10}", "infCte.ide.cDV"),
            ("<serie>1<", "<serie>0<", "infCte.ide.serie"),
        ],
    )
    def test_part_of_another_key(self, old: str, new: str, path: str) -> None:
        """A part that differs from the key is inconsistent."""
        text = replaced(cte.cte_xml(), old, new)

        assert told(xml_refusal(text)) == {(f"xml.{path}", "inconsistent_key")}

    def test_protocol_of_another_document(self) -> None:
        """A protocol about another key does not authorise this document."""
        text = cte.cte_xml(protocol_key=cte.make_key(number=1))

        assert told(xml_refusal(text)) == {("xml.protCTe.infProt.chCTe", "inconsistent_key")}

    @pytest.mark.parametrize(
        ("piece", "path"),
        [
            ("<vTPrest>1500.00</vTPrest>", "infCte.vPrest.vTPrest[2]"),
            ("<vPrest><vTPrest>1500.00</vTPrest><vRec>1500.00</vRec></vPrest>", "infCte.vPrest[2]"),
            ("<nProt>135260000000123</nProt>", "protCTe.infProt.nProt[2]"),
            ("<toma3><toma>3</toma></toma3>", "infCte.ide.toma3[2]"),
        ],
    )
    def test_repeated(self, piece: str, path: str) -> None:
        """A second element beside the first is refused, even an equal one."""
        text = replaced(cte.cte_xml(), piece, piece * 2)

        assert told(xml_refusal(text)) == {(f"xml.{path}", "repeated_element")}

    def test_two_takers(self) -> None:
        """A document that names its taker twice is refused."""
        second = cte.party_xml("toma4", cte.OTHER, "Outro", inner="<toma>4</toma>")
        text = replaced(cte.cte_xml(), "</toma3>", f"</toma3>{second}")

        assert told(xml_refusal(text)) == {("xml.infCte.ide.toma4", "ambiguous_taker")}

    def test_two_numbers(self) -> None:
        """A party with a CNPJ and a CPF is refused."""
        text = replaced(
            cte.cte_xml(),
            f"{cte.RECIPIENT}</CNPJ>",
            f"{cte.RECIPIENT}</CNPJ><CPF>{cte.make_cpf()}</CPF>",
        )

        assert told(xml_refusal(text)) == {("xml.infCte.dest", "ambiguous_party")}

    def test_taker_not_there(self) -> None:
        """A code that names an absent party gives no taker: no other party stands in."""
        text = cte.cte_xml(taker_code="2", receiver=None)

        assert told(xml_refusal(text)) == {("xml.infCte.receb", "missing_element")}

    @pytest.mark.parametrize(
        ("text", "path", "code"),
        [
            pytest.param(
                cte.cte_xml(type_code="1"),
                "infCte.infCteComp.chCTe",
                "missing_element",
                id="complement of nothing",
            ),
            pytest.param(
                cte.cte_xml(type_code="1", complements=[KEY[:43]]),
                "infCte.infCteComp[1].chCTe",
                "wrong_length",
                id="complement of a wrong key",
            ),
            pytest.param(
                cte.cte_xml(complements=[KEY]),
                "infCte.infCteComp",
                "wrong_type",
                id="no complement",
            ),
            pytest.param(
                cte.cte_xml(type_code="3"),
                "infCte.infCTeNorm.infCteSub.chCte",
                "missing_element",
                id="substitute of nothing",
            ),
            pytest.param(
                cte.cte_xml(substitutes=KEY),
                "infCte.infCTeNorm.infCteSub.chCte",
                "wrong_type",
                id="no substitute",
            ),
            pytest.param(
                cte.cte_xml(invoice_keys=[cte.make_key(model="55"), KEY]),
                "infCte.infCTeNorm.infDoc.infNFe[2].chave",
                "wrong_model",
                id="CTe among the NF-e",
            ),
        ],
    )
    def test_references(self, text: str, path: str, code: str) -> None:
        """References to other documents are checked against the type and for their own form."""
        assert told(xml_refusal(text)) == {(f"xml.{path}", code)}

    def test_layout(self) -> None:
        """An element inside a value does not follow the layout."""
        text = replaced(cte.cte_xml(), "<nCT>4321", "<nCT>4321<a/>")

        assert told(xml_refusal(text)) == {("xml", "wrong_layout")}

    def test_together(self) -> None:
        """Problems of unrelated parts are told in one answer."""
        text = cte.cte_xml(total="-1.00", amount_to_receive="x", origin=("1", "SP"))
        text = replaced(text, "<tpCTe>0", "<tpCTe>8")

        assert told(xml_refusal(text)) == {
            ("xml.infCte.vPrest.vTPrest", "negative_amount"),
            ("xml.infCte.vPrest.vRec", "invalid_amount"),
            ("xml.infCte.ide.cMunIni", "invalid_value"),
            ("xml.infCte.ide.tpCTe", "invalid_value"),
        }
