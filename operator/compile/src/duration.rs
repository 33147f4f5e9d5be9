//! Durations as Kubernetes' Gateway API writes them (GEP-2257): one to four parts of at most five digits
//! and a unit.

use std::time::Duration;

/// Parts of a duration, and digits of a part, by GEP-2257.
const MAX_PARTS: usize = 4;
const MAX_DIGITS: usize = 5;

/// Parses a duration; `None` when it has another form.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    for _ in 0..MAX_PARTS {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        if number.is_empty() || digits > MAX_DIGITS {
            return None;
        }
        let number: u64 = number.parse().ok()?;
        let letters = after.bytes().take_while(u8::is_ascii_lowercase).count();
        let (unit, after) = after.split_at(letters);
        let part = match unit {
            "h" => Duration::from_secs(number * 3_600),
            "m" => Duration::from_secs(number * 60),
            "s" => Duration::from_secs(number),
            "ms" => Duration::from_millis(number),
            _ => return None,
        };
        total += part;
        rest = after;
        if rest.is_empty() {
            return Some(total);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use clawlock_crds::schema::DURATION;
    use proptest::prelude::*;

    #[test]
    fn durations_are_read_as_gep_2257_has_them() {
        for (text, expected) in [
            ("60s", Some(60_000)),
            ("1h30m", Some(5_400_000)),
            ("1m1s1ms", Some(61_001)),
            ("99999h", Some(359_996_400_000)),
            ("1h1h1h1h", Some(4 * 3_600_000)),
            ("0s", Some(0)),
            ("", None),
            ("60", None),
            ("s", None),
            ("1.5h", None),
            ("-1s", None),
            ("+1s", None),
            ("1h ", None),
            ("1d", None),
            ("1us", None),
            ("123456s", None),
            ("1h1h1h1h1h", None),
            ("1sé", None),
            ("١s", None),
        ] {
            assert_eq!(parse(text).map(|duration| duration.as_millis()), expected, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn the_form_is_the_one_of_the_schema(text in "([0-9]{1,6}(h|m|s|ms|d|)){0,5}|.{0,8}") {
            let form = regex::Regex::new(DURATION).unwrap();
            prop_assert_eq!(parse(&text).is_some(), form.is_match(&text), "{:?}", text);
        }
    }
}
