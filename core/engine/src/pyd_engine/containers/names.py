"""Names for containers that were given none: an adjective and somebody who advanced computing."""

from __future__ import annotations

import random
from collections.abc import Callable

__all__ = ["invent"]

_ADJECTIVES = (
    "agile amber apt bold brave breezy bright brisk calm candid clever cosy crisp curious daring deft eager earnest easy "
    "fair fearless fine fluent fond frank fresh gentle glad golden graceful happy hardy honest humble jolly keen kind "
    "lively lucid merry mild neat nimble noble open patient placid plucky polite proud quick quiet rapid ready rosy serene "
    "sharp shiny silent sleek smart snug sober solid spry steady stoic sunny swift tidy trusty upbeat vivid warm wise witty "
    "zesty"
).split()
_PEOPLE = (
    "allen babbage backus bartik berners boole borg booth cerf church clark cook codd cray dijkstra diffie eckert "
    "engelbart estrin feinler floyd goldberg gosling granville hamilton hamming hellman hoare holberton hopper huffman "
    "jackson johnson kahn kay kernighan keller kilburn knuth lamport lamarr liskov lovelace mauchly mccarthy mcilroy "
    "meitner minsky moore naur nygaard perlman perlis postel ritchie rivest shannon shamir shaw simon stallman "
    "stroustrup sutherland tarjan thompson torvalds turing wilkes wilkinson wing wirth wozniak yao zuse"
).split()


def invent(taken: Callable[[str], bool]) -> str:
    """A name nobody has."""
    for attempt in range(100):
        name = f"{random.choice(_ADJECTIVES)}_{random.choice(_PEOPLE)}"  # noqa: S311 - a name is no secret
        if attempt > 5:
            name += str(random.randrange(10 * attempt))  # noqa: S311
        if not taken(name):
            return name
    return f"container_{random.getrandbits(64):x}"
