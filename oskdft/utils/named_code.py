"""Code outside the package that a setting names as package.module:Name.

A configuration may come from a stranger, so reading one imports nothing. Code is imported when it is
needed, and only with consent: who starts a training with a configuration consents to the code it names;
who loads a model names the module in the environment variable OSKDFT_TRUST.
"""

import importlib
import os
import re
from typing import Any, NewType

NamedCode = NewType("NamedCode", str)  # type of a setting that may hold package.module:Name
FORM = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)
TRUST = "OSKDFT_TRUST"  # modules separated by commas

_consented: set[str] = set()  # modules that this process may import


def is_named(value: Any) -> bool:
    """Whether a setting names code outside the package.

    >>> is_named("mykit.pooling:Attentive"), is_named("ecapa"), is_named("C:/x")
    (True, False, False)
    """
    return isinstance(value, str) and FORM.fullmatch(value) is not None


def consent(*values: str) -> None:
    """Consent to the code that these settings name, for the rest of this process.

    Args:
        values: settings; those that name no code have no effect.
    """
    _consented.update(value.partition(":")[0] for value in values if is_named(value))


def load(value: str, setting: str) -> Any:
    """Import what a setting names.

    Args:
        value: package.module:Name. setting: its dotted name, for messages.
    Raises:
        ValueError: no consent, no such module, or no such name in it.

    >>> load("stranger.pooling:Attentive", "model.backend")
    Traceback (most recent call last):
    ValueError: model.backend is stranger.pooling:Attentive, code outside oskdft, which runs with your \
rights; if you trust it, set OSKDFT_TRUST=stranger.pooling
    """
    module, _, name = value.partition(":")
    trusted = {word.strip() for word in os.environ.get(TRUST, "").split(",")}
    if module not in _consented | trusted:
        raise ValueError(
            f"{setting} is {value}, code outside oskdft, which runs with your rights; if you trust it, "
            f"set {TRUST}={module}"
        )
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        raise ValueError(
            f"{setting} is {value}, and {module} cannot be imported ({error}); install it or put its "
            "folder on PYTHONPATH"
        ) from None
    if not hasattr(found, name):
        raise ValueError(f"{setting} is {value}, but {found.__file__} has no {name}; correct it")
    return getattr(found, name)
