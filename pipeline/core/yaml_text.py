"""YAML that people edit, read so that whatever is wrong with it is one error."""

from typing import Any

import yaml

from pipeline.core.errors import ConfigError, shown

FAST = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""For long files that tools write; it has no guard against text that is nested a million times or repeats a key."""
# values such as 2001-99-99 or !!bool x get past the grammar and fail in the conversion
ERRORS = (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, ArithmeticError)


class RepeatedKeyError(ConfigError):
    """A section that holds a key twice."""


class Loader(yaml.SafeLoader):
    """Plain data, where no section holds a key twice; PyYAML itself would keep the last one."""

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        """Raises RepeatedKeyError."""
        # looked at before merges (<<) put keys beside those that override them
        node = super().compose_mapping_node(anchor)
        places: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            line = key.start_mark.line + 1
            if (key.tag, key.value) in places:
                raise RepeatedKeyError(
                    f"holds the key {shown(key.value)} twice in one section, in lines {places[key.tag, key.value]} and "
                    f"{line}. Keep one of them, or put what both hold below one."
                )
            places[key.tag, key.value] = line
        return node


def parse_yaml(text: bytes, name: str, loader: type = Loader) -> Any:
    """The value of a file's text, plain data only.

    Raises ConfigError with the name when it is not YAML, or holds a key twice.
    """
    try:
        return yaml.load(text, loader)
    except RepeatedKeyError as error:
        raise ConfigError(f"{name} {error}") from None
    except ERRORS as error:
        raise ConfigError(f"{name} is not YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise ConfigError(f"{name} is not YAML that a person wrote: it is nested too deeply.") from None
