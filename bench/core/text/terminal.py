"""Text for rich that is shown as it is: without markup, emoji codes, highlights and control characters."""

from __future__ import annotations

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.progress import ProgressColumn, Task
from rich.text import Text

from bench.core.text.printable import encodable, printable, printable_lines


class Plain:
    """A text for `Console.print`, for a cell, a head or a title of a table, in any console.

    Args:
        parts: texts, or pairs of a text and its style.
        style: style of the whole text.
        lines: whether line breaks are obeyed. False for a name, True for a message.
    """

    def __init__(self, *parts: str | tuple[str, str], style: str = "", lines: bool = False) -> None:
        self.parts, self.style, self.lines = parts, style, lines

    def text(self, encoding: str) -> Text:
        """The text in characters that `encoding` has."""
        shown = printable_lines if self.lines else printable
        pairs = [(part, "") if isinstance(part, str) else part for part in self.parts]
        return Text.assemble(*((encodable(shown(text), encoding), style) for text, style in pairs), style=self.style)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self.text(options.encoding)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement.get(console, options, self.text(options.encoding))


def say(console: Console, *parts: str | tuple[str, str]) -> None:
    """Print a message. Only its own line breaks break its lines, so that paths and commands can be copied."""
    console.print(Plain(*parts, lines=True), soft_wrap=True)


class Description(ProgressColumn):
    """The column of a progress display with the description of each task."""

    def render(self, task: Task) -> Plain:
        """The description, as it is."""
        return Plain(task.description)
