//! What is wrong, where, and what to do: one line each.

use std::fmt;

/// A place in a file: the names and indexes that lead there. Displayed as `services[0].weights.v1`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Place(Vec<Part>);

/// One step on the way to a [`Place`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The value of a key.
    Field(String),
    /// An element of a list.
    Index(usize),
}

impl Place {
    /// The value of a key here.
    #[must_use]
    pub fn field(&self, name: impl fmt::Display) -> Self {
        self.with(Part::Field(name.to_string()))
    }

    /// An element of the list here.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        self.with(Part::Index(index))
    }

    fn with(&self, part: Part) -> Self {
        Self(self.0.iter().cloned().chain([part]).collect())
    }

    pub(super) fn parts(&self) -> &[Part] {
        &self.0
    }

    /// The nearest key on the way back.
    pub(super) fn last_field(&self) -> Option<&str> {
        self.0.iter().rev().find_map(|part| match part {
            Part::Field(name) => Some(name.as_str()),
            Part::Index(_) => None,
        })
    }

    /// What holds this place.
    pub(super) fn parent(&self) -> Self {
        Self(self.0[..self.0.len().saturating_sub(1)].to_vec())
    }

    /// What people call the thing here.
    pub(super) fn noun(&self) -> String {
        match self.last_field() {
            None => "the file".to_owned(),
            Some("services") => "a service".to_owned(),
            Some("versions") => "a version".to_owned(),
            Some("backends") => "a backend".to_owned(),
            Some("interfaces") => "an interface".to_owned(),
            Some("steps") => "a step".to_owned(),
            Some("metrics") => "a metric".to_owned(),
            Some(other) => format!("`{other}`"),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, part) in self.0.iter().enumerate() {
            match part {
                Part::Field(name) if index == 0 => f.write_str(name)?,
                Part::Field(name) => write!(f, ".{name}")?,
                Part::Index(number) => write!(f, "[{number}]")?,
            }
        }
        Ok(())
    }
}

/// One thing that is wrong. Displayed with paths in place of lines and columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// What.
    pub what: String,
    /// The place with which it clashes.
    pub other: Option<Place>,
    /// What to do.
    pub remedy: String,
}

impl Problem {
    pub(super) fn new(place: Place, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { place, what: what.into(), other: None, remedy: remedy.into() }
    }

    /// The same at another place.
    pub(super) fn at(self, place: Place) -> Self {
        Self { place, ..self }
    }

    pub(super) fn with_other(self, other: &Place) -> Self {
        Self { other: Some(other.clone()), ..self }
    }

    /// The line that people read, with places as `at` shows them.
    #[must_use]
    pub fn line(&self, at: &dyn Fn(&Place) -> String) -> String {
        let other = self.other.as_ref().map(|place| format!(" ({})", at(place))).unwrap_or_default();
        let line = format!("{}: {}{other}; {}", at(&self.place), self.what, self.remedy);
        // What is quoted of the file may hold anything.
        line.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line(&Place::to_string))
    }
}

/// A file that cannot be used. Displayed as its first line and how many more there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    lines: Vec<String>,
}

impl ConfigError {
    /// An error where there are lines.
    pub(super) fn of(lines: Vec<String>) -> Result<(), Self> {
        if lines.is_empty() { Ok(()) } else { Err(Self { lines }) }
    }

    pub(super) fn single(line: String) -> Self {
        Self { lines: vec![line] }
    }

    /// One line for each problem: `FILE:LINE:COLUMN: what; what to do`.
    #[must_use]
    pub fn lines(&self) -> &[String] {
        &self.lines
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines[0])?;
        match self.lines.len() - 1 {
            0 => Ok(()),
            more => write!(f, " (and {more} more)"),
        }
    }
}

impl std::error::Error for ConfigError {}

/// The nearest of the known words, if one is near.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let likeness = |candidate: &str| strsim::normalized_damerau_levenshtein(word, candidate);
    let best = known.into_iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(best) >= 0.5).then_some(best)
}

/// `did you mean X?`, or all that is known.
pub(super) fn suggestion<'a>(word: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> String {
    let quoted = |known: &str| format!("`{known}`");
    match nearest(word, known.clone()) {
        Some(near) => format!("did you mean {}?", quoted(near)),
        None => format!("known here: {}", known.into_iter().map(quoted).collect::<Vec<_>>().join(", ")),
    }
}
