//! From YAML to the model's types, and from the parser's errors to lines that people read.

use serde::de::DeserializeOwned;
use serde_saphyr::{Error, Options};

use crate::config::{
    locate::{Sought, Spot, Tree},
    problem::{ConfigError, suggestion},
};

/// How files are read: room for 60,000 backends.
pub(super) fn options() -> Options {
    serde_saphyr::options! {
        with_snippet: false,
        budget: serde_saphyr::budget! { max_nodes: 2_000_000, max_events: 4_000_000 },
    }
}

/// Reads a file of one document.
pub(super) fn parse<T: DeserializeOwned>(text: &str, file_name: &str) -> Result<T, ConfigError> {
    serde_saphyr::from_str_with_options(text, options()).map_err(|error| {
        let (spot, message) = explain(error.without_snippet(), text);
        let message = message.replace(['\n', '\r'], " ");
        ConfigError::single(match spot {
            Some(spot) => format!("{file_name}:{spot}: {message}"),
            None => format!("{file_name}: {message}"),
        })
    })
}

/// Where it is wrong, and what is wrong and what to do.
fn explain(error: &Error, text: &str) -> (Option<Spot>, String) {
    let spot = error.location().and_then(Spot::of);
    let tree = Tree::of(text);
    let place = |sought| tree.as_ref()?.place_at(spot?, sought);
    let holder = place(Sought::Key).map(|key| key.parent());
    let message = match error {
        Error::SerdeUnknownField { field, expected, .. } => {
            let inside = holder.map_or_else(String::new, |holder| format!(" in {}", holder.noun()));
            format!("unknown field `{field}`{inside}; {}", suggestion(field, expected.iter().copied()))
        }
        Error::SerdeMissingField { field, .. } => {
            // The parser points at the mapping's last key.
            let Some(holder) = holder.or_else(|| place(Sought::Mapping)) else {
                return (spot, format!("missing field `{field}`; add it"));
            };
            let begin = tree.as_ref().and_then(|tree| tree.locate(&holder));
            return (begin.or(spot), format!("missing field `{field}` in {}; add it", holder.noun()));
        }
        other => {
            let value = place(Sought::Value).and_then(|place| place.last_field().map(|name| format!("`{name}`: ")));
            wrong_value(other, &value.unwrap_or_default())
        }
    };
    (spot, message)
}

/// What is wrong with a value (`whose` names it) or with the text itself, and what to do.
fn wrong_value(error: &Error, whose: &str) -> String {
    match error {
        Error::SerdeUnknownVariant { variant, expected, .. } => {
            format!("{whose}unknown value `{variant}`; {}", suggestion(variant, expected.iter().copied()))
        }
        Error::DuplicateMappingKey { key: Some(key), .. } => {
            format!("`{key}` stands here twice; remove one of the two")
        }
        Error::DuplicateMappingKey { key: None, .. } => "a key stands here twice; remove one of the two".to_owned(),
        Error::SerdeInvalidType { unexpected, expected, .. }
        | Error::SerdeInvalidValue { unexpected, expected, .. } => {
            format!("{whose}found {unexpected}; write {}", kind(expected))
        }
        Error::InvalidScalar { ty, .. } => format!("{whose}not understood; write {}", kind(ty)),
        Error::Unexpected { expected, .. } => format!("{whose}not understood; write {}", kind(expected)),
        Error::Message { msg, .. } => format!("{whose}{}", with_remedy(msg)),
        Error::MultipleDocuments { .. } => "more than one document; keep one and remove the `---` between".to_owned(),
        Error::Eof { .. } => {
            "the file is empty or ends too early; write at least `interfaces` or a whole plan".to_owned()
        }
        other => format!("not valid YAML: {}; correct the text here or just before", plain(other)),
    }
}

/// The parser's own words, without its location.
fn plain(error: &Error) -> String {
    let text = error.render_with_formatter(&serde_saphyr::UserMessageFormatter);
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    match text.find(" at line ") {
        Some(end) => text[..end].trim_end_matches(',').to_owned(),
        None => text.to_owned(),
    }
}

/// What a person writes for a type's name.
fn kind(expected: &str) -> String {
    let known = match expected {
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" | "usize" => "a whole number from 0 on",
        "f64" | "float" | "floating point" => "a number",
        "bool" | "boolean" | "a boolean" => "true or false",
        "a string" | "string" | "string scalar" => "text",
        "a sequence" | "sequence start" => "a list",
        "a map" | "mapping start" => "a mapping such as {name: value}",
        other if other.starts_with("struct ") || other.starts_with("enum ") => "a mapping such as {name: value}",
        other => other,
    };
    known.to_owned()
}

/// A message of a type, with what to do where it does not say so itself.
fn with_remedy(message: &str) -> String {
    match message {
        "invalid IP address syntax" => "not an IP address; write one such as 192.0.2.10 or 2001:db8::10".to_owned(),
        "invalid socket address syntax" => "not an address with a port; write one such as 127.0.0.1:9477".to_owned(),
        other => other.to_owned(),
    }
}
