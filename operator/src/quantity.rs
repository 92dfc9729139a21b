//! Amounts as Kubernetes writes them: an API server answers `1Gi` to `1024Mi`.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// In thousandths, rounded up; `None` where it is no quantity, or a greater one than anybody has.
pub(crate) fn thousandths(quantity: &Quantity) -> Option<u128> {
    let text = quantity.0.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.len() > 9 {
        return None;
    }
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    let (times, by) = scale(suffix)?;
    let nano = 10u128.pow(fraction.len() as u32).checked_mul(by)?;
    Some(digits.checked_mul(times)?.checked_mul(1000)?.div_ceil(nano))
}

/// What the number is multiplied with, and then divided by.
fn scale(suffix: &str) -> Option<(u128, u128)> {
    let power = |exponent: u32, base: u128| base.checked_pow(exponent).map(|times| (times, 1));
    match suffix {
        "" => Some((1, 1)),
        "m" => Some((1, 1_000)),
        "u" => Some((1, 1_000_000)),
        "n" => Some((1, 1_000_000_000)),
        "k" => power(1, 1000),
        "M" => power(2, 1000),
        "G" => power(3, 1000),
        "T" => power(4, 1000),
        "P" => power(5, 1000),
        "E" => power(6, 1000),
        "Ki" => power(1, 1024),
        "Mi" => power(2, 1024),
        "Gi" => power(3, 1024),
        "Ti" => power(4, 1024),
        "Pi" => power(5, 1024),
        "Ei" => power(6, 1024),
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            let times = 10u128.checked_pow(exponent.unsigned_abs())?;
            Some(if exponent < 0 { (1, times) } else { (times, 1) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_the_same_however_they_are_written() {
        let read = |text: &str| thousandths(&Quantity(text.into()));
        for (one, other) in [
            ("1024Mi", "1Gi"),
            ("0.5", "500m"),
            ("1e3", "1k"),
            ("1.5Gi", "1536Mi"),
            ("2E0", "2"),
            ("1E", "1e18"),
        ] {
            assert_eq!(read(one), read(other), "{one} and {other}");
            assert!(read(one).is_some(), "{one}");
        }
        assert!(read("1G") < read("1Gi"));
        assert_eq!(read("1n"), Some(1), "rounded up");
        for bad in ["", "Gi", "-1", "1 Gi", "1gb", "1e99", "."] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
