"""The configuration file of a run: what was asked for, and the versions it was asked of."""

from pathlib import Path
from typing import Any

from .files import dump_json, fault, parse_json, read_bounded
from .tree import Decoder, Encoder
from .versions import versions

FORMAT, VERSION = "cairn-run", 1
MAX_CONFIG_BYTES = 1 << 20


def dump_config(config: dict[str, Any]) -> tuple[bytes, dict[str, Any], dict[str, Any]]:
    """Turn a configuration into the text of its file.

    Returns:
        The text, the configuration as it will be read back, and the versions that were added.
    """
    encoder = Encoder()
    values = encoder.encode(config)
    if encoder.arrays:
        raise TypeError(f"the configuration's {next(iter(encoder.arrays))} is an array: make it a list")
    made_with = versions()
    text = dump_json({"format": FORMAT, "version": VERSION, "config": values, "versions": made_with}, indent=2)
    if len(text) > MAX_CONFIG_BYTES:
        raise ValueError(f"the configuration has {len(text)} bytes, more than the {MAX_CONFIG_BYTES} allowed")
    return text, _decode(values, Path("config.json")), made_with


def read_config(where: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read an untrusted configuration file.

    Returns:
        The configuration and the versions it was made with.
    """
    plain = parse_json(read_bounded(where, MAX_CONFIG_BYTES), where)
    if not isinstance(plain, dict) or plain.get("format") != FORMAT:
        raise fault(where, "is not the configuration of a Cairn run")
    if type(plain.get("version")) is not int or plain["version"] != VERSION:
        shown = str(plain.get("version"))[:20]
        raise fault(where, f"has version {shown}, and this Cairn reads {VERSION}", "update Cairn")
    values, made_with = plain.get("config"), plain.get("versions")
    if len(plain) != 4 or not isinstance(values, dict) or not isinstance(made_with, dict):
        raise fault(where, "must hold config and versions, two objects, and nothing else")
    return _decode(values, where), made_with


def _decode(values: Any, where: Path) -> dict[str, Any]:
    config = Decoder(where).decode(values, {})
    if not isinstance(config, dict):
        raise fault(where, "has a configuration that is not an object")
    return config
