//! What an agent says in place of a result when a tool did not run. Such a text carries nothing that the
//! model did not say itself, so it may stand for a call that was never decided, and for a blocked one.
//!
//! The texts are those of OpenClaw 2026.9.6 (agent-core, transcript repair, context pruning). A text that
//! is not here is taken for a result.

use super::Arguments;

/// Texts without a part of their own.
const FIXED: &[&str] = &[
    // The user, or a newer message, stopped the run.
    "Operation aborted",
    "aborted",
    "Skipped to process an incoming message.",
    "Tool execution was blocked before launch.",
    // The session was cut between a call and its result.
    "[openclaw] missing tool result in session history; inserted synthetic error result for transcript repair.",
    // Another call of the same answer went round in a circle.
    "This tool was not executed because another call in the batch repeated a critical tool loop. This run is stopping now.",
    "This tool was not executed because another call in the batch triggered critical tool-loop recovery. Reassess the \
     task before choosing the next action.",
    // Old results make room.
    "[Old tool result content cleared]",
    // The guard plugin got no answer.
    "Blocked by Clawlock: the gate gave no answer, so the tool did not run; try again later.",
    "Blocked by Clawlock: the arguments are larger than what can be decided, so the tool did not run; send less at once.",
    // Or it threw, or took too long.
    "Tool call blocked because before_tool_call hook failed",
    "blocked by clawlock: policy evaluation failed",
];

/// This call went round in a circle (`tools.loopDetection`). `@` stands for the tool's name, `#` for a number.
const LOOPS: &[&str] = &[
    "CRITICAL: attempted unavailable tool @ # times. Stop retrying that missing tool and answer without it.",
    "CRITICAL: @ repeated identical no-progress outcomes # times. Session execution blocked by global circuit breaker to \
     prevent runaway loops.",
    "CRITICAL: Called @ with identical arguments and no progress # times. This appears to be a stuck polling loop. \
     Session execution blocked to prevent resource waste.",
    "CRITICAL: Called @ with identical outcomes # times. Session execution blocked to prevent runaway loops.",
    "CRITICAL: You are alternating between repeated tool-call patterns (# consecutive calls) with no progress. This \
     appears to be a stuck ping-pong loop. Session execution blocked to prevent resource waste.",
];

/// What may stand behind one of [`LOOPS`].
const LOOP_ENDS: &[&str] = &[
    "",
    "\n\nDo not repeat this exact tool action. Reassess the task. You may answer the user, ask for clarification, or \
     continue with a different tool or different arguments.",
    "\n\nCritical tool-loop recovery failed because another critical loop was detected. This run is stopping now.",
];

/// Most digits of a number in one of [`LOOPS`].
const DIGITS: usize = 9;

/// What OpenClaw says of a tool that failed before anybody was asked, in a document with the tool's name.
const ERRORS: &[&str] = &["exec parameter \"timeout\" is unsupported; use \"timeoutSeconds\" instead"];

/// Longest error of a tool that may be one that failed before anybody was asked.
const ERROR: usize = 1024;

/// Longest list of what is wrong with arguments. It names members and types, not values.
const VALIDATION: usize = 1024;

/// Whether the text says that the tool of this name did not run.
pub(super) fn is_notice(text: &str, name: Option<&str>, asked: Option<&Arguments>) -> bool {
    let text = text.trim();
    if FIXED.contains(&text) {
        return true;
    }
    let Some(name) = name else { return false };
    let between = |before: &str, after: &str| text.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
    between("Tool ", " not found") == Some(name) || is_loop(text, name) || is_validation(text, name, asked) || {
        error_document(text, Some(name)).is_some_and(|error| ERRORS.contains(&&*error))
    }
}

/// Whether the text is what OpenClaw makes of an error that a tool threw. It may have run before.
pub(super) fn is_error_document(text: &str, name: Option<&str>) -> bool {
    error_document(text, name).is_some()
}

fn error_document(text: &str, name: Option<&str>) -> Option<String> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Document {
        status: String,
        tool: String,
        error: String,
    }
    if text.len() > ERROR {
        return None;
    }
    let Document { status, tool, error } = serde_json::from_str(text).ok()?;
    (status == "error" && name.is_some_and(|name| name.eq_ignore_ascii_case(&tool))).then_some(error)
}

fn is_loop(text: &str, name: &str) -> bool {
    LOOPS.iter().any(|pattern| rest_behind(pattern, text, name).is_some_and(|rest| LOOP_ENDS.contains(&rest)))
}

/// What of the text is behind the pattern.
fn rest_behind<'a>(pattern: &str, mut text: &'a str, name: &str) -> Option<&'a str> {
    for piece in pattern.split_inclusive(['@', '#']) {
        let (plain, place) = match piece.strip_suffix(['@', '#']) {
            Some(plain) => (plain, piece.chars().next_back()),
            None => (piece, None),
        };
        text = text.strip_prefix(plain)?;
        text = match place {
            Some('@') => text.strip_prefix(name)?,
            Some(_) => {
                let digits = text.bytes().take(DIGITS).take_while(u8::is_ascii_digit).count();
                text.get(digits..).filter(|_| digits > 0)?
            }
            None => text,
        };
    }
    Some(text)
}

/// `Validation failed for tool "x":`, what is wrong, and the arguments once more: exactly those that the
/// model sent.
fn is_validation(text: &str, name: &str, asked: Option<&Arguments>) -> bool {
    let wrong = text.strip_prefix("Validation failed for tool \"").and_then(|rest| rest.strip_prefix(name));
    let Some((wrong, echo)) =
        wrong.and_then(|rest| rest.strip_prefix("\":\n")).and_then(|rest| rest.split_once("\n\nReceived arguments:\n"))
    else {
        return false;
    };
    let same = match (Arguments::parse(echo), asked) {
        (Some(echo), Some(asked)) => echo.canonical() == asked.canonical(),
        // The model's were no JSON object, or the sidecar has started anew since.
        (_, None) => echo.len() <= VALIDATION,
        (None, Some(_)) => false,
    };
    same && wrong.len() <= VALIDATION
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plugin_s_own_sentences_are_notices() {
        let plugin = include_str!("../../../openclaw-plugin/guard.js");
        for name in ["NO_ANSWER", "TOO_LARGE"] {
            let start = format!("export const {name} = \"");
            let line = plugin.lines().find_map(|line| line.strip_prefix(start.as_str()));
            let sentence = line.and_then(|line| line.strip_suffix("\";")).unwrap();
            assert!(is_notice(sentence, None, None), "{sentence}");
        }
        let policy = plugin.lines().find_map(|line| line.strip_prefix("const POLICY_ID = \"")).unwrap();
        let policy = policy.strip_suffix("\";").unwrap();
        assert!(is_notice(&format!("blocked by {policy}: policy evaluation failed"), None, None));
    }

    #[test]
    fn the_agent_s_own_words_are_notices_and_nothing_more_is() {
        let asked = Arguments::parse(r#"{"path":1}"#).unwrap();
        let is = |text: &str| is_notice(text, Some("read"), Some(&asked));
        assert!(is("aborted") && is(" Operation aborted\n") && is("Tool read not found"));
        let validation = "Validation failed for tool \"read\":\n  - path: must be string\n\nReceived arguments:\n";
        assert!(is(&format!("{validation}{{\n  \"path\": 1\n}}")));
        let circle = "CRITICAL: Called read with identical outcomes 20 times. Session execution blocked to prevent runaway loops.";
        assert!(is(circle) && is(&format!("{circle}{}", LOOP_ENDS[1])));
        for no in [
            "",
            &circle.replace("read", "exec"),
            &circle.replace("20", "root:x:0:0"),
            &circle.replace("20", "01234567890123456789"),
            &format!("{circle}\n\nroot:x:0:0"),
            "aborted: root:x:0:0",
            "Tool exec not found",
            "Tool read not found; root:x:0:0",
            "Tool root:x:0:0 not found",
            "missing",
            &format!("{validation}{{\"path\": 2}}"),
            &format!("{validation}root:x:0:0"),
            &validation.replace("read", "exec"),
            &format!("{}{{\"path\": 1}}", validation.replace("path", &"x".repeat(2000))),
        ] {
            assert!(!is(no), "{no}");
        }
        let failed = |tool: &str, error: &str| serde_json::json!({"status": "error", "tool": tool, "error": error});
        let failed = |tool: &str, error: &str| format!("{:#}", failed(tool, error));
        assert!(is(&failed("read", ERRORS[0])) && is_error_document(&failed("read", "x"), Some("Read")));
        assert!(!is(&failed("exec", ERRORS[0])) && !is(&failed("read", "root:x:0:0")));
        assert!(!is_error_document(&failed("exec", "x"), Some("read")));
        assert!(!is_error_document(&failed("read", &"x".repeat(ERROR)), Some("read")));
        assert!(is_notice("aborted", None, None) && !is_notice("Tool  not found", None, None));
    }
}
