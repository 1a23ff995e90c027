"""`--format` templates against what Go's text/template does with the same text."""

from __future__ import annotations

from typing import Any

import pytest

from pyd_cli.template_exec import Template, TemplateError
from pyd_cli.template_values import MISSING, NIL, show

VALUE: dict[str, Any] = {
    "Id": "abc",
    "State": {"Status": "running", "Pid": 5, "Running": True},
    "L": ["a", "b", 3],
    "M": {"k.x": "v", "b": True},
    "N": None,
    "F": 1.5e22,
    "S": "hello world",
    "Empty": [],
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{.Id}}", "abc"),
        ("{{.ID}} {{.State.Status}}", "abc running"),
        ("{{json .State}}", '{"Status":"running","Pid":5,"Running":true}'),
        ('{{index .M "k.x"}} {{index .L 1}}', "v b"),
        ("{{range $i, $e := .L}}{{$i}}={{$e}};{{end}}", "0=a;1=b;2=3;"),
        ("{{range $k, $v := .M}}{{$k}}={{$v}} {{end}}", "b=true k.x=v "),
        ("{{range .Empty}}x{{else}}none{{end}}", "none"),
        ("{{range .L}}{{.}}{{break}}{{end}}", "a"),
        ('{{range .L}}{{if eq (print .) "b"}}{{continue}}{{end}}{{.}}{{end}}', "a3"),
        ("{{if .Foo}}x{{else if .N}}y{{else}}z{{end}}", "z"),
        ("{{with .State}}{{.Pid}}{{end}}{{with .N}}x{{else}}-{{end}}", "5-"),
        ('{{if and (eq .Id "abc") (not .N) (or .N .State.Running)}}ok{{end}}', "ok"),
        ('{{if ne .Id "abc"}}x{{else}}y{{end}}', "y"),
        (
            '{{printf "%5d|%-8s|%q|%v|%05d|%.2f" .State.Pid .Id .Id .L 7 1.5}}',
            '    5|abc     |"abc"|[a b 3]|00007|1.50',
        ),
        ('{{printf "%d" .Id}}', "%!d(string=abc)"),
        ('{{.S | upper | printf "%s!"}}', "HELLO WORLD!"),
        ('{{join .L ","}} {{split .S " "}} {{title .S}} {{lower "AB"}}', "a,b,3 [hello world] Hello World ab"),
        ("{{truncate .S 3}} {{slice .S 1 3}} {{pad .Id 1 2}}| {{len .L}}", "hel el  abc  | 3"),
        ("{{.M}} {{.L}} {{.N}} {{.F}}", "map[b:true k.x:v] [a b 3] <no value> 1.5e+22"),
        ("{{$x := .State}}{{$x.Pid}}{{$x = .Id}}{{$x}}", "5abc"),
        ("a {{- .Id -}}  b", "aabcb"),
        ("{{/* a comment */}}a{{`raw`}}", "araw"),
        ('{{println "a" 1}}', "a 1\n"),
        ("{{(index .L 0)}}{{(.State).Pid}}", "a5"),
        ("{{lt 1 2}} {{ge 2 2}} {{gt 1 2}} {{le 3 2}}", "true true false false"),
        (r'{{"tab\tquote\"é"}}', 'tab\tquote"é'),
    ],
)
def test_output(text: str, expected: str) -> None:
    assert Template(text).execute(VALUE) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{", "template: :1: unclosed action"),
        ("{{.Id", "template: :1: unclosed action"),
        ("{{foo}}", 'template: :1: function "foo" not defined'),
        ("{{end}}", "template: :1: unexpected {{end}}"),
        ("{{if .Id}}x", "template: :1: unexpected EOF"),
        ("{{if}}x{{end}}", "template: :1: missing value for if"),
        ("{{$y}}", 'template: :1: undefined variable "$y"'),
        ('{{"abc', "template: :1: unterminated quoted string"),
        ("\n{{define}}", "template: :2: {{define}} is not supported in --format"),
        ("{{break}}", "template: :1: {{break}} outside {{range}}"),
    ],
)
def test_what_cannot_be_parsed(text: str, message: str) -> None:
    with pytest.raises(TemplateError) as caught:
        Template(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{.Foo}}", ':1:2: executing "" at <.Foo>: map has no entry for key "Foo"'),
        ("{{.State.Foo}}", ':1:8: executing "" at <.State.Foo>: map has no entry for key "Foo"'),
        ("{{.N.X}}", ':1:4: executing "" at <.N.X>: nil pointer evaluating interface {}.X'),
        ("{{index .L 9}}", ':1:2: executing "" at <index .L 9>: error calling index: index out of range: 9'),
        ("{{len 3}}", ':1:2: executing "" at <len 3>: error calling len: len of type int'),
        ('{{eq 1 "a"}}', ':1:2: executing "" at <eq 1 "a">: error calling eq: incompatible types for comparison'),
    ],
)
def test_what_cannot_be_executed(text: str, message: str) -> None:
    with pytest.raises(TemplateError) as caught:
        Template(text).execute(VALUE)
    assert str(caught.value) == f"template: {message}"


def test_a_row_is_a_struct_and_its_unknown_fields_are_named_with_its_type() -> None:
    template = Template("{{.Foo}}", type_name="*formatter.ContainerContext")
    with pytest.raises(TemplateError, match=r"can't evaluate field Foo in type \*formatter.ContainerContext"):
        template.execute({"ID": "x"})


def test_fields_a_daemon_leaves_out_have_the_value_they_have_in_go() -> None:
    template = Template("{{.Health}}|{{.Env}}|{{if .Health}}x{{end}}{{len .Env}}", optional={"Health": NIL, "Env": []})
    assert template.execute({"Env": None}) == "<nil>|[]|0"


@pytest.mark.parametrize("text", ["{{.__class__}}", "{{.Id.__class__}}", "{{(index .L 0).join}}", "{{.L.append}}"])
def test_nothing_of_python_is_reachable(text: str) -> None:
    with pytest.raises(TemplateError):
        Template(text).execute(VALUE)


def test_widths_are_bounded() -> None:
    with pytest.raises(TemplateError, match="out of range"):
        Template('{{printf "%999999999d" 1}}').execute(VALUE)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, "<no value>"), (MISSING, "<no value>"), (NIL, "<nil>"), (True, "true"), (2.0, "2"), (0.00001, "1e-05")],
)
def test_values_as_go_prints_them(value: object, expected: str) -> None:
    assert show(value) == expected
