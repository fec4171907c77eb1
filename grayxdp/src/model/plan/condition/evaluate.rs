//! What a condition says about values. Who compares something that is not a number gets an error, never a verdict.

use super::parse::{Each, Expression, Function, Operator};

#[derive(Clone, Copy, Debug)]
struct Values<'a> {
    all: &'a [f64],
    /// The one at hand, within `all` and `any`.
    one: Option<f64>,
}

pub(super) fn holds(expression: &Expression, values: &[f64]) -> Result<bool, String> {
    truth(expression, Values { all: values, one: None })
}

fn truth(expression: &Expression, values: Values<'_>) -> Result<bool, String> {
    match expression {
        Expression::Truth(truth) => Ok(*truth),
        Expression::Not(inner) => truth(inner, values).map(|holds| !holds),
        Expression::Call(Function::IsNan, inner) => number(inner, values).map(f64::is_nan),
        Expression::Call(Function::IsInf, inner) => number(inner, values).map(f64::is_infinite),
        Expression::Each(each, inner) => {
            let mut found = Vec::new();
            for one in values.all {
                found.push(truth(inner, Values { one: Some(*one), ..values })?);
            }
            Ok(match each {
                Each::All => found.iter().all(|holds| *holds),
                Each::Any => found.iter().any(|holds| *holds),
            })
        }
        Expression::Binary(operator, left, right) => compare(*operator, left, right, values),
        Expression::Number(_)
        | Expression::Result
        | Expression::At(_)
        | Expression::Count
        | Expression::Negative(_)
        | Expression::Call(Function::AsFloat | Function::AsInt, _) => {
            Err("a number where a truth is needed".to_owned())
        }
    }
}

fn compare(operator: Operator, left: &Expression, right: &Expression, values: Values<'_>) -> Result<bool, String> {
    let is_truth = |side: &Expression| match side {
        Expression::Truth(_) | Expression::Not(_) | Expression::Each(..) => true,
        Expression::Call(function, _) => matches!(function, Function::IsNan | Function::IsInf),
        Expression::Binary(operator, ..) => {
            !matches!(operator, Operator::Plus | Operator::Minus | Operator::Times | Operator::Over)
        }
        Expression::Number(_)
        | Expression::Result
        | Expression::At(_)
        | Expression::Count
        | Expression::Negative(_) => false,
    };
    let numbers = || Ok::<_, String>((sound(left, values)?, sound(right, values)?));
    match operator {
        Operator::Or => Ok(truth(left, values)? || truth(right, values)?),
        Operator::And => Ok(truth(left, values)? && truth(right, values)?),
        Operator::Equal if is_truth(left) => Ok(truth(left, values)? == truth(right, values)?),
        Operator::NotEqual if is_truth(left) => Ok(truth(left, values)? != truth(right, values)?),
        Operator::Less => numbers().map(|(left, right)| left < right),
        Operator::LessOrEqual => numbers().map(|(left, right)| left <= right),
        Operator::Greater => numbers().map(|(left, right)| left > right),
        Operator::GreaterOrEqual => numbers().map(|(left, right)| left >= right),
        Operator::Equal => numbers().map(|(left, right)| left == right),
        Operator::NotEqual => numbers().map(|(left, right)| left != right),
        Operator::Plus | Operator::Minus | Operator::Times | Operator::Over => {
            Err("a number where a truth is needed".to_owned())
        }
    }
}

/// A number that can be compared.
fn sound(expression: &Expression, values: Values<'_>) -> Result<f64, String> {
    match number(expression, values)? {
        number if number.is_nan() => Err("the value is not a number".to_owned()),
        number => Ok(number),
    }
}

fn number(expression: &Expression, values: Values<'_>) -> Result<f64, String> {
    match expression {
        Expression::Number(number) => Ok(*number),
        Expression::Count => Ok(values.all.len() as f64),
        Expression::Result => match (values.one, values.all) {
            (Some(one), _) => Ok(one),
            (None, [only]) => Ok(*only),
            (None, []) => Err("there is no value".to_owned()),
            (None, all) => Err(format!("there are {} values; say which, as result[0], or all(…)", all.len())),
        },
        Expression::At(index) => {
            let value = values.all.get(*index).copied();
            value.ok_or_else(|| format!("there is no result[{index}] among {} values", values.all.len()))
        }
        Expression::Negative(inner) => number(inner, values).map(|number| -number),
        Expression::Call(Function::AsFloat, inner) => number(inner, values),
        Expression::Call(Function::AsInt, inner) => number(inner, values).map(f64::trunc),
        Expression::Binary(operator, left, right) => {
            let (left, right) = (number(left, values)?, number(right, values)?);
            match operator {
                Operator::Plus => Ok(left + right),
                Operator::Minus => Ok(left - right),
                Operator::Times => Ok(left * right),
                Operator::Over => Ok(left / right),
                Operator::Or
                | Operator::And
                | Operator::Less
                | Operator::LessOrEqual
                | Operator::Greater
                | Operator::GreaterOrEqual
                | Operator::Equal
                | Operator::NotEqual => Err("a truth where a number is needed".to_owned()),
            }
        }
        Expression::Truth(_)
        | Expression::Not(_)
        | Expression::Each(..)
        | Expression::Call(Function::IsNan | Function::IsInf, _) => Err("a truth where a number is needed".to_owned()),
    }
}
