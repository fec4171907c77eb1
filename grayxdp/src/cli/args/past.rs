//! Times that have passed, as people write them.

/// A time that has passed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Past {
    /// At an instant.
    At(jiff::Timestamp),
    /// So long ago.
    Ago(std::time::Duration),
}

impl Past {
    /// The instant, counted from now.
    #[must_use]
    pub fn instant(self) -> jiff::Timestamp {
        match self {
            Self::At(instant) => instant,
            Self::Ago(ago) => jiff::Timestamp::now().checked_sub(ago).unwrap_or(jiff::Timestamp::MIN),
        }
    }
}

/// Reads one.
///
/// # Errors
/// What to write instead.
pub(super) fn past(text: &str) -> Result<Past, String> {
    let instant = text.parse().map(Past::At).ok();
    let ago = || humantime::parse_duration(text).map(Past::Ago).ok();
    instant
        .or_else(ago)
        .ok_or_else(|| "use an instant such as 2026-11-21T09:00:00Z, or so long ago such as 90m".to_owned())
}
