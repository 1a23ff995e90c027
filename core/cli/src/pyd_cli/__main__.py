"""`python -m pyd_cli` is `pyd`."""

from pyd_cli.main import main

main()
