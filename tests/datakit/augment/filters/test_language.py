"""The language of a text: told where it is clear, and never where it is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datakit.augment.filters.language import has_prose, is_other, language_code, language_of, names_language

CLEAR = {
    "en": [
        "The library opens at nine, and you can borrow up to five books for two weeks.",
        "How do I boil an egg so that the yolk stays soft?",
    ],
    "de": [
        "Die Bibliothek öffnet um neun Uhr, und man kann bis zu fünf Bücher ausleihen.",
        "Wie koche ich ein Ei, damit das Eigelb weich bleibt?",
    ],
    "fr": [
        "La bibliothèque ouvre à neuf heures et vous pouvez emprunter cinq livres pour deux semaines.",
        "Comment faire cuire un œuf pour que le jaune reste coulant ?",
    ],
    "es": [
        "La biblioteca abre a las nueve y se pueden tomar prestados hasta cinco libros.",
        "¿Cómo puedo cocer un huevo para que la yema quede blanda?",
    ],
    "pt": [
        "A biblioteca abre às nove e você pode levar até cinco livros por duas semanas.",
        "Não sei como cozinhar um ovo para que a gema fique mole, você pode ajudar?",
    ],
    "it": ["La biblioteca apre alle nove e si possono prendere in prestito fino a cinque libri per due settimane."],
    "nl": ["De bibliotheek gaat om negen uur open en je kunt maximaal vijf boeken lenen voor twee weken."],
    "vi": ["Thư viện mở cửa lúc chín giờ và bạn có thể mượn năm cuốn sách."],
    "tr": ["Kütüphane saat dokuzda açılıyor ve beş kitap ödünç alabilirsiniz, sonra geri getirmeniz lazım."],
    "pl": ["Biblioteka otwiera się o dziewiątej i możesz wypożyczyć pięć książek na dwa tygodnie."],
    "zh": ["图书馆九点开门，你可以借五本书。", "圖書館九點開門，每個人最多可以借五本書。"],
    "ja": ["図書館は九時に開きます。本を五冊まで借りることができます。"],
    "ko": ["도서관은 아홉 시에 문을 열고 책을 다섯 권까지 빌릴 수 있습니다."],
    "ru": ["Библиотека открывается в девять часов, и вы можете взять до пяти книг."],
    "ar": ["تفتح المكتبة في الساعة التاسعة ويمكنك استعارة خمسة كتب."],
    "th": ["ห้องสมุดเปิดเก้าโมงและคุณสามารถยืมหนังสือได้ห้าเล่ม"],
    "hi": ["पुस्तकालय नौ बजे खुलता है और आप पाँच किताबें ले सकते हैं।"],
    "el": ["Η βιβλιοθήκη ανοίγει στις εννέα και μπορείτε να δανειστείτε πέντε βιβλία."],
    "he": ["הספרייה נפתחת בתשע ואפשר לשאול עד חמישה ספרים לשבועיים."],
}
UNCLEAR = [
    "",
    "Hi",
    "42",
    "OK, danke!",
    "图书馆",
    "NumPy, Pandas, PyTorch, TensorFlow, Keras, SciPy, Matplotlib",
    "```python\nfor the in is: and_are = was(were, of, to)\n```",
    "https://example.org/the/and/is/of/to/that/this",
    "使用 Python 的 TensorFlow library for training a neural network",
    "Biblioteket åbner klokken ni, og du kan låne op til fem bøger ad gangen i to uger.",
    "Biblioteket öppnar klockan nio och du kan låna upp till fem böcker i två veckor.",
    "Perpustakaan dibuka pukul sembilan dan Anda bisa meminjam lima buku.",
    "Biblioteca se deschide la ora nouă și poți împrumuta cinci cărți pentru două săptămâni.",
    "La biblioteca obre a les nou i es poden agafar fins a cinc llibres amb el carnet.",
    "Kirjasto aukeaa yhdeksältä ja voit lainata viisi kirjaa.",
]  # fmt: skip


@pytest.mark.parametrize(("code", "text"), [(code, text) for code, texts in CLEAR.items() for text in texts])
def test_a_clear_text_is_told(code, text):
    assert language_of(text) == code


@pytest.mark.parametrize("text", UNCLEAR)
def test_short_and_mixed_texts_and_languages_that_are_not_known_are_told_as_nothing(text):
    assert language_of(text) is None


def test_code_addresses_and_numbers_say_nothing_about_a_text():
    text = "函数如下，它把两个数相加并返回结果：\n```python\ndef add(first, second):\n    return first + second\n```\n见 https://example.org/add"
    assert language_of(text) == "zh"
    assert not has_prose("`x = 1` 42 https://example.org/a")
    assert has_prose("x = 1 is set")


def test_a_thought_in_tags_counts_but_the_tags_do_not():
    assert language_of("<think>\n用户想知道怎么煮鸡蛋。\n</think>\n\n水开以后煮六分钟。") == "zh"


@pytest.mark.parametrize(
    ("found", "expected", "other"),
    [
        ("en", "en", False),
        ("zh", "en", True),
        ("en", "zh", True),
        ("fr", "de", True),
        ("ru", "uk", False),  # one script: not told apart
        ("ru", "en", True),
        ("ar", "fa", False),
        ("zh", "ja", False),  # a headline without kana may be Japanese
        ("ko", "ja", True),
        ("de", "sv", False),  # Swedish is not known here, so what looks like German may be Swedish
        ("zh", "sv", True),
        ("en", "ru", True),
        ("en", "sr", False),  # Serbian has two scripts
    ],
)
def test_only_what_is_surely_another_language_is_another(found, expected, other):
    assert is_other(found, expected) is other


@pytest.mark.parametrize(
    ("name", "code"),
    [("en", "en"), ("zh-CN", "zh"), ("pt_BR", "pt"), ("Chinese", "zh"), ("中文", "zh"), ("Simplified Chinese", "zh"),
     ("français", "fr"), (" German ", "de"), ("Klingon", None), ("", None)],
)  # fmt: skip
def test_a_language_may_be_named_by_code_or_by_name(name, code):
    assert language_code(name) == code


def test_a_question_may_speak_of_a_language():
    assert names_language("Translate this sentence: good morning")
    assert names_language("把下面这句话翻译成英文")
    assert names_language("How do you say thanks in Swedish?")
    assert not names_language("How do I boil an egg?")


@given(st.text(max_size=300))
def test_any_text_is_told_as_a_known_code_or_as_nothing(text):
    assert language_of(text) in {*CLEAR, None}


@given(st.sampled_from([(code, text) for code, texts in CLEAR.items() for text in texts]), st.integers(2, 4))
def test_saying_a_text_again_changes_no_language(told, times):
    code, text = told
    assert language_of(" ".join([text] * times)) == code
