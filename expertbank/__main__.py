"""``python -m expertbank`` is the command ``expertbank``."""

from expertbank_cli.main import run  # type: ignore[import-not-found]  # its folder is cli/

if __name__ == "__main__":
    run()
