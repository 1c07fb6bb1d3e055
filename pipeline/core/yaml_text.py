"""YAML that people edit, read so that whatever is wrong with it is one error."""

from typing import Any

import yaml

from pipeline.core.errors import ConfigError

FAST = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""For long files that tools write; it has no guard against text that is nested a million times."""
# values such as 2001-99-99 or !!bool x get past the grammar and fail in the conversion
ERRORS = (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, ArithmeticError)


def parse_yaml(text: bytes, name: str, loader: type = yaml.SafeLoader) -> Any:
    """The value of a file's text, plain data only. Raises ConfigError with the name when it is not YAML."""
    try:
        return yaml.load(text, loader)
    except ERRORS as error:
        raise ConfigError(f"{name} is not YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise ConfigError(f"{name} is not YAML that a person wrote: it is nested too deeply.") from None
