//! Numbers as sentences say them.

use crate::model::plan::Unit;

/// A value with its unit.
pub(super) fn said(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Ratio => percent(value),
        Unit::Seconds if value >= 1.0 => format!("{value:.2} s"),
        Unit::Seconds if value >= 1e-3 => format!("{:.1} ms", value * 1e3),
        Unit::Seconds => format!("{:.1} µs", value * 1e6),
        Unit::Bytes => format!("{} bytes", grouped(value.round() as u64)),
        Unit::PerSecond => format!("{value:.1} a second"),
    }
}

/// A ratio in percent with up to two decimals: `4.1 %`.
pub(super) fn percent(ratio: f64) -> String {
    let text = format!("{:.2}", ratio * 100.0);
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

/// A number with commas: `1,200`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number that is e to this: `190`, `0.03`, `more than 1,000,000`.
pub(super) fn evidence(log: f64) -> String {
    match log.exp() {
        e if e > 1e6 => "more than 1,000,000".to_owned(),
        e if e >= 10.0 => grouped(e.round() as u64),
        e if e >= 0.01 => short(e),
        _ => "less than 0.01".to_owned(),
    }
}

/// A number with at most two decimals.
pub(super) fn short(number: f64) -> String {
    let text = format!("{number:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_people_write_them() {
        assert_eq!([percent(0.041), percent(0.01), percent(0.0), percent(1.0)], ["4.1 %", "1 %", "0 %", "100 %"]);
        assert_eq!(
            [grouped(0), grouped(999), grouped(1_200), grouped(12_345_678)],
            ["0", "999", "1,200", "12,345,678"]
        );
        let logs = [190_f64.ln(), 0.034_f64.ln(), 1e9_f64.ln(), 1e-9_f64.ln(), 1.5_f64.ln()];
        assert_eq!(logs.map(evidence), ["190", "0.03", "more than 1,000,000", "less than 0.01", "1.5"]);
        let times = [0.000_020, 0.058_7, 2.5].map(|time| said(time, Unit::Seconds));
        assert_eq!(times, ["20.0 µs", "58.7 ms", "2.50 s"]);
    }
}
