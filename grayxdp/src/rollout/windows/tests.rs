//! Expected instants are written in UTC, by hand from the zones' published rules.

use super::*;

fn windows(zone: &str, allow: &[(&[Day], &str, &str)]) -> Windows {
    let time = |text: &str| text.parse().expect("a time of day");
    let window =
        |(days, from, to): &(&[Day], &str, &str)| Window { days: days.to_vec(), from: time(from), to: time(to) };
    Windows { time_zone: zone.to_owned(), allow: allow.iter().map(window).collect() }
}

fn at(utc: &str) -> Duration {
    let instant: Timestamp = format!("{utc}Z").parse().expect("an instant");
    Duration::from_secs(u64::try_from(instant.as_second()).expect("after 1970"))
}

/// The changes from an instant on, in UTC, as `2026-03-29T01:00`.
fn changes(windows: &Windows, from: &str, count: usize) -> Vec<String> {
    let mut found = Vec::new();
    let mut now = at(from);
    while let Some(next) = next_change(windows, now).filter(|_| found.len() < count) {
        assert_ne!(is_open(windows, next), is_open(windows, now), "{next:?}");
        assert_eq!(is_open(windows, next - Duration::from_nanos(1)), is_open(windows, now), "{next:?}");
        found.push(timestamp(next).to_string().replace(":00Z", ""));
        now = next;
    }
    found
}

#[test]
fn working_hours_follow_the_zone_through_the_change_of_clocks() {
    let working = windows("Europe/Berlin", &[(&[Day::Fri, Day::Mon], "09:00", "17:00")]);
    // Clocks went forward on Sunday, 29 March 2026.
    let expected = ["2026-03-27T08:00", "2026-03-27T16:00", "2026-03-30T07:00", "2026-03-30T15:00"];
    assert_eq!(changes(&working, "2026-03-26T12:00:00", 4), expected);
    assert!(is_open(&working, at("2026-03-27T08:00:00")) && !is_open(&working, at("2026-03-27T16:00:00")));
}

#[test]
fn a_skipped_local_time_is_the_instant_at_which_clocks_went_forward() {
    // 02:00 to 03:00 does not exist on that day: 02:30 is 01:00 UTC, when clocks show 03:00.
    let begins = windows("Europe/Berlin", &[(&[], "02:30", "04:00")]);
    assert_eq!(changes(&begins, "2026-03-28T12:00:00", 2), ["2026-03-29T01:00", "2026-03-29T02:00"]);
    let ends = windows("Europe/Berlin", &[(&[], "01:30", "02:30")]);
    assert_eq!(changes(&ends, "2026-03-28T12:00:00", 2), ["2026-03-29T00:30", "2026-03-29T01:00"]);
    let within = windows("Europe/Berlin", &[(&[Day::Sun], "02:10", "02:50")]);
    assert_eq!(changes(&within, "2026-03-28T12:00:00", 1), ["2026-04-05T00:10"], "the whole window is skipped");
    let york = windows("America/New_York", &[(&[], "02:30", "05:00")]);
    assert_eq!(changes(&york, "2026-03-07T12:00:00", 2), ["2026-03-08T07:00", "2026-03-08T09:00"]);
}

#[test]
fn a_repeated_hour_counts_once() {
    // Clocks went back from 03:00 to 02:00 on 25 October 2026, at 01:00 UTC.
    let within = windows("Europe/Berlin", &[(&[], "02:10", "02:50")]);
    let expected = ["2026-10-25T00:10", "2026-10-25T00:50", "2026-10-26T01:10"];
    assert_eq!(changes(&within, "2026-10-24T12:00:00", 3), expected);
    let beyond = windows("Europe/Berlin", &[(&[], "02:30", "05:00")]);
    assert_eq!(changes(&beyond, "2026-10-24T12:00:00", 2), ["2026-10-25T00:30", "2026-10-25T04:00"]);
    // Half an hour, on 4 April 2027 at 15:00 UTC of the day before: 02:00 goes back to 01:30.
    let howe = windows("Australia/Lord_Howe", &[(&[Day::Sun], "01:40", "01:50")]);
    assert_eq!(changes(&howe, "2027-04-03T00:00:00", 2), ["2027-04-03T14:40", "2027-04-03T14:50"]);
}

#[test]
fn a_window_over_midnight_belongs_to_the_day_on_which_it_begins() {
    let night = windows("Asia/Kolkata", &[(&[Day::Fri], "22:00", "06:00")]);
    assert_eq!(changes(&night, "2026-11-18T00:00:00", 3), ["2026-11-20T16:30", "2026-11-21T00:30", "2026-11-27T16:30"]);
    let sunday_to_monday = windows("UTC", &[(&[Day::Sun], "23:00", "01:00")]);
    assert!(is_open(&sunday_to_monday, at("2026-11-23T00:59:59")));
}

#[test]
fn windows_that_meet_are_one_and_a_whole_week_never_changes() {
    let met = windows("UTC", &[(&[Day::Mon], "09:00", "12:00"), (&[Day::Mon], "12:00", "13:00")]);
    assert_eq!(changes(&met, "2026-11-22T00:00:00", 2), ["2026-11-23T09:00", "2026-11-23T13:00"]);
    let always = windows("Europe/Berlin", &[(&[], "00:00", "24:00")]);
    assert!(is_open(&always, at("2026-10-25T01:30:00")));
    assert_eq!(next_change(&always, at("2026-10-24T12:00:00")), None);
}

#[test]
fn a_day_that_never_was_has_no_window() {
    // Samoa had no 30 December 2011, a Friday: it went from UTC−10 to UTC+14.
    let fridays = windows("Pacific/Apia", &[(&[Day::Fri], "09:00", "17:00")]);
    assert_eq!(changes(&fridays, "2011-12-25T00:00:00", 1), ["2012-01-05T19:00"]);
}

#[test]
fn zones_are_known_without_the_hosts_files() {
    let names: Vec<_> = TimeZoneDatabase::bundled().available().map(|name| name.to_string()).collect();
    assert!(names.len() > 400 && names.iter().any(|name| name == "Europe/Berlin"), "{}", names.len());
    assert!(!is_open(&windows("Nowhere/Town", &[(&[], "00:00", "24:00")]), at("2026-11-22T00:00:00")));
}
