"""`python -m app.vault create|rotate|forget`: the keys of ΣVAULT, in VAULT_KEY_FILE.

`create` makes the file. `rotate` adds a new key and wraps every data key with it, while the service runs. `forget` removes the older keys
once no data key is wrapped with them.
"""

import argparse
import asyncio
import sys
from pathlib import Path

from app import command_environment  # noqa: F401 - first: see there
from app.integrations.vault import VaultError, create, keyring, maintenance
from app.settings import Settings, SettingsError


def main() -> None:
    """Run one command; SystemExit with one line if it fails."""
    parser = argparse.ArgumentParser(prog="python -m app.vault", description="The keys of ΣVAULT, in VAULT_KEY_FILE.")
    parser.add_argument("command", choices=["create", "rotate", "forget"], help="create the file; add a new key; remove the older keys")
    parser.add_argument("--if-missing", action="store_true", help="create: leave an existing file unchanged")
    chosen = parser.parse_args()
    try:
        settings = Settings.load()
        if not settings.vault_key_file:
            sys.exit("app.vault: set VAULT_KEY_FILE to the path of the key file")
        path = Path(settings.vault_key_file)
        if chosen.command == "create":
            _create(path, required=not chosen.if_missing)
        else:
            asyncio.run(_rotate(settings, path, new=chosen.command == "rotate"))
    except FileExistsError:
        sys.exit(f"app.vault: {path} exists already; `rotate` adds a new key to it")
    except OSError as error:
        sys.exit(f"app.vault: {path}: {error.strerror}")
    except (SettingsError, VaultError) as error:
        sys.exit(f"app.vault: {error}")


def _create(path: Path, *, required: bool) -> None:
    if required or not path.exists():
        key = keyring.create(path)
        print(f"{path} was created with key {key.hex()}: keep a copy elsewhere, since without it every object is lost")


async def _rotate(settings: Settings, path: Path, *, new: bool) -> None:
    if new:
        print(f"{path} has a new key: {keyring.rotate(path).hex()}")
    vault = create(settings.vault_url, settings.data_dir, settings.vault_key_file)
    print(f"{await maintenance.rewrap(vault)} data keys were wrapped with the newest key")
    if not new:
        print(f"{keyring.forget(path)} older keys were removed")


if __name__ == "__main__":
    main()
