//! The categories of OpenClaw's own tools.
//!
//! Operations of upstreams get their category from whoever declares them; tools have nobody who could, so
//! there is one table for all agents. It holds what a tool does by its nature, and only tools with one
//! answer: `apply_patch`, which writes and deletes, is not in it. A tool that is not in it has no category.

use crate::document::Category;

/// Names of tools by category, as OpenClaw 2026.9 has them.
pub const TOOLS: [(Category, &[&str]); 5] = [
    (
        Category::Read,
        &[
            "read",
            "memory_get",
            "memory_search",
            "sessions_list",
            "sessions_history",
            "sessions_search",
            "session_status",
        ],
    ),
    (Category::Write, &["write", "edit"]),
    // A shell can do all that the others do; a rule about Delete does not see `rm`.
    (Category::Shell, &["exec", "bash", "process", "terminal", "code_execution"]),
    (Category::Network, &["web_fetch", "web_search", "x_search", "browser", "message"]),
    (Category::Admin, &["gateway", "openclaw", "plugins", "nodes", "cron", "automations", "skill_workshop"]),
];

/// The category of a tool; `None`: nothing is known of it. Names are compared exactly: `Exec` is another tool.
#[must_use]
pub fn of_tool(name: &str) -> Option<Category> {
    TOOLS.iter().find(|(_, names)| names.contains(&name)).map(|(category, _)| *category)
}

impl Category {
    /// All categories.
    pub const ALL: [Self; 7] =
        [Self::Read, Self::Write, Self::Delete, Self::Money, Self::Shell, Self::Network, Self::Admin];

    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "Read",
            Self::Write => "Write",
            Self::Delete => "Delete",
            Self::Money => "Money",
            Self::Shell => "Shell",
            Self::Network => "Network",
            Self::Admin => "Admin",
        }
    }
}
