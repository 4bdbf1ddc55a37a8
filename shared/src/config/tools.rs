//! The tools that exist, as the configuration needs to know them: their names, and what must be
//! configured before they can be used. The tools themselves live with the agents; the binary fills
//! this list from them.

use super::document::Document;
use crate::id::ToolName;

/// The tools that agents' files may list.
#[derive(Clone, Debug, Default)]
pub struct KnownTools(Vec<(ToolName, Option<Need>)>);

/// What a tool cannot work without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// A search provider, `[search]`.
    Search,
    /// A mail server, `[email]`.
    Email,
}

impl KnownTools {
    /// Adds a tool that always works.
    pub fn with(mut self, name: impl Into<ToolName>) -> Self {
        self.0.push((name.into(), None));
        self
    }

    /// Adds a tool that works where its need is met, and is left out of agents elsewhere.
    pub fn with_needing(mut self, name: impl Into<ToolName>, need: Need) -> Self {
        self.0.push((name.into(), Some(need)));
        self
    }

    /// The names of all tools, whether usable or not.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// What `name` needs and `settings` lack.
    pub(super) fn unmet(&self, name: &str, settings: &Document<'_>) -> Option<Need> {
        let (_, need) = self.0.iter().find(|(known, _)| known.as_str() == name)?;
        need.filter(|need| settings.find(&[need.section()]).is_empty())
    }
}

impl<N: Into<ToolName>> FromIterator<N> for KnownTools {
    fn from_iter<I: IntoIterator<Item = N>>(names: I) -> Self {
        Self(names.into_iter().map(|name| (name.into(), None)).collect())
    }
}

impl Need {
    fn section(self) -> &'static str {
        match self {
            Need::Search => "search",
            Need::Email => "email",
        }
    }

    pub(super) fn reason(self) -> &'static str {
        match self {
            Need::Search => "no search provider is configured",
            Need::Email => "no mail server is configured",
        }
    }

    pub(super) fn help(self) -> &'static str {
        match self {
            Need::Search => {
                "add to majordomo.toml:\n\n\
                 [search]\n\
                 provider = \"tavily\"\n\
                 api_key = \"${TAVILY_API_KEY}\""
            }
            Need::Email => {
                "add to majordomo.toml (docs/email.md says more):\n\n\
                 [email]\n\
                 host = \"smtp.example.org\"\n\
                 user = \"majordomo@example.org\"\n\
                 password = \"${SMTP_PASSWORD}\"\n\
                 from = \"Majordomo <majordomo@example.org>\"\n\
                 allow = [\"@example.org\"]"
            }
        }
    }
}
