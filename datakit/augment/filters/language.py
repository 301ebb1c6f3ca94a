"""Which language a text is in, by its script, and for Latin script by its commonest words; None where that is not clear."""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache

LOOKED_AT = 4_000  # characters; more would tell nothing new
SHARE = 0.8  # of what is written, in one script, before a text is of it
LEAST_WEIGHT = 24  # letters, a character of Han, kana, hangul or Thai as three: shorter texts are not told
LEAST_WORDS = 6  # of a text in Latin script
LEAST_HITS = 3  # common words of one language
HIT_SHARE = 0.15  # of all words, that must be common words of one language
LEAST_POINTS = 1.5  # a word counts as one point, shared among the languages that have it
AHEAD = 1.5  # times as many points as the language that comes next
KANA_SHARE = 0.05  # of Han and kana together; Japanese has about half, a Chinese text at most a shop's sign
MARK_SHARE = 0.02  # of the letters, that only one language has

_LEFT_OUT = re.compile(
    r"```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z)"  # blocks of code
    r"|`[^`\n]*`"
    r"|(?:https?://|www\.)\S+|\S+@\S+\.\S+"  # addresses
    r"|\$\$.*?\$\$|\\\(.*?\\\)|\\\[.*?\\\]"  # formulas
    r"|<[^<>\n]{0,200}>"  # tags, those of thinking among them
    r"|(?<![\w.])[\w.]*[_\\/=(){}\[\]][\w.]*|\d+\w*",  # names in code, paths, numbers
    re.DOTALL,
)
# script -> its letters, and how many letters of an alphabet one of them is worth
_SCRIPTS: dict[str, tuple[re.Pattern[str], int]] = {
    "han": (re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af]"), 3),
    "kana": (re.compile("[\u3041-\u309f\u30a1-\u30fa\u31f0-\u31ff\uff66-\uff9d]"), 3),
    "hangul": (re.compile("[\u1100-\u11ff\u3131-\u318e\uac00-\ud7a3]"), 3),
    "thai": (re.compile("[\u0e01-\u0e3a\u0e40-\u0e4e]"), 1),
    "cyrillic": (re.compile("[\u0400-\u052f]"), 1),
    "arabic": (re.compile("[\u0620-\u06ff\u0750-\u077f\ufb50-\ufdff\ufe70-\ufefc]"), 1),
    "devanagari": (re.compile("[\u0900-\u0963\u0971-\u097f]"), 1),
    "greek": (re.compile("[\u0370-\u03ff\u1f00-\u1fff]"), 1),
    "hebrew": (re.compile("[\u05d0-\u05ea]"), 1),
    "latin": (re.compile("[A-Za-z\u00aa\u00ba\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u1e00-\u1eff]"), 1),
}
# script -> the language it is told as, and the others that are written in it too (which are not told apart)
_OF_SCRIPT: dict[str, tuple[str, ...]] = {
    "hangul": ("ko",),
    "thai": ("th",),
    "cyrillic": ("ru", "uk", "bg", "sr", "be", "mk", "kk", "ky", "tg", "mn", "tt", "uz"),
    "arabic": ("ar", "fa", "ur", "ps", "ug", "ku", "sd"),
    "devanagari": ("hi", "mr", "ne", "sa"),
    "greek": ("el",),
    "hebrew": ("he", "yi"),
}
# Letters by which a language is told, and those of them that no neighbour has: one at least must be there.
_MARKS: dict[str, tuple[re.Pattern[str], re.Pattern[str]]] = {
    "vi": (re.compile("[\u1ea0-\u1ef9đĐơƠưƯăĂ]"), re.compile("[\u1ea0-\u1ef9ơƠưƯ]")),
    "tr": (re.compile("[ıİğĞşŞ]"), re.compile("[ıİğĞ]")),
    "pl": (re.compile("[łŁżŻźŹśŚńŃąĄęĘ]"), re.compile("[łŁżŻźŹśŚ]")),
}
_COMMON: dict[str, str] = {
    "en": "the and is are was were of to that this it with for not be have has you your from which what how can will"
    " would there their they when should but or an if as by on does do",
    "de": "der die das und ist sind war nicht ein eine einen einem einer zu den dem des mit für auf von ich sie wir ihr"
    " wie auch sich werden wird kann oder aber wenn dass bei nach als durch über zum zur im",
    "fr": "le la les des est et un une du que qui dans pour pas sur avec sont vous nous je il elle ce cette ces plus"
    " par au aux mais ou où être comme votre leur peut très se ne comment faire quand"
    " tout fait leurs cet pourquoi alors sans",
    "es": "el la los las y es un una que de del en por para con no se su sus como más pero está son lo al este esta"
    " muy también cuando qué cómo puede puedo hay ser o"
    " desde sobre entre sin porque tiene",
    "pt": "o os as e é um uma que de do da dos das em no na nos nas por para com não se seu sua como mais mas está são"
    " ao à muito também quando você pode foi ser ou isso",
    "it": "il lo la gli le e è un una che di del della dei delle in nel nella per con non si su come più ma sono al"
    " alla questo questa anche quando può ha essere o da dal"
    " possono perché fino due ed modo cosa",
    "nl": "de het een en is zijn van dat niet met voor op te in aan die ik je u we hij zij ook maar als of wordt worden"
    " kan naar bij om door deze dit heeft hoe wat naar"
    " uur kunt kun heb bent gaat geen nog twee",
    # Told as nothing; they are here so that texts in them are not taken for one of those above.
    "-da": "og er det at en et den til på med for ikke som af de har jeg du vi kan fra der om av være var eller",
    "-sv": "och är det att en ett den till på med för inte som av de har jag du vi kan från om var eller",
    "-ro": "și si este un o de la în cu nu pe care din pentru sunt mai ce al ale a să fi sau",
    "-ca": "el la els les i és un una que de del en per amb no es com més però són al aquest aquesta molt també",
    "-id": "yang dan di ini itu dengan untuk dari tidak adalah pada ke dalam akan bisa anda saya atau juga",
    "-hu": "a az és hogy egy nem is meg de ez van volt vagy csak mint",
    "-cs": "a je se na v že to s do jako pro ale který není jsou od k po nebo za o",
    "-fi": "ja on ei se että hän ovat oli mutta tai kun joka myös sen voi olla",
}
_NAMES: dict[str, str] = {
    "english": "en", "german": "de", "deutsch": "de", "french": "fr", "français": "fr", "spanish": "es",
    "español": "es", "portuguese": "pt", "português": "pt", "italian": "it", "italiano": "it", "dutch": "nl",
    "nederlands": "nl", "vietnamese": "vi", "turkish": "tr", "türkçe": "tr", "polish": "pl", "polski": "pl",
    "chinese": "zh", "mandarin": "zh", "japanese": "ja", "korean": "ko", "russian": "ru", "ukrainian": "uk",
    "arabic": "ar", "persian": "fa", "thai": "th", "hindi": "hi", "greek": "el", "hebrew": "he",
    "中文": "zh", "汉语": "zh", "英文": "en", "英语": "en", "日语": "ja", "日文": "ja", "韩语": "ko", "法语": "fr",
    "德语": "de", "西班牙语": "es", "俄语": "ru", "葡萄牙语": "pt", "意大利语": "it", "阿拉伯语": "ar", "泰语": "th",
    "越南语": "vi",
}  # fmt: skip
_TELLS_LANGUAGE = re.compile(
    "|".join(sorted(map(re.escape, _NAMES), key=len, reverse=True))
    + r"|translat|übersetz|tradu[cizç]|翻译|译[成为]|翻訳|번역|перев[ео]д|日本語|[a-z]+ish\b|latin\b|语\b",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")


@lru_cache(1024)
def language_of(text: str) -> str | None:
    """The language of a text as an ISO 639-1 code; None where it is too short, too mixed, or none that is known here.

    Code, addresses, formulas, tags and numbers are left out first. Languages of one script beside Latin are not told
    apart: Cyrillic is ``ru``, Arabic script ``ar``, Devanagari ``hi``.
    """
    prose = prose_of(text)
    scripts = {"latin": _SCRIPTS["latin"]} if prose.isascii() else _SCRIPTS
    weights = dict.fromkeys(_SCRIPTS, 0)
    weights |= {name: weight * len(letters.findall(prose)) for name, (letters, weight) in scripts.items()}
    total = sum(weights.values())
    if total < LEAST_WEIGHT:
        return None
    east = weights["han"] + weights["kana"]
    if east >= SHARE * total:
        if not weights["kana"]:
            return "zh"
        return "ja" if weights["kana"] >= KANA_SHARE * east else None
    if (weights["hangul"] + weights["han"]) >= SHARE * total and weights["hangul"] > weights["han"]:
        return "ko"
    if weights["latin"] >= SHARE * total:
        return _of_latin(prose, weights["latin"])
    return next((told[0] for script, told in _OF_SCRIPT.items() if weights[script] >= SHARE * total), None)


def prose_of(text: str) -> str:
    """What people read of a text: without code, addresses, formulas, tags and numbers; at most ``LOOKED_AT`` characters."""
    return _LEFT_OUT.sub(" ", text[:LOOKED_AT])


def has_prose(text: str) -> bool:
    """Whether any letter is left of a text that is no code, address, formula, tag or number."""
    return any(letter.isalpha() for letter in prose_of(text))


def is_other(found: str, expected: str) -> bool:
    """Whether a text told as ``found`` is surely not in the language ``expected`` (a code)."""
    if found == expected:
        return False
    for told in _OF_SCRIPT.values():
        if found in told:
            return expected not in told
    if found in ("zh", "ja"):
        return expected not in ("zh", "ja", "yue")
    # Of languages in Latin script only those can be told from each other whose words are known here.
    return expected in _COMMON or expected in _MARKS or expected in ("zh", "ja", "yue") or _has_own_script(expected)


def _has_own_script(code: str) -> bool:
    """Whether a language is never written in Latin script, as far as is known here."""
    return any(code in told for told in _OF_SCRIPT.values()) and code not in ("sr", "kk", "uz", "tt", "ku")


def language_code(name: str) -> str | None:
    """``"zh-CN"``, ``"Chinese"``, ``"中文"`` → ``"zh"``; None for what is neither a code of two letters nor a name known here."""
    spelled = name.strip().casefold()
    if spelled in _NAMES:
        return _NAMES[spelled]
    code = re.split(r"[-_]", spelled)[0]
    if len(code) == 2 and code.isascii() and code.isalpha():
        return code
    return next((known for word, known in _NAMES.items() if re.search(rf"(?<!\w){re.escape(word)}", spelled)), None)


def names_language(text: str) -> bool:
    """Whether a text speaks of a language or of translating, so that an answer to it may well be in another one."""
    return _TELLS_LANGUAGE.search(text[:LOOKED_AT]) is not None


def _of_latin(prose: str, num_letters: int) -> str | None:
    for code, (marks, own) in () if prose.isascii() else _MARKS.items():
        found = marks.findall(prose)
        if len(found) >= max(LEAST_HITS, MARK_SHARE * num_letters) and len(set(found)) > 1 and own.search(prose):
            return code
    words = [word.lower() for word in _WORD.findall(prose)]
    if len(words) < LEAST_WORDS:
        return None
    hits: Counter[str] = Counter()
    points: dict[str, float] = {}
    known = _languages_of_words()
    for word, count in Counter(words).items():
        languages = known.get(word, ())
        for code in languages:
            hits[code] += count
            points[code] = points.get(code, 0.0) + count / len(languages)
    best, *others = sorted(points, key=lambda code: -points[code]) or [""]
    clear = hits[best] >= max(LEAST_HITS, HIT_SHARE * len(words))
    clear = clear and points[best] >= max(LEAST_POINTS, AHEAD * max(map(points.__getitem__, others), default=0.0))
    return best if clear and not best.startswith("-") else None


@lru_cache(1)
def _languages_of_words() -> dict[str, tuple[str, ...]]:
    """Common word → the languages that have it."""
    found: dict[str, tuple[str, ...]] = {}
    for code, words in _COMMON.items():
        for word in dict.fromkeys(words.split()):
            found[word] = (*found.get(word, ()), code)
    return found
