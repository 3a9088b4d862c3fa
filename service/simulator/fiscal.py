"""Check digits of Brazilian fiscal numbers, digits and letters alike.

Since July 2026 a CNPJ may hold letters in its first 12 places. A character is worth its ASCII code
minus 48, which leaves digits as they were; the weights and the modulo 11 are the old ones.
"""

from __future__ import annotations

ZERO = ord("0")
CNPJ_WEIGHTS = (5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2)
CNPJ_LENGTH = 14
CNPJ_BODY_LENGTH = 12
KEY_BODY_LENGTH = 43
KEY_LENGTH = 44
MODULUS = 11
SMALLEST_COMPLEMENT = 2
LARGEST_KEY_WEIGHT = 9


def character_value(character: str) -> int:
    """Return what a character of a CNPJ or an access key is worth."""
    return ord(character) - ZERO


def _modulo_digit(total: int) -> str:
    rest = total % MODULUS
    return "0" if rest < SMALLEST_COMPLEMENT else str(MODULUS - rest)


def cnpj_check_digits(body: str) -> str:
    """Return the two check digits of the first 12 characters of a CNPJ."""
    digits = ""
    for weights in (CNPJ_WEIGHTS, (6, *CNPJ_WEIGHTS)):
        characters = body + digits
        pairs = zip(characters, weights, strict=True)
        digits += _modulo_digit(sum(character_value(one) * weight for one, weight in pairs))
    return digits


def complete_cnpj(body: str) -> str:
    """Return the 14 characters of a CNPJ from its first 12."""
    return body + cnpj_check_digits(body)


def clean(number: str) -> str:
    """Strip punctuation, never letters."""
    return "".join(one for one in number.upper() if one.isascii() and one.isalnum())


def is_cnpj(number: str) -> bool:
    """Whether the text, with or without punctuation, is a CNPJ with right check digits."""
    plain = clean(number)
    if len(plain) != CNPJ_LENGTH or not plain[CNPJ_BODY_LENGTH:].isdigit():
        return False
    if len(set(plain)) == 1:
        return False
    return plain[CNPJ_BODY_LENGTH:] == cnpj_check_digits(plain[:CNPJ_BODY_LENGTH])


def format_cnpj(number: str) -> str:
    """Return `NN.NNN.NNN/NNNN-NN`."""
    plain = clean(number)
    return f"{plain[:2]}.{plain[2:5]}.{plain[5:8]}/{plain[8:12]}-{plain[12:]}"


def key_check_digit(body: str) -> str:
    """Return the check digit of the first 43 characters of an access key."""
    weights = [2 + place % (LARGEST_KEY_WEIGHT - 1) for place in range(KEY_BODY_LENGTH)]
    pairs = zip(reversed(body), weights, strict=True)
    return _modulo_digit(sum(character_value(one) * weight for one, weight in pairs))


def is_access_key(key: str) -> bool:
    """Whether the text is a 44-character key with the right check digit."""
    return len(key) == KEY_LENGTH and key[KEY_BODY_LENGTH] == key_check_digit(key[:KEY_BODY_LENGTH])
