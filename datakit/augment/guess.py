"""How many tokens a call will take, before it is sent: by its characters, and by what the calls before it took."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

WIDE = 0.7  # tokens for a character beyond Latin-1: Chinese, Japanese, Korean
NARROW = 0.27  # tokens for any other
FIRST_ANSWER = 400  # tokens of an answer, as long as none came
REMEMBERED = 50
SHARE = 0.9  # of the last answers that a guess is to cover


def rough_tokens(text: str) -> int:
    """About how many tokens a text has in the usual vocabularies; within a third for prose."""
    narrow = len(text.encode("latin-1", "ignore"))
    return int(NARROW * narrow + WIDE * (len(text) - narrow)) + 1


class Guess:
    """Learns from each answer how far the guess before was off. Not safe for several threads."""

    def __init__(self) -> None:
        self._completions: deque[int] = deque(maxlen=REMEMBERED)
        self._guessed = self._counted = 0.0

    def prompt(self, messages: Sequence[tuple[str, str]]) -> int:
        """Tokens of a prompt."""
        rough = sum(rough_tokens(content) + 4 for _, content in messages)
        return int(rough * (self._counted / self._guessed)) if self._guessed else rough

    def completion(self, max_tokens: int | None) -> int:
        """Tokens of the answer: what nine of ten of the last ones stayed below."""
        if not self._completions:
            return min(FIRST_ANSWER, max_tokens or FIRST_ANSWER)
        ordered = sorted(self._completions)
        return ordered[min(int(SHARE * len(ordered)), len(ordered) - 1)]

    def learn(self, messages: Sequence[tuple[str, str]], prompt: int, completion: int) -> None:
        """What the server counted for a call with these messages; 0 where it did not count."""
        if completion:
            self._completions.append(completion)
        if prompt:
            # The newest weigh most: recipes change within a run.
            self._guessed = 0.95 * self._guessed + sum(rough_tokens(content) + 4 for _, content in messages)
            self._counted = 0.95 * self._counted + prompt
