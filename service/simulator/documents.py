"""Electronic freight bills (CT-e, model 57, layout 4.00) as XML, made from a few facts."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Literal, cast

from lxml import etree

from service.simulator import fiscal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

NAMESPACE = "http://www.portalfiscal.inf.br/cte"
SIGNATURE_NAMESPACE = "http://www.w3.org/2000/09/xmldsig#"
LAYOUT = "4.00"
MODEL = "57"
NORMAL, COMPLEMENT = "0", "1"
NORMAL_REGIME, SIMPLIFIED_REGIME = "3", "1"
ICMS_RATE = Decimal(12)
HUNDRED = Decimal(100)
CENT = Decimal("0.01")

TakerCode = Literal["0", "1", "2", "3", "4"]


@dataclass(frozen=True, kw_only=True)
class City:
    """A municipality with the codes of the official tables."""

    name: str
    code: str
    state: str
    state_code: str
    state_name: str


@dataclass(frozen=True, kw_only=True)
class Party:
    """Somebody on a document."""

    name: str
    cnpj: str
    ie: str
    city: City


@dataclass(frozen=True, kw_only=True)
class FreightBill:
    """The facts of one CT-e. `other_taker` is the taker when the code is 4."""

    number: int
    series: int
    issued: datetime
    amount: Decimal
    carrier: Party
    sender: Party
    recipient: Party
    dispatcher: Party | None = None
    receiver: Party | None = None
    taker_code: TakerCode = "3"
    other_taker: Party | None = None
    simplified: bool = False
    invoice_keys: tuple[str, ...] = ()
    original_key: str | None = None
    random_code: int = 0

    @cached_property
    def key(self) -> str:
        """The 44 characters that identify the document."""
        body = (
            f"{self.carrier.city.state_code}{self.issued:%y%m}{self.carrier.cnpj}{MODEL}"
            f"{self.series:03d}{self.number:09d}1{self.random_code:08d}"
        )
        return body + fiscal.key_check_digit(body)

    @property
    def taker(self) -> Party:
        """Who pays the freight."""
        by_code: Mapping[str, Party | None] = {
            "0": self.sender,
            "1": self.dispatcher,
            "2": self.receiver,
            "3": self.recipient,
            "4": self.other_taker,
        }
        taker = by_code[self.taker_code]
        if taker is None:
            raise ValueError(f"the document names taker {self.taker_code} but has no such party")
        return taker

    @property
    def icms(self) -> Decimal:
        """The tax within the amount; nothing for a carrier of the simplified regime."""
        return Decimal(0) if self.simplified else (self.amount * ICMS_RATE / HUNDRED).quantize(CENT)

    @property
    def kind(self) -> str:
        """0 normal, 1 complement of another document."""
        return NORMAL if self.original_key is None else COMPLEMENT


class Element:
    """A thin builder over lxml: children by name, values as text, None left out."""

    def __init__(self, name: str, namespace: str = NAMESPACE, **attributes: str) -> None:
        # The stubs know only named prefixes; None is lxml's word for the default namespace.
        spaces = cast("dict[str, str]", {None: namespace})
        self.node = etree.Element(f"{{{namespace}}}{name}", attributes, nsmap=spaces)
        self.namespace = namespace

    def add(self, name: str, value: object) -> Element:
        """Append a child holding a text, unless there is none; return this element."""
        if value is not None:
            child = etree.SubElement(self.node, f"{{{self.namespace}}}{name}")
            child.text = str(value)
        return self

    def all(self, **values: object) -> Element:
        """Append children in order; return this element."""
        for name, value in values.items():
            self.add(name, value)
        return self

    def put(self, *children: Element | None) -> Element:
        """Append built children; return this element."""
        for child in children:
            if child is not None:
                self.node.append(child.node)
        return self


def render(bill: FreightBill) -> str:
    """Return the authorised document: the CT-e and its protocol."""
    process = Element("cteProc", versao=LAYOUT).put(_cte(bill), _protocol(bill))
    etree.cleanup_namespaces(process.node)
    return etree.tostring(process.node, encoding="unicode")


def _cte(bill: FreightBill) -> Element:
    body = Element("infCte", versao=LAYOUT, Id=f"CTe{bill.key}").put(
        _identification(bill),
        _carrier(bill),
        _party("rem", "enderReme", bill.sender),
        _party("exped", "enderExped", bill.dispatcher),
        _party("receb", "enderReceb", bill.receiver),
        _party("dest", "enderDest", bill.recipient),
        _values(bill),
        _taxes(bill),
        _normal(bill) if bill.original_key is None else _complement(bill.original_key),
    )
    url = "https://dfe-portal.svrs.rs.gov.br/cte/qrCode"
    extra = Element("infCTeSupl").add("qrCodCTe", f"{url}?chCTe={bill.key}&tpAmb=2")
    return Element("CTe").put(body, extra, _signature(bill))


def _identification(bill: FreightBill) -> Element:
    origin, destination = bill.sender.city, bill.recipient.city
    same_state = origin.state == destination.state
    element = Element("ide").all(
        cUF=bill.carrier.city.state_code,
        cCT=f"{bill.random_code:08d}",
        CFOP="5353" if same_state else "6353",
        natOp="PRESTACAO DE SERVICO DE TRANSPORTE",
        mod=MODEL,
        serie=bill.series,
        nCT=bill.number,
        dhEmi=bill.issued.isoformat(timespec="seconds"),
        tpImp="1",
        tpEmis="1",
        cDV=bill.key[-1],
        tpAmb="2",
        tpCTe=bill.kind,
        procEmi="0",
        verProc="1.0",
        cMunEnv=bill.carrier.city.code,
        xMunEnv=bill.carrier.city.name,
        UFEnv=bill.carrier.city.state,
        modal="01",
        tpServ="0",
        cMunIni=origin.code,
        xMunIni=origin.name,
        UFIni=origin.state,
        cMunFim=destination.code,
        xMunFim=destination.name,
        UFFim=destination.state,
        retira="1",
        indIEToma="1",
    )
    return element.put(_taker(bill))


def _taker(bill: FreightBill) -> Element:
    if bill.taker_code != "4":
        return Element("toma3").add("toma", bill.taker_code)
    taker = bill.taker
    fields = Element("toma4").all(toma="4", CNPJ=taker.cnpj, IE=taker.ie, xNome=taker.name)
    return fields.put(_address("enderToma", taker))


def _carrier(bill: FreightBill) -> Element:
    carrier = bill.carrier
    element = Element("emit").all(CNPJ=carrier.cnpj, IE=carrier.ie, xNome=carrier.name)
    element.put(_address("enderEmit", carrier))
    return element.add("CRT", SIMPLIFIED_REGIME if bill.simplified else NORMAL_REGIME)


def _party(name: str, address: str, party: Party | None) -> Element | None:
    if party is None:
        return None
    element = Element(name).all(CNPJ=party.cnpj, IE=party.ie, xNome=party.name)
    return element.put(_address(address, party))


def _address(name: str, party: Party) -> Element:
    city = party.city
    return Element(name).all(
        xLgr="Rua das Comportas",
        nro="100",
        xBairro="Centro",
        cMun=city.code,
        xMun=city.name,
        CEP="01001000",
        UF=city.state,
    )


def _values(bill: FreightBill) -> Element:
    part = Element("Comp").all(xNome="FRETE VALOR", vComp=f"{bill.amount:.2f}")
    element = Element("vPrest").all(vTPrest=f"{bill.amount:.2f}", vRec=f"{bill.amount:.2f}")
    return element.put(part)


def _taxes(bill: FreightBill) -> Element:
    if bill.simplified:
        tax = Element("ICMSSN").all(CST="90", indSN="1")
    else:
        tax = Element("ICMS00").all(
            CST="00",
            vBC=f"{bill.amount:.2f}",
            pICMS=f"{ICMS_RATE:.2f}",
            vICMS=f"{bill.icms:.2f}",
        )
    return Element("imp").put(Element("ICMS").put(tax))


def _normal(bill: FreightBill) -> Element:
    load = Element("infCarga").all(vCarga=f"{bill.amount * 20:.2f}", proPred="ALIMENTOS")
    load.put(Element("infQ").all(cUnid="01", tpMed="PESO BRUTO", qCarga="1250.0000"))
    documents = Element("infDoc")
    for key in bill.invoice_keys:
        documents.put(Element("infNFe").add("chave", key))
    road = Element("infModal", versaoModal=LAYOUT)
    road.put(Element("rodo").add("RNTRC", "12345678"))
    return Element("infCTeNorm").put(load, documents if bill.invoice_keys else None, road)


def _complement(original_key: str) -> Element:
    return Element("infCteComp").add("chCTe", original_key)


def _protocol(bill: FreightBill) -> Element:
    moment = bill.issued.isoformat(timespec="seconds")
    body = Element("infProt", Id=f"CTe1{bill.carrier.city.state_code}{bill.number:012d}").all(
        tpAmb="2",
        verAplic="SIM1.0",
        chCTe=bill.key,
        dhRecbto=moment,
        nProt=f"1{bill.carrier.city.state_code}{bill.number:012d}",
        digVal=_digest(bill.key),
        cStat="100",
        xMotivo="Autorizado o uso do CT-e",
    )
    return Element("protCTe", versao=LAYOUT).put(body)


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha1(text.encode(), usedforsecurity=False).digest()).decode()


def _signature(bill: FreightBill) -> Element:
    """Return a signature of the right shape; its values sign nothing."""

    def element(name: str, **attributes: str) -> Element:
        return Element(name, SIGNATURE_NAMESPACE, **attributes)

    base = SIGNATURE_NAMESPACE
    c14n = "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"
    transforms = element("Transforms").put(
        element("Transform", Algorithm=f"{base}enveloped-signature"),
        element("Transform", Algorithm=c14n),
    )
    digest = _digest(bill.key)
    reference = element("Reference", URI=f"#CTe{bill.key}").put(
        transforms, element("DigestMethod", Algorithm=f"{base}sha1")
    )
    reference.add("DigestValue", digest)
    signed = element("SignedInfo").put(
        element("CanonicalizationMethod", Algorithm=c14n),
        element("SignatureMethod", Algorithm=f"{base}rsa-sha1"),
        reference,
    )
    certificate = element("X509Data").add("X509Certificate", digest)
    signature = element("Signature").put(signed).add("SignatureValue", digest)
    return signature.put(element("KeyInfo").put(certificate))


def invoice_key(issuer: Party, issued: datetime, number: int, random_code: int) -> str:
    """Return the key of an invoice (model 55) that a freight carried."""
    body = f"{issuer.city.state_code}{issued:%y%m}{issuer.cnpj}55001{number:09d}1{random_code:08d}"
    return body + fiscal.key_check_digit(body)
