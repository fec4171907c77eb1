//! What the windows of a plan must be.

use jiff::tz::TimeZoneDatabase;

use crate::{
    config::problem::{Place, Problem, suggestion},
    model::plan::{Window, Windows},
};

/// All that is wrong with windows.
pub(super) fn windows(windows: &Windows, place: &Place, problems: &mut Vec<Problem>) {
    let zones = TimeZoneDatabase::bundled();
    if zones.get(&windows.time_zone).is_err() {
        let known: Vec<_> = zones.available().map(|name| name.to_string()).collect();
        let what = format!("there is no time zone `{}`", windows.time_zone);
        let remedy = match windows.time_zone.contains('/') {
            true => suggestion(&windows.time_zone, known.iter().map(String::as_str)),
            false => "name one of the IANA database, as Europe/Berlin or UTC".to_owned(),
        };
        problems.push(Problem::new(place.field("timeZone"), what, remedy));
    }
    if windows.allow.is_empty() {
        let remedy = "give a window, as {days: [mon, tue], from: \"09:00\", to: \"17:00\"}, or leave `windows` out";
        problems.push(Problem::new(place.field("allow"), "no window: the rollout could never go on", remedy));
    }
    for (index, window) in windows.allow.iter().enumerate() {
        let Window { days, from, to } = window;
        let place = place.field("allow").index(index);
        if from == to {
            let what = format!("a window from {from} to {to}");
            let remedy = "use \"00:00\" to \"24:00\" for a whole day, or another `to`";
            problems.push(Problem::new(place.field("to"), what, remedy));
        }
        if from.minutes() == 24 * 60 {
            let remedy = "use \"00:00\" on the next day";
            problems.push(Problem::new(place.field("from"), format!("a window from {from}"), remedy));
        }
        for (again, day) in days.iter().enumerate().filter(|(again, day)| days[..*again].contains(day)) {
            let what = format!("{} stands twice", format!("{day:?}").to_lowercase());
            problems.push(Problem::new(place.field("days").index(again), what, "remove one of the two"));
        }
    }
}
