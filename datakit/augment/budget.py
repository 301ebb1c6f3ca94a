"""What a run may use: requests, tokens, money, minutes; counted as it goes, with what is still out on the way."""

from __future__ import annotations

from dataclasses import dataclass, field

from datakit.augment.prices import Price


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that may be used; None is no limit. ``cost`` is in the currency of the prices, ``minutes`` of this run."""

    requests: int | None = None
    tokens: int | None = None
    cost: float | None = None
    minutes: float | None = None


@dataclass
class Budget:
    """What was used of the limits. A call is reserved when it is sent, and settled with what it took when it is back."""

    limits: Limits
    price: Price | None
    started: float
    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    _reserved: dict[int, tuple[int, int]] = field(default_factory=dict)
    _out_tokens: int = 0
    _out_cost: float = 0.0

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    @property
    def cost(self) -> float | None:
        """Money used so far; None where the model's price is not known."""
        return self.price.of(self.prompt_tokens, self.completion_tokens) if self.price else None

    def spent_by(self, now: float, prompt: int, completion: int) -> str | None:
        """The option that a call of so many tokens would go beyond, with all that is on the way; None where it may go."""
        limits = self.limits
        if limits.requests is not None and self.requests + 1 > limits.requests:
            return "--budget-requests"
        if limits.tokens is not None and self.tokens + self._out_tokens + prompt + completion > limits.tokens:
            return "--budget-tokens"
        if limits.cost is not None and self.price is not None:
            whole = self.price.of(self.prompt_tokens, self.completion_tokens) + self._out_cost
            if whole + self.price.of(prompt, completion) > limits.cost:
                return "--budget-cost"
        if limits.minutes is not None and now - self.started > limits.minutes * 60:
            return "--budget-minutes"
        return None

    def reserve(self, call: int, prompt: int, completion: int) -> None:
        """A call goes. Every request counts, whatever becomes of it."""
        self.requests += 1
        self._reserved[call] = (prompt, completion)
        self._out_tokens += prompt + completion
        self._out_cost += self.price.of(prompt, completion) if self.price else 0.0

    def settle(self, call: int, prompt: int = 0, completion: int = 0) -> None:
        """It is back and took so many tokens; none where it failed."""
        guessed = self._reserved.pop(call, (0, 0))
        self._out_tokens -= sum(guessed)
        self._out_cost -= self.price.of(*guessed) if self.price else 0.0
        self.prompt_tokens += prompt
        self.completion_tokens += completion

    def unsend(self, call: int) -> None:
        """It was refused for now (429): no request was used."""
        self.requests -= 1
        self.settle(call)
