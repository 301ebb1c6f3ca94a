"""What a run's config says about the spelling of its rows, for the renderer."""

from __future__ import annotations

from registry.render import RenderRules
from trainkit.config import RunConfig


def render_rules(config: RunConfig) -> RenderRules:
    """The rules that training, chat and export of one run share."""
    return RenderRules(default_system=config.data.default_system, strict=config.strict)
