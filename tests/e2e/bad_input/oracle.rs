//! Which fields of a request break their rule, worked out from the annotations by themselves.
//!
//! Reads the protovalidate rules from the descriptors and interprets them, where the product runs
//! code that was generated from them: the two are made apart and must agree. Beyond the annotations
//! no text has control characters, and times are well formed, as `proto/README.md` says.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};

use prost_reflect::{
    DescriptorPool, DynamicMessage, ExtensionDescriptor, FieldDescriptor, Kind, OneofDescriptor,
    ReflectMessage as _, Value,
};
use regex_automata::Input;
use regex_automata::dfa::Automaton as _;
use regex_automata::dfa::dense::DFA;

use super::schema::{inner, real_oneof};

/// `0001-01-01T00:00:00Z` to the last second of 9999.
const SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;
/// Most seconds of a duration, about 10,000 years.
const DURATION_S: i64 = 315_576_000_000;

/// Knows the rules.
pub(super) struct Oracle {
    field: ExtensionDescriptor,
    oneof: ExtensionDescriptor,
    patterns: RefCell<HashMap<String, DFA<Vec<u32>>>>,
}

impl Oracle {
    pub(super) fn new(pool: &DescriptorPool) -> Self {
        let extension = |name: &str| pool.get_extension_by_name(name).expect("protovalidate");
        Self {
            field: extension("buf.validate.field"),
            oneof: extension("buf.validate.oneof"),
            patterns: RefCell::default(),
        }
    }

    /// Paths of the fields that break a rule.
    pub(super) fn violations(&self, message: &DynamicMessage) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        self.message(message, "", &mut found);
        found
    }

    /// The rules on a field.
    fn rules(&self, field: &FieldDescriptor) -> Option<DynamicMessage> {
        let options = field.options();
        let set = options.has_extension(&self.field);
        set.then(|| message_of(&options.get_extension(&self.field)))
    }

    /// What the texts of a field, or of its items, have to look like: a pattern, `uuid`, or nothing.
    pub(super) fn shape(&self, field: &FieldDescriptor) -> String {
        let Some(text) = self.text_rules(field) else {
            return String::new();
        };
        if flag(&text, "uuid") {
            return "uuid".to_owned();
        }
        let pattern = get(&text, "pattern");
        let pattern = pattern.as_ref().and_then(Value::as_str);
        pattern.unwrap_or_default().to_owned()
    }

    /// The most characters of a text of this field, if a rule says so.
    pub(super) fn max_len(&self, field: &FieldDescriptor) -> Option<usize> {
        let most = get(&self.text_rules(field)?, "max_len")?.as_u64()?;
        usize::try_from(most).ok()
    }

    fn text_rules(&self, field: &FieldDescriptor) -> Option<DynamicMessage> {
        let rules = self.rules(field)?;
        let step = |rules: &DynamicMessage, name: &str| get(rules, name).map(|v| message_of(&v));
        let items = step(&rules, "repeated").and_then(|list| step(&list, "items"));
        step(&items.unwrap_or(rules), "string")
    }

    /// Whether one field of the oneof has to be set.
    fn requires(&self, oneof: &OneofDescriptor) -> bool {
        let options = oneof.options();
        options.has_extension(&self.oneof)
            && flag(&message_of(&options.get_extension(&self.oneof)), "required")
    }

    fn message(&self, message: &DynamicMessage, prefix: &str, found: &mut BTreeSet<String>) {
        for field in message.descriptor().fields() {
            let path = format!("{prefix}{}", field.name());
            let rules = self.rules(&field);
            let absent = !message.has_field(&field);
            if absent && rules.as_ref().is_some_and(|rules| flag(rules, "required")) {
                found.insert(path);
                continue;
            }
            let ignored = rules.as_ref().is_some_and(|rules| {
                get(rules, "ignore").is_some_and(|ignore| ignore.as_enum_number() == Some(1))
            });
            let unset = field.supports_presence() || real_oneof(&field).is_some();
            if absent && (unset || ignored) {
                continue;
            }
            let value = message.get_field(&field);
            match value.as_ref() {
                Value::List(items) => self.list(&field, rules.as_ref(), items, &path, found),
                value => self.value(&field, rules.as_ref(), value, &path, found),
            }
        }
        for oneof in message.descriptor().oneofs() {
            let nothing = oneof.fields().all(|field| !message.has_field(&field));
            if nothing && self.requires(&oneof) {
                found.insert(format!("{prefix}{}", oneof.name()));
            }
        }
    }

    fn list(
        &self,
        field: &FieldDescriptor,
        rules: Option<&DynamicMessage>,
        items: &[Value],
        path: &str,
        found: &mut BTreeSet<String>,
    ) {
        let repeated = rules.and_then(|rules| get(rules, "repeated"));
        let repeated = repeated.as_ref().map(message_of);
        let bound = |name: &str| {
            let bound = repeated.as_ref().and_then(|rules| get(rules, name));
            bound.and_then(|bound| bound.as_u64())
        };
        let count = items.len() as u64;
        let texts: BTreeSet<&str> = items.iter().filter_map(Value::as_str).collect();
        let unique = repeated.as_ref().is_some_and(|rules| flag(rules, "unique"));
        let wrong = bound("min_items").is_some_and(|least| count < least)
            || bound("max_items").is_some_and(|most| count > most)
            || unique && texts.len() < items.len();
        if wrong {
            found.insert(path.to_owned());
            return;
        }
        let each = repeated.as_ref().and_then(|rules| get(rules, "items"));
        let each = each.as_ref().map(message_of);
        for (place, item) in items.iter().enumerate() {
            self.value(
                field,
                each.as_ref(),
                item,
                &format!("{path}[{place}]"),
                found,
            );
        }
    }

    fn value(
        &self,
        field: &FieldDescriptor,
        rules: Option<&DynamicMessage>,
        value: &Value,
        path: &str,
        found: &mut BTreeSet<String>,
    ) {
        let typed = |name: &str| {
            let rules = rules.and_then(|rules| get(rules, name));
            rules.as_ref().map(message_of)
        };
        let wrong = match (field.kind(), value) {
            (Kind::String, Value::String(text)) => {
                text.chars().any(char::is_control)
                    || typed("string").is_some_and(|rules| self.is_wrong_text(text, &rules))
            }
            (Kind::Int32, Value::I32(number)) => {
                typed("int32").is_some_and(|rules| is_outside(i64::from(*number), &rules))
            }
            (Kind::Int64, Value::I64(number)) => {
                typed("int64").is_some_and(|rules| is_outside(*number, &rules))
            }
            (Kind::Bool, Value::Bool(_)) => false,
            (Kind::Enum(kind), Value::EnumNumber(number)) => typed("enum").is_some_and(|rules| {
                let refused = get(&rules, "not_in");
                let refused = refused.as_ref().and_then(Value::as_list);
                flag(&rules, "defined_only") && kind.get_value(*number).is_none()
                    || refused.is_some_and(|list| list.contains(&Value::I32(*number)))
            }),
            (Kind::Message(kind), Value::Message(message)) => match kind.full_name() {
                "google.protobuf.Timestamp" => {
                    let (seconds, nanos) = parts(message);
                    !SECONDS.contains(&seconds) || !(0..1_000_000_000).contains(&nanos)
                }
                "google.protobuf.Duration" => is_wrong_duration(message, typed("duration")),
                _ => {
                    assert!(inner(field).is_some(), "{path} is of an unknown kind");
                    self.message(message, &format!("{path}."), found);
                    expressions(rules, message, path, found);
                    false
                }
            },
            _ => panic!("{path}: a field of this kind is not known here"),
        };
        if wrong {
            found.insert(path.to_owned());
        }
    }

    fn is_wrong_text(&self, text: &str, rules: &DynamicMessage) -> bool {
        let length = text.chars().count() as u64;
        rules.fields().any(|(rule, bound)| match rule.name() {
            "min_len" => length < bound.as_u64().expect("a length"),
            "max_len" => length > bound.as_u64().expect("a length"),
            "uuid" => !is_uuid(text),
            "pattern" => !self.matches(bound.as_str().expect("a pattern"), text),
            other => panic!("string.{other} is not known here"),
        })
    }

    fn matches(&self, pattern: &str, text: &str) -> bool {
        let mut patterns = self.patterns.borrow_mut();
        let automaton = patterns
            .entry(pattern.to_owned())
            .or_insert_with(|| DFA::new(pattern).expect("a pattern"));
        let found = automaton.try_search_fwd(&Input::new(text));
        found.expect("patterns are of plain letters").is_some()
    }
}

/// The comparisons on fields of a message: `this.amount >= 1 && this.amount <= 9`.
fn expressions(
    rules: Option<&DynamicMessage>,
    message: &DynamicMessage,
    path: &str,
    found: &mut BTreeSet<String>,
) {
    let list = rules.and_then(|rules| get(rules, "cel_expression"));
    let list = list.as_ref().and_then(Value::as_list).unwrap_or_default();
    for term in list
        .iter()
        .filter_map(Value::as_str)
        .flat_map(|expression| expression.split("&&"))
    {
        let words: Vec<&str> = term.split_whitespace().collect();
        let [left, operator, right] = words[..] else {
            panic!("{term:?} is not known here");
        };
        let name = left.strip_prefix("this.").expect("a field");
        let value = message.get_field_by_name(name).expect("a field");
        let holds = match (value.as_ref(), operator) {
            (Value::String(text), "!=") if right == "''" => !text.is_empty(),
            (Value::I64(number), ">=") => *number >= right.parse().expect("a number"),
            (Value::I64(number), "<=") => *number <= right.parse().expect("a number"),
            _ => panic!("{term:?} is not known here"),
        };
        if !holds {
            found.insert(format!("{path}.{name}"));
        }
    }
}

fn is_outside(number: i64, rules: &DynamicMessage) -> bool {
    rules.fields().any(|(rule, bound)| {
        let bound = bound.as_i64().or_else(|| bound.as_i32().map(i64::from));
        let bound = bound.expect("a number");
        match rule.name() {
            "gte" => number < bound,
            "lte" => number > bound,
            "gt" => number <= bound,
            "lt" => number >= bound,
            other => panic!("{other} is not known here"),
        }
    })
}

fn is_wrong_duration(duration: &DynamicMessage, rules: Option<DynamicMessage>) -> bool {
    let (seconds, nanos) = parts(duration);
    let one_sign = seconds == 0 || nanos == 0 || (seconds < 0) == (nanos < 0);
    let formed = (-DURATION_S..=DURATION_S).contains(&seconds)
        && (-999_999_999..=999_999_999).contains(&nanos)
        && one_sign;
    let outside = rules.is_some_and(|rules| {
        rules.fields().any(|(rule, bound)| {
            let bound = parts(bound.as_message().expect("a duration"));
            match rule.name() {
                "gt" => (seconds, nanos) <= bound,
                "lte" => (seconds, nanos) > bound,
                other => panic!("duration.{other} is not known here"),
            }
        })
    });
    !formed || outside
}

fn is_uuid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    let hex = |group: &&str| group.bytes().all(|byte| byte.is_ascii_hexdigit());
    lengths == [8, 4, 4, 4, 12] && groups.iter().all(hex)
}

/// Seconds and nanos.
fn parts(message: &DynamicMessage) -> (i64, i64) {
    let seconds = message.get_field_by_name("seconds");
    let nanos = message.get_field_by_name("nanos");
    (
        seconds
            .and_then(|seconds| seconds.as_i64())
            .expect("seconds"),
        nanos
            .and_then(|nanos| nanos.as_i32())
            .map(i64::from)
            .expect("nanos"),
    )
}

/// The value of a rule, if it is set.
fn get(rules: &DynamicMessage, name: &str) -> Option<Value> {
    let field = rules.descriptor().get_field_by_name(name)?;
    let set = rules.has_field(&field);
    set.then(|| rules.get_field(&field).into_owned())
}

fn flag(rules: &DynamicMessage, name: &str) -> bool {
    get(rules, name).is_some_and(|value| value.as_bool() == Some(true))
}

fn message_of(value: &Value) -> DynamicMessage {
    value.as_message().expect("rules are a message").clone()
}
