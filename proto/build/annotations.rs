//! Reads protovalidate annotations and finds the messages they matter on.
//!
//! Part of the build script; a test includes this file too. What is done about them is in `rules.rs`.

use std::collections::BTreeMap;

use prost_reflect::{
    DescriptorPool, DynamicMessage, ExtensionDescriptor, Kind, MessageDescriptor, Value,
};

/// `buf.validate.Ignore.IGNORE_IF_ZERO_VALUE`.
const IGNORE_IF_ZERO_VALUE: i32 = 1;

/// The rules on one field, as annotated.
#[derive(Default)]
pub(crate) struct Rules {
    pub(crate) required: bool,
    pub(crate) ignore_zero: bool,
    pub(crate) cel: Vec<String>,
    /// The rules of one type: the name of the type, and its rules by name.
    typed: Option<(String, Vec<(String, Value)>)>,
}

impl Rules {
    pub(crate) fn read(
        options: &DynamicMessage,
        extension: &ExtensionDescriptor,
    ) -> Result<Self, String> {
        if !options.has_extension(extension) {
            return Ok(Self::default());
        }
        let value = options.get_extension(extension);
        Self::from_message(value.as_message().ok_or("its rules are not a message")?)
    }

    pub(crate) fn from_message(message: &DynamicMessage) -> Result<Self, String> {
        let mut rules = Self::default();
        for (name, value) in set_fields(message)? {
            match (name.as_str(), &value) {
                ("required", Value::Bool(required)) => rules.required = *required,
                ("ignore", Value::EnumNumber(IGNORE_IF_ZERO_VALUE)) => rules.ignore_zero = true,
                ("cel_expression", Value::List(expressions)) => {
                    rules.cel = expressions
                        .iter()
                        .filter_map(|expression| expression.as_str().map(str::to_owned))
                        .collect();
                }
                (_, Value::Message(typed)) if name != "cel" => {
                    rules.typed = Some((name, set_fields(typed)?));
                }
                _ => return Err(unsupported(&name)),
            }
        }
        Ok(rules)
    }

    /// The rules of the type `name`, if any.
    ///
    /// # Errors
    ///
    /// If there are rules of another type.
    pub(crate) fn of_type(&self, name: &str) -> Result<Vec<(String, Value)>, String> {
        match &self.typed {
            None => Ok(Vec::new()),
            Some((typed, rules)) if typed == name => Ok(rules.clone()),
            Some((typed, _)) => Err(format!("rules for {typed} on a field of type {name}")),
        }
    }

    /// Refuses rules on a field that can have none.
    pub(crate) fn none(&self) -> Result<(), String> {
        match &self.typed {
            None => Ok(()),
            Some((typed, _)) => Err(unsupported(typed)),
        }
    }
}

/// The messages that requests can hold, by full name.
pub(crate) fn request_messages(
    pool: &DescriptorPool,
) -> Result<BTreeMap<String, MessageDescriptor>, String> {
    let mut found = BTreeMap::new();
    for service in pool.services() {
        for method in service.methods() {
            reach(&method.input(), &mut Vec::new(), &mut found)?;
        }
    }
    Ok(found)
}

fn reach(
    message: &MessageDescriptor,
    above: &mut Vec<String>,
    found: &mut BTreeMap<String, MessageDescriptor>,
) -> Result<(), String> {
    let name = message.full_name().to_owned();
    if name.starts_with("google.protobuf.") {
        return Ok(());
    }
    if above.contains(&name) {
        return Err(format!(
            "message {name} holds itself: requests must be bounded in depth"
        ));
    }
    if message.parent_message().is_some() {
        return Err(format!(
            "message {name} is nested: not supported in requests"
        ));
    }
    above.push(name.clone());
    for field in message.fields() {
        if field.is_map() {
            return Err(format!(
                "field {}: maps are not supported in requests",
                field.full_name()
            ));
        }
        if let Kind::Message(inner) = field.kind() {
            reach(&inner, above, found)?;
        }
    }
    above.pop();
    found.insert(name, message.clone());
    Ok(())
}

/// The fields that are set, by name.
pub(crate) fn set_fields(message: &DynamicMessage) -> Result<Vec<(String, Value)>, String> {
    if let Some((extension, _)) = message.extensions().next() {
        return Err(unsupported(extension.full_name()));
    }
    if message.unknown_fields().next().is_some() {
        return Err("a rule that the vendored validate.proto does not know".to_owned());
    }
    Ok(message
        .fields()
        .map(|(field, value)| (field.name().to_owned(), value.clone()))
        .collect())
}

pub(crate) fn unsupported(rule: &str) -> String {
    format!("rule {rule} is not supported: see proto/build/rules.rs")
}
