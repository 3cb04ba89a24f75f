"""A config as scripts read it: a dictionary, and attributes of the same names."""

from __future__ import annotations

from typing import Any, NoReturn

from ..errors import UsageError


class ConfigMapping(dict[str, Any]):
    """What a config says, by `config["name"]` or `config.name`. Raises UsageError where it would be changed."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the config has no '{name}'; it has {', '.join(self)}") from None

    def __reduce__(self) -> tuple[type[ConfigMapping], tuple[dict[str, Any]]]:
        return ConfigMapping, (dict(self),)


def _refuse(*_args: Any, **_changes: Any) -> NoReturn:
    raise UsageError("a config cannot be changed; make another one, such as X.from_config(config, name=value)")


for _name in (
    *("__setattr__", "__delattr__", "__setitem__", "__delitem__", "__ior__"),
    *("clear", "pop", "popitem", "setdefault", "update"),
):
    setattr(ConfigMapping, _name, _refuse)
