"""Objects that are named by strings and rebuilt from dictionaries, as Keras does it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Generic, Self, TypeVar


def snake_case(name: str) -> str:
    """Return Keras' spelling of a class name, e.g. ``mean_squared_error``."""
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


class Configurable:
    """An object whose constructor arguments are a dictionary, as in Keras.

    A subclass lists in `config_names` the constructor arguments that it keeps as attributes of
    the same name; those of its base classes are added.
    """

    config_names: ClassVar[tuple[str, ...]] = ()
    #: Entries of Keras' configuration that are accepted where they are None: not supported here.
    unsupported_config_names: ClassVar[tuple[str, ...]] = ()

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments that make an equal object."""
        names = dict.fromkeys(
            name
            for cls in reversed(type(self).__mro__)
            for name in cls.__dict__.get("config_names", ())
        )
        return {name: getattr(self, name) for name in names}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Make an object from what `get_config` returned (Keras' own dictionaries work too).

        Raises
        ------
        ValueError
            An option of Keras that is not supported here is set.
        """
        for name in cls.unsupported_config_names:
            if config.get(name) is not None:
                raise ValueError(
                    f"`{name}` must be None: it is not supported. Received: {name}={config[name]!r}"
                )
        return cls(**{k: v for k, v in config.items() if k not in cls.unsupported_config_names})

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.get_config().items())
        return f"{type(self).__name__}({arguments})"


def serialize(instance: Configurable) -> dict[str, Any]:
    """Return ``{"class_name": ..., "config": ...}``, which the matching `get` turns back."""
    return {"class_name": type(instance).__name__, "config": instance.get_config()}


T = TypeVar("T", bound=Configurable)


class Registry(Generic[T]):
    """The classes of one kind, found by name.

    Parameters
    ----------
    kind
        What error messages call them, e.g. ``"optimizer"``.
    base
        Their common base class.
    classes
        The classes; found by class name and by its snake case, upper and lower case alike.
    aliases
        Further names.
    """

    def __init__(
        self,
        kind: str,
        base: type[T],
        classes: Iterable[type[T]],
        aliases: Mapping[str, type[T]] | None = None,
    ) -> None:
        self._kind = kind
        self._base = base
        self._classes: dict[str, type[T]] = {}
        self._names: list[str] = []
        for cls in classes:
            self._names.append(cls.__name__)
            self._classes[cls.__name__.lower()] = cls
            self._classes[snake_case(cls.__name__)] = cls
        for alias, cls in (aliases or {}).items():
            self._classes[alias.lower()] = cls

    def get(self, identifier: Any) -> T:
        """Return the object that `identifier` names.

        Parameters
        ----------
        identifier
            An object of the kind (returned as it is), a class, a name, or a dictionary
            ``{"class_name": ..., "config": ...}``.

        Raises
        ------
        ValueError
            It is none of these, or the name is unknown.
        """
        if isinstance(identifier, self._base):
            return identifier
        if isinstance(identifier, type) and issubclass(identifier, self._base):
            return identifier()
        if isinstance(identifier, str) and identifier.lower() in self._classes:
            return self._classes[identifier.lower()]()
        if isinstance(identifier, Mapping):
            cls = self._classes.get(str(identifier.get("class_name")).lower())
            if cls is not None:
                return cls.from_config(identifier.get("config", {}))
        article = "an" if self._kind[0] in "aeiou" else "a"
        raise ValueError(
            f"`{self._kind}` must be {article} {self._kind} object, class or configuration, or one "
            f"of the names {', '.join(self._names)}. Received: {self._kind}={identifier!r}"
        )
