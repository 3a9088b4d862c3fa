"""CTe texts with invented parties, made without any code of the service."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Sequence

NAMESPACE = "http://www.portalfiscal.inf.br/cte"


def _digit(characters: str, weights: Sequence[int]) -> str:
    """Give the digit that modulo 11 asks for behind `characters`, as the manual words it."""
    total = 0
    for character, weight in zip(characters, weights, strict=True):
        total += (ord(character) - 48) * weight
    remainder = total % 11
    return "0" if remainder < 2 else str(11 - remainder)


def _weights(length: int) -> list[int]:
    """Give the weights 2, 3 … 9, 2, 3 … from the right, written from the left."""
    cycle = [2, 3, 4, 5, 6, 7, 8, 9]
    return [cycle[place % 8] for place in range(length)][::-1]


def make_cnpj(first12: str = "112223330001") -> str:
    """Give the CNPJ that begins with 12 digits or capital letters."""
    first13 = first12 + _digit(first12, _weights(12))
    return first13 + _digit(first13, _weights(13))


def make_cpf(first9: str = "111444777") -> str:
    """Give the CPF that begins with 9 digits."""
    first10 = first9 + _digit(first9, range(10, 1, -1))
    return first10 + _digit(first10, range(11, 1, -1))


CARRIER = make_cnpj("112223330001")
SENDER = make_cnpj("445556660001")
DISPATCHER = make_cnpj("556667770001")
RECEIVER = make_cnpj("667778880001")
RECIPIENT = make_cnpj("778889990001")
OTHER = make_cnpj("889990000001")
ALPHANUMERIC = make_cnpj("12ABC34501DE")


def make_key(
    *,
    state: str = "35",
    year: int = 2026,
    month: int = 7,
    issuer: str = CARRIER,
    model: str = "57",
    series: int = 1,
    number: int = 4321,
    emission: str = "1",
    code: str = "10203040",
) -> str:
    """Give an access key whose check digit is right; the parts are taken as they come."""
    issued = f"{year % 100:02}{month:02}"
    first43 = f"{state}{issued}{issuer:0>14}{model}{series:03}{number:09}{emission}{code}"
    return first43 + key_digit(first43)


def key_digit(first43: str) -> str:
    """Give the check digit of an access key from the 43 characters before it."""
    return _digit(first43, _weights(43))


def party_xml(tag: str, number: str | None, name: str | None, *, inner: str = "") -> str:
    """Give a party's element; a number of 11 digits becomes a CPF, none gives no element."""
    if number is None:
        return ""
    kind = "CPF" if len(number) == 11 else "CNPJ"
    named = "" if name is None else f"<xNome>{escape(name)}</xNome>"
    return f"<{tag}>{inner}<{kind}>{number}</{kind}>{named}</{tag}>"


def cte_xml(
    *,
    key: str | None = None,
    issuer: str = CARRIER,
    issuer_name: str = "Transportes Aurora Ltda",
    state: str = "35",
    series: int = 1,
    number: int = 4321,
    emission: str = "1",
    issued_at: str = "2026-07-14T09:30:00-03:00",
    type_code: str = "0",
    environment: str = "1",
    taker_code: str = "3",
    sender: str | None = SENDER,
    dispatcher: str | None = DISPATCHER,
    receiver: str | None = RECEIVER,
    recipient: str | None = RECIPIENT,
    other_taker: str = OTHER,
    total: str = "1500.00",
    amount_to_receive: str | None = None,
    icms: str = "<ICMS00><CST>00</CST><vBC>1500.00</vBC><pICMS>12.00</pICMS>"
    "<vICMS>180.00</vICMS></ICMS00>",
    origin: tuple[str, str] = ("3550308", "SP"),
    destination: tuple[str, str] = ("4106902", "PR"),
    invoice_keys: Sequence[str] = (),
    complements: Sequence[str] = (),
    substitutes: str | None = None,
    protocol_status: str | None = "100",
    protocol_key: str | None = None,
    protocol_environment: str | None = None,
    version: str = "4.00",
    encoding: str | None = "UTF-8",
) -> str:
    """Give a CTe as a text: a cteProc, or a bare CTe without `protocol_status`.

    `encoding` is only declared: encoding the text is up to the caller. A party given as None is
    left out. `taker_code` 4 writes a toma4 with `other_taker`. A wrong document is made of wrong
    options, or by replacing a piece of the text.
    """
    key = key or make_key(
        state=state,
        year=int(issued_at[:4]),
        month=int(issued_at[5:7]),
        issuer=issuer,
        series=series,
        number=number,
        emission=emission,
    )
    taker = (
        party_xml("toma4", other_taker, "Outro Tomador SA", inner="<toma>4</toma>")
        if taker_code == "4"
        else f"<toma3><toma>{taker_code}</toma></toma3>"
    )
    invoices = "".join(f"<infNFe><chave>{invoice}</chave></infNFe>" for invoice in invoice_keys)
    substitute = f"<infCteSub><chCte>{substitutes}</chCte></infCteSub>" if substitutes else ""
    content = (
        "".join(f"<infCteComp><chCTe>{original}</chCTe></infCteComp>" for original in complements)
        or f"<infCTeNorm><infDoc>{invoices}</infDoc>{substitute}</infCTeNorm>"
    )
    cte = (
        f'<CTe xmlns="{NAMESPACE}"><infCte versao="{version}" Id="CTe{key}"><ide>'
        f"<cUF>{state}</cUF><cCT>{key[35:43]}</cCT><CFOP>6353</CFOP><natOp>TRANSPORTE</natOp>"
        f"<mod>57</mod><serie>{series}</serie><nCT>{number}</nCT><dhEmi>{issued_at}</dhEmi>"
        f"<tpImp>1</tpImp><tpEmis>{emission}</tpEmis><cDV>{key[43:]}</cDV>"
        f"<tpAmb>{environment}</tpAmb><tpCTe>{type_code}</tpCTe><procEmi>0</procEmi>"
        f"<modal>01</modal><tpServ>0</tpServ>"
        f"<cMunIni>{origin[0]}</cMunIni><UFIni>{origin[1]}</UFIni>"
        f"<cMunFim>{destination[0]}</cMunFim><UFFim>{destination[1]}</UFFim>{taker}</ide>"
        + party_xml("emit", issuer, issuer_name)
        + party_xml("rem", sender, "Remetente Indústria SA")
        + party_xml("exped", dispatcher, "Expedidor Armazéns Ltda")
        + party_xml("receb", receiver, "Recebedor Logística Ltda")
        + party_xml("dest", recipient, "Destinatário Comércio SA")
        + f"<vPrest><vTPrest>{total}</vTPrest><vRec>{amount_to_receive or total}</vRec></vPrest>"
        f"<imp><ICMS>{icms}</ICMS></imp>{content}</infCte></CTe>"
    )
    declaration = f'<?xml version="1.0" encoding="{encoding}"?>' if encoding else ""
    if protocol_status is None:
        return declaration + cte
    return (
        f'{declaration}<cteProc xmlns="{NAMESPACE}" versao="{version}">{cte}'
        f'<protCTe versao="{version}"><infProt><tpAmb>{protocol_environment or environment}</tpAmb>'
        f"<chCTe>{protocol_key or key}</chCTe><dhRecbto>{issued_at}</dhRecbto>"
        f"<nProt>135260000000123</nProt><cStat>{protocol_status}</cStat>"
        f"<xMotivo>Autorizado o uso do CT-e</xMotivo></infProt></protCTe></cteProc>"
    )
