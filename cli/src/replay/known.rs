//! Whether a condition can be evaluated with nothing but what the log has. Conservative: whatever is not known to read
//! only that counts as reading more.

/// What the log has of a request.
const REQUEST: [&str; 4] = ["method", "host", "port", "path"];
/// What it has of an agent.
const AGENT: [&str; 2] = ["namespace", "serviceAccount"];
/// Functions without facts of their own.
const FUNCTIONS: [&str; 7] = ["size", "int", "double", "bool", "string", "timestamp", "duration"];

/// Whether a condition, if there is one, reads only what the log has.
pub(super) fn is_known(condition: Option<&str>, knows_labels: bool) -> bool {
    condition.is_none_or(|text| reads_known(text, knows_labels).is_some())
}

/// Walks over the names of a condition; `None` at the first that is not known.
fn reads_known(text: &str, knows_labels: bool) -> Option<()> {
    // Escapes, long texts and comments would need a reader of their own.
    if text.contains(['\\', '`']) || text.contains("\"\"") || text.contains("''") || text.contains("//") {
        return None;
    }
    let mut rest = text;
    let mut after_dot = false;
    while let Some(first) = rest.chars().next() {
        if first == '"' || first == '\'' {
            let inner = rest.get(1..)?;
            rest = inner.get(inner.find(first)? + 1..)?;
        } else if is_word(first) {
            let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            let (word, behind) = rest.split_at_checked(end)?;
            // A prefix of a text, such as r"...".
            if behind.starts_with(['"', '\'']) {
                return None;
            }
            rest = behind;
            if !after_dot && !first.is_ascii_digit() {
                rest = root(word, behind, knows_labels)?;
            }
        } else {
            rest = rest.get(first.len_utf8()..)?;
        }
        if !first.is_whitespace() {
            after_dot = first == '.';
        }
    }
    Some(())
}

/// A name that does not follow a dot: what it reads, and what follows.
fn root<'a>(word: &str, behind: &'a str, knows_labels: bool) -> Option<&'a str> {
    let fields: &[&str] = match word {
        "true" | "false" | "null" | "in" => return Some(behind),
        "request" => &REQUEST,
        "agent" => &AGENT,
        "time" => &["now"],
        _ if FUNCTIONS.contains(&word) && behind.trim_start().starts_with('(') => return Some(behind),
        _ => return None,
    };
    let field = behind.strip_prefix('.')?;
    let end = field.find(|c| !is_word(c)).unwrap_or(field.len());
    let (field, behind) = field.split_at_checked(end)?;
    let labels = knows_labels && word == "agent" && field == "labels";
    (fields.contains(&field) || labels).then_some(behind)
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

#[cfg(test)]
mod tests {
    use super::is_known;

    #[test]
    fn only_what_is_in_the_log_is_known() {
        for known in [
            "true",
            "request.method == 'GET'",
            "request.path.startsWith(\"/v1/\") && request.port in [80, 443]",
            "agent.serviceAccount == \"args.x\" || agent.namespace != 'a'",
            "time.now < timestamp(\"2026-01-01T00:00:00Z\")",
            "time.now.getHours('Europe/Berlin') >= 9",
            "size(request.path) < 1e3",
        ] {
            assert!(is_known(Some(known), false), "{known}");
        }
        for unknown in [
            "args.amount < 10",
            "request.query.limit == '1'",
            "request.headers['x'] == 'y'",
            "request['query'] == 'x'",
            "request .query.x == ''",
            "agent.labels.app == 'a'",
            "agent.pod == 'a'",
            "['a'].exists(request, request.path == 'a')",
            "request.method == 'GET' || args.x == 1",
            "r'a' == 'a'",
            "'a\\'' == args.x",
            "has(args.x)",
            "model.name == 'x'",
            "run.role == 'x'",
            "request.method == \"\"\"a\"\"\"",
        ] {
            assert!(!is_known(Some(unknown), false), "{unknown}");
        }
        assert!(is_known(Some("agent.labels['app'] == 'a'"), true));
        assert!(is_known(None, false));
    }
}
