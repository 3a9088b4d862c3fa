"""The electronic freight bill (CTe, model 57): its access key, and the facts in its XML.

Only reads: no file, no network, no signature check. `FreightDocument.authorised` repeats what
the file says about itself; whether the tax authority still says so is not known here.

Layout: Manual de Orientação do Contribuinte of the CT-e, 4.00; documents of the layout 3.00
(issued until January 2024) have the same elements at the same places for all that is read here.
"""

from __future__ import annotations

import re
import threading
import warnings
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import Enum, StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from lxml import etree
from stdnum.br import cnpj as stdnum_cnpj
from stdnum.br import cpf as stdnum_cpf

from service.errors import InvalidInput, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lxml.etree import _Element

MAXIMUM_BYTES: Final = 2 * 1024 * 1024  # the authority itself takes no message above 500 KB
MAXIMUM_DEPTH: Final = 32  # elements inside elements; the layout needs about 15
_TOLD_PROBLEMS: Final = 50  # a list of thousands helps nobody

NAMESPACE: Final = "http://www.portalfiscal.inf.br/cte"
_SCHEMA_INSTANCE: Final = "http://www.w3.org/2001/XMLSchema-instance"

STATES: Final = {
    "11": "RO", "12": "AC", "13": "AM", "14": "RR", "15": "PA", "16": "AP", "17": "TO",
    "21": "MA", "22": "PI", "23": "CE", "24": "RN", "25": "PB", "26": "PE", "27": "AL",
    "28": "SE", "29": "BA", "31": "MG", "32": "ES", "33": "RJ", "35": "SP", "41": "PR",
    "42": "SC", "43": "RS", "50": "MS", "51": "MT", "52": "GO", "53": "DF",
}  # fmt: skip
_ABROAD: Final = "EX"

_CTE_MODEL: Final = "57"
_NFE_MODEL: Final = "55"
_MODELS: Final = {
    "55": "NF-e", "57": "CTe", "58": "MDF-e", "59": "CF-e SAT", "62": "NFCom", "63": "BP-e",
    "64": "GTV-e", "65": "NFC-e", "66": "NF3e", "67": "CTe-OS",
}  # fmt: skip

_KEY_LENGTH: Final = 44
_KEY_SHAPE: Final = re.compile(r"[0-9]{6}[0-9A-Z]{12}[0-9]{26}")
_CNPJ_LENGTH: Final = 14
_CPF_LENGTH: Final = 11
_CNPJ_SHAPE: Final = re.compile(r"[0-9A-Z]{12}[0-9]{2}")
_NO_CNPJ: Final = "0" * _CNPJ_LENGTH  # how the layout names a party established abroad
_CPF_SERIES: Final = range(920, 970)  # issued by a natural person: 000 + CPF stands for the CNPJ


@dataclass(frozen=True, kw_only=True)
class AccessKey:
    """The 44 characters that identify a fiscal document, taken apart; made by `access_key`.

    `issuer_cnpj` is as it stands in the key: 000 and a CPF for the series 920 to 969.
    """

    text: str
    state_code: str
    year: int
    month: int
    issuer_cnpj: str
    model: str
    series: int
    number: int
    emission_type: str
    code: str
    check_digit: int

    def __str__(self) -> str:
        return self.text


class FreightType(StrEnum):
    """What the freight bill is for (`tpCTe`)."""

    NORMAL = "normal"
    COMPLEMENT = "complement"
    ANNULMENT = "annulment"
    SUBSTITUTE = "substitute"


class TakerRole(StrEnum):
    """Which party takes, and pays, the transport (`toma`)."""

    SENDER = "sender"
    DISPATCHER = "dispatcher"
    RECEIVER = "receiver"
    RECIPIENT = "recipient"
    OTHER = "other"


@dataclass(frozen=True, kw_only=True)
class Party:
    """A party by its CNPJ or its CPF; a party established abroad has neither."""

    name: str
    cnpj: str | None = None
    cpf: str | None = None


@dataclass(frozen=True, kw_only=True)
class Municipality:
    """A municipality by its IBGE code of 7 digits, and its state; 9999999 and EX lie abroad."""

    code: str
    state: str


@dataclass(frozen=True, kw_only=True)
class FreightDocument:
    """The facts of one freight bill. Amounts are in reais, with two decimals at most.

    `complements` names the one to ten documents that a complement adds to. `icms` is the tax
    that the carrier itself owes: none under exemption, Simples Nacional or withholding (CST 60).
    """

    key: AccessKey
    number: int
    series: int
    issued_at: datetime
    type: FreightType
    complements: tuple[AccessKey, ...]
    substitutes: AccessKey | None
    issuer: Party
    taker_role: TakerRole
    taker: Party
    total: Decimal
    amount_to_receive: Decimal
    icms: Decimal | None
    origin: Municipality
    destination: Municipality
    invoice_keys: tuple[str, ...]
    homologation: bool
    authorised: bool
    protocol: str | None


class _Fault(NamedTuple):
    message: str
    code: str


def access_key(text: str, *, field: str = "access_key") -> AccessKey:
    """Read the access key of a CTe; spaces, lower case and a leading `CTe` are forgiven.

    A wrong key raises `InvalidInput` whose problems bear `field` and one of the codes
    wrong_length, invalid_characters, wrong_model, wrong_state, wrong_month, wrong_issuer and
    wrong_check_digit.
    """
    key = _compact_key(text)
    if faults := [*_key_faults(key, _CTE_MODEL)] or [*_part_faults(key)]:
        raise InvalidInput([Problem(field, fault.message, fault.code) for fault in faults])
    return AccessKey(
        text=key,
        state_code=key[:2],
        year=2000 + int(key[2:4]),
        month=int(key[4:6]),
        issuer_cnpj=key[6:20],
        model=key[20:22],
        series=int(key[22:25]),
        number=int(key[25:34]),
        emission_type=key[34],
        code=key[35:43],
        check_digit=int(key[43]),
    )


def cnpj(text: str, *, field: str = "cnpj") -> str:
    """Read a CNPJ, formatted or not, into its 14 characters; letters are part of it.

    A wrong one raises `InvalidInput` with the code wrong_length, invalid_characters or
    wrong_check_digit.
    """
    compact = _upper(re.sub(r"[\s./-]", "", text))
    if fault := _cnpj_fault(compact):
        raise InvalidInput([Problem(field, fault.message, fault.code)])
    return compact


def parse_cte(xml: bytes | str) -> FreightDocument:
    """Read a CTe, bare or with its protocol (cteProc).

    What is wrong raises `InvalidInput`, all problems together where they can be seen together;
    fields are paths such as `xml.infCte.vPrest.vTPrest`. A text is taken as it is; bytes are
    decoded as their byte order mark or XML declaration says (UTF-8, ISO-8859-1, Windows-1252).
    """
    reader = _Reader(_bind(_parse_safely(xml)))
    document = _read(reader)
    if document is None:
        raise InvalidInput(reader.problems[:_TOLD_PROBLEMS])
    return document


def _upper(text: str) -> str:
    # beyond ASCII, upper-casing would turn a strange character into a letter of the alphabet
    return text.upper() if text.isascii() else text


def _compact_key(text: str) -> str:
    key = _upper(re.sub(r"\s", "", text))
    return key[3:] if key.startswith(("CTE", "NFE")) else key


def _key_faults(key: str, model: str) -> Iterator[_Fault]:
    if len(key) != _KEY_LENGTH:
        yield _Fault(f"an access key has 44 characters, this one has {len(key)}", "wrong_length")
    elif not _KEY_SHAPE.fullmatch(key):
        yield _Fault(
            "an access key consists of digits; only the first 12 characters of the CNPJ "
            "(the 7th to the 18th) may be letters from A to Z",
            "invalid_characters",
        )
    else:
        if (found := key[20:22]) != model:
            name = _MODELS.get(found, "document of an unknown model")
            yield _Fault(
                f"this is a key of a {name} ({found}), not of a {_MODELS[model]} ({model})",
                "wrong_model",
            )
        if (expected := _check_digit(key[:43])) != int(key[43]):
            yield _Fault(
                f"the last digit is {key[43]}, but the other 43 characters ask for {expected}: "
                "a character was mistyped",
                "wrong_check_digit",
            )


def _part_faults(key: str) -> Iterator[_Fault]:
    if key[:2] not in STATES:
        yield _Fault(f"the key begins with {key[:2]}, which is no state's code", "wrong_state")
    if key[4:6] not in {f"{month:02}" for month in range(1, 13)}:
        yield _Fault(f"the key says month {key[4:6]}", "wrong_month")
    issuer = key[6:20]
    if int(key[22:25]) in _CPF_SERIES:
        if not (issuer.startswith("000") and stdnum_cpf.is_valid(issuer[3:])):
            yield _Fault(
                f"the issuer {issuer} in the key is not 000 and a valid CPF, as the series "
                f"{key[22:25]} demands",
                "wrong_issuer",
            )
    elif fault := _cnpj_fault(issuer):
        yield _Fault(f"the issuer {issuer} in the key: {fault.message}", "wrong_issuer")


def _check_digit(characters: str) -> int:
    weighted = sum(
        (ord(character) - ord("0")) * (2 + place % 8)
        for place, character in enumerate(reversed(characters))
    )
    return -weighted % 11 % 10


def _cnpj_fault(text: str) -> _Fault | None:
    if len(text) != _CNPJ_LENGTH:
        hint = ": as many as a CPF" if len(text) == _CPF_LENGTH else ""
        return _Fault(f"a CNPJ has 14 characters, this one has {len(text)}{hint}", "wrong_length")
    if not _CNPJ_SHAPE.fullmatch(text):
        return _Fault(
            "a CNPJ consists of 12 digits or letters from A to Z, then 2 digits",
            "invalid_characters",
        )
    if text == _NO_CNPJ:
        return _Fault("14 zeros are nobody's CNPJ", "invalid_characters")
    if (expected := stdnum_cnpj.calc_check_digits(text)) != text[12:]:
        return _Fault(
            f"the check digits are {text[12:]}, but the 12 characters before them ask for "
            f"{expected}",
            "wrong_check_digit",
        )
    return None


# XML: first what is safe to look at, then what it says

_ENCODINGS: Final = {
    "utf-8": "utf-8",
    "utf8": "utf-8",
    "us-ascii": "ascii",
    "iso-8859-1": "latin-1",
    "latin1": "latin-1",
    "latin-1": "latin-1",
    "windows-1252": "cp1252",
}
_BYTE_ORDER_MARK: Final = "\N{ZERO WIDTH NO-BREAK SPACE}"
_DECLARED_ENCODING: Final = re.compile(
    rb"""\s*<\?xml[^>]{0,200}?\sencoding\s*=\s*["']([A-Za-z0-9._-]{1,40})["']"""
)
# A DTD may stand only behind the declaration, comments and processing instructions. The text is
# searched before libxml2 sees it, so that no entity is ever defined; `*+` keeps it linear.
_DTD: Final = re.compile(r"(?:\s+|<\?.*?\?>|<!--.*?-->)*+<!DOCTYPE", re.DOTALL)

_ROOTS: Final = {f"{{{NAMESPACE}}}CTe", f"{{{NAMESPACE}}}cteProc"}
_OTHER_ROOTS: Final = {
    "NFe": "a NF-e (goods invoice)",
    "nfeProc": "a NF-e (goods invoice)",
    "MDFe": "a MDF-e (manifest)",
    "mdfeProc": "a MDF-e (manifest)",
    "CTeOS": "a CTe-OS (other services, model 67)",
    "cteOSProc": "a CTe-OS (other services, model 67)",
    "GTVe": "a GTV-e (transport of valuables, model 64)",
    "GTVeProc": "a GTV-e (transport of valuables, model 64)",
    "CTeSimp": "a simplified CTe, which names several services",
    "cteSimpProc": "a simplified CTe, which names several services",
    "eventoCTe": "an event about a CTe",
    "procEventoCTe": "an event about a CTe",
    "retEventoCTe": "the answer to an event about a CTe",
    "enviCTe": "a batch sent for authorisation",
    "retConsSitCTe": "the answer to a query about a CTe",
}


def _refusal(message: str, code: str) -> InvalidInput:
    return InvalidInput([Problem("xml", message, code)])


def _parse_safely(xml: bytes | str) -> _Element:
    if len(xml) > MAXIMUM_BYTES:
        limit = MAXIMUM_BYTES // 1024
        raise _refusal(f"the document is larger than {limit} KiB", "too_large")
    text = _decode(xml)
    if _DTD.match(text):
        raise _refusal("a fiscal document has no DTD (<!DOCTYPE …>)", "dtd_forbidden")
    parser = etree.XMLParser(
        encoding="utf-8",
        resolve_entities=False,
        load_dtd=False,
        no_network=True,
        huge_tree=False,
        recover=False,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        root = etree.fromstring(text.encode(), parser)
    except etree.XMLSyntaxError as error:
        line, column = error.position
        reason = (error.msg or "").removesuffix(f", line {line}, column {column}")
        raise _refusal(
            f"this is not well-formed XML (line {line}, column {column}): {reason}",
            "malformed_xml",
        ) from error
    _check_depth(root)
    _check_root(root)
    return root


def _decode(xml: bytes | str) -> str:
    try:
        text = xml if isinstance(xml, str) else xml.decode(_encoding(xml))
        text.encode()
    except UnicodeError as error:
        raise _refusal(
            f"the characters are not {error.encoding}, as declared (or by default): "
            f"{error.reason} at position {error.start}"
            if isinstance(error, UnicodeDecodeError)
            else "the text holds half characters (surrogates)",
            "malformed_xml",
        ) from error
    return text.lstrip(_BYTE_ORDER_MARK + " \t\r\n")


def _encoding(xml: bytes) -> str:
    if xml.startswith(_BYTE_ORDER_MARK.encode()):
        return "utf-8"
    declared = _DECLARED_ENCODING.match(xml)
    name = declared.group(1).decode().lower() if declared else "utf-8"
    if name not in _ENCODINGS:
        raise _refusal(f"the encoding {name} is not read here: send UTF-8", "unsupported_encoding")
    return _ENCODINGS[name]


def _check_depth(root: _Element) -> None:
    depth = 0
    for event, _ in etree.iterwalk(root, events=("start", "end")):
        depth += 1 if event == "start" else -1
        if depth > MAXIMUM_DEPTH:
            raise _refusal(f"elements are nested deeper than {MAXIMUM_DEPTH}", "too_deep")


def _check_root(root: _Element) -> None:
    if root.tag in _ROOTS:
        return
    name = etree.QName(root)
    if name.localname in {"CTe", "cteProc"}:
        found = f"<{name.localname}> outside the namespace {NAMESPACE}"
    else:
        found = _OTHER_ROOTS.get(name.localname, "an unknown document")
        found = f"{found} (<{name.localname[:60]}>)"
    raise _refusal(f"this is {found}, not a CTe", "wrong_document_type")


class _Document(NamedTuple):
    cte: Any
    protocol: Any


class _Parse(Protocol):
    def __call__(self, root: _Element, *, processed: bool) -> Any: ...


class _Layout(NamedTuple):
    parse: _Parse
    ignored_warning: type[Warning]


@lru_cache(maxsize=1)
def _layout() -> _Layout:
    # importing the bindings costs 0.1 to 0.25 s, which commands that read no XML save
    from nfelib.cte.bindings.v4_0.cte_v4_00 import Cte  # noqa: PLC0415  # see above
    from nfelib.cte.bindings.v4_0.proc_cte_v4_00 import CteProc  # noqa: PLC0415  # see above
    from xsdata.exceptions import ConverterWarning  # noqa: PLC0415  # comes with the bindings
    from xsdata.formats.dataclass.context import XmlContext  # noqa: PLC0415  # likewise
    from xsdata.formats.dataclass.parsers import XmlParser  # noqa: PLC0415  # likewise
    from xsdata.formats.dataclass.parsers.config import ParserConfig  # noqa: PLC0415  # likewise

    context = XmlContext()  # caches how each class is laid out
    # A later technical note may add elements: what is not read here cannot stop a posting.
    config = ParserConfig(fail_on_unknown_properties=False)

    def parse(root: _Element, *, processed: bool) -> Any:
        return XmlParser(config=config, context=context).parse(root, CteProc if processed else Cte)

    return _Layout(parse, ConverterWarning)


_warning_filters = threading.Lock()  # warnings.catch_warnings swaps a list of the whole process


def _bind(root: _Element) -> _Document:
    """Fill the layout's classes; an element that the layout allows once may stand there once."""
    etree.strip_attributes(root, f"{{{_SCHEMA_INSTANCE}}}*")  # xsi:type would pick other classes
    _check_repetition(root)
    processed = etree.QName(root).localname == "cteProc"
    layout = _layout()
    # A value outside its enumeration stays as text, with a warning. `_Reader` checks those that
    # are read; one that is not read (a new kind of service, say) is not our affair.
    with _warning_filters, warnings.catch_warnings():
        warnings.simplefilter("ignore", layout.ignored_warning)
        try:
            bound = layout.parse(root, processed=processed)
        except ValueError as error:  # base of the errors of xsdata, which names no place
            raise _refusal(
                f"this does not follow the CTe's layout: {error}", "wrong_layout"
            ) from error
    return _Document(bound.CTe, bound.protCTe) if processed else _Document(bound, None)


_READ_ONCE: Final = (
    "CTe", "infCte", "ide", "cUF", "cCT", "mod", "serie", "nCT", "dhEmi", "tpEmis", "cDV", "tpAmb",
    "tpCTe", "cMunIni", "UFIni", "cMunFim", "UFFim", "toma3", "toma4", "toma", "emit", "rem",
    "exped", "receb", "dest", "CNPJ", "CPF", "xNome", "vPrest", "vTPrest", "vRec", "imp", "ICMS",
    "ICMS00", "ICMS20", "ICMS90", "ICMSOutraUF", "vICMS", "vICMSOutraUF", "infCTeNorm", "infDoc",
    "chave", "infCteSub", "chCte", "chCTe", "protCTe", "infProt", "cStat", "nProt",
)  # fmt: skip
_READ_ONCE_TAGS: Final = tuple(f"{{{NAMESPACE}}}{name}" for name in _READ_ONCE)


def _check_repetition(root: _Element) -> None:
    """Refuse a second element beside the first: the bindings would silently take the first."""
    problems = []
    for parent in root.iter("{*}*"):
        seen = set()
        for child in parent.iterchildren(*_READ_ONCE_TAGS):
            if child.tag in seen:
                path = re.sub(r"\{.*?\}", "", root.getroottree().getelementpath(child))
                field = "xml." + path.removeprefix("CTe/").replace("/", ".")
                problems.append(Problem(field, "this element may stand once", "repeated_element"))
            seen.add(child.tag)
    if problems:
        raise InvalidInput(problems[:_TOLD_PROBLEMS])


# What the layout's classes say, by path; every problem is kept, so that all are told at once

_AMOUNT: Final = re.compile(r"0|0\.[0-9]{2}|[1-9][0-9]{0,12}(\.[0-9]{2})?")
_TIME: Final = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}[+-]\d{2}:\d{2}", re.ASCII)
_COUNT: Final = re.compile(r"[0-9]{1,9}")
_SERIES: Final = re.compile(r"[0-9]{1,3}")
_MUNICIPALITY: Final = re.compile(r"[0-9]{7}")
_QUOTED_LENGTH: Final = 40
_HOMOLOGATION: Final = "2"  # the authority's test environment
_VERSIONS: Final = ("3.00", "4.00")
_TYPES: Final = {
    "0": FreightType.NORMAL,
    "1": FreightType.COMPLEMENT,
    "2": FreightType.ANNULMENT,
    "3": FreightType.SUBSTITUTE,
}
_TAKERS: Final = {
    "0": (TakerRole.SENDER, "rem"),
    "1": (TakerRole.DISPATCHER, "exped"),
    "2": (TakerRole.RECEIVER, "receb"),
    "3": (TakerRole.RECIPIENT, "dest"),
}
_OWN_ICMS: Final = ("ICMS00.vICMS", "ICMS20.vICMS", "ICMS90.vICMS", "ICMSOutraUF.vICMSOutraUF")
_AUTHORISED: Final = frozenset({"100", "150"})  # 150: authorised after the time limit


class _Reader:
    def __init__(self, document: _Document) -> None:
        self.document = document
        self.problems: list[Problem] = []

    def problem(self, path: str, message: str, code: str) -> None:
        self.problems.append(Problem(f"xml.{path}", message, code))

    def node(self, path: str) -> Any:
        first, *others = path.split(".")
        node = self.document.protocol if first == "protCTe" else self.document.cte
        for name in others if first == "protCTe" else (first, *others):
            if node is None:
                return None
            node = getattr(node, name)
        return node

    def optional(self, path: str) -> str | None:
        node = self.node(path)
        return (
            (str(node.value if isinstance(node, Enum) else node).strip() or None) if node else None
        )

    def text(self, path: str) -> str | None:
        found = self.optional(path)
        if found is None:
            self.problem(path, "this element is missing or empty", "missing_element")
        return found

    def matching(self, path: str, shape: re.Pattern[str], what: str) -> str | None:
        found = self.text(path)
        if found is None or shape.fullmatch(found):
            return found
        self.problem(path, f"{_short(found)} is not {what}", "invalid_value")
        return None

    def choice(self, path: str, allowed: tuple[str, ...]) -> str | None:
        found = self.text(path)
        if found is None or found in allowed:
            return found
        self.problem(path, f"{_short(found)} is none of {', '.join(allowed)}", "invalid_value")
        return None

    def amount(self, path: str) -> Decimal | None:
        found = self.text(path)
        if found is None:
            return None
        if _AMOUNT.fullmatch(found):
            return Decimal(found)
        if found.startswith("-"):
            self.problem(path, f"{_short(found)} is below zero", "negative_amount")
        else:
            self.problem(
                path,
                f"{_short(found)} is not an amount of at most 13 digits, with two decimals "
                "behind a point",
                "invalid_amount",
            )
        return None

    def time(self, path: str) -> datetime | None:
        found = self.matching(path, _TIME, "a date and time with its offset from UTC")
        try:
            return datetime.fromisoformat(found) if found else None
        except ValueError:
            self.problem(path, f"{_short(str(found))} is not in the calendar", "invalid_value")
            return None

    def key(self, path: str, text: str | None) -> AccessKey | None:
        if text is None:
            self.problem(path, "this access key is missing", "missing_element")
            return None
        try:
            return access_key(text, field=f"xml.{path}")
        except InvalidInput as error:
            self.problems.extend(error.problems)
            return None

    def party(self, path: str) -> Party | None:
        if self.node(path) is None:
            self.problem(path, "this party is missing", "missing_element")
            return None
        name = self.text(f"{path}.xNome")
        number, person = self.optional(f"{path}.CNPJ"), self.optional(f"{path}.CPF")
        if number and person:
            self.problem(path, "this party has both a CNPJ and a CPF", "ambiguous_party")
        elif number and number != _NO_CNPJ:
            if fault := _cnpj_fault(number):
                self.problem(f"{path}.CNPJ", fault.message, fault.code)
        elif person and not stdnum_cpf.is_valid(person):
            self.problem(f"{path}.CPF", "this is not a valid CPF", "wrong_check_digit")
        elif not (number or person):
            self.problem(f"{path}.CNPJ", "this party has no CNPJ and no CPF", "missing_element")
        return (
            Party(name=name, cnpj=None if number == _NO_CNPJ else number, cpf=person)
            if name
            else None
        )

    def municipality(self, code: str, state: str) -> Municipality | None:
        known = self.choice(f"infCte.ide.{state}", (*sorted(STATES.values()), _ABROAD))
        number = self.matching(f"infCte.ide.{code}", _MUNICIPALITY, "an IBGE code of 7 digits")
        return Municipality(code=number, state=known) if number and known else None


def _short(text: str) -> str:
    return text if len(text) <= _QUOTED_LENGTH else f"{text[:_QUOTED_LENGTH]}…"


def _read(reader: _Reader) -> FreightDocument | None:
    """Read every part even after a problem, so that all are known; None if there is one."""
    if reader.node("infCte") is None:
        reader.text("infCte")  # one problem, and not one for each of its parts
        return None
    reader.choice("infCte.versao", _VERSIONS)
    key = reader.key("infCte.Id", reader.optional("infCte.Id"))
    number = reader.matching("infCte.ide.nCT", _COUNT, "a number of at most 9 digits")
    series = reader.matching("infCte.ide.serie", _SERIES, "a series of at most 3 digits")
    issued_at = reader.time("infCte.ide.dhEmi")
    environment = reader.choice("infCte.ide.tpAmb", ("1", "2"))
    freight_type = _TYPES.get(reader.choice("infCte.ide.tpCTe", tuple(_TYPES)) or "")
    issuer = reader.party("infCte.emit")
    taker_role, taker = _taker(reader)
    total = reader.amount("infCte.vPrest.vTPrest")
    amount_to_receive = reader.amount("infCte.vPrest.vRec")
    icms = _icms(reader)
    origin = reader.municipality("cMunIni", "UFIni")
    destination = reader.municipality("cMunFim", "UFFim")
    complements = _complements(reader, freight_type)
    substitutes = _substitutes(reader, freight_type)
    invoice_keys = _invoice_keys(reader)
    if key:
        _check_key(reader, key, issued_at, series, number)
    status = _protocol_status(reader, key, environment)
    if (
        reader.problems
        # a part is absent only together with its problem; this is how the types learn it
        or not (key and number and series and issued_at and freight_type and issuer)
        or not (taker_role and taker and origin and destination)
        or total is None
        or amount_to_receive is None
    ):
        return None
    return FreightDocument(
        key=key,
        number=int(number),
        series=int(series),
        issued_at=issued_at,
        type=freight_type,
        complements=complements,
        substitutes=substitutes,
        issuer=issuer,
        taker_role=taker_role,
        taker=taker,
        total=total,
        amount_to_receive=amount_to_receive,
        icms=icms,
        origin=origin,
        destination=destination,
        invoice_keys=invoice_keys,
        homologation=environment == _HOMOLOGATION,
        authorised=status in _AUTHORISED,
        protocol=reader.optional("protCTe.infProt.nProt"),
    )


def _taker(reader: _Reader) -> tuple[TakerRole | None, Party | None]:
    named = reader.node("infCte.ide.toma3") is not None
    other = reader.node("infCte.ide.toma4") is not None
    if named and other:
        reader.problem("infCte.ide.toma4", "toma3 names the taker already", "ambiguous_taker")
        return None, None
    if other:
        reader.choice("infCte.ide.toma4.toma", ("4",))
        return TakerRole.OTHER, reader.party("infCte.ide.toma4")
    code = reader.choice("infCte.ide.toma3.toma", tuple(_TAKERS))
    if code is None:
        return None, None
    role, element = _TAKERS[code]
    return role, reader.party(f"infCte.{element}")


def _icms(reader: _Reader) -> Decimal | None:
    for path in _OWN_ICMS:
        group, _, leaf = path.partition(".")
        if reader.node(f"infCte.imp.ICMS.{group}") is not None:
            return reader.amount(f"infCte.imp.ICMS.{group}.{leaf}")
    return None


def _complements(reader: _Reader, freight_type: FreightType | None) -> tuple[AccessKey, ...]:
    parts = reader.node("infCte.infCteComp")
    if parts and freight_type not in {FreightType.COMPLEMENT, None}:
        reader.problem("infCte.infCteComp", "tpCTe says this is no complement", "wrong_type")
    if not parts and freight_type is FreightType.COMPLEMENT:
        reader.key("infCte.infCteComp.chCTe", None)
    keys = (
        reader.key(f"infCte.infCteComp[{n}].chCTe", part.chCTe) for n, part in enumerate(parts, 1)
    )
    return tuple(key for key in keys if key)


def _substitutes(reader: _Reader, freight_type: FreightType | None) -> AccessKey | None:
    path = "infCte.infCTeNorm.infCteSub.chCte"
    original = reader.optional(path)
    if freight_type is FreightType.SUBSTITUTE:
        return reader.key(path, original)
    if original and freight_type:
        reader.problem(path, "tpCTe says this is no substitute", "wrong_type")
    return None


def _invoice_keys(reader: _Reader) -> tuple[str, ...]:
    documents = reader.node("infCte.infCTeNorm.infDoc")
    keys = []
    for position, invoice in enumerate(documents.infNFe if documents else (), 1):
        key = _compact_key(invoice.chave or "")
        # Who may stand as the issuer in the key of a NF-e is the NF-e's affair.
        for fault in _key_faults(key, _NFE_MODEL):
            path = f"infCte.infCTeNorm.infDoc.infNFe[{position}].chave"
            reader.problem(path, fault.message, fault.code)
        keys.append(key)
    return tuple(keys)


def _check_key(
    reader: _Reader,
    key: AccessKey,
    issued_at: datetime | None,
    series: str | None,
    number: str | None,
) -> None:
    """Compare the key in the attribute Id with the elements that it is composed of."""
    issuer = reader.optional("infCte.emit.CNPJ") or reader.optional("infCte.emit.CPF")
    composed = (
        ("ide.cUF", reader.text("infCte.ide.cUF"), key.state_code),
        ("ide.dhEmi", issued_at and f"{issued_at:%y%m}", key.text[2:6]),
        ("emit", issuer, key.issuer_cnpj),
        ("ide.mod", reader.text("infCte.ide.mod"), key.model),
        ("ide.serie", series, key.text[22:25]),
        ("ide.nCT", number, key.text[25:34]),
        ("ide.tpEmis", reader.text("infCte.ide.tpEmis"), key.emission_type),
        ("ide.cCT", reader.text("infCte.ide.cCT"), key.code),
        ("ide.cDV", reader.text("infCte.ide.cDV"), key.text[43]),
    )
    for path, said, expected in composed:
        if said and said.zfill(len(expected)) != expected:
            reader.problem(
                f"infCte.{path}",
                f"this says {_short(said)}, but the access key says {expected}",
                "inconsistent_key",
            )


def _protocol_status(reader: _Reader, key: AccessKey | None, environment: str | None) -> str | None:
    """Compare the protocol with the document it is about, and tell its status code."""
    if reader.node("protCTe") is None:
        return None
    about = reader.text("protCTe.infProt.chCTe")
    if key and about and about != key.text:
        reader.problem(
            "protCTe.infProt.chCTe",
            f"the protocol is about {_short(about)}, the document is {key}",
            "inconsistent_key",
        )
    if environment and reader.choice("protCTe.infProt.tpAmb", ("1", "2")) not in {
        environment,
        None,
    }:
        reader.problem(
            "protCTe.infProt.tpAmb",
            "the protocol is of another environment than the document",
            "inconsistent_environment",
        )
    return reader.text("protCTe.infProt.cStat")
