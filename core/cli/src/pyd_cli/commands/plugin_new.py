"""`pyd plugin new`: a driver of one's own, begun as a copy of the template that passes the conformance kit as it is."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from pyd_cli.command import Command
from pyd_cli.errors import CliError
from pyd_cli.flags import Options
from pyd_cli.session import Session

KINDS = ("storage",)
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_SKIPPED = shutil.ignore_patterns("__pycache__", ".*", "*.egg-info", "dist", "build")


def template() -> Path:
    """Where the template is: in the installed package, or beside it in the source tree."""
    package = Path(__file__).resolve().parent.parent
    found = [package / "plugin_template", package.parents[3] / "plugin-template"]
    for place in found:
        if (place / "pyproject.toml").is_file():
            return place
    raise CliError(f"the template is not there; looked at {' and '.join(map(str, found))}")


def renames(name: str) -> dict[str, str]:
    """What of the template's own words becomes what, the longer ones first."""
    module = name.replace("-", "_")
    word = "".join(part.capitalize() for part in name.split("-"))
    return {
        "pyd_storage_template": f"pyd_storage_{module}",
        "pyd-storage-template": f"pyd-storage-{name}",
        "test_contract_template": f"test_contract_{module}",
        "TemplateDriver": f"{word}Driver",
        "TestTemplate": f"Test{word}",
        "\ntemplate = ": f"\n{name} = ",
        "driver=template": f"driver={name}",
        'default = "template"': f'default = "{name}"',
        "\n[tool.uv.sources]\npyd-contracts = { workspace = true }\n": "",  # which is true in our own tree only
    }


def copied(kind: str, name: str, target: Path) -> list[Path]:
    """Copy and rename; the files made. CliError when it cannot be."""
    if kind not in KINDS:
        raise CliError(f"there is no template for {kind!r} drivers; there is one for: {', '.join(KINDS)}")
    if not _NAME.fullmatch(name) or name == "template":
        raise CliError(f"invalid name {name!r}: lower-case letters, digits and single dashes, first a letter")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise CliError(f"{target} is there and not empty")
    words = renames(name)

    def renamed(text: str) -> str:
        for old, new in words.items():
            text = text.replace(old, new)
        return text

    source = template()
    made = []
    try:
        shutil.copytree(source, target, ignore=_SKIPPED, dirs_exist_ok=True)
        for path in sorted(target.rglob("*"), reverse=True):  # what is in a directory before the directory
            if path.is_file():
                path.write_text(renamed(path.read_text(encoding="utf-8")), encoding="utf-8")
            path = path.rename(path.with_name(renamed(path.name)))
            made += [path] if path.is_file() else []
    except OSError as error:
        raise CliError(f"copy {source} to {target}: {(error.strerror or str(error)).lower()}") from None
    return made


def execute(session: Session, _options: Options, args: list[str]) -> None:
    kind, name, *rest = args
    target = Path(rest[0] if rest else f"pyd-{kind}-{name}")
    copied(kind, name, target)
    session.write(
        f"{target}: a {kind} driver that works and passes the kit.\n"
        f"Make it yours: {target / 'README.md'} says how to test it, build it and install it beside the daemon.\n"
    )


new = Command(
    "new",
    "KIND NAME [DIRECTORY]",
    "Begin a driver of your own as a copy of the template",
    execute,
    count=(2, 3),
)
