//! The table of codes in the documentation is the one in the code: `make docs` writes it, this test compares it.

use std::path::Path;

use clawlock_policy::Code;
use clawlock_proxy::problem::status;

const BEGIN: &str = "<!-- codes: begin -->\n";
const END: &str = "<!-- codes: end -->\n";

fn table() -> String {
    let mut text = String::from("\n| code | HTTP | title | meaning | retryable |\n|---|---|---|---|---|\n");
    for code in Code::ALL {
        let retryable = if code.retryable() { "yes" } else { "no" };
        let (status, title, meaning) = (status(*code).as_u16(), code.title(), code.meaning().trim());
        text.push_str(&format!("| `{code}` | {status} | {title} | {meaning} | {retryable} |\n"));
    }
    text.push('\n');
    text
}

#[test]
fn the_table_of_codes_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/codes.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("docs/codes.md has a line that begins the table");
    let (written, after) = rest.split_once(END).expect("docs/codes.md has a line that ends the table");
    let table = table();
    if std::env::var_os("CLAWLOCK_WRITE_DOCS").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{table}{END}{after}")).unwrap();
    } else {
        assert!(written == table, "docs/codes.md is out of date; run: make docs");
    }
}
