"""Objects that are named by strings and rebuilt from dictionaries, as Keras does it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Container, Iterable, Mapping
from typing import Any, ClassVar, Generic, Self, TypeVar


def snake_case(name: str) -> str:
    """Return Keras' spelling of a class name, e.g. ``mean_squared_error``."""
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


#: How Keras writes an option that is off.
_OFF: tuple[Any, ...] = (None, False, [], {}, 0, "infer")


def constructor_defaults(cls: type) -> dict[str, Any]:
    """Return a constructor's arguments with their defaults, those of its base classes included."""
    defaults: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        if "__init__" in vars(base):
            parameters = inspect.signature(vars(base)["__init__"]).parameters
            defaults |= {name: parameter.default for name, parameter in parameters.items()}
    return defaults


def without_what_is_off(
    config: Mapping[str, Any], accepted: Container[str], ignored: Iterable[str], owner: str
) -> dict[str, Any]:
    """Return those options that are `accepted`, after the others were found to be off.

    Parameters
    ----------
    config
        A configuration of Keras.
    accepted
        Options that exist here.
    ignored
        Options that do not exist here and have no effect on results.
    owner
        Whose options these are, for the message.

    Raises
    ------
    ValueError
        An option that does not exist here is set.
    """
    for name, value in config.items():
        if name not in accepted and name not in ignored and not any(value == o for o in _OFF):
            raise ValueError(
                f"`{name}` of {owner} must be off: fusednn does not have it. "
                f"Received: {name}={value!r:.200}"
            )
    return {name: value for name, value in config.items() if name in accepted}


class Configurable:
    """An object whose constructor arguments are a dictionary, as in Keras.

    A subclass lists in `config_names` the constructor arguments that it keeps as attributes of
    the same name; those of its base classes are added.
    """

    config_names: ClassVar[tuple[str, ...]] = ()
    #: Options of Keras that have no effect on results here.
    ignored_config_names: ClassVar[tuple[str, ...]] = ()

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments that make an equal object.

        Raises
        ------
        NotImplementedError
            A subclass has a constructor of its own that keeps none of these arguments.
        """
        names = dict.fromkeys(
            name
            for cls in reversed(type(self).__mro__)
            for name in cls.__dict__.get("config_names", ())
        )
        missing = [name for name in names if not hasattr(self, name)]
        if missing:
            raise NotImplementedError(
                f"{type(self).__name__} must define `get_config`, or call `super().__init__`: "
                f"it has no attribute `{missing[0]}`."
            )
        return {name: getattr(self, name) for name in names}

    @classmethod
    def option_defaults(cls) -> dict[str, Any]:
        """Return the constructor's arguments with their defaults, what it passes on included."""
        return constructor_defaults(cls)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Make an object from what `get_config` returned (Keras' own dictionaries work too).

        Raises
        ------
        ValueError
            An option of Keras that does not exist here is set.
        """
        accepted = cls.option_defaults()
        return cls(**without_what_is_off(config, accepted, cls.ignored_config_names, cls.__name__))

    def __repr__(self) -> str:
        try:
            config = self.get_config()
        except NotImplementedError:
            return f"{type(self).__name__}(...)"
        arguments = ", ".join(f"{name}={value!r}" for name, value in config.items())
        return f"{type(self).__name__}({arguments})"


class OfFunction:
    """Mark of an object that stands for a plain function of the caller, its attribute `fn`."""

    fn: Callable[..., Any]


def function_name(function: Callable[..., Any]) -> str:
    """Return the name of a function, or the class of another callable object."""
    return str(getattr(function, "__name__", type(function).__name__))


def serialize(instance: Configurable) -> Any:
    """Return ``{"class_name": ..., "config": ...}``, which the matching `get` turns back.

    What stands for a plain function gives that function.
    """
    if isinstance(instance, OfFunction):
        return instance.fn
    return {"class_name": type(instance).__name__, "config": instance.get_config()}


def custom(config: Any, custom_objects: Mapping[str, Any] | None) -> Any:
    """Return the object, class or function that `config` names among `custom_objects`.

    Anything else is returned as it is, for a `get` of the kind.
    """
    named = isinstance(config, Mapping)
    name = config.get("class_name") if named else config
    found = (custom_objects or {}).get(name) if isinstance(name, str) else None
    if found is None:
        return config
    return found.from_config(config.get("config", {})) if named else found


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
