//! Names that are not there, and the nearest that are.

use crate::model::{Name, api::ApiError};

/// How alike two names must be for one to be suggested for the other, `0.0..=1.0`.
const ALIKE: f64 = 0.5;

/// "There is no service `recys`; did you mean `recsys`?"
pub(super) fn not_found<'a>(what: &str, name: &Name, known: impl IntoIterator<Item = &'a Name>) -> ApiError {
    let likeness = |known: &&Name| strsim::normalized_damerau_levenshtein(name.as_str(), known.as_str());
    let known: Vec<_> = known.into_iter().collect();
    let nearest = known.iter().copied().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    let hint = match nearest {
        None => "there is none yet".to_owned(),
        Some(nearest) if likeness(&nearest) >= ALIKE => format!("did you mean `{nearest}`?"),
        Some(_) => {
            let all: Vec<_> = known.iter().map(|name| format!("`{name}`")).collect();
            format!("known are {}", all.join(", "))
        }
    };
    ApiError::not_found(format!("there is no {what} `{name}`; {hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_suggested_and_all_are_listed_where_none_is_near() {
        let known: [Name; 2] = ["recsys".parse().expect("a name"), "search".parse().expect("a name")];
        let message = |name: &str| not_found("service", &name.parse().expect("a name"), &known).message;
        assert_eq!(message("recys"), "there is no service `recys`; did you mean `recsys`?");
        assert_eq!(message("zz"), "there is no service `zz`; known are `recsys`, `search`");
        let none = not_found("rollout", &known[0], []);
        assert_eq!(none.message, "there is no rollout `recsys`; there is none yet");
    }
}
