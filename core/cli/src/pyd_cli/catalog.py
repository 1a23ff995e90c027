"""Which commands there are, and where each one lives. Nothing here imports a command: `pyd --help` loads none."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import click


class Entry:
    """A command's place: module under `pyd_cli.commands` and attribute; or, with `group`, a table in GROUPS."""

    __slots__ = ("attribute", "group", "hidden", "module", "short")

    def __init__(self, module: str, attribute: str, short: str, group: str = "", hidden: bool = False) -> None:
        self.module = module
        self.attribute = attribute
        self.short = short
        self.group = group
        self.hidden = hidden

    def load(self) -> click.Command:
        """Import the module and return the command."""
        module = __import__(f"pyd_cli.commands.{self.module}", fromlist=(self.attribute,))
        command: click.Command = getattr(module, self.attribute)
        return command

    def alias(self) -> Entry:
        """The same command under another name, which help does not list."""
        return Entry(self.module, self.attribute, self.short, self.group, hidden=True)


CONTAINER = {
    "attach": Entry(
        "attach", "attach", "Attach local standard input, output, and error streams to a running container"
    ),
    "commit": Entry("commit", "commit", "Create a new image from a container's changes"),
    "cp": Entry("cp", "cp", "Copy files/folders between a container and the local filesystem"),
    "create": Entry("create", "create", "Create a new container"),
    "diff": Entry("diff", "diff", "Inspect changes to files or directories on a container's filesystem"),
    "exec": Entry("exec", "exec_", "Execute a command in a running container"),
    "export": Entry("export", "export", "Export a container's filesystem as a tar archive"),
    "inspect": Entry("inspect", "container", "Display detailed information on one or more containers"),
    "kill": Entry("kill", "kill", "Kill one or more running containers"),
    "logs": Entry("logs", "logs", "Fetch the logs of a container"),
    "ls": Entry("ps", "ls", "List containers"),
    "pause": Entry("pause", "pause", "Pause all processes within one or more containers"),
    "port": Entry("port", "port", "List port mappings or a specific mapping for the container"),
    "prune": Entry("prune", "container", "Remove all stopped containers"),
    "rename": Entry("rename", "rename", "Rename a container"),
    "restart": Entry("stop", "restart", "Restart one or more containers"),
    "rm": Entry("rm", "rm", "Remove one or more containers"),
    "run": Entry("run", "run", "Create and run a new container from an image"),
    "start": Entry("start", "start", "Start one or more stopped containers"),
    "stats": Entry("stats", "stats", "Display a live stream of container(s) resource usage statistics"),
    "stop": Entry("stop", "stop", "Stop one or more running containers"),
    "top": Entry("top", "top", "Display the running processes of a container"),
    "unpause": Entry("pause", "unpause", "Unpause all processes within one or more containers"),
    "update": Entry("update", "update", "Update configuration of one or more containers"),
    "wait": Entry("wait", "wait", "Block until one or more containers stop, then print their exit codes"),
}

IMAGE = {
    "build": Entry("build", "build", "Build an image from a Dockerfile"),
    "history": Entry("history", "history", "Show the history of an image"),
    "import": Entry("import_", "import_", "Import the contents from a tarball to create a filesystem image"),
    "inspect": Entry("inspect", "image", "Display detailed information on one or more images"),
    "load": Entry("load", "load", "Load an image from a tar archive or STDIN"),
    "ls": Entry("images", "ls", "List images"),
    "prune": Entry("prune", "image", "Remove unused images"),
    "pull": Entry("pull", "pull", "Download an image from a registry"),
    "push": Entry("push", "push", "Upload an image to a registry"),
    "rm": Entry("rmi", "rmi", "Remove one or more images"),
    "save": Entry("save", "save", "Save one or more images to a tar archive (streamed to STDOUT by default)"),
    "tag": Entry("tag", "tag", "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE"),
}

BUILDER = {
    "build": Entry("build", "build", "Build an image from a Dockerfile"),
    "prune": Entry("prune", "builder", "Remove build cache"),
}

NETWORK = {
    "connect": Entry("network", "connect", "Connect a container to a network"),
    "create": Entry("network", "create", "Create a network"),
    "disconnect": Entry("network", "disconnect", "Disconnect a container from a network"),
    "inspect": Entry("inspect", "network", "Display detailed information on one or more networks"),
    "ls": Entry("network", "ls", "List networks"),
    "prune": Entry("prune", "network", "Remove all unused networks"),
    "rm": Entry("network", "rm", "Remove one or more networks"),
    "rules": Entry("network_rules", "rules", "Explain which rules let packets in to containers"),
}

VOLUME = {
    "create": Entry("volume", "create", "Create a volume"),
    "inspect": Entry("inspect", "volume", "Display detailed information on one or more volumes"),
    "ls": Entry("volume", "ls", "List volumes"),
    "prune": Entry("prune", "volume", "Remove unused local volumes"),
    "rm": Entry("volume", "rm", "Remove one or more volumes"),
}

SYSTEM = {
    "check": Entry("check", "check", "Hold what is stored against what is recorded"),
    "df": Entry("df", "df", "Show pyd disk usage"),
    "events": Entry("events", "events", "Get real time events from the server"),
    "info": Entry("info", "info", "Display system-wide information"),
    "prune": Entry("prune", "system", "Remove unused data"),
}

PLUGIN = {
    "new": Entry("plugin_new", "new", "Begin a driver of your own as a copy of the template"),
    "inspect": Entry("plugin", "inspect", "Display what is known of one or more drivers and plugins"),
    "ls": Entry("plugin", "ls", "List the installed drivers and plugins, and what became of each"),
}

ROOT = {
    **{name: entry for name, entry in CONTAINER.items() if name not in ("inspect", "ls", "prune")},
    **{name: entry for name, entry in IMAGE.items() if name not in ("inspect", "ls", "prune", "rm")},
    **{name: entry for name, entry in SYSTEM.items() if name in ("events", "info")},
    "ps": Entry("ps", "ps", "List containers"),
    "images": Entry("images", "images", "List images"),
    "rmi": Entry("rmi", "rmi", "Remove one or more images"),
    "inspect": Entry("inspect", "inspect", "Return low-level information on Docker objects"),
    "version": Entry("version", "version", "Show the pyd version information"),
    "login": Entry("login", "login", "Authenticate to a registry"),
    "logout": Entry("login", "logout", "Log out from a registry"),
    "builder": Entry("", "", "Manage builds", "builder"),
    "container": Entry("", "", "Manage containers", "container"),
    "image": Entry("", "", "Manage images", "image"),
    "network": Entry("", "", "Manage networks", "network"),
    "plugin": Entry("", "", "Show drivers and plugins", "plugin"),
    "system": Entry("", "", "Manage pyd", "system"),
    "volume": Entry("", "", "Manage volumes", "volume"),
}

for _group in (CONTAINER, IMAGE, NETWORK, VOLUME, PLUGIN):
    _group["list"] = _group["ls"].alias()
for _group in (CONTAINER, IMAGE, NETWORK, VOLUME):
    _group["remove"] = _group["rm"].alias()
CONTAINER["ps"] = CONTAINER["ls"].alias()

GROUPS: dict[str, dict[str, Entry]] = {
    "": ROOT,
    "builder": BUILDER,
    "container": CONTAINER,
    "image": IMAGE,
    "network": NETWORK,
    "plugin": PLUGIN,
    "system": SYSTEM,
    "volume": VOLUME,
}

COMMON = ("run", "exec", "ps", "build", "pull", "push", "images", "login", "logout", "version", "info")
MANAGEMENT = ("builder", "container", "image", "network", "plugin", "system", "volume")

SECTIONS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Common Commands", COMMON),
    ("Management Commands", MANAGEMENT),
    ("Commands", tuple(sorted(set(ROOT) - set(COMMON) - set(MANAGEMENT)))),
)
