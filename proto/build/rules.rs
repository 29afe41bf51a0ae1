//! Writes the Rust that checks the field rules (protovalidate annotations) of every message a request
//! can hold.
//!
//! Part of the build script; a test includes this file too. Knows the rules that our protos use: a rule
//! it does not know fails the build rather than being skipped. Beyond the annotations, every string is
//! refused control characters, and every timestamp and duration must be well formed. What the rules
//! mean: `buf/validate/validate.proto`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use prost_reflect::{
    DescriptorPool, EnumDescriptor, ExtensionDescriptor, FieldDescriptor, Kind, MessageDescriptor,
    OneofDescriptor, Value,
};

use crate::annotations::{Rules, request_messages, set_fields, unsupported};
use crate::patterns;

/// Writes `impl Validate` for every message that a request of a service in `pool` can hold.
///
/// # Errors
///
/// One line per annotation that is not supported, with its field and its file.
pub(crate) fn generate(pool: &DescriptorPool) -> Result<String, String> {
    let extension = |name: &str| {
        pool.get_extension_by_name(name)
            .ok_or_else(|| format!("{name} is not among the protos"))
    };
    let mut generator = Generator {
        field_rules: extension("buf.validate.field")?,
        oneof_rules: extension("buf.validate.oneof")?,
        message_rules: extension("buf.validate.message")?,
        patterns: BTreeMap::new(),
    };
    let mut source = String::new();
    let mut problems = Vec::new();
    for message in request_messages(pool)?.values() {
        match generator.message(message) {
            Ok(body) => source.push_str(&implementation(message, &body)),
            Err(problem) => problems.push(format!("{}: {problem}", message.parent_file().name())),
        }
    }
    if !problems.is_empty() {
        return Err(problems.join("\n"));
    }
    for (pattern, name) in &generator.patterns {
        let table = patterns::render(pattern)?;
        let _ = writeln!(source, "/// `{pattern}`\nstatic {name}: Pattern = {table};");
    }
    Ok(source)
}

/// What is needed to write one implementation after the other.
struct Generator {
    field_rules: ExtensionDescriptor,
    oneof_rules: ExtensionDescriptor,
    message_rules: ExtensionDescriptor,
    /// The patterns met so far and the names of their tables.
    patterns: BTreeMap<String, String>,
}

/// A check that fails when `when` is true, with what to say then.
struct Check {
    when: String,
    say: String,
}

impl Generator {
    fn message(&mut self, message: &MessageDescriptor) -> Result<String, String> {
        if message.options().has_extension(&self.message_rules) {
            return Err(format!(
                "message {}: rules on whole messages are not supported",
                message.full_name()
            ));
        }
        let mut body = String::new();
        for field in message.fields() {
            if real_oneof(&field).is_none() {
                let code = self
                    .field(&field)
                    .map_err(|problem| format!("field {}: {problem}", field.full_name()))?;
                body.push_str(&code);
            }
        }
        for oneof in message.oneofs().filter(|oneof| !oneof.is_synthetic()) {
            let code = self
                .oneof(message, &oneof)
                .map_err(|problem| format!("oneof {}: {problem}", oneof.full_name()))?;
            body.push_str(&code);
        }
        Ok(body)
    }

    /// A field that is not in a oneof.
    fn field(&mut self, field: &FieldDescriptor) -> Result<String, String> {
        let rules = Rules::read(&field.options(), &self.field_rules)?;
        let name = field.name();
        let kind = field.kind();
        if field.is_list() {
            return self.list(field, &rules);
        }
        let absent = if rules.required {
            format!("violations.add({name:?}, \"is required\");\n")
        } else {
            String::new()
        };
        let code = self.value(&kind, &rules, &Place::Field(name))?;
        let expression = format!("self.r#{name}");
        if field.supports_presence() {
            let bound = match &kind {
                Kind::Message(_) => format!("&{expression}"),
                Kind::String => format!("{expression}.as_deref()"),
                _ => expression,
            };
            return Ok(match (code.is_empty(), absent.is_empty()) {
                (true, true) => String::new(),
                (true, false) => format!("if {bound}.is_none() {{\n{absent}}}\n"),
                (false, true) => format!("if let Some(value) = {bound} {{\n{code}}}\n"),
                (false, false) => {
                    format!("if let Some(value) = {bound} {{\n{code}}} else {{\n{absent}}}\n")
                }
            });
        }
        let (bound, zero) = match &kind {
            Kind::String => (format!("{expression}.as_str()"), "value.is_empty()"),
            Kind::Bool => (expression, "!value"),
            _ => (expression, "value == 0"),
        };
        let code = match (code.is_empty(), rules.required, rules.ignore_zero) {
            (true, false, _) => return Ok(String::new()),
            (true, true, _) => format!("if {zero} {{\n{absent}}}\n"),
            (false, true, _) => format!("if {zero} {{\n{absent}}} else {{\n{code}}}\n"),
            (false, false, true) => format!("if !({zero}) {{\n{code}}}\n"),
            (false, false, false) => code,
        };
        Ok(format!("{{\nlet value = {bound};\n{code}}}\n"))
    }

    fn list(&mut self, field: &FieldDescriptor, rules: &Rules) -> Result<String, String> {
        let name = field.name();
        let mut items = Rules::default();
        let mut checks = Vec::new();
        let mut unique = false;
        for (rule, value) in rules.of_type("repeated")? {
            let count = value.as_u64();
            match (rule.as_str(), count) {
                ("min_items", Some(1)) => checks.push(Check {
                    when: format!("self.r#{name}.is_empty()"),
                    say: "must not be empty".to_owned(),
                }),
                ("max_items", Some(most)) => checks.push(Check {
                    when: format!("self.r#{name}.len() > {most}"),
                    say: format!("must have at most {most} items"),
                }),
                ("unique", _) => unique = value.as_bool().unwrap_or_default(),
                ("items", _) => {
                    let message = value.as_message().ok_or("items is not a message")?;
                    items = Rules::from_message(message)?;
                }
                _ => return Err(unsupported(&format!("repeated.{rule}"))),
            }
        }
        if !checks.iter().any(|check| check.when.contains(" > ")) {
            return Err("a repeated field of a request needs repeated.max_items".to_owned());
        }
        if rules.required || rules.ignore_zero || !rules.cel.is_empty() || items.required {
            return Err("required, ignore and cel are not supported on repeated fields".to_owned());
        }
        let kind = field.kind();
        if unique {
            if !matches!(kind, Kind::String) {
                return Err("repeated.unique is supported on strings only".to_owned());
            }
            checks.push(Check {
                when: format!("has_repeats(&self.r#{name})"),
                say: "must not have the same item twice".to_owned(),
            });
        }
        let code = self.value(&kind, &items, &Place::Item(name))?;
        let bind = match &kind {
            Kind::Message(_) => "",
            Kind::String => "let value = value.as_str();\n",
            _ => "let value = *value;\n",
        };
        let each =
            format!("for (index, value) in self.r#{name}.iter().enumerate() {{\n{bind}{code}}}\n");
        // Items are looked at only if there are not too many of them.
        let place = Place::Field(name);
        Ok(if code.is_empty() {
            chain(&checks, &place)
        } else {
            format!("{} else {{\n{each}}}\n", chain(&checks, &place).trim_end())
        })
    }

    fn oneof(
        &mut self,
        message: &MessageDescriptor,
        oneof: &OneofDescriptor,
    ) -> Result<String, String> {
        let options = oneof.options();
        let mut required = false;
        if options.has_extension(&self.oneof_rules) {
            let value = options.get_extension(&self.oneof_rules);
            let rules = value.as_message().ok_or("its rules are not a message")?;
            for (rule, value) in set_fields(rules)? {
                match rule.as_str() {
                    "required" => required = value.as_bool().unwrap_or_default(),
                    _ => return Err(unsupported(&rule)),
                }
            }
        }
        let path = format!(
            "{}::{}::{}",
            module(message),
            snake(message.name()),
            camel(oneof.name())
        );
        let mut arms = String::new();
        let mut rest = false;
        for field in oneof.fields() {
            let name = field.name();
            let rules = Rules::read(&field.options(), &self.field_rules)?;
            if rules.required || rules.ignore_zero {
                return Err(format!(
                    "{name}: required and ignore are not supported in a oneof"
                ));
            }
            let code = self
                .value(&field.kind(), &rules, &Place::Field(name))
                .map_err(|problem| format!("{name}: {problem}"))?;
            if code.is_empty() {
                rest = true;
                continue;
            }
            let bind = match field.kind() {
                Kind::Message(_) => "",
                Kind::String => "let value = value.as_str();\n",
                _ => "let value = *value;\n",
            };
            let _ = writeln!(
                arms,
                "Some({path}::{}(value)) => {{\n{bind}{code}}}",
                camel(name)
            );
        }
        if required {
            let _ = writeln!(
                arms,
                "None => violations.add({:?}, \"one of its fields is required\"),",
                oneof.name()
            );
            if rest {
                arms.push_str("Some(_) => {}\n");
            }
        } else {
            arms.push_str(if rest { "_ => {}\n" } else { "None => {}\n" });
        }
        Ok(format!("match &self.r#{} {{\n{arms}}}\n", oneof.name()))
    }

    /// Checks of one value, bound to `value`: a `&str`, a number or a reference to a message.
    fn value(&mut self, kind: &Kind, rules: &Rules, place: &Place) -> Result<String, String> {
        if !rules.cel.is_empty() && !matches!(kind, Kind::Message(_)) {
            return Err("cel is supported on messages only".to_owned());
        }
        match kind {
            Kind::String => Ok(chain(&self.string(rules)?, place)),
            Kind::Bool => {
                rules.none()?;
                Ok(String::new())
            }
            Kind::Int32 | Kind::Int64 | Kind::Uint32 | Kind::Uint64 => {
                Ok(chain(&integer(kind, rules)?, place))
            }
            Kind::Enum(descriptor) => Ok(chain(&enumeration(descriptor, rules)?, place)),
            Kind::Message(message) => match message.full_name() {
                "google.protobuf.Timestamp" => {
                    rules.none()?;
                    Ok(chain(&[Check {
                        when: "!is_timestamp(value)".to_owned(),
                        say: "must be a time of the years 1 to 9999, with nanos from 0 to 999999999"
                            .to_owned(),
                    }], place))
                }
                "google.protobuf.Duration" => Ok(chain(&duration(rules)?, place)),
                other if other.starts_with("google.") => Err(unsupported(other)),
                _ => {
                    rules.none()?;
                    let mut inner = "value.validate(violations);\n".to_owned();
                    for expression in &rules.cel {
                        inner.push_str(&cel(message, expression)?);
                    }
                    Ok(place.within(&inner))
                }
            },
            _ => Err(format!(
                "fields of type {kind:?} are not supported in requests"
            )),
        }
    }

    fn string(&mut self, rules: &Rules) -> Result<Vec<Check>, String> {
        let mut checks = Vec::new();
        for (rule, value) in rules.of_type("string")? {
            match rule.as_str() {
                "min_len" => {
                    if value.as_u64() != Some(1) {
                        return Err(unsupported("string.min_len other than 1"));
                    }
                    checks.push(Check {
                        when: "value.is_empty()".to_owned(),
                        say: "must not be empty".to_owned(),
                    });
                }
                "max_len" => {
                    let most = value.as_u64().ok_or("max_len is not a number")?;
                    checks.push(Check {
                        when: format!("is_longer(value, {most})"),
                        say: format!("must have at most {most} characters"),
                    });
                }
                "uuid" => checks.push(Check {
                    when: "!is_uuid(value)".to_owned(),
                    say: "must be a UUID".to_owned(),
                }),
                "pattern" => {
                    let pattern = value.as_str().ok_or("pattern is not a string")?;
                    checks.push(Check {
                        when: format!("!{}.matches(value)", self.pattern(pattern)),
                        say: say_pattern(pattern),
                    });
                }
                _ => return Err(unsupported(&format!("string.{rule}"))),
            }
        }
        checks.push(Check {
            when: "has_control_characters(value)".to_owned(),
            say: "must not have control characters".to_owned(),
        });
        Ok(checks)
    }

    fn pattern(&mut self, pattern: &str) -> String {
        let next = format!("PATTERN_{}", self.patterns.len());
        self.patterns
            .entry(pattern.to_owned())
            .or_insert(next)
            .clone()
    }
}

/// Where a value stands in its message.
enum Place<'a> {
    Field(&'a str),
    /// An item of a repeated field; its number is bound to `index`.
    Item(&'a str),
}

impl Place<'_> {
    fn add(&self, say: &str) -> String {
        match self {
            Self::Field(name) => format!("violations.add({name:?}, {say:?});"),
            Self::Item(name) => format!("violations.add_item({name:?}, index, {say:?});"),
        }
    }

    fn within(&self, code: &str) -> String {
        match self {
            Self::Field(name) => {
                format!("violations.within({name:?}, |violations| {{\n{code}}});\n")
            }
            Self::Item(name) => {
                format!("violations.within_item({name:?}, index, |violations| {{\n{code}}});\n")
            }
        }
    }
}

/// One `if … else if …`: a field is reported once.
fn chain(checks: &[Check], place: &Place) -> String {
    let links: Vec<_> = checks
        .iter()
        .map(|check| format!("if {} {{\n{}\n}}", check.when, place.add(&check.say)))
        .collect();
    if links.is_empty() {
        return String::new();
    }
    links.join(" else ") + "\n"
}

fn integer(kind: &Kind, rules: &Rules) -> Result<Vec<Check>, String> {
    let name = match kind {
        Kind::Int32 => "int32",
        Kind::Int64 => "int64",
        Kind::Uint32 => "uint32",
        _ => "uint64",
    };
    rules
        .of_type(name)?
        .into_iter()
        .map(|(rule, value)| {
            let bound = value
                .as_i64()
                .or_else(|| value.as_i32().map(i64::from))
                .map(i128::from)
                .or_else(|| value.as_u64().map(i128::from))
                .or_else(|| value.as_u32().map(i128::from))
                .ok_or_else(|| unsupported(&format!("{name}.{rule}")))?;
            let (fails, words) =
                comparison(&rule).ok_or_else(|| unsupported(&format!("{name}.{rule}")))?;
            Ok(Check {
                when: format!("value {fails} {bound}"),
                say: format!("must be {words} {bound}"),
            })
        })
        .collect()
}

fn enumeration(descriptor: &EnumDescriptor, rules: &Rules) -> Result<Vec<Check>, String> {
    let mut checks = Vec::new();
    for (rule, value) in rules.of_type("enum")? {
        match (rule.as_str(), &value) {
            ("defined_only", Value::Bool(true)) => {
                let known: Vec<_> = descriptor
                    .values()
                    .map(|value| value.number().to_string())
                    .collect();
                checks.push(Check {
                    when: format!("!matches!(value, {})", known.join(" | ")),
                    say: "must be one of the values known to this network".to_owned(),
                });
            }
            ("not_in", Value::List(refused)) => {
                for number in refused.iter().filter_map(Value::as_i32) {
                    let name = descriptor
                        .get_value(number)
                        .map_or_else(|| number.to_string(), |value| value.name().to_owned());
                    checks.push(Check {
                        when: format!("value == {number}"),
                        say: format!("must not be {name}"),
                    });
                }
            }
            _ => return Err(unsupported(&format!("enum.{rule}"))),
        }
    }
    Ok(checks)
}

fn duration(rules: &Rules) -> Result<Vec<Check>, String> {
    let mut checks = vec![Check {
        when: "!is_duration(value)".to_owned(),
        say: "must be a duration of at most 10000 years, seconds and nanos of one sign".to_owned(),
    }];
    for (rule, value) in rules.of_type("duration")? {
        let unknown = || unsupported(&format!("duration.{rule}"));
        let bound = value.as_message().ok_or_else(unknown)?;
        let seconds = bound
            .get_field_by_name("seconds")
            .and_then(|seconds| seconds.as_i64())
            .unwrap_or_default();
        let nanos = bound
            .get_field_by_name("nanos")
            .and_then(|nanos| nanos.as_i32())
            .unwrap_or_default();
        let (fails, words) = comparison(&rule).ok_or_else(unknown)?;
        checks.push(Check {
            when: format!("(value.seconds, value.nanos) {fails} ({seconds}, {nanos})"),
            say: if nanos == 0 {
                format!("must be {words} {seconds} seconds")
            } else {
                format!("must be {words} {seconds}.{nanos:09} seconds")
            },
        });
    }
    Ok(checks)
}

/// The part of CEL that our protos use: comparisons of direct fields of a message with whole numbers,
/// or with the empty string, joined by `&&`. Each is checked and reported on its own.
fn cel(message: &MessageDescriptor, expression: &str) -> Result<String, String> {
    let unknown = || format!("cel expression {expression:?} is not supported");
    let mut code = String::new();
    for term in expression.split("&&") {
        let words: Vec<_> = term.split_whitespace().collect();
        let [left, operator, right] = words[..] else {
            return Err(unknown());
        };
        let name = left.strip_prefix("this.").ok_or_else(unknown)?;
        let field = message.get_field_by_name(name).ok_or_else(unknown)?;
        if field.supports_presence() || field.is_list() {
            return Err(unknown());
        }
        let check = match (field.kind(), operator, right) {
            (Kind::String, "!=", "''") => Check {
                when: format!("value.r#{name}.is_empty()"),
                say: "is required here".to_owned(),
            },
            (Kind::Int32 | Kind::Int64, _, number) if number.parse::<i64>().is_ok() => {
                let rule = match operator {
                    ">" => "gt",
                    ">=" => "gte",
                    "<" => "lt",
                    "<=" => "lte",
                    _ => return Err(unknown()),
                };
                let (fails, words) = comparison(rule).ok_or_else(unknown)?;
                Check {
                    when: format!("value.r#{name} {fails} {number}"),
                    say: format!("must be {words} {number} here"),
                }
            }
            _ => return Err(unknown()),
        };
        code.push_str(&chain(&[check], &Place::Field(name)));
    }
    Ok(code)
}

/// The operator by which a value breaks a rule, and the rule in words.
fn comparison(rule: &str) -> Option<(&'static str, &'static str)> {
    match rule {
        "gt" => Some(("<=", "more than")),
        "gte" => Some(("<", "at least")),
        "lt" => Some((">=", "less than")),
        "lte" => Some((">", "at most")),
        _ => None,
    }
}

/// What a pattern asks for, in words where it is an id.
fn say_pattern(pattern: &str) -> String {
    pattern
        .strip_prefix('^')
        .and_then(|rest| rest.strip_suffix("_[0-7][0-9a-hjkmnp-tv-z]{25}$"))
        .map_or_else(
            || format!("must match {pattern}"),
            |prefix| format!("must be an id of the form {prefix}_ and 26 characters"),
        )
}

fn implementation(message: &MessageDescriptor, body: &str) -> String {
    let parameter = if body.is_empty() { "_" } else { "violations" };
    format!(
        "impl Validate for {}::{} {{\nfn validate(&self, {parameter}: &mut Violations) {{\n{body}}}\n}}\n",
        module(message),
        message.name(),
    )
}

/// The oneof a field is in, unless it only stands for `optional`.
fn real_oneof(field: &FieldDescriptor) -> Option<OneofDescriptor> {
    field
        .containing_oneof()
        .filter(|oneof| !oneof.is_synthetic())
}

fn module(message: &MessageDescriptor) -> String {
    format!(
        "crate::generated::{}",
        message.package_name().replace('.', "::")
    )
}

/// `LotSlice` → `lot_slice`.
fn snake(name: &str) -> String {
    let mut snake = String::new();
    for (at, letter) in name.char_indices() {
        if letter.is_ascii_uppercase() && at > 0 {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

/// `lot_slice` → `LotSlice`.
fn camel(name: &str) -> String {
    name.split('_')
        .map(|word| word[..1].to_ascii_uppercase() + &word[1..])
        .collect()
}
