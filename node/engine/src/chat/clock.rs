//! `strftime_now`: the date in a prompt, in UTC.

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

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
/// 1 January 1970 was a Thursday.
const WEEKDAYS: [&str; 7] = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];

/// Since 1970, negative before.
pub(super) fn seconds(time: SystemTime) -> i64 {
    let signed = |duration: std::time::Duration| duration.as_secs() as i64;
    time.duration_since(UNIX_EPOCH).map_or_else(|before| -signed(before.duration()), signed)
}

/// The date and time `seconds` after 1970 by a format of Python's `strftime`; an error names what we do not know.
pub(super) fn strftime(format: &str, seconds: i64) -> Result<String, String> {
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let month_name = MONTHS[month - 1];
    let weekday = WEEKDAYS[days.rem_euclid(7) as usize];
    let (hour, minute) = (second / 3600, second / 60 % 60);

    let mut text = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        // Writing to a string does not fail.
        let _ = match chars.next() {
            Some('Y') => write!(text, "{year:04}"),
            Some('y') => write!(text, "{:02}", year.rem_euclid(100)),
            Some('m') => write!(text, "{month:02}"),
            Some('d') => write!(text, "{day:02}"),
            Some('B') => text.write_str(month_name),
            Some('b') => text.write_str(&month_name[..3]),
            Some('A') => text.write_str(weekday),
            Some('a') => text.write_str(&weekday[..3]),
            Some('H') => write!(text, "{hour:02}"),
            Some('M') => write!(text, "{minute:02}"),
            Some('S') => write!(text, "{:02}", second % 60),
            Some('%') => text.write_char('%'),
            Some(other) => return Err(format!("%{other}")),
            None => return Err("a % at the end".to_owned()),
        };
    }
    Ok(text)
}

/// Year, month and day of a day since 1970 (Howard Hinnant, "chrono-compatible low-level date algorithms",
/// `civil_from_days`): years begin in March, so that a leap day is a year's last.
fn civil(days: i64) -> (i64, usize, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month as usize, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for (seconds, text) in [
            (0, "Thursday Thu 01 January Jan 1970 70 01 00:00:00 %"),
            (951_782_399, "Monday Mon 28 February Feb 2000 00 02 23:59:59 %"),
            (951_782_400, "Tuesday Tue 29 February Feb 2000 00 02 00:00:00 %"),
            (1_784_462_096, "Sunday Sun 19 July Jul 2026 26 07 11:54:56 %"),
            (4_107_542_400, "Monday Mon 01 March Mar 2100 00 03 00:00:00 %"),
            (-1, "Wednesday Wed 31 December Dec 1969 69 12 23:59:59 %"),
        ] {
            assert_eq!(strftime("%A %a %d %B %b %Y %y %m %H:%M:%S %%", seconds).as_deref(), Ok(text));
        }
        assert_eq!(strftime("%d %q", 0), Err("%q".to_owned()));
        assert_eq!(strftime("%", 0), Err("a % at the end".to_owned()));
    }
}
