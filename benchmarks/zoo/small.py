"""Any configuration of transformers made small, by what its attributes are called."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass
from itertools import pairwise
from typing import Any

from transformers import CONFIG_MAPPING, PreTrainedConfig

from benchmarks.zoo.sizes import AT_MOST, VOCABULARY

_KINDS = 4  # as many kinds of layers as are kept at most
_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_ALIKE = {"num_key_value_heads": "num_attention_heads", "head_dim": "qk_rope_head_dim"}  # where they were before
_THETA = "rope_theta"
_SECTIONS = "mrope_section"  # how many pairs of a head's numbers turn with time, height and width
_TOKENS = ("_token_id", "_token_index", "_token_ids", "_start_id", "_end_id", "_patch_id")


def small_configurations(kind: str) -> Iterator[PreTrainedConfig]:
    """Configurations of model type ``kind``, each of which can be made: with every attribute small; then also with
    sizes that are not set by default; and then, since some only go together in a way that names do not tell, with one
    of them twice as large, or as it was."""
    base = CONFIG_MAPPING[kind]()
    changes = _changes(base)
    unset = {name: most for name, most in AT_MOST.items() if name in vars(base) and vars(base)[name] is None}
    doubled = [{**changes, n: 2 * v} for n, v in changes.items() if type(v) is int and n in AT_MOST]
    left_out = [{n: v for n, v in changes.items() if n != name} for name in changes]
    for given in (changes, *([{**changes, **unset}] if unset else []), *doubled, *left_out):
        with suppress(Exception):  # whatever a configuration says of itself
            yield type(base)(**given)


def _changes(base: PreTrainedConfig) -> dict[str, Any]:
    found: dict[str, Any] = {}
    tokens = iter(range(VOCABULARY - 1, 0, -1))
    for name, value in vars(base).items():
        if name.startswith("_"):
            continue
        if isinstance(value, PreTrainedConfig):
            if part := _changes(value):
                found[name] = type(value)(**{**_asked(value), **part})
        elif name.endswith(_TOKENS):
            if (new := _tokens(value, tokens)) != value:
                found[name] = new
        elif isinstance(value, dict) and value.get(_THETA, 0) is None:
            found[name] = {**value, _THETA: 10000.0}
        elif isinstance(value, dict) and _SECTIONS in value:
            found[name] = {**value, _SECTIONS: _sections(value[_SECTIONS], base)}
        elif name in AT_MOST and (new := _at_most(value, AT_MOST[name])) != value:
            found[name] = new
    for name, like in _ALIKE.items():
        if name in found and like in found and getattr(base, name) == getattr(base, like):
            found[name] = found[like]
    return {**found, **_kinds(base, found)}


def _asked(config: PreTrainedConfig) -> dict[str, Any]:
    """What a part's configuration has otherwise than its class, and which no size decides."""
    names = {f.name for f in fields(config)} if is_dataclass(config) else set()
    layers = next((vars(config)[n] for n in _LAYERS if n in vars(config)), None)
    return {
        name: value
        for name, value in config.to_diff_dict().items()
        if name in names
        and name not in AT_MOST
        and not name.endswith(_TOKENS)
        and not (isinstance(value, (list, tuple)) and len(value) == layers)
    }


def _at_most(value: Any, most: int) -> Any:
    if isinstance(value, (list, tuple)) and value and all(type(x) is int for x in value):
        largest = max(value)
        return type(value)(max(1, x * most // largest) for x in value) if largest > most else value
    return min(value, most) if type(value) is int else value


def _sections(sections: Sequence[int], base: PreTrainedConfig) -> list[int]:
    """The same shares of a small head."""
    head = getattr(base, "head_dim", None) or base.hidden_size // base.num_attention_heads
    ends = [round(sum(sections[:i]) * AT_MOST["head_dim"] / head) for i in range(len(sections) + 1)]
    return [end - start for start, end in pairwise(ends)]


def _tokens(value: Any, unused: Iterator[int]) -> Any:
    """A special token, or several, as numbers inside the small vocabulary."""
    if isinstance(value, (list, tuple)):
        return type(value)(_tokens(x, unused) for x in value)
    return next(unused) if type(value) is int and value >= VOCABULARY else value


def _kinds(base: PreTrainedConfig, found: Mapping[str, Any]) -> dict[str, Any]:
    """Where a list says of each layer what kind it is: one layer of each kind, and as many layers as before at least.

    Lists beside the first that has several kinds are cut to the same layers.
    """
    name = next((n for n in _LAYERS if n in found), None)
    if name is None:
        return {}
    layers = getattr(base, name)
    lists = {k: v for k, v in vars(base).items() if isinstance(v, (list, tuple)) and len(v) == layers}
    several = next((v for v in lists.values() if len({*map(str, v)}) > 1 and all(isinstance(x, str) for x in v)), None)
    if several is None:
        return {}
    kept = _one_of_each(several, found[name])
    return {name: len(kept), **{k: type(v)(v[i] for i in kept) for k, v in lists.items()}}


def _one_of_each(kinds: Sequence[str], least: int) -> list[int]:
    """The first position of each kind, in order, and others in front as long as there are fewer than ``least``."""
    firsts = [kinds.index(kind) for kind in dict.fromkeys(kinds)][:_KINDS]
    rest = [i for i in range(len(kinds)) if i not in firsts]
    return sorted(firsts + rest[: max(0, least - len(firsts))])
