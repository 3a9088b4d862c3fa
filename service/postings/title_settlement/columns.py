"""The columns of a sheet of settlements, as Brazilian spreadsheets name them too."""

from __future__ import annotations

from service.sheets.column import YES_OR_NO, Column

DIRECTIONS = {
    "receivable": "receivable",
    "a_receber": "receivable",
    "receber": "receivable",
    "payable": "payable",
    "a_pagar": "payable",
    "pagar": "payable",
}

COLUMNS = (
    Column(field="direction", kind="word", words=DIRECTIONS, required=True, example="receivable",
           also=("tipo", "direção", "receber ou pagar")),
    Column(field="number", kind="text", required=True, example="141787",
           also=("nf", "nf-e", "número", "número da nf", "nota", "nota fiscal", "documento")),
    Column(field="instalment", kind="whole", required=True, example="1", also=("parcela",)),
    Column(field="reference", kind="text", required=True, example="statement 2026-11-24 line 17",
           also=("referência",)),
    Column(field="date", kind="date", required=True, example="24/11/2026",
           also=("data", "data do pagamento", "data da baixa")),
    Column(field="journal_id", kind="whole", example="12",
           also=("journal", "diário", "id do diário")),
    Column(field="principal", kind="amount", example="980,00",
           also=("valor", "valor principal", "valor pago")),
    Column(field="interest", kind="amount", example="0,00", also=("juros",)),
    Column(field="charges", kind="amount", example="0,00",
           also=("encargos", "tarifa", "despesas bancárias")),
    Column(field="discount", kind="amount", example="20,00", also=("desconto",)),
    Column(field="contractual_discount", kind="word", words=YES_OR_NO, example="não",
           also=("desconto contratual", "desconto de contrato")),
    Column(field="agreement", kind="amount", example="0,00",
           also=("acordo", "acordo comercial")),
    Column(field="returns", kind="amount", example="0,00", also=("devolução", "devoluções")),
    Column(field="title_id", kind="whole", also=("id do título",)),
    Column(field="statement_line_id", kind="whole",
           also=("linha do extrato", "id da linha do extrato")),
)  # fmt: skip
