"""Tokens guessed before a call: by characters at first, then by what the server counted."""

from __future__ import annotations

import pytest

from datakit.augment.guess import FIRST_ANSWER, REMEMBERED, Guess, rough_tokens

MESSAGES = (("system", "Be short."), ("user", "How long does a letter to the next town take these days?"))


def test_latin_letters_are_a_quarter_of_a_token_and_chinese_ones_most_of_one():
    assert rough_tokens("") == 1
    assert rough_tokens("a" * 1000) == 271
    assert rough_tokens("é" * 1000) == 271
    assert rough_tokens("字" * 1000) == 701
    assert rough_tokens("a" * 1000 + "字" * 1000) == 971


def test_half_a_character_is_counted_too():
    assert rough_tokens("\ud800" * 10) == 8


def test_before_any_answer_the_room_that_is_given_bounds_the_guess():
    assert Guess().completion(None) == FIRST_ANSWER
    assert Guess().completion(50) == 50
    assert Guess().completion(5000) == FIRST_ANSWER


def test_answers_are_guessed_by_what_nine_of_ten_stayed_below():
    guess = Guess()
    for tokens in range(1, 101):
        guess.learn(MESSAGES, 10, tokens)
    assert guess.completion(None) == 100 - REMEMBERED + 46  # of the last fifty: 51 … 100


def test_prompts_are_guessed_by_how_far_off_the_guesses_were():
    guess = Guess()
    rough = guess.prompt(MESSAGES)
    for _ in range(5):
        guess.learn(MESSAGES, 2 * rough, 20)
    assert guess.prompt(MESSAGES) == pytest.approx(2 * rough, abs=1)
    for _ in range(200):
        guess.learn(MESSAGES, rough, 20)
    assert guess.prompt(MESSAGES) == pytest.approx(rough, abs=1)


def test_a_server_that_does_not_count_teaches_nothing():
    guess = Guess()
    rough = guess.prompt(MESSAGES)
    guess.learn(MESSAGES, 0, 0)
    assert (guess.prompt(MESSAGES), guess.completion(None)) == (rough, FIRST_ANSWER)
