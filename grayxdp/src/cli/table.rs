//! The one way to print a table, and the one place that knows colours.

use std::fmt::Write;

/// What a piece of text means; a terminal shows it in colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    /// Nothing special.
    Plain,
    /// A title.
    Title,
    /// As it should be.
    Good,
    /// Under way, or worth a look.
    Notable,
    /// Wrong.
    Bad,
    /// Of minor weight.
    Faint,
}

/// Whether colours are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Paint {
    /// A terminal that wants them.
    Coloured,
    /// Everything else.
    Bare,
}

impl Paint {
    /// The text in its colour.
    pub(super) fn text(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Plain => return text.to_owned(),
            Tone::Title => "1",
            Tone::Good => "32",
            Tone::Notable => "33",
            Tone::Bad => "31",
            Tone::Faint => "2",
        };
        match self {
            Self::Coloured => format!("\x1b[{code}m{text}\x1b[0m"),
            Self::Bare => text.to_owned(),
        }
    }
}

/// On which side a column's text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// One field of a table.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A field that means something.
    pub(super) fn new(tone: Tone, text: impl ToString) -> Self {
        Self { text: text.to_string(), tone }
    }

    /// A field without colour.
    pub(super) fn plain(text: impl ToString) -> Self {
        Self::new(Tone::Plain, text)
    }
}

/// Rows under titles, each column as wide as its widest field, two spaces apart.
#[derive(Clone, Debug)]
pub(super) struct Table {
    indent: usize,
    sides: Vec<Side>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table with these columns, `indent` spaces from the left.
    pub(super) fn new(indent: usize, columns: &[(&str, Side)]) -> Self {
        let titles = columns.iter().map(|(title, _)| Cell::new(Tone::Title, title)).collect();
        Self { indent, sides: columns.iter().map(|(_, side)| *side).collect(), rows: vec![titles] }
    }

    /// Adds a row: a field for each column.
    pub(super) fn row(&mut self, cells: Vec<Cell>) {
        debug_assert_eq!(cells.len(), self.sides.len(), "a field for each column");
        self.rows.push(cells);
    }

    /// The lines.
    pub(super) fn render(&self, paint: Paint) -> String {
        let widths: Vec<usize> = (0..self.sides.len())
            .map(|column| self.rows.iter().map(|row| row[column].text.chars().count()).max().unwrap_or_default())
            .collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = " ".repeat(self.indent);
            let mut owed = 0;
            for ((cell, side), width) in row.iter().zip(&self.sides).zip(&widths) {
                let gap = width - cell.text.chars().count();
                let (before, after) = match side {
                    Side::Left => (0, gap),
                    Side::Right => (gap, 0),
                };
                let _infallible = write!(line, "{:1$}{2}", "", owed + before, paint.text(cell.tone, &cell.text));
                owed = after + 2;
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_whatever_their_colour_and_lines_end_without_spaces() {
        let mut table = Table::new(1, &[("NAME", Side::Left), ("N", Side::Right), ("", Side::Left)]);
        table.row(vec![Cell::new(Tone::Good, "a"), Cell::plain(100), Cell::plain("x")]);
        table.row(vec![Cell::plain("größer"), Cell::plain(7), Cell::plain("")]);
        assert_eq!(table.render(Paint::Bare), " NAME      N\n a       100  x\n größer    7\n");
        let coloured = table.render(Paint::Coloured);
        assert_eq!(coloured.lines().nth(1), Some(" \x1b[32ma\x1b[0m       100  x"));
    }
}
