"""Words: quotes, escapes, variables; what is not an error is what a shell makes of it."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from pyd_frontend_dockerfile.budget import Budget
from pyd_frontend_dockerfile.lines import split_words
from pyd_frontend_dockerfile.mistakes import Mistake
from pyd_frontend_dockerfile.words import LONGEST, Lexer

VARIABLES = {"a": "x", "path": "/usr/local/lib/a.tar.gz", "empty": "", "blank": "b  c", "star": "a*b", "_u1": "u"}

EXPANDED = [
    ("", ""),
    ("plain word", "plain word"),
    ("$a", "x"),
    ("${a}b", "xb"),
    ("$ab", ""),
    ("$a-b", "x-b"),
    ("$_u1.", "u."),
    ("a$", "a$"),
    ("$$", ""),
    ("$1x", "x"),
    ("'$a'", "$a"),
    ('"$a"', "x"),
    ("\"'$a'\"", "'x'"),
    ("'\"'", '"'),
    (r"\$a", "$a"),
    (r"\a\\", "a\\"),
    (r'"\$a \" \\ \n"', '$a " \\ \\n'),
    (r"'\'", "\\"),
    ("a\\", "a"),
    ("${a:-d}", "x"),
    ("${empty:-d}", "d"),
    ("${none:-d e}", "d e"),
    ("${none:-'d}'}", "d}"),
    ("${none:-$a}", "x"),
    ("${none:-${empty:-${a}}}", "x"),
    ("${empty-d}", ""),
    ("${none-d}", "d"),
    ("${a:+d}", "d"),
    ("${empty:+d}", ""),
    ("${empty+d}", "d"),
    ("${none+d}", ""),
    ("${a:?no}", "x"),
    ("${empty?no}", ""),
    ("${path#*/}", "usr/local/lib/a.tar.gz"),
    ("${path##*/}", "a.tar.gz"),
    ("${path%.*}", "/usr/local/lib/a.tar"),
    ("${path%%.*}", "/usr/local/lib/a"),
    ("${path#nothing}", "/usr/local/lib/a.tar.gz"),
    ("${path%/??tar.gz}", "/usr/local/lib"),
    ("${path%%$a*}", "/usr/local/lib/a.tar.gz"),
    (r"${star%%\**}", "a"),
    ("${path/l/L}", "/usr/Local/lib/a.tar.gz"),
    ("${path//l/L}", "/usr/LocaL/Lib/a.tar.gz"),
    (r"${path//\//-}", "-usr-local-lib-a.tar.gz"),
    ("${path//l*l/-}", "/usr/-ib/a.tar.gz"),
    ("${path//?/.}", "......................."),
    ("${path/*/z}", "z"),
    ("${path//l/}", "/usr/oca/ib/a.tar.gz"),
    ("${none//l/x}", ""),
    ("${path//l/$a}", "/usr/xocax/xib/a.tar.gz"),
]


@pytest.mark.parametrize(("text", "expected"), EXPANDED)
def test_one_word(text: str, expected: str) -> None:
    assert Lexer("\\", Budget()).expand(text, VARIABLES) == expected


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
@pytest.mark.parametrize("text", [text for text, _ in EXPANDED if text.startswith("${")])
def test_a_shell_says_the_same(text: str) -> None:
    script = f'x="{text}"' if "'" not in text else f"x={text}"
    program = ["bash", "-c", script + '; printf %s "$x"']
    said = subprocess.run(program, env=VARIABLES, capture_output=True, text=True, check=True)

    assert Lexer("\\", Budget()).expand(text, VARIABLES) == said.stdout


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("'a", "single-quote"),
        ('"a', "double-quote"),
        ("${a", "missing '}'"),
        ("${", "missing '}'"),
        ("${}", "bad substitution"),
        ("${:-a}", "bad substitution"),
        ("${{a}}", "bad substitution"),
        ("${a:-b", "missing '}'"),
        ("${a/b}", "missing '/'"),
        ("${a/b/c", "missing '}'"),
        ("${a@b}", "unsupported modifier (@)"),
        ("${a:#b}", "unsupported modifier (:#)"),
        ("${none:?say it}", "none: say it"),
        ("${none?}", "none: is not allowed to be unset"),
        ("${empty:?}", "empty: is not allowed to be empty"),
        (r"${a#\b}", "invalid escape"),
        ("${none:-" * 100 + "}" * 100, "too deeply"),
        ("${a#" + "b" * 5000 + "}", "more than 4096"),
    ],
)
def test_words_that_cannot_be(text: str, message: str) -> None:
    with pytest.raises(Mistake) as raised:
        Lexer("\\", Budget()).expand(text, VARIABLES)

    assert message in str(raised.value)
    assert str(raised.value).startswith('failed to process "')


def test_a_word_does_not_grow_beyond_measure() -> None:
    variables = {"a": "a" * (LONGEST // 2)}

    assert len(Lexer("\\", Budget()).expand("$a$a", variables)) == LONGEST
    with pytest.raises(Mistake, match="more than"):
        Lexer("\\", Budget()).expand("$a$a$a", variables)
    with pytest.raises(Mistake, match="more than"):
        Lexer("\\", Budget()).expand("${a//a/bbb}", variables)


@pytest.mark.timeout(60)
def test_patterns_do_not_backtrack() -> None:
    """A regular expression of this pattern would take longer than the universe is old."""
    with pytest.raises(Mistake, match="too large"):
        Lexer("\\", Budget()).expand("${a//" + "*a" * 1000 + "b/c}", {"a": "a" * 100_000})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("a  b", ["a", "b"]),
        ("$blank", ["b", "c"]),
        ('"$blank"', ["b  c"]),
        ("x${blank}y", ["xb", "cy"]),
        (r"a\ b c", ["a b", "c"]),
        ("'a b'c", ["a bc"]),
        ("$empty $none", []),
        ("''", []),
    ],
)
def test_several_words(text: str, expected: list[str]) -> None:
    assert Lexer("\\", Budget()).split(text, VARIABLES) == expected


def test_another_escape() -> None:
    assert Lexer("`", Budget()).expand('`$a \\$a "`""', VARIABLES) == '$a \\x "'


def test_here_documents_keep_quotes() -> None:
    text = "don't \"$a\" \\$a \\n \\\\ '${a:-b}'\n"

    assert Lexer("\\", Budget()).expand(text, VARIABLES, here=True) == "don't \"x\" $a \\n \\ 'x'\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" a  b ", ["a", "b"]),
        ("a='b c' d", ["a='b c'", "d"]),
        (r'a="b \" c" d', [r'a="b \" c"', "d"]),
        (r"a=b\ c d\\ e", [r"a=b\ c", "d\\\\", "e"]),
        ("a='b\\' c", ["a='b\\'", "c"]),
        ("a 'b", ["a", "'b"]),
        ("a ''", ["a", "''"]),
        ("a b\\", ["a", "b"]),
    ],
)
def test_words_with_their_quotes(text: str, expected: list[str]) -> None:
    assert split_words(text, "\\") == expected
