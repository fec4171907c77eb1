//! Reading and checking the configuration and the plan. Pure.

mod check;
mod diff;
mod endpoints;
mod judging;
mod limits;
mod locate;
mod outlets;
mod parse;
mod plan;
mod pools;
mod problem;
mod providers;
mod segments;
mod traffic;
mod windows;

use crate::model::{config::Config, plan::Plan, traffic::Traffic};

pub use check::check_all;
pub use diff::diff;
pub use outlets::EVENT_KINDS;
pub use plan::check_plan;
pub use problem::{ConfigError, Place, Problem};

/// Reads and checks a configuration; `file_name` only serves messages.
///
/// # Errors
/// What is wrong with the text, or all that is wrong with what it says.
pub fn load_config(text: &str, file_name: &str) -> Result<Config, ConfigError> {
    let config: Config = parse::parse(text, file_name)?;
    refuse(&check_all(&config), text, file_name)?;
    Ok(config)
}

/// Reads and checks a plan by itself; [`check_plan`] checks it against a configuration.
///
/// # Errors
/// What is wrong with the text, or all that is wrong with what it says.
pub fn load_plan(text: &str, file_name: &str) -> Result<Plan, ConfigError> {
    let read: Plan = parse::parse(text, file_name)?;
    refuse(&plan::check_alone(&read), text, file_name)?;
    Ok(read)
}

/// Reads and checks what `plan simulate` meets.
///
/// # Errors
/// What is wrong with the text, or all that is wrong with what it says.
pub fn load_traffic(text: &str, file_name: &str) -> Result<Traffic, ConfigError> {
    let read: Traffic = parse::parse(text, file_name)?;
    refuse(&traffic::check(&read), text, file_name)?;
    Ok(read)
}

/// The JSON Schema of the configuration file.
#[must_use]
pub fn config_schema() -> String {
    pretty(&schemars::schema_for!(Config))
}

/// The JSON Schema of the plan file.
#[must_use]
pub fn plan_schema() -> String {
    pretty(&schemars::schema_for!(Plan))
}

fn pretty(schema: &schemars::Schema) -> String {
    serde_json::to_string_pretty(schema).expect("a schema is plain JSON")
}

/// An error with the lines and columns of all problems, if there are any.
fn refuse(problems: &[Problem], text: &str, file_name: &str) -> Result<(), ConfigError> {
    if problems.is_empty() {
        return Ok(());
    }
    let tree = locate::Tree::of(text);
    let at = |place: &Place| match tree.as_ref().and_then(|tree| tree.locate(place)) {
        Some(spot) => format!("{file_name}:{spot}"),
        None => format!("{file_name}: {place}"),
    };
    ConfigError::of(problems.iter().map(|problem| problem.line(&at)).collect())
}

#[cfg(test)]
mod tests;
