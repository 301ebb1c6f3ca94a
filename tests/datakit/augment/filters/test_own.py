"""Filters that look at one row and its seeds: each row that is dropped beside its neighbour that is kept."""

from __future__ import annotations

from registry.records import Message, PreferenceRecord, TextRecord
from tests.datakit.augment.filters.made import (
    ANSWER,
    EGG,
    EVOLVE,
    JUDGE,
    KEPT,
    MULTI_TURN,
    PARAPHRASE,
    PERSONA,
    PREFERENCE,
    QA,
    THINK,
    TRANSLATE,
    chat,
    made,
    reason,
    seed,
)  # fmt: skip

FRENCH = "Il faut le mettre dans de l'eau bouillante et le sortir au bout de six minutes."
LONG_QUESTION = (
    "Which of the three routes over the pass is open in winter, and which of them may a lorry of twelve tons take?"
)


def test_an_empty_answer_is_dropped_and_a_short_one_kept():
    assert reason(made("Is tea hot?", " \n")) == ("empty", "the answer is empty")
    assert reason(made("Is tea hot?", "Yes.")) == KEPT


def test_an_empty_question_is_dropped():
    assert reason(made("", "Yes, tea is hot.")) == ("empty", "the question is empty")


def test_an_answer_that_is_all_thoughts_is_empty():
    assert reason(made(EGG[0], "<think>\nSix minutes.\n</think>\n\n"), THINK) == ("empty", "the answer is empty")
    assert reason(made(EGG[0], "<think>\nSix minutes.\n</think>\n\nSix minutes."), THINK) == KEPT


def test_the_seed_again_in_another_spelling_is_an_echo_and_another_question_is_none():
    shouted = (EGG[0].upper(), f"  {EGG[1]}\n")
    assert reason(made(*shouted)) == ("echo", "the seed again")
    assert reason(made("How do I fry an egg?", "Break it into a hot pan with butter.")) == KEPT


def test_a_row_that_differs_from_its_seed_in_a_word_of_thirty_is_an_echo():
    answer = "only the lowest of the three is open in winter and no lorry of more than ten tons may take it"
    row = made(LONG_QUESTION, answer + " today", of=seed(LONG_QUESTION, answer))
    found, detail = reason(row)
    assert found == "echo"
    assert detail.endswith("like its seed")


def test_half_of_a_row_may_be_that_of_its_seed():
    row = made(LONG_QUESTION, "All of them are closed from November on.", of=seed(LONG_QUESTION, "Only the lowest is."))
    assert reason(row) == KEPT


def test_of_a_paraphrase_only_the_question_is_compared():
    assert reason(made("how do i boil an egg so that the yolk stays soft?", EGG[1]), PARAPHRASE) == (
        "echo",
        "the seed's question again",
    )
    assert reason(made("What is the way to get a soft yolk when boiling an egg?", EGG[1]), PARAPHRASE) == KEPT
    assert reason(made("What is the way to get a soft yolk when boiling an egg?", EGG[1])) == KEPT


def test_an_evolved_question_is_answered_anew_so_that_the_whole_row_is_compared():
    assert reason(made(EGG[0], "It depends on the size of the egg; start at six minutes."), EVOLVE) == KEPT
    assert reason(made(EGG[0], "It depends on the size of the egg; start at six minutes."), PARAPHRASE)[0] == "echo"


def test_an_answer_that_is_its_question_is_an_echo():
    assert reason(made("How do I fry an egg?", "How do I  fry an egg?")) == ("echo", "the answer repeats the question")
    assert reason(made("How do I fry an egg?", "You ask how to fry an egg.")) == KEPT


def test_an_answer_that_is_its_question_after_thoughts_is_an_echo():
    assert reason(made(EGG[0], f"<think>\nHm.\n</think>\n\n{EGG[0]}"), THINK)[0] == "echo"


def test_where_the_seed_repeats_its_question_a_row_may():
    repeat = seed("blue heron", "Blue Heron")
    assert reason(made("grey goose", "Grey Goose", of=repeat)) == KEPT


def test_an_answer_that_is_equal_to_the_question_is_an_echo_of_recipes_that_keep_the_row_too():
    assert reason(made(EGG[0], EGG[0], of=seed(EGG[0])), ANSWER) == ("echo", "the answer repeats the question")


def test_rows_that_pass_as_they_are_by_design_are_no_echo():
    assert reason(made(*EGG), ANSWER) == KEPT
    assert reason(made(*EGG, score=9), JUDGE) == KEPT


def test_rows_that_were_to_change_and_did_not_are_an_echo():
    for recipe in (TRANSLATE, THINK, MULTI_TURN):
        assert reason(made(*EGG), recipe) == ("echo", "the seed again")


def test_code_need_not_change_in_translation():
    code = ("`x = 1`", "`print(x)`")
    assert reason(made(*code, of=seed(*code)), TRANSLATE) == KEPT


def test_a_conversation_that_begins_with_its_seed_is_no_echo_of_it():
    assert reason(made(*EGG, "And a hard one?", "Leave it in for ten minutes."), MULTI_TURN) == KEPT


def test_an_answer_that_is_the_whole_document_is_an_echo():
    text = seed(record=TextRecord("Tea comes from a shrub. It is drunk hot."))
    assert reason(made("Where does tea come from?", "Tea comes from a shrub.  It is drunk hot.", of=text), QA) == (
        "echo",
        "the answer is the seed's text",
    )
    assert reason(made("Where does tea come from?", "Tea comes from a shrub.", of=text), QA) == KEPT


def test_a_row_in_another_language_than_its_seed_is_dropped():
    assert reason(made("How do I fry an egg?", FRENCH)) == ("language", "fr, not en (answer)")
    assert reason(made("怎样煮米饭才好吃而且不会粘锅？", "水和米的比例是一比一点二。")) == (
        "language",
        "zh, not en (question)",
    )


def test_a_language_that_the_question_asks_for_is_none_too_many():
    assert reason(made("Say in French how to boil an egg.", FRENCH)) == KEPT


def test_where_the_seed_has_two_languages_an_answer_may():
    assert reason(made("How do I fry an egg?", FRENCH, of=seed(EGG[0], FRENCH + " Voilà."))) == KEPT


def test_any_language_is_kept_where_none_is_expected():
    assert reason(made("How do I fry an egg?", FRENCH), language=None) == KEPT


def test_a_language_may_be_named():
    assert (
        reason(made("水开以后怎样煮鸡蛋才好吃？", "水开以后把鸡蛋放进去，煮六分钟。"), TRANSLATE, language="Chinese")
        == KEPT
    )
    assert reason(
        made("How do I cook an egg in such a way?", "In water, for as long as it takes."), TRANSLATE, language="zh"
    ) == (
        "language",
        "en, not zh (question)",
    )


def test_a_translation_need_not_be_in_the_language_of_its_seed():
    assert reason(made("Comment faire cuire un œuf pour que le jaune reste coulant ?", FRENCH), TRANSLATE) == KEPT


def test_texts_of_the_seed_are_held_against_nobody():
    assert reason(made(*EGG, score=7), JUDGE, language="zh") == KEPT


def test_bounds_count_the_new_texts_together():
    row = made("Is tea hot?", "Yes.")  # 11 and 4 characters
    assert reason(row, min_chars=16) == ("length", "15 characters, fewer than 16")
    assert reason(row, min_chars=15, max_chars=15) == KEPT
    assert reason(row, max_chars=14) == ("length", "15 characters, more than 14")
    assert reason(made("Is tea hot?", EGG[1]), max_chars=11) == KEPT  # the answer is the seed's


def test_an_answer_that_runs_away_is_dropped_without_any_bounds():
    words = "".join(f"{number} sheep, " for number in range(3000))[:20_001]
    assert reason(made("How many sheep?", words))[0] == "length"
    assert reason(made("How many sheep?", words[:20_000])) == KEPT
    assert reason(made("How many sheep?", words, of=seed("Count to thousand", words[:1_001]))) == KEPT
    assert reason(made("Who are you?", words), PERSONA)[0] == "length"


def test_a_score_below_the_threshold_is_dropped_and_one_on_it_kept():
    assert reason(made(*EGG, score=6), JUDGE, min_score=7) == ("score", "6, below 7")
    assert reason(made(*EGG, score=7), JUDGE, min_score=7) == KEPT
    assert reason(made(*EGG, score=1), JUDGE) == KEPT
    assert reason(made(*EGG), JUDGE, min_score=7) == KEPT


def test_a_rejected_answer_that_is_the_question_is_an_echo():
    def pair(rejected: str) -> PreferenceRecord:
        good = Message("assistant", EGG[1])
        return PreferenceRecord((Message("user", EGG[0]),), good, Message("assistant", rejected))

    assert reason(made(record=pair(EGG[0])), PREFERENCE) == ("echo", "the rejected answer repeats the question")
    assert reason(made(record=pair("Put it in cold water.")), PREFERENCE) == KEPT


def test_rows_without_seeds_are_looked_at_too():
    assert reason(made("Who are you?", "I am Nia, made by Ada.", of=[]), PERSONA) == KEPT


def test_a_pool_is_several_seeds():
    from datakit.augment.rollout import Seed

    pool = Seed(0, "", 0, None, 0, (seed(*EGG), seed("What is tea?", "A drink.", number=2)))
    assert reason(made("what is TEA?", "a drink.", of=pool)) == ("echo", "the seed again")
    assert chat(*EGG) == pool.pool[0].record
