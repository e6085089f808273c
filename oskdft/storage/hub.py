"""Exported models on the Hugging Face hub. Nothing is sent without a token of the user's."""

import os
from pathlib import Path

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


class Repository:
    """A new private repository for one exported model. It is checked now and made by `push`.

    Args:
        name: USER/NAME or ORGANISATION/NAME.
    Raises:
        ValueError: no such form, no token, the hub is switched off, or the repository is there already.
    """

    def __init__(self, name: str) -> None:
        try:
            validate_repo_id(name)
            named = name.count("/") == 1
        except HFValidationError:
            named = False
        if not named:
            raise ValueError(f"--push is {name!r}; write USER/NAME")
        token = get_token()
        if not token:
            raise ValueError(
                f"--push {name} needs a token of the hub; set HF_TOKEN to one that may write"
            )
        switched_off = [variable for variable in OFFLINE if os.environ.get(variable)]
        if switched_off:
            raise ValueError(f"--push {name} needs the hub; unset {switched_off[0]}")
        self.name = name
        self.api = HfApi(token=token)
        try:
            there = self.api.repo_exists(name)
        except Exception as error:  # hub and network raise many kinds
            raise ValueError(f"the hub does not answer for {name} ({_line(error)})") from None
        if there:
            raise ValueError(f"{name} is on the hub already and is not overwritten; choose another")

    def push(self, folder: str | Path) -> str:
        """Make the repository, private, and upload a folder; return its address.

        Raises:
            ValueError: the hub refuses; names the folder, which stays.
        """
        try:
            address = self.api.create_repo(self.name, private=True)
            self.api.upload_folder(repo_id=self.name, folder_path=folder)
        except Exception as error:  # hub and network raise many kinds
            raise ValueError(
                f"{self.name} could not be sent ({_line(error)}); {folder} holds the export"
            ) from None
        return str(address)


def _line(error: Exception) -> str:
    """The message of an error in one short line."""
    return " ".join(str(error).split())[:200]
