//! Conditions on a result, in the words of Argo Rollouts: `result > 0.95`, `result[0] <= 250 && !isNaN(result[1])`.
//!
//! ```text
//! or         = and { "||" and }
//! and        = comparison { "&&" comparison }
//! comparison = sum [ ("<" | "<=" | ">" | ">=" | "==" | "!=") sum ]
//! sum        = product { ("+" | "-") product }
//! product    = unary { ("*" | "/") unary }
//! unary      = ("!" | "-") unary | primary
//! primary    = number | "true" | "false" | "result" [ "[" index "]" ] | function "(" or ")" | "(" or ")"
//! function   = "asFloat" | "asInt" | "isNaN" | "isInf" | "len" | "all" | "any"
//! ```

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

mod evaluate;
mod parse;

use parse::Expression;

/// A condition on a result. It keeps its text.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    text: String,
    expression: Expression,
}

/// Text that is no [`Condition`].
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{text}` is not a condition: {what}; write one such as `result > 0.95` or `result[0] <= 1 && result[1] < 5`")]
pub struct NotACondition {
    text: String,
    what: String,
}

impl Condition {
    /// Whether it holds for these values.
    ///
    /// # Errors
    /// What of it cannot be told from these values: one line.
    pub fn holds(&self, values: &[f64]) -> Result<bool, String> {
        evaluate::holds(&self.expression, values)
    }
}

impl FromStr for Condition {
    type Err = NotACondition;

    fn from_str(text: &str) -> Result<Self, NotACondition> {
        let refused = |what| NotACondition { text: text.to_owned(), what };
        let expression = parse::parse(text).map_err(refused)?;
        let text = text.trim().to_owned();
        Ok(Self { text, expression })
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Condition {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Condition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Condition {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Condition".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "examples": ["result > 0.95"]})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(text: &str, values: &[f64]) -> Result<bool, String> {
        text.parse::<Condition>().unwrap_or_else(|error| panic!("{error}")).holds(values)
    }

    #[test]
    fn conditions_mean_what_they_mean_to_argo() {
        let cases: [(&str, &[f64], bool); 17] = [
            ("result > 0.95", &[0.96], true),
            ("result > 0.95", &[0.95], false),
            ("result[0] >= 0.9", &[0.9], true),
            ("result[1] < 5 && result[0] == 1", &[1.0, 4.0], true),
            ("result < 1 || result > 10", &[11.0], true),
            ("!(result < 1)", &[0.5], false),
            ("isNaN(result)", &[f64::NAN], true),
            ("isInf(result) || result > 3", &[f64::INFINITY], true),
            ("asFloat(result) / 2 + 1 <= 2", &[2.0], true),
            ("asInt(result) == 3", &[3.9], true),
            ("len(result) == 2", &[1.0, 2.0], true),
            ("all(result < 3)", &[1.0, 2.0], true),
            ("any(result > 1.5)", &[1.0, 2.0], true),
            ("all(result < 2)", &[1.0, 2.0], false),
            ("result - 1 - 1 == 0", &[2.0], true),
            ("-result < -1.5e0", &[2.0], true),
            ("1 + 2 * 3 == 7 && true != false", &[0.0], true),
        ];
        for (text, values, expected) in cases {
            assert_eq!(holds(text, values), Ok(expected), "{text} of {values:?}");
        }
    }

    #[test]
    fn what_cannot_be_told_is_an_error_and_no_verdict() {
        for (text, values, expected) in [
            ("result[2] > 1", &[1.0, 2.0][..], "there is no result[2] among 2 values"),
            ("result > 1", &[1.0, 2.0], "there are 2 values; say which, as result[0], or all(…)"),
            ("result > 1", &[f64::NAN], "the value is not a number"),
        ] {
            assert_eq!(holds(text, values), Err(expected.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_is_no_condition_is_refused_with_the_place() {
        for (text, expected) in [
            ("", "it is empty"),
            ("result >", "something is missing at its end"),
            ("result > 1 result", "`result` at character 12 is not expected"),
            ("results > 1", "`results` at character 1 is not known"),
            ("result = 1", "`=` at character 8 is not expected"),
            ("result", "it is a number, not true or false"),
            ("result > 1 && 2", "`&&` needs true or false on both sides"),
            ("(result > 1) + 2 > 1", "`+` needs numbers on both sides"),
            ("result[x] > 1", "`x` at character 8 is not an index"),
            ("all(all(result > 1))", "all and any do not nest"),
        ] {
            let error = text.parse::<Condition>().expect_err(text).to_string();
            assert!(error.contains(expected), "{error}\nnot: {expected}");
        }
        let deep = format!("{}result > 1{}", "(".repeat(5_000), ")".repeat(5_000));
        assert!(deep.parse::<Condition>().is_err(), "too deep");
    }
}
