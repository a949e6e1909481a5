"""Reports: what an experiment says, as data. The Markdown of all experiments is written here and nowhere else.

A cell of a table is a string, a number or a `Finding`; findings are written with their error by one formatter.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from phasetree.drawing.style import with_error
from phasetree.findings import Finding

Cell = str | int | float | Finding


@dataclass(frozen=True)
class Table:
    """Rows of cells below a header."""

    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def __post_init__(self):
        for row in self.rows:
            if len(row) != len(self.header):
                raise ValueError(f"a row of {len(row)} cells below a header of {len(self.header)}: {row}")


@dataclass(frozen=True)
class Report:
    """A first line, then tables and paragraphs of Markdown in order, and the sentence that the run ends in."""

    title: str
    parts: tuple[Table | str, ...]
    closing: str
    pages: Mapping[str, str] = field(default_factory=dict)
    """Further files that go into the folder of the run, by name."""

    def findings(self) -> Iterator[Finding]:
        """All findings that stand in tables."""
        for table in self.parts:
            if isinstance(table, Table):
                yield from (cell for row in table.rows for cell in row if isinstance(cell, Finding))

    def markdown(self) -> str:
        """Paragraphs and tables with an empty line between; consecutive items of a list stay together."""
        blocks = [self.title, *(_table(part) if isinstance(part, Table) else part for part in self.parts), self.closing]
        text = ""
        for before, block in zip(["", *blocks], blocks, strict=False):
            together = before.startswith("- ") and block.startswith("- ")
            text += ("" if not before else "\n" if together else "\n\n") + block
        return text + "\n"


def _table(table: Table) -> str:
    rows = [table.header, ("---",) * len(table.header), *([_cell(cell) for cell in row] for row in table.rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cell(cell: Cell) -> str:
    if isinstance(cell, Finding):
        return with_error(cell.estimate)
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)
