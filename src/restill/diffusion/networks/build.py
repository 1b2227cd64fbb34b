"""Networks from the names and keyword arguments that checkpoints store."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable, Mapping
from typing import Any, get_type_hints

from pydantic import ConfigDict, ValidationError, create_model
from torch import nn

from ...core.errors import UserError
from ...core.kinds import described, member
from ...core.settings import explain
from .architecture import Architecture, CustomNetwork, Given
from .preconditioned import MODELS, EDMPrecond, Preconditioned, VPPrecond

PRECONDITIONED: dict[str, type[EDMPrecond] | type[VPPrecond]] = {"EDMPrecond": EDMPrecond, "VPPrecond": VPPrecond}
GIVEN_BY_PRECONDITIONING = {"in_channels", "out_channels"}


def build_network(cls: str, kwargs: Mapping[str, Any]) -> nn.Module:
    """A preconditioned network with fresh weights (drawn from torch's global generator), in training mode.

    Args:
        cls: `EDMPrecond`, `VPPrecond`, or the kind of a plug-in's `CustomNetwork`.
        kwargs: arguments of that class: `model_type` (`SongUNet`, `DhariwalUNet`), `img_resolution`, `img_channels`,
            `label_dim` and so on; everything else goes to the network. Of a `CustomNetwork` its settings and `given`.

    Returns:
        A module that is called as `net(x, sigma, class_labels=None, augment_labels=None)`.

    Raises:
        UserError: if a name is unknown, a required argument is missing, or a value fits no network.
    """
    if cls not in PRECONDITIONED:
        return _custom(cls, kwargs)
    return _u_net(cls, kwargs)


def _custom(kind: str, kwargs: Mapping[str, Any]) -> nn.Module:
    """The network of a plug-in."""
    found = member(Architecture, kind)
    if found is None or not issubclass(found, CustomNetwork):
        near = _nearest(kind, PRECONDITIONED)
        raise UserError(f"network {kind!r} is unknown; {near}, or name the file that defines it with --plugin")
    settings = {key: value for key, value in kwargs.items() if key != "given"}
    network = described(found, {found.tag: kind, **settings}, "network")
    net = network.build(Given(**kwargs["given"]))
    if not isinstance(net, nn.Module):
        raise UserError(f"network.architecture {network.kind!r}: build must return a torch module, not {net!r}")
    return net


def _u_net(cls: str, kwargs: Mapping[str, Any]) -> Preconditioned:
    outer = inspect.signature(PRECONDITIONED[cls]).parameters
    model_type = kwargs.get("model_type", outer["model_type"].default)
    if model_type not in MODELS:
        raise UserError(f"model_type: {model_type!r} is unknown; {_nearest(str(model_type), MODELS)}")
    inner = inspect.signature(MODELS[model_type]).parameters
    known = (outer.keys() - {"model_kwargs"}) | (inner.keys() - GIVEN_BY_PRECONDITIONING)
    for key in kwargs:
        if key not in known:
            raise UserError(f"{cls} with {model_type} has no argument {key!r}; {_nearest(key, known)}")
    for key in ("img_resolution", "img_channels"):
        if key not in kwargs:
            raise UserError(f"{cls} needs the argument {key!r}")
    _check_values(cls, model_type, kwargs)
    return PRECONDITIONED[cls](**kwargs)


def _check_values(cls: str, model_type: str, kwargs: Mapping[str, Any]) -> None:
    """Raises UserError, which names the argument, for a value of another type than the network's signature says."""
    kinds = get_type_hints(PRECONDITIONED[cls].__init__) | get_type_hints(MODELS[model_type].__init__)
    fields: dict[str, Any] = {key: (kinds[key], ...) for key in kwargs}
    model = create_model("Arguments", __config__=ConfigDict(strict=True, protected_namespaces=()), **fields)
    try:
        model.model_validate(dict(kwargs))
    except ValidationError as error:
        raise UserError(explain(error, model)) from None


def _nearest(word: str, known: Iterable[str]) -> str:
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"known are {', '.join(names)}"
