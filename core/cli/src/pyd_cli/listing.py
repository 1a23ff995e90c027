"""Rows of a listing, as a table, as JSON, or through the user's template.

The template engine is imported only when somebody gives a template: the default table needs none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pyd_cli.errors import CliError
from pyd_cli.tables import aligned, escaped, table

Row = Mapping[str, Any]


def short_id(identity: str) -> str:
    """The 12 digits an id is shown with, without its algorithm."""
    return identity.partition(":")[2][:12] if ":" in identity else identity[:12]


def ellipsis(text: str, width: int) -> str:
    """`text` cut to `width` characters, the last one then being an ellipsis."""
    return text if len(text) <= width else text[: width - 1] + "…"


def label_text(labels: Mapping[str, str] | None) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted((labels or {}).items()))


def filters(given: Sequence[str]) -> str | None:
    """`--filter name=value` flags as the API's `filters` parameter; None without any."""
    if not given:
        return None
    collected: dict[str, dict[str, bool]] = {}
    for item in given:
        name, _, value = item.partition("=")
        collected.setdefault(name.strip().lower(), {})[value.strip()] = True
    import json

    return json.dumps(collected)


def unescaped(text: str) -> str:
    """A format as typed in a shell: the two characters `\\t` and `\\n` mean a tab and a line feed."""
    return text.replace("\\t", "\t").replace("\\n", "\n")


def listing(rows: Iterable[Row], form: str, columns: Sequence[str], headers: Mapping[str, Any], type_name: str) -> str:
    """The text of a listing. `columns` are the default table's, `headers` every field's head by name.

    `form` is "" or `table`, `table TEMPLATE`, `json`, or a template. Raises CliError for a bad one.
    """
    if form in ("", "table"):
        return table([headers[name] for name in columns], ([str(row[name]) for name in columns] for row in rows))
    if form == "json":
        return "".join(row_json(row) + "\n" for row in rows)
    from pyd_cli.template_exec import Template, TemplateError

    is_table = form.startswith("table ")
    text = unescaped(form.removeprefix("table ").strip() if is_table else form)
    try:
        template = Template(text, type_name=type_name)
    except TemplateError as fault:
        raise CliError(f"failed to parse template: {fault}") from None
    template.functions["json"] = row_json
    try:
        if not is_table:
            return "".join(template.execute(row) + "\n" for row in rows)
        lines = [template.execute(headers)]
        lines += [template.execute({name: _cell(value) for name, value in row.items()}) for row in rows]
    except TemplateError as fault:
        raise CliError(f"failed to execute template: {fault}") from None
    cells = [line.split("\t") for text in lines for line in text.split("\n")]
    return "".join(line + "\n" for line in aligned(cells))


def _cell(value: Any) -> Any:
    return escaped(value) if isinstance(value, str) else value


def row_json(value: Any) -> str:
    """A row as JSON the way docker writes it: fields by name, `<`, `>` and `&` escaped; other values plainly."""
    from pyd_cli.template_values import as_json, html_escaped

    if isinstance(value, Mapping):
        return html_escaped(as_json(dict(sorted(value.items()))))
    return as_json(value)


def label_of(item: Mapping[str, Any]) -> Any:
    """The template method `.Label "name"` of an object with `Labels`."""
    from pyd_cli.template_values import Method

    labels: Mapping[str, str] = item.get("Labels") or {}
    return Method(lambda name: labels.get(name, ""))


def label_head(name: str) -> str:
    """The head of a column made by `.Label "com.example.some-name"`: `some name`."""
    return name.rpartition(".")[2].replace("-", " ").replace("_", " ")
