//! How tables look on a screen, and in a file.

use std::io::IsTerminal as _;

use comfy_table::{ContentArrangement, Table, presets};

/// A table with a header, as wide as a terminal allows.
pub(super) fn table<const COLUMNS: usize>(header: [&str; COLUMNS]) -> Table {
    let mut table = Table::new();
    if std::io::stdout().is_terminal() {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    table
        .load_style(presets::UTF8_FULL_CONDENSED)
        .set_header(header);
    table
}
