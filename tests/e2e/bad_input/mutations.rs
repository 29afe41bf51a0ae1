//! One bad value after another in every field of a good request.
//!
//! A mutation changes one place of a message that the network answers; everything else stays good, so
//! that the answer is about that place. Values are chosen by the type of the field and by its rules.
//! Fitting ones only unless `all` is asked for: then every text is put into every field of text.

use prost::Message as _;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, ReflectMessage as _, Value};

use super::oracle::Oracle;
use super::schema::inner;

/// How many items are too many for every list, and still a small message.
const MANY_ITEMS: usize = 10_000;

/// Bytes that make any message too large.
const HUGE_BYTES: usize = 260 * 1024;

/// The ends of what any text may be long.
const LENGTHS: &[usize] = &[
    32, 33, 64, 65, 120, 121, 140, 141, 256, 257, 1_024, 1_025, 10_000,
];

/// Stands for bytes that are no UTF-8; as long as they are.
const MARK: &str = "<marks>";
const NO_UTF8: &[[u8; MARK.len()]] = &[
    [0xff; MARK.len()],
    // Overlong, a lone surrogate, beyond the last character, cut off.
    *b"ab\xc0\x80cde",
    *b"ab\xed\xa0\x80cd",
    *b"ab\xf4\x90\x80\x80c",
    *b"abcdef\xe2",
];

/// A request with one place changed.
pub(super) struct Mutation {
    /// The place: `context.check_id`, `window_ids[0]`.
    pub(super) path: String,
    /// What was put there, for people.
    pub(super) what: String,
    /// The row of the security table that it belongs to; 0 for none in particular.
    pub(super) row: u8,
    pub(super) change: Change,
}

/// What is done to the request.
pub(super) enum Change {
    /// The field has this value.
    Set(Value),
    /// The field is not set.
    Clear,
    /// The field holds bytes that are no text.
    NoText([u8; MARK.len()]),
}

impl Mutation {
    /// The message after the change, and its bytes.
    pub(super) fn of(&self, message: &DynamicMessage) -> (DynamicMessage, Vec<u8>) {
        let mut changed = message.clone();
        let value = match &self.change {
            Change::Set(value) => Some(value.clone()),
            Change::Clear => None,
            Change::NoText(_) => Some(Value::String(MARK.to_owned())),
        };
        put(&mut changed, &self.path, value);
        let mut bytes = changed.encode_to_vec();
        if let Change::NoText(no_text) = &self.change {
            let at = bytes
                .windows(MARK.len())
                .position(|window| window == MARK.as_bytes());
            let at = at.expect("the mark was encoded");
            bytes[at..at + MARK.len()].copy_from_slice(no_text);
        }
        (changed, bytes)
    }

    /// Whether the bytes are no protobuf.
    pub(super) fn is_no_message(&self) -> bool {
        matches!(self.change, Change::NoText(_))
    }
}

/// Sets the field at a path, or unsets it; messages on the way are there.
pub(super) fn put(message: &mut DynamicMessage, path: &str, value: Option<Value>) {
    let (step, rest) = path
        .split_once('.')
        .map_or((path, None), |(step, rest)| (step, Some(rest)));
    let (name, place) = match step.split_once('[') {
        Some((name, place)) => (
            name,
            Some(
                place
                    .trim_end_matches(']')
                    .parse::<usize>()
                    .expect("a number"),
            ),
        ),
        None => (step, None),
    };
    let field = message
        .descriptor()
        .get_field_by_name(name)
        .unwrap_or_else(|| panic!("{} has no {name}", message.descriptor().full_name()));
    let slot = match (place, rest) {
        (None, None) => {
            match value {
                Some(value) => message.set_field(&field, value),
                None => message.clear_field(&field),
            }
            return;
        }
        (Some(place), _) => {
            let list = message.get_field_mut(&field).as_list_mut();
            &mut list.expect("a list")[place]
        }
        (None, Some(_)) => message.get_field_mut(&field),
    };
    match rest {
        Some(rest) => put(slot.as_message_mut().expect("a message"), rest, value),
        None => *slot = value.expect("items are never unset"),
    }
}

/// All mutations of a request, in every place that it has.
pub(super) fn mutations(oracle: &Oracle, message: &DynamicMessage, all: bool) -> Vec<Mutation> {
    let mut found = Vec::new();
    let mut writer = Writer {
        oracle,
        all,
        found: &mut found,
    };
    writer.message(message, "");
    found
}

struct Writer<'a> {
    oracle: &'a Oracle,
    all: bool,
    found: &'a mut Vec<Mutation>,
}

impl Writer<'_> {
    fn add(&mut self, path: &str, row: u8, what: impl Into<String>, change: Change) {
        self.found.push(Mutation {
            path: path.to_owned(),
            what: what.into(),
            row,
            change,
        });
    }

    fn set(&mut self, path: &str, row: u8, value: Value) {
        self.add(path, row, described(&value), Change::Set(value));
    }

    fn message(&mut self, message: &DynamicMessage, prefix: &str) {
        for field in message.descriptor().fields() {
            let path = format!("{prefix}{}", field.name());
            self.add(&path, 0, "absent", Change::Clear);
            let value = message.get_field(&field).into_owned();
            if field.is_list() {
                let items = value.as_list().expect("a list").to_vec();
                self.list(&field, &items, &path);
            } else if inner(&field).is_some() {
                if message.has_field(&field) {
                    let value = value.as_message().expect("a message");
                    self.message(value, &format!("{path}."));
                    let empty = DynamicMessage::new(value.descriptor());
                    self.set(&path, 0, Value::Message(empty));
                }
            } else {
                self.value(&field, &value, &path);
            }
        }
    }

    fn list(&mut self, field: &FieldDescriptor, items: &[Value], path: &str) {
        let Some(first) = items.first() else {
            return;
        };
        let twice = [items, std::slice::from_ref(first)].concat();
        self.set(path, 0, Value::List(twice));
        for count in [8, 9, 16, 17, 32, 33, 100, 101, MANY_ITEMS] {
            self.set(path, 0, Value::List(vec![first.clone(); count]));
        }
        let empty = Value::default_value(&field.kind());
        for count in [1, MANY_ITEMS, HUGE_BYTES / 2] {
            self.set(path, 0, Value::List(vec![empty.clone(); count]));
        }
        let at = format!("{path}[0]");
        match first {
            Value::Message(message) => self.message(message, &format!("{at}.")),
            value => self.value(field, value, &at),
        }
    }

    fn value(&mut self, field: &FieldDescriptor, good: &Value, path: &str) {
        match field.kind() {
            Kind::String => self.text(field, good.as_str().expect("a text"), path),
            Kind::Int32 => {
                let row = if path == "page_size" { 41 } else { 26 };
                for number in numbers() {
                    if let Ok(number) = i32::try_from(number) {
                        self.set(path, row, Value::I32(number));
                    }
                }
            }
            Kind::Int64 => {
                for number in numbers() {
                    self.set(path, 26, Value::I64(number));
                }
            }
            Kind::Bool => {
                for flag in [true, false] {
                    self.set(path, 0, Value::Bool(flag));
                }
            }
            Kind::Enum(kind) => {
                let known: Vec<i32> = kind.values().map(|value| value.number()).collect();
                let most = known.iter().max().expect("an enum has values");
                for number in [most + 1, 99, -1, i32::MIN, i32::MAX]
                    .into_iter()
                    .chain(known.iter().copied())
                {
                    self.set(path, 29, Value::EnumNumber(number));
                }
            }
            Kind::Message(kind) => {
                for (seconds, nanos) in times() {
                    let mut time = DynamicMessage::new(kind.clone());
                    time.set_field_by_name("seconds", Value::I64(seconds));
                    time.set_field_by_name("nanos", Value::I32(nanos));
                    self.add(
                        path,
                        33,
                        format!("{seconds} s {nanos} ns"),
                        Change::Set(Value::Message(time)),
                    );
                }
            }
            _ => panic!("{path}: no bad values are known for a field of this kind"),
        }
    }

    fn text(&mut self, field: &FieldDescriptor, good: &str, path: &str) {
        for no_text in NO_UTF8 {
            self.add(path, 35, format!("{no_text:x?}"), Change::NoText(*no_text));
        }
        // At the end of what is allowed, and over it by one and by far.
        let most = self.oracle.max_len(field).unwrap_or(64);
        let near = [most, most + 1, 10_000];
        let lengths: &[usize] = if self.all { LENGTHS } else { &near };
        for text in common(good, lengths) {
            self.set(path, row_of(&text), Value::String(text));
        }
        let shape = self.oracle.shape(field);
        let fitting: [(&str, u8, Vec<String>); 5] = [
            ("a-hjkmnp", 0, ids(good)),
            ("uuid", 23, uuids(good)),
            ("[1-9][0-9]{0,", 27, decimals()),
            ("[A-Z]{3}", 28, currencies()),
            ("0[1-9]|1[0-2]", 33, dates()),
        ];
        for (sign, row, texts) in fitting {
            if self.all || shape.contains(sign) {
                for text in texts {
                    self.set(path, row, Value::String(text));
                }
            }
        }
    }
}

/// The row that a text belongs to whatever the field.
fn row_of(text: &str) -> u8 {
    if text.contains('\0') {
        36
    } else if text.contains("or 1=1") || text.contains("drop table") || text == "%" {
        42
    } else if text.starts_with(['=', '<']) || text.contains(char::is_control) {
        43
    } else if text.starts_with("partners/") || ["-", "*"].contains(&text) {
        13
    } else {
        0
    }
}

/// Most letters of a text that are shown.
const SHOWN: usize = 60;

/// A value in a few words.
fn described(value: &Value) -> String {
    match value {
        Value::String(text) if text.chars().count() > SHOWN => {
            let begin: String = text.chars().take(SHOWN).collect();
            format!("{begin:?}… of {} bytes", text.len())
        }
        Value::String(text) => format!("{text:?}"),
        Value::I32(number) | Value::EnumNumber(number) => number.to_string(),
        Value::I64(number) => number.to_string(),
        Value::Bool(flag) => flag.to_string(),
        Value::List(items) => format!("{} items", items.len()),
        _ => "empty".to_owned(),
    }
}

/// Texts that suit no field, or any.
fn common(good: &str, lengths: &[usize]) -> Vec<String> {
    let mut texts: Vec<String> = [
        "",
        " ",
        "-",
        "*",
        "%",
        "null",
        "partners/-",
        "../../etc/passwd",
        "' or 1=1 --",
        "'; drop table members; --",
        "<script>alert(1)</script>",
        "=cmd()|' /C calc'!A0",
        "%s%n{0}${jndi:ldap://127.0.0.1/x}",
        "\0",
        "\u{1b}[31mred",
        "a\nb",
        "a\r\nb",
        "\t",
        "\u{7f}",
        "\u{85}",
        "\u{202e}gnp.exe",
        "\u{feff}",
        "é",
        "e\u{301}",
        "𝄞",
        "ſ",
        "OPERATOR",
        "operator",
    ]
    .map(str::to_owned)
    .to_vec();
    for spoilt in ["\0", "\n", " ", "\u{1b}"] {
        texts.push(format!("{good}{spoilt}"));
        texts.push(format!("{spoilt}{good}"));
    }
    for length in lengths {
        texts.push("x".repeat(*length));
        texts.push("𝄞".repeat(*length));
    }
    texts.push("x".repeat(HUGE_BYTES));
    texts
}

fn ids(good: &str) -> Vec<String> {
    let (prefix, rest) = good.split_once('_').unwrap_or(("ptr", ""));
    let mut texts: Vec<String> = [
        "ptr", "mem", "txn", "lot", "agr", "win", "stl", "hld", "PTR",
    ]
    .iter()
    .map(|prefix| format!("{prefix}_01h455vb4pex5vsknk084sn02q"))
    .collect();
    for suffix in [
        // The least and the most there is, one more, letters that are none, too short, too long.
        "00000000000000000000000000",
        "7zzzzzzzzzzzzzzzzzzzzzzzzz",
        "8zzzzzzzzzzzzzzzzzzzzzzzzz",
        "01h455vb4pex5vsknk084sn02l",
        "01h455vb4pex5vsknk084sn02u",
        "01h455vb4pex5vsknk084sn02",
        "01h455vb4pex5vsknk084sn02q0",
        "01H455VB4PEX5VSKNK084SN02Q",
        "０１h455vb4pex5vsknk084sn0",
        "",
    ] {
        texts.push(format!("{prefix}_{suffix}"));
    }
    texts.extend([
        rest.to_owned(),
        format!("{prefix}{rest}"),
        good.replace('_', "-"),
    ]);
    texts
}

fn uuids(good: &str) -> Vec<String> {
    let cut = good.get(1..).unwrap_or_default();
    vec![
        "00000000-0000-0000-0000-000000000000".to_owned(),
        "ffffffff-ffff-ffff-ffff-ffffffffffff".to_owned(),
        good.to_uppercase(),
        good.replace('-', ""),
        good.replace('-', "_"),
        format!("{{{good}}}"),
        format!("urn:uuid:{good}"),
        cut.to_owned(),
        format!("{good}0"),
        format!("g{cut}"),
        format!("-{cut}"),
        "1".to_owned(),
    ]
}

fn decimals() -> Vec<String> {
    let mut texts: Vec<String> = [
        "NaN",
        "inf",
        "-inf",
        "1e9",
        "1E-9",
        "1,00",
        "1.000,00",
        "-1",
        "-0",
        "+1",
        "01",
        "00",
        ".5",
        "1.",
        "1..2",
        "1.2.3",
        "0x10",
        "1_000",
        "1 000",
        "٣",
        "0.0000000000001",
        "0.0000001",
        "1234567890123",
        "0",
        "0.0",
        "0.000000000001",
        "0.000001",
        "1000000000",
        "1000000000.000000000001",
        "999999999999",
        "999999999999.999999999999",
        "999999999999.999999",
        "9999999999.5",
        "12345678901.1",
    ]
    .map(str::to_owned)
    .to_vec();
    texts.push("9".repeat(60));
    texts.push(format!("0.{}", "3".repeat(60)));
    texts
}

fn currencies() -> Vec<String> {
    [
        "eur",
        "Eur",
        "EURO",
        "EU",
        "€",
        "USD",
        "JPY",
        "CHF",
        "KWD",
        "XXX",
        "XAU",
        "XTS",
        "ZZZ",
        "978",
        "DEM",
        "EUR ",
        "E\u{55}\u{301}R",
    ]
    .map(str::to_owned)
    .to_vec()
}

fn dates() -> Vec<String> {
    [
        "2026-13-01",
        "2026-00-10",
        "2026-02-31",
        "2025-02-29",
        "2026-11-32",
        "26-01-01",
        "2026-1-1",
        "0000-01-01",
        "9999-12-31",
        "10000-01-01",
        "2026/01/01",
        "2026-01-01T00:00:00Z",
        "01.01.2026",
        "-2026-01-01",
    ]
    .map(str::to_owned)
    .to_vec()
}

fn numbers() -> Vec<i64> {
    let mut numbers = vec![i64::MIN, i64::MIN + 1, -1, 0, 1, 2, i64::MAX - 1, i64::MAX];
    for bound in [
        3_650,
        36_500,
        36_525,
        1_000,
        1_000_000,
        1_000_000_000,
        i64::from(i32::MAX),
        i64::from(u32::MAX),
        1_000_000_000_000,
        9_007_199_254_740_992,
    ] {
        numbers.extend([bound - 1, bound, bound + 1, -bound, -bound - 1]);
    }
    numbers
}

/// Seconds and nanos, of instants and of spans.
fn times() -> Vec<(i64, i32)> {
    let (first, last) = (-62_135_596_800, 253_402_300_799);
    vec![
        (i64::MIN, 0),
        (i64::MAX, 0),
        (i64::MAX / 1_000_000 + 1, 0),
        (first, 0),
        (first - 1, 0),
        (last + 1, 0),
        (0, 0),
        (0, 1),
        (0, 999),
        (0, 1_000),
        (0, -1),
        (1, -1),
        (-1, 1),
        (-1, 0),
        (1, 0),
        (1, 1_000_000_000),
        (1, i32::MAX),
        (1, i32::MIN),
        (316_224_000, 0),
        (316_224_000, 1),
        (316_224_001, 0),
        (315_576_000_001, 0),
        // Further than anything else that is fine: nothing may come after it where a clock is moved.
        (last, 999_999_999),
    ]
}
