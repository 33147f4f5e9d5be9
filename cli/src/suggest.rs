//! What somebody who misspelt a name probably meant.

/// The candidate that is nearest to a text, when it is near enough to be meant: one mistake in three characters.
pub(crate) fn nearest<'a>(text: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let length = text.chars().count();
    // Longer texts are no names; comparing costs the product of the lengths.
    if length > MAX_COMPARED {
        return None;
    }
    let near = candidates.into_iter().filter(|candidate| *candidate != text && candidate.len() <= MAX_COMPARED);
    let distance = |candidate: &str| strsim::damerau_levenshtein(&text.to_lowercase(), &candidate.to_lowercase());
    let near = near.map(|candidate| (distance(candidate), candidate));
    near.filter(|(distance, _)| *distance <= (length / 3).max(1)).min().map(|(_, candidate)| candidate)
}

/// Longest text that is compared: that of the longest name of the API, an operation's.
const MAX_COMPARED: usize = 256;

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_slip_is_recognised_and_another_word_is_not() {
        let fields = ["agentSelector", "mode", "rules"];
        for (text, meant) in [
            ("agentSelectr", Some("agentSelector")),
            ("agentselector", Some("agentSelector")),
            ("rule", Some("rules")),
            ("moed", Some("mode")),
            ("schedule", None),
            ("", None),
            ("rules", None),
        ] {
            assert_eq!(nearest(text, fields), meant, "{text:?}");
        }
        assert_eq!(nearest(&"a".repeat(1_000_000), ["a"]), None);
    }
}
