//! A table as monospaced lines. Columns are as wide as their widest cell up to a bound, so that one
//! long cell does not push all others away; what is longer sticks out, nothing is shortened.

use pulldown_cmark::Alignment;

use super::glyph::width;

/// Cells wider than this do not widen their column.
const COLUMN: usize = 32;

/// The cells of a table, row by row, the head first.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) rows: Vec<Vec<String>>,
    pub(super) alignments: Vec<Alignment>,
}

impl Table {
    pub(super) fn add(&mut self, cell: &str) {
        if let Some(row) = self.rows.last_mut() {
            row.push(cell.split_whitespace().collect::<Vec<_>>().join(" "));
        }
    }

    /// All lines, with a rule beneath the head.
    pub(super) fn lines(&self) -> String {
        let widths = self.widths();
        let mut lines: Vec<String> = self
            .rows
            .iter()
            .map(|row| self.line(row, &widths))
            .collect();
        let rule: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
        if !lines.is_empty() {
            lines.insert(1, rule.join("-|-"));
        }
        lines.join("\n")
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths = vec![1; self.rows.first().map_or(0, Vec::len)];
        for row in &self.rows {
            for (column, cell) in widths.iter_mut().zip(row) {
                *column = (*column).max(width(cell).min(COLUMN));
            }
        }
        widths
    }

    /// A row, without its last cells if they are empty.
    fn line(&self, row: &[String], widths: &[usize]) -> String {
        let filled = row.iter().rposition(|cell| !cell.is_empty());
        let row = &row[..filled.map_or(0, |last| last + 1)];
        let cells = row.iter().zip(widths).enumerate();
        let padded = cells.map(|(index, (cell, column))| {
            let space = column.saturating_sub(width(cell));
            let before = match self.alignments.get(index) {
                Some(Alignment::Right) => space,
                Some(Alignment::Center) => space / 2,
                _ => 0,
            };
            format!("{}{cell}{}", " ".repeat(before), " ".repeat(space - before))
        });
        let line = padded.collect::<Vec<_>>().join(" | ");
        line.trim_end().to_owned()
    }
}
