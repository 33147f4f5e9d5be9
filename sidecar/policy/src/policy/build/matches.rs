//! Which actions rules and limits are about, and which tools a category.

use super::super::Match;
use super::places::check_method;
use super::{At, MAX_PATTERNS, Result};
use crate::document::{Category, HttpMatchDoc, MatchDoc, ToolCategoryDoc};
use crate::pattern::{OperationPattern, PathPattern, ToolPattern};

/// Reads what a rule or limit is about.
pub(super) fn parse_match(at: &At<'_>, doc: MatchDoc) -> Result<Match> {
    let filled = |empty: bool| if empty { at.refuse("it matches nothing: the list is empty") } else { Ok(()) };
    match doc {
        MatchDoc::Tools(tools) => {
            filled(tools.is_empty())?;
            Ok(Match::Tools(at.patterns(&tools, ToolPattern::parse)?))
        }
        MatchDoc::Operations(operations) => {
            filled(operations.is_empty())?;
            Ok(Match::Operations(at.patterns(&operations, OperationPattern::parse)?))
        }
        MatchDoc::Http(HttpMatchDoc { upstreams, methods, paths }) => {
            filled(upstreams.is_empty())?;
            if upstreams.len().max(methods.len()) > MAX_PATTERNS {
                return at.refuse(format!("a list has at most {MAX_PATTERNS} entries"));
            }
            upstreams.iter().try_for_each(|upstream| at.name(upstream))?;
            methods.iter().try_for_each(|method| check_method(at, method))?;
            Ok(Match::Http { upstreams, methods, paths: at.patterns(&paths, PathPattern::parse)? })
        }
        MatchDoc::Category(category) => Ok(Match::Category(category)),
    }
}

/// Reads what a tenant says of tools.
pub(super) fn parse_categories(object: &str, docs: &[ToolCategoryDoc]) -> Result<Vec<(ToolPattern, Category)>> {
    let at = At { object, rule: None };
    if docs.len() > MAX_PATTERNS {
        return at.refuse(format!("at most {MAX_PATTERNS} entries say what tools do"));
    }
    let mut all = Vec::new();
    for ToolCategoryDoc { tools, category } in docs {
        all.extend(at.patterns(tools, ToolPattern::parse)?.into_iter().map(|pattern| (pattern, *category)));
    }
    Ok(all)
}
