//! Reading CSV files, plain or gzip, so that whatever is wrong is named by file, line and column.

use std::fs::File;
use std::io::{BufReader, Read, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use coalition_ledger::Timestamp;
use flate2::read::MultiGzDecoder;
use rust_decimal::Decimal;

/// What a gzip file begins with (RFC 1952, section 2.3.1).
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// A CSV file with a header line.
pub(super) struct Table {
    path: PathBuf,
    reader: csv::Reader<Box<dyn Read>>,
    record: csv::StringRecord,
    columns: &'static [&'static str],
}

impl Table {
    /// Opens a file whose header line names exactly these columns, in this order.
    pub(super) fn open(path: &Path, columns: &'static [&'static str]) -> anyhow::Result<Self> {
        let shown = path.display();
        let mut reader = csv::ReaderBuilder::new()
            .flexible(true)
            .from_reader(bytes_of(path).with_context(|| format!("cannot read {shown}"))?);
        let header = reader
            .headers()
            .with_context(|| format!("{shown}: line 1 is no CSV header"))?;
        for (n, column) in columns.iter().enumerate() {
            match header.get(n) {
                Some(found) if found == *column => {}
                Some(found) => bail!(
                    "{shown}: line 1, column {}: {found:?} where {column:?} should be",
                    n + 1
                ),
                None => bail!("{shown}: line 1: column {column:?} is missing"),
            }
        }
        if let Some(more) = header.get(columns.len()) {
            bail!("{shown}: line 1: unknown column {more:?}");
        }
        Ok(Self {
            path: path.to_owned(),
            reader,
            record: csv::StringRecord::new(),
            columns,
        })
    }

    /// The next line, unless the file is at its end.
    pub(super) fn next(&mut self) -> anyhow::Result<Option<Line<'_>>> {
        let before = self.reader.position().line();
        let more = self.reader.read_record(&mut self.record);
        let more =
            more.with_context(|| format!("{}: line {before} cannot be read", self.path.display()))?;
        if !more {
            return Ok(None);
        }
        let line = self.record.position().map_or(before, csv::Position::line);
        if self.record.len() != self.columns.len() {
            bail!(
                "{}: line {line} has {} columns where the header has {}",
                self.path.display(),
                self.record.len(),
                self.columns.len()
            );
        }
        Ok(Some(Line { table: self, line }))
    }
}

/// One line of a table.
pub(super) struct Line<'a> {
    table: &'a Table,
    line: u64,
}

impl Line<'_> {
    /// What stands in a column of the table.
    pub(super) fn text(&self, column: &str) -> anyhow::Result<&str> {
        let columns = self.table.columns;
        columns
            .iter()
            .position(|name| *name == column)
            .and_then(|n| self.table.record.get(n))
            .with_context(|| format!("{} has no column {column:?}", self.table.path.display()))
    }

    /// The same, which must not be empty.
    pub(super) fn required(&self, column: &str) -> anyhow::Result<&str> {
        match self.text(column)? {
            "" => Err(self.wrong(column, "must not be empty")),
            text => Ok(text),
        }
    }

    /// A whole number.
    pub(super) fn integer(&self, column: &str) -> anyhow::Result<i64> {
        let text = self.required(column)?;
        text.parse()
            .map_err(|_| self.wrong(column, "is not a whole number"))
    }

    /// A whole number, at least 1.
    pub(super) fn count(&self, column: &str) -> anyhow::Result<i64> {
        match self.integer(column)? {
            n if n >= 1 => Ok(n),
            _ => Err(self.wrong(column, "must be at least 1")),
        }
    }

    /// A decimal number, as it is written.
    pub(super) fn decimal(&self, column: &str) -> anyhow::Result<String> {
        let text = self.required(column)?;
        match Decimal::from_str_exact(text) {
            Ok(number) if !number.is_sign_negative() => Ok(text.to_owned()),
            Ok(_) => Err(self.wrong(column, "must not be negative")),
            Err(_) => Err(self.wrong(column, "is not a decimal number")),
        }
    }

    /// An instant as `2017-01-01T11:53:26Z`.
    pub(super) fn instant(&self, column: &str) -> anyhow::Result<Timestamp> {
        let text = self.required(column)?;
        text.parse::<jiff::Timestamp>()
            .map(|at| Timestamp::from_micros(at.as_microsecond()))
            .map_err(|_| self.wrong(column, "is not an instant like 2017-01-01T11:53:26Z"))
    }

    /// Says what is wrong in a column.
    pub(super) fn wrong(&self, column: &str, what: &str) -> anyhow::Error {
        let text = self.text(column).unwrap_or_default();
        anyhow::anyhow!(
            "{}: line {}, column {column}: {text:?} {what}",
            self.table.path.display(),
            self.line
        )
    }
}

fn bytes_of(path: &Path) -> anyhow::Result<Box<dyn Read>> {
    let mut file = File::open(path)?;
    let mut start = Vec::new();
    file.by_ref()
        .take(GZIP_MAGIC.len() as u64)
        .read_to_end(&mut start)?;
    file.seek(SeekFrom::Start(0))?;
    let buffered = BufReader::new(file);
    Ok(if start == GZIP_MAGIC {
        Box::new(MultiGzDecoder::new(buffered))
    } else {
        Box::new(buffered)
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const COLUMNS: &[&str] = &["name", "points", "rate", "at"];

    fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    /// What reading the first line by `read` says, less the path.
    fn says<T>(text: &str, read: impl Fn(&Line<'_>) -> anyhow::Result<T>) -> String {
        let file = file(text.as_bytes());
        let said = Table::open(file.path(), COLUMNS)
            .and_then(|mut table| {
                let line = table.next()?.context("no line")?;
                read(&line).map(|_| "fine".to_owned())
            })
            .unwrap_or_else(|error| error.to_string());
        said.replace(&file.path().display().to_string(), "F")
    }

    #[test]
    fn what_is_wrong_is_named_by_file_line_and_column() {
        let head = "name,points,rate,at\n";
        let good = format!("{head}a,5,0.5,2017-01-01T00:00:00Z\n");
        assert_eq!(says(&good, |l| l.count("points")), "fine");
        assert_eq!(says(&good, |l| l.decimal("rate")), "fine");
        assert_eq!(says(&good, |l| l.instant("at")), "fine");
        let bad = format!("{head},x,-1,noon\n");
        for (found, column, what) in [
            (
                says(&bad, |l| l.required("name").map(drop)),
                "name",
                "\"\" must not be empty",
            ),
            (
                says(&bad, |l| l.integer("points")),
                "points",
                "\"x\" is not a whole number",
            ),
            (
                says(&bad, |l| l.decimal("rate")),
                "rate",
                "\"-1\" must not be negative",
            ),
            (
                says(&bad, |l| l.instant("at")),
                "at",
                "\"noon\" is not an instant like 2017-01-01T11:53:26Z",
            ),
        ] {
            assert_eq!(found, format!("F: line 2, column {column}: {what}"));
        }
        let none = |_: &Line<'_>| Ok(());
        assert_eq!(
            says(&format!("{head}a,5\n"), none),
            "F: line 2 has 2 columns where the header has 4"
        );
        assert_eq!(
            says("name,point,rate,at\n", none),
            "F: line 1, column 2: \"point\" where \"points\" should be"
        );
        assert_eq!(
            says("name,points\n", none),
            "F: line 1: column \"rate\" is missing"
        );
        assert_eq!(
            says("name,points,rate,at,more\n", none),
            "F: line 1: unknown column \"more\""
        );
    }

    #[test]
    fn gzip_is_told_by_its_first_bytes() {
        let mut zipped = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        zipped.write_all(b"name,points,rate,at\na,5,1,x\n").unwrap();
        let file = file(&zipped.finish().unwrap());
        let mut table = Table::open(file.path(), COLUMNS).unwrap();
        let line = table.next().unwrap().unwrap();
        assert_eq!(line.integer("points").unwrap(), 5);
        assert!(table.next().unwrap().is_none());
    }
}
