//! Results as the XML that CI systems know from JUnit: one suite per file, one case per case.

use super::report::{Report, Tested};

/// The document.
pub(super) fn render(report: &Report) -> String {
    let Report { passed, failed, cases } = report;
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    text += &format!("<testsuites name=\"clawlock test\" tests=\"{}\" failures=\"{failed}\">\n", passed + failed);
    // Cases come file by file.
    for cases in cases.chunk_by(|one, next| one.file == next.file) {
        let name = cases.first().map(|case| case.file.display().to_string()).unwrap_or_default();
        let failures = cases.iter().filter(|case| !case.passed).count();
        let (name, count) = (escape(&name), cases.len());
        text += &format!("  <testsuite name=\"{name}\" tests=\"{count}\" failures=\"{failures}\">\n");
        cases.iter().for_each(|case| text += &render_case(case, &name));
        text += "  </testsuite>\n";
    }
    text + "</testsuites>\n"
}

fn render_case(case: &Tested, suite: &str) -> String {
    let Tested { file: _, line, name, passed, mismatches, got } = case;
    let open =
        format!("    <testcase classname=\"{suite}\" name=\"{}\" file=\"{suite}\" line=\"{line}\"", escape(name));
    if *passed {
        return open + "/>\n";
    }
    let (message, words) = (escape(&mismatches.join("; ")), escape(&got.words()));
    let detail = got.detail.as_deref().map(escape).unwrap_or_default();
    format!("{open}>\n      <failure message=\"{message}\">{words}\n{detail}</failure>\n    </testcase>\n")
}

/// A text for an attribute or between tags. What XML 1.0 has no place for, even escaped, becomes U+FFFD.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&apos;",
            '\t' | '\n' | '\r' => out += &format!("&#{};", u32::from(character)),
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => out.push(char::REPLACEMENT_CHARACTER),
            _ => out.push(character),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::report::Got;
    use crate::log::Verdict;

    fn case(file: &str, name: &str, passed: bool) -> Tested {
        let mismatches = if passed { Vec::new() } else { vec!["expected deny, got allow".to_owned()] };
        let (verdict, code, shadow) = (Verdict::Allow, None, None);
        let got = Got { verdict, policy: None, rule: None, code, shadow, halts: false, detail: None };
        Tested { file: file.into(), line: 3, name: name.to_owned(), passed, mismatches, got }
    }

    #[test]
    fn files_are_suites_and_no_name_ends_a_tag() {
        let mut report = Report::default();
        report.add(case("a.test.yaml", "one", true));
        report.add(case("b.test.yaml", "\"><x>&\u{1b}\n", false));
        let text = render(&report);
        assert!(text.contains("<testsuites name=\"clawlock test\" tests=\"2\" failures=\"1\">"), "{text}");
        assert!(text.contains("<testsuite name=\"a.test.yaml\" tests=\"1\" failures=\"0\">"), "{text}");
        assert!(text.contains("name=\"&quot;&gt;&lt;x&gt;&amp;\u{fffd}&#10;\""), "{text}");
        assert!(text.contains("<failure message=\"expected deny, got allow\">allow"), "{text}");
    }
}
