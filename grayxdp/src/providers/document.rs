//! From a document to values.

use serde_json::Value;

use crate::analysis::Answer;

/// What a text says: JSON of which `pointer` names a part, or a number.
pub(super) fn answer(text: &str, pointer: Option<&str>) -> Answer {
    let text = text.trim();
    if text.is_empty() {
        return Answer::Empty;
    }
    // What no JSON knows and programs print: NaN, inf, +1.
    let document = match (serde_json::from_str::<Value>(text), text.parse::<f64>()) {
        (Ok(document), _) => document,
        (Err(_), Ok(number)) if pointer.is_none() => return Answer::Values(vec![number]),
        (Err(error), _) => return Answer::Failed(format!("neither JSON nor a number: {error}")),
    };
    let part = match pointer {
        None => Some(&document),
        Some(pointer) => document.pointer(pointer),
    };
    match part {
        Some(part) => part_answer(part),
        None => Answer::Failed(format!("the document has nothing at {}", pointer.unwrap_or_default())),
    }
}

fn part_answer(part: &Value) -> Answer {
    match part {
        Value::Null => Answer::Empty,
        Value::Object(_) => Answer::Document(part.clone()),
        Value::Array(parts) if parts.is_empty() => Answer::Empty,
        Value::Array(parts) => match parts.iter().map(number).collect() {
            Some(values) => Answer::Values(values),
            None => Answer::Failed("the list has something that is no number".to_owned()),
        },
        Value::Number(_) | Value::String(_) | Value::Bool(_) => match number(part) {
            Some(value) => Answer::Values(vec![value]),
            None => Answer::Failed(format!("{part} is no number")),
        },
    }
}

fn number(part: &Value) -> Option<f64> {
    match part {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_no_data_and_what_is_no_number_is_an_error() {
        let values = |values: &[f64]| Answer::Values(values.to_vec());
        let failed = |why: &str| Answer::Failed(why.to_owned());
        let cases = [
            (" 0.25\n", None, values(&[0.25])),
            ("{\"a\": {\"b/c\": [1, \"2.5\"]}}", Some("/a/b~1c"), values(&[1.0, 2.5])),
            ("{\"a\": 7}", Some("/a"), values(&[7.0])),
            ("{\"a\": null}", Some("/a"), Answer::Empty),
            ("", None, Answer::Empty),
            ("[]", None, Answer::Empty),
            ("{\"a\": 1}", Some("/b"), failed("the document has nothing at /b")),
            ("{\"a\": true}", Some("/a"), failed("true is no number")),
            ("[1, {}]", None, failed("the list has something that is no number")),
            ("{\"a\": 1}", None, Answer::Document(serde_json::json!({"a": 1}))),
        ];
        for (text, pointer, expected) in cases {
            assert_eq!(answer(text, pointer), expected, "{text} {pointer:?}");
        }
        assert!(matches!(answer("NaN", None), Answer::Values(values) if values[0].is_nan()));
        assert!(matches!(answer("<html>", None), Answer::Failed(_)));
    }
}
