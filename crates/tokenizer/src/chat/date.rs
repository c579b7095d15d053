//! Dates for templates that tell the model what day it is, as Python's `strftime` writes them.

use std::fmt::Write;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// Writes a time, in seconds since 1970, UTC. The error is a directive that is not known.
pub(super) fn format(pattern: &str, seconds: i64) -> Result<String, String> {
    let (days, second) = (seconds.div_euclid(86400), seconds.rem_euclid(86400));
    let (year, month, day) = civil(days);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    let weekday = (days + 4).rem_euclid(7);
    let (month_name, day_name) = (MONTHS[month as usize - 1], DAYS[weekday as usize]);
    let mut out = String::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let directive = chars.next();
        let unpadded = directive == Some('-');
        let directive = if unpadded { chars.next() } else { directive };
        let mut number = |n: i64, width: usize| {
            let width = if unpadded { 1 } else { width };
            write!(out, "{n:0width$}").expect("strings can be written to");
        };
        match directive {
            Some('d') => number(day, 2),
            Some('m') => number(month, 2),
            Some('Y') => number(year, 4),
            Some('y') => number(year.rem_euclid(100), 2),
            Some('H') => number(hour, 2),
            Some('I') => number((hour + 11) % 12 + 1, 2),
            Some('M') => number(minute, 2),
            Some('S') => number(second % 60, 2),
            Some('j') => number(days - first_day(year) + 1, 3),
            Some('B') => out.push_str(month_name),
            Some('b') => out.push_str(&month_name[..3]),
            Some('A') => out.push_str(day_name),
            Some('a') => out.push_str(&day_name[..3]),
            Some('p') => out.push_str(if hour < 12 { "AM" } else { "PM" }),
            Some('Z') => out.push_str("UTC"),
            Some('%') => out.push('%'),
            other => return Err(format!("%{}", other.map_or(String::new(), String::from))),
        }
    }
    Ok(out)
}

/// The year, month and day of a number of days since 1970-01-01, by the Gregorian calendar.
fn civil(days: i64) -> (i64, i64, i64) {
    // Years begin in March here, so that a leap day is the last one.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (year + era * 400 + next, month, day)
}

/// Days from 1970-01-01 to the first day of a year.
fn first_day(year: i64) -> i64 {
    let before = year - 1;
    let leap = |year: i64| year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    365 * (year - 1970) + leap(before) - leap(1969)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Python writes the same times.
    #[test]
    fn times_are_written_as_strftime_writes_them() {
        let all = "%d %b %Y|%-d/%-m|%A %a %B|%H:%M:%S %I%p|%y %j %%";
        for (seconds, expected) in [
            (0, "01 Jan 1970|1/1|Thursday Thu January|00:00:00 12AM|70 001 %"),
            (951_782_399, "28 Feb 2000|28/2|Monday Mon February|23:59:59 11PM|00 059 %"),
            (951_782_400, "29 Feb 2000|29/2|Tuesday Tue February|00:00:00 12AM|00 060 %"),
            (1_798_761_599, "31 Dec 2026|31/12|Thursday Thu December|23:59:59 11PM|26 365 %"),
            (4_107_542_400, "01 Mar 2100|1/3|Monday Mon March|00:00:00 12AM|00 060 %"),
            (-1, "31 Dec 1969|31/12|Wednesday Wed December|23:59:59 11PM|69 365 %"),
        ] {
            assert_eq!(format(all, seconds).as_deref(), Ok(expected), "{seconds}");
        }
        assert_eq!(format("%Q", 0), Err("%Q".to_owned()));
        assert_eq!(format("50%", 0), Err("%".to_owned()));
    }
}
