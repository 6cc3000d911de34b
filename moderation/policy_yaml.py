"""Reads YAML and remembers on which line everything stands. Pure: no table, no Django.

Stricter than YAML: no aliases (a short file could unfold into a huge one), no key twice, bounded
in size and depth.
"""

from collections.abc import Mapping
from typing import Any

import yaml

MAX_BYTES = 5_000_000  # a thousand rules, or a few hundred vectors written out
MAX_DEPTH = 12  # a policy needs seven

Path = tuple[str | int, ...]
Lines = Mapping[Path, int]


class YamlError(Exception):
    """The text cannot be read as YAML of our kind: ``line`` from 1, ``str()`` for people."""

    def __init__(self, line: int, sentence: str) -> None:
        super().__init__(sentence)
        self.line = line


class _Loader(yaml.SafeLoader):
    """Composes nodes without aliases and not too deep."""

    depth = 0

    def here(self) -> Any:
        """Return the event that comes next; its ``start_mark`` says where."""
        return self.peek_event()  # type: ignore[no-untyped-call]

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.here()
            raise YamlError(
                event.start_mark.line + 1,
                f"“*{event.anchor}” refers to another place. Write the content itself here: "
                "a policy file has no aliases.",
            )
        if self.depth > MAX_DEPTH:
            line = self.here().start_mark.line + 1
            raise YamlError(line, f"This is nested more than {MAX_DEPTH} levels deep.")
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def yaml_read(text: str) -> tuple[Any, Lines]:
    """Return the content and the line of every part of it, by its path.

    Raises YamlError.
    """
    if len(text) > MAX_BYTES:
        raise YamlError(1, f"The file has {len(text):,} characters; {MAX_BYTES:,} are the most.")
    lines: dict[Path, int] = {(): 1}
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        content = None if node is None else _content(loader, node, (), lines)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise YamlError(line, f"This is not YAML: {error.problem or error.context}.") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise YamlError(line, f"This is not YAML: {error.reason}.") from error
    finally:
        loader.dispose()
    return content, lines


def _content(loader: _Loader, node: yaml.Node, path: Path, lines: dict[Path, int]) -> Any:
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            key = _scalar(loader, key_node) if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(key, str):
                raise YamlError(line, "A key is a word. Write it in quotes if it looks like a "
                                  "number, a date, yes or no.")  # fmt: skip
            if key in mapping:
                first = lines[(*path, key)]
                raise YamlError(line, f"The key “{key}” stands on line {first} already.")
            lines[(*path, key)] = line
            mapping[key] = _content(loader, value_node, (*path, key), lines)
        return mapping
    if isinstance(node, yaml.SequenceNode):
        return [
            _content(loader, each, (*path, place), lines) for place, each in enumerate(node.value)
        ]
    return _scalar(loader, node)


def _scalar(loader: _Loader, node: yaml.Node) -> Any:
    try:
        return loader.construct_object(node)
    except ValueError as error:
        # A number too long to read, a date that does not exist.
        line = node.start_mark.line + 1
        raise YamlError(line, f"“{node.value[:40]}” cannot be read: {error}.") from error


def line_of(lines: Lines, path: Path) -> int:
    """Return the line of a path, or of the nearest part above it that stands in the file."""
    while path not in lines:
        path = path[:-1]
    return lines[path]
