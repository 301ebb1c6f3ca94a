"""The last word on what a pattern found: check digits, dates, randomness, and values known to stand for nobody."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import json
import math
import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable
from datetime import date
from functools import lru_cache

from datakit.validate.patterns import iban_lengths, known_values

SECRET_BITS = 2.8  # bits a character: a key of 16 random letters and digits has 3.4, one of 32 hex digits 3.6
ASSIGNED_BITS = 3.5  # where only a variable's name says that it is a secret
RTL_NEAR = 200  # characters on either side in which a letter of a right-to-left script explains a mark of direction
_RUNS = ("01234567890123456789", "98765432109876543210")
_RTL = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")
_WORD_BREAKING = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]")
_JOINING = re.compile("[\u0590-\u109f\u1780-\u18af\u1a00-\u1cff\ua800-\uabff\ufb1d-\ufdff\ufe70-\ufefc]")
_PICTURE = re.compile("[\u200d\u203c-\u3299\ufe0f\U0001f000-\U0001faff\U000e0020-\U000e007f]")


def outside_code(match: re.Match[str]) -> bool:
    """Whether it is prose: braces within backticks, or a workflow's ``${{ }}``, are code that the text talks about."""
    text, start = match.string, match.start()
    if text[start - 1 : start] == "$" and "." in match[0]:
        return False
    fences, ticks = _code_marks(text)
    if bisect_right(fences, start) % 2:
        return False
    line = text.rfind("\n", 0, start) + 1
    return (bisect_left(ticks, start) - bisect_left(ticks, line)) % 2 == 0


@lru_cache(maxsize=1)  # one text after the other is looked at, each of them many times
def _code_marks(text: str) -> tuple[list[int], list[int]]:
    """Where each fence ends, and where each backtick is."""
    return [fence.end() for fence in re.finditer("```", text)], [tick.start() for tick in re.finditer("`", text)]


def garbled(match: re.Match[str]) -> bool:
    """Whether it is no capital at the end of a word in capitals, before a closing quotation mark."""
    quoted = len(match[0]) == 2 and match[0][0] in "ÃÂ" and match[0][1] in "’”»›"
    before = match.string[match.start() - 1 : match.start()]
    return not (quoted and before.isupper())


def out_of_place(match: re.Match[str]) -> bool:
    """Whether no script needs it there: joiners belong into Persian, Indic scripts and emoji, marks into Hebrew."""
    text, start, end = match.string, match.start(), match.end()
    before, after = text[start - 1 : start], text[end : end + 1]
    found = set(match[0])
    if found <= {"\u200c", "\u200d"}:
        joins = _JOINING.match(before) or _JOINING.match(after)
        return not (joins or (found == {"\u200d"} and _PICTURE.match(before) and _PICTURE.match(after)))
    if found == {"\u200b"}:
        return not (_WORD_BREAKING.match(before) or _WORD_BREAKING.match(after))
    if found <= set("\u200e\u200f\u202a\u202b\u202c\u2066\u2067\u2068\u2069"):
        return not _RTL.search(text, max(0, start - RTL_NEAR), end + RTL_NEAR)
    if found <= set(map(chr, range(0xE0020, 0xE0080))):
        return before != "\U0001f3f4"  # the black flag, which such characters make a region's flag
    return True


def secret(match: re.Match[str]) -> bool:
    """Whether it looks drawn by chance and not made up for a manual."""
    value = _hit(match)
    lowered = value.lower()
    if any(word in lowered for word in known_values("placeholder_words")):
        return False
    return _bits(re.split("[-_.]", value, maxsplit=1)[-1] if len(value) < 60 else value) >= SECRET_BITS


def random_looking(match: re.Match[str]) -> bool:
    """Whether it mixes letters, digits and no words; a name of something else would not."""
    value = _hit(match)
    if not (re.search("[0-9]", value) and re.search("[A-Za-z]", value)) or re.match("(?:https?:|/|\\.)", value):
        return False
    return (
        secret(match)
        and _bits(value) >= ASSIGNED_BITS
        and not re.search("[a-z]{9}|[A-Z]{9}|[a-z]{5}[_.-][a-z]{5}", value)
    )


def password(match: re.Match[str]) -> bool:
    """Whether it is a password and not a placeholder or a word that every manual uses."""
    value = _hit(match)
    lowered = value.lower()
    if re.search(r"[{}$%\[\]()|\\]|\*\*|\.\.\.", value) or value.isdigit():
        return False
    return lowered not in known_values("weak_passwords") and not any(
        word in lowered for word in ("password", "passwd", "example", "your", "secret", "xxxx", "changeme")
    )


def json_web_token(match: re.Match[str]) -> bool:
    """Whether its first part names an algorithm."""
    head, _, signature = match[0].split(".")
    try:
        data = json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        return False
    return isinstance(data, dict) and "alg" in data and signature not in known_values("known_samples")


def mailbox(match: re.Match[str]) -> bool:
    """Whether somebody may read it: no example's domain, no file's name, no ``your.name``."""
    name, _, domain = match[0].lower().rpartition("@")
    ending = domain.rpartition(".")[2]
    parents = {domain.split(".", at)[-1] for at in range(domain.count(".") + 1)}
    if (
        re.search(r"(?:^|\.)(?:example|your)", domain)
        or ending in known_values("mail_endings")
        or parents & known_values("mail_domains")
    ):
        return False
    return name not in known_values("mail_names")


def payment_card(match: re.Match[str]) -> bool:
    """Luhn's check digit (ISO/IEC 7812-1) and a prefix that is in use with that length."""
    digits = _digits(match)
    if digits in known_values("cards") or len(set(digits)) < 4:
        return False
    return _card_scheme(digits) and _luhn(digits)


def chinese_id(match: re.Match[str]) -> bool:
    """The check character of GB 11643-1999 (ISO 7064, MOD 11-2), with a province and a day that exist."""
    value = match[0].upper()
    if value in known_values("chinese_ids") or value[:2] not in known_values("chinese_regions"):
        return False
    try:
        born = date(int(value[6:10]), int(value[10:12]), int(value[12:14]))
    except ValueError:
        return False
    weighted = sum(int(digit) * (2 ** (17 - place) % 11) for place, digit in enumerate(value[:17]))
    return "10X98765432"[weighted % 11] == value[17] and born <= date.today()


def iban(match: re.Match[str]) -> bool:
    """The remainder of ISO 13616 (MOD 97-10) and the length of its country."""
    value = match[0].replace(" ", "")
    if value in known_values("ibans") or iban_lengths().get(value[:2]) != len(value):
        return False
    return int("".join(str(int(character, 36)) for character in value[4:] + value[:4])) % 97 == 1


def chinese_mobile(match: re.Match[str]) -> bool:
    """No number of an advertisement, a manual, a round sum or a difference."""
    number = _digits(match)[-11:]
    negative = re.search("(?:^|[ (=])[-−]$", match.string[max(0, match.start() - 2) : match.start()])
    return not negative and number not in known_values("chinese_mobiles") and not _made_up(number[3:])


def phone(match: re.Match[str]) -> bool:
    """Nine to fifteen digits (ITU-T E.164), neither a decimal nor an example; of North America by its own rules."""
    digits = _digits(match)
    most = 13 if match[0] == f"+{digits}" else 15  # fifteen digits without a space are a sum, not a number to call
    if re.fullmatch(r"\+[0-9]{1,3}\.[0-9]+", match[0]) or not 9 <= len(digits) <= most or match[0].count("(") > 1:
        return False
    if digits[0] == "1":
        return len(digits) == 11 and _north_american(digits[1:])
    if digits.startswith("86") and len(digits) == 13 and digits[2] == "1":
        return digits[2:] not in known_values("chinese_mobiles") and not _made_up(digits[5:])
    return not _made_up(digits[2:])


def north_american(match: re.Match[str]) -> bool:
    """An area and an exchange that exist, no toll-free number, none of the 555 kept for fiction."""
    return _north_american(_digits(match)[-10:])


def social_security(match: re.Match[str]) -> bool:
    """The areas, groups and serials that the US issues, without the numbers printed in advertisements."""
    area, group, serial = match[0].split("-")
    if area in ("000", "666") or area[0] == "9" or group == "00" or serial == "0000":
        return False
    return match[0] not in known_values("social_security")


def public_address(match: re.Match[str]) -> bool:
    """Whether it is somebody's: no private, reserved or documentation range, no well-known resolver."""
    try:
        address = ipaddress.IPv4Address(match[0])
    except ValueError:
        return False
    return address.is_global and match[0] not in known_values("public_resolvers")


CONFIRM: dict[str, Callable[[re.Match[str]], bool]] = {
    "outside_code": outside_code,
    "garbled": garbled,
    "out_of_place": out_of_place,
    "secret": secret,
    "random_looking": random_looking,
    "password": password,
    "json_web_token": json_web_token,
    "mailbox": mailbox,
    "payment_card": payment_card,
    "chinese_id": chinese_id,
    "iban": iban,
    "chinese_mobile": chinese_mobile,
    "phone": phone,
    "north_american": north_american,
    "social_security": social_security,
    "public_address": public_address,
}


def _hit(match: re.Match[str]) -> str:
    return str(match["hit"]) if "hit" in match.re.groupindex else match[0]


def _digits(match: re.Match[str]) -> str:
    return re.sub("[^0-9]", "", match[0])


def _bits(value: str) -> float:
    """Shannon's entropy of the characters, in bits a character."""
    counts = Counter(value)
    return -sum(n / len(value) * math.log2(n / len(value)) for n in counts.values()) if value else 0.0


def _luhn(digits: str) -> bool:
    doubled = [int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits))]
    return sum(n - 9 if n > 9 else n for n in doubled) % 10 == 0


def _card_scheme(digits: str) -> bool:
    size, two, four = len(digits), int(digits[:2]), int(digits[:4])
    if two in (34, 37):
        return size == 15
    if two == 62:
        return 16 <= size <= 19
    if digits[0] == "4" or 51 <= two <= 55 or 2221 <= four <= 2720 or 3528 <= four <= 3589:
        return size == 16
    return size == 16 and (four == 6011 or two == 65 or 644 <= int(digits[:3]) <= 649)


def _north_american(digits: str) -> bool:
    area, exchange = digits[:3], digits[3:6]
    if "0" in (area[0], exchange[0]) or "1" in (area[0], exchange[0]) or "11" in (area[1:], exchange[1:]):
        return False
    return "555" not in (area, exchange) and area not in known_values("toll_free") and not _made_up(digits[3:])


def _made_up(digits: str) -> bool:
    """A row such as 3456789, one or two digits over and over, or a round sum."""
    in_a_row = any(digits[at : at + 6] in run for run in _RUNS for at in range(max(len(digits) - 5, 1)))
    return in_a_row or len(set(digits)) < 3 or digits.endswith("0000")
