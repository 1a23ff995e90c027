"""How much one recipe may ask for."""

from __future__ import annotations

from pyd_frontend_dockerfile.mistakes import Mistake

__all__ = ["Budget"]

_WHOLE = 4_000_000


class Budget:
    """Work that grows faster than a recipe's text is counted: a short one can ask for hours, and for all memory.

    One unit is an entry of a list or table that is made for one step (each step has a whole configuration), an argument that
    is looked at for one, or a character that a pattern is held against. The largest recipes that people write take a hundredth.
    """

    def __init__(self) -> None:
        self._left = _WHOLE

    def spend(self, amount: int) -> None:
        """Count *amount*; a Mistake when there is no more."""
        self._left -= amount
        if self._left < 0:
            raise Mistake("the recipe is too large: its steps, variables and substitutions come to too much together")
