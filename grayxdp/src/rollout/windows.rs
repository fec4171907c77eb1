//! Whether a window is open, and when that changes.
//!
//! A window is one stretch of real time, from the first instant that shows `from` to the first that shows `to`. A local time
//! that is skipped when clocks go forward stands for the instant at which they did; where they go back, the window opens and
//! closes once, and the hour that is shown twice is in it once or, where the window goes on after it, as a whole.
//! Zone data is that of the program itself, never of the host.

use std::time::Duration;

use jiff::{
    Timestamp,
    civil::{Date, DateTime, Weekday},
    tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase},
};

use crate::model::{
    plan::{Day, Window, Windows},
    time::timestamp,
};

/// How far ahead a change is looked for: a week, and another for windows that a skipped day swallows.
const HORIZON_DAYS: i32 = 15;

/// Whether a rollout may go on at an instant, given since the Unix epoch. A zone that is not known is always closed; `config`
/// refuses it.
#[must_use]
pub fn is_open(windows: &Windows, wall: Duration) -> bool {
    zone(windows).is_some_and(|zone| Hours { windows, zone }.is_open(timestamp(wall)))
}

/// The next instant at which windows open or close, since the Unix epoch; none where they never do.
#[must_use]
pub fn next_change(windows: &Windows, wall: Duration) -> Option<Duration> {
    let hours = Hours { windows, zone: zone(windows)? };
    let now = timestamp(wall);
    let open = hours.is_open(now);
    let mut instants: Vec<_> = hours.around(now, HORIZON_DAYS).flat_map(|(from, to)| [from, to]).collect();
    instants.sort();
    let change = instants.into_iter().find(|instant| *instant > now && hours.is_open(*instant) != open)?;
    u64::try_from(change.as_second()).ok().map(Duration::from_secs)
}

fn zone(windows: &Windows) -> Option<TimeZone> {
    TimeZoneDatabase::bundled().get(&windows.time_zone).ok()
}

struct Hours<'a> {
    windows: &'a Windows,
    zone: TimeZone,
}

impl Hours<'_> {
    fn is_open(&self, at: Timestamp) -> bool {
        self.around(at, 1).any(|(from, to)| from <= at && at < to)
    }

    /// The stretches that begin between two days before an instant and so many after it.
    fn around(&self, at: Timestamp, days: i32) -> impl Iterator<Item = (Timestamp, Timestamp)> {
        let today = self.zone.to_datetime(at).date();
        let dates = (-2..=days).filter_map(move |days| today.checked_add(jiff::Span::new().days(days)).ok());
        dates.flat_map(move |date| self.windows.allow.iter().filter_map(move |window| self.on(window, date)))
    }

    /// The stretch of a window that begins on a day.
    fn on(&self, window: &Window, date: Date) -> Option<(Timestamp, Timestamp)> {
        if !window.days.is_empty() && !window.days.contains(&day(date.weekday())) {
            return None;
        }
        let (from, to) = (window.from.minutes(), window.to.minutes());
        let overnight = if to <= from { 24 * 60 } else { 0 };
        let shown = |minutes: u16| date.at(0, 0, 0, 0).checked_add(jiff::Span::new().minutes(minutes)).ok();
        Some((self.first(shown(from)?)?, self.first(shown(to + overnight)?)?))
    }

    /// The first instant at which clocks show a time or a later one of that day.
    fn first(&self, shown: DateTime) -> Option<Timestamp> {
        let ambiguous = self.zone.to_ambiguous_timestamp(shown);
        match ambiguous.offset() {
            AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Fold { .. } => ambiguous.earlier().ok(),
            AmbiguousOffset::Gap { .. } => {
                let beyond = ambiguous.later().ok()?.checked_add(jiff::SignedDuration::from_nanos(1)).ok()?;
                self.zone.preceding(beyond).next().map(|transition| transition.timestamp())
            }
        }
    }
}

const fn day(weekday: Weekday) -> Day {
    match weekday {
        Weekday::Monday => Day::Mon,
        Weekday::Tuesday => Day::Tue,
        Weekday::Wednesday => Day::Wed,
        Weekday::Thursday => Day::Thu,
        Weekday::Friday => Day::Fri,
        Weekday::Saturday => Day::Sat,
        Weekday::Sunday => Day::Sun,
    }
}

#[cfg(test)]
mod tests;
