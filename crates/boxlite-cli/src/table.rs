//! Tables as docker prints them: columns three spaces apart, no lines.

use unicode_width::UnicodeWidthStr;

use crate::failure::visible;

const GAP: &str = "   ";

/// A table with a head.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table with these columns.
    pub(crate) fn new(columns: &[&str]) -> Self {
        Self {
            rows: vec![columns.iter().map(|&column| column.to_owned()).collect()],
        }
    }

    /// Appends a row; control characters in it are made visible, because names and
    /// commands come from images and boxes.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(
            cells
                .into_iter()
                .map(|cell| visible(&cell).replace('\t', " "))
                .collect(),
        );
    }

    /// The table as text, a line feed after each row.
    pub(crate) fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|column| {
                self.rows
                    .iter()
                    .filter_map(|row| row.get(column))
                    .map(|cell| cell.width())
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(cell);
                line.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.width())));
                line.push_str(GAP);
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// Shortens a text to so many characters, the last of them an ellipsis.
pub(crate) fn shortened(text: &str, characters: usize) -> String {
    if text.chars().count() <= characters {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(characters.saturating_sub(1)).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["NAME", "SIZE"]);
        table.row(["日本".to_owned(), "1B".to_owned()]);
        table.row(["a\u{1b}[2J".to_owned(), String::new()]);
        assert_eq!(table.render(), "NAME         SIZE\n日本         1B\na\\u{1b}[2J\n");
    }

    #[test]
    fn long_texts_are_shortened() {
        assert_eq!(shortened("\"sh -c true\"", 20), "\"sh -c true\"");
        assert_eq!(shortened("abcdef", 4), "abc…");
    }
}
