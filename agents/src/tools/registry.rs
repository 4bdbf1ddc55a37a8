//! The tools that an installation has: the built-in ones as its configuration allows, and those that
//! a team adds in code. Built once at start; agents take from it what their files list.

use std::collections::BTreeMap;
use std::sync::Arc;

use secrecy::SecretString;

use shared::config::{Settings, ToolPrice};
use shared::egress::{ClientError, Gateway};
use shared::email::Mailer;
use shared::id::ToolName;
use shared::money::Usd;

use super::priced::Priced;
use super::{AskHuman, FetchPage, ReadFile, SearchFiles, SendEmail, Tool, WebSearch, WriteFile};

/// Tools by name.
#[derive(Clone, Default)]
pub struct ToolBox {
    tools: BTreeMap<ToolName, Arc<dyn Tool>>,
    missing: BTreeMap<ToolName, &'static str>,
}

/// Whether a known tool can be used here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Availability {
    /// It can.
    Ready,
    /// It cannot, and this is what it wants.
    Missing(&'static str),
}

impl ToolBox {
    /// No tools at all.
    pub fn empty() -> Self {
        Self::default()
    }

    /// The built-in tools. `web_search` is there where `[search]` is configured; `search_key` is
    /// its key, already taken from where the configuration says it lies. `send_email` is there where
    /// `[email]` is, and sends by `mailer`.
    pub fn built_in(
        settings: &Settings,
        gateway: &Gateway,
        search_key: Option<SecretString>,
        mailer: Option<Arc<dyn Mailer>>,
    ) -> Result<Self, ClientError> {
        let mut tools = Self::empty()
            .with(Arc::new(AskHuman::default()))
            .with(Arc::new(SearchFiles::new()))
            .with(Arc::new(ReadFile::new()))
            .with(Arc::new(WriteFile::new()))
            .with(Arc::new(FetchPage::new(gateway.clone())));
        match (&settings.search, search_key) {
            (Some(search), Some(key)) => {
                tools = tools.with(Arc::new(WebSearch::new(search, key, gateway)?))
            }
            (Some(_), None) => tools.lacks("web_search", "the key that [search] api_key names"),
            (None, _) => tools.lacks("web_search", "a section [search] in majordomo.toml"),
        }
        match (&settings.email, mailer) {
            (Some(email), Some(mailer)) => {
                tools = tools.with(Arc::new(SendEmail::new(mailer, email.timeout())))
            }
            _ => tools.lacks("send_email", "a section [email] in majordomo.toml"),
        }
        Ok(tools)
    }

    /// With one tool more; it takes the place of another of the same name.
    pub fn with(mut self, tool: Arc<dyn Tool>) -> Self {
        let name = tool.info().name.clone();
        self.missing.remove(&name);
        self.tools.insert(name, tool);
        self
    }

    /// With these prices in the place of tools' own. Fails with the name that no tool has.
    pub fn priced(mut self, prices: &BTreeMap<ToolName, ToolPrice>) -> Result<Self, ToolName> {
        for (name, set) in prices {
            match self.tools.remove(name) {
                Some(tool) => {
                    let price = Usd::from_dollars(set.usd_per_call);
                    let priced = Arc::new(Priced::new(tool, price));
                    self.tools.insert(name.clone(), priced);
                }
                None if self.missing.contains_key(name) => {}
                None => return Err(name.clone()),
            }
        }
        Ok(self)
    }

    fn lacks(&mut self, name: &str, what: &'static str) {
        self.missing.insert(name.into(), what);
    }

    /// The tool of this name, where it can be used.
    pub fn get(&self, name: &ToolName) -> Option<&Arc<dyn Tool>> {
        self.tools.get(name)
    }

    /// All tools that can be used, by name.
    pub fn tools(&self) -> impl Iterator<Item = &Arc<dyn Tool>> {
        self.tools.values()
    }

    /// All names that a configuration may use, and whether they can be used here.
    pub fn names(&self) -> BTreeMap<ToolName, Availability> {
        let ready = self
            .tools
            .keys()
            .map(|name| (name.clone(), Availability::Ready));
        let missing = self.missing.iter();
        ready
            .chain(missing.map(|(name, what)| (name.clone(), Availability::Missing(what))))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(settings: serde_json::Value, key: Option<&str>) -> Vec<(String, bool)> {
        let settings = serde_json::from_value(settings).unwrap();
        let gateway = Gateway::new(&Settings::default().egress).unwrap();
        let tools =
            ToolBox::built_in(&settings, &gateway, key.map(SecretString::from), None).unwrap();
        let ready = |availability| availability == Availability::Ready;
        tools
            .names()
            .into_iter()
            .map(|(name, is)| (name.to_string(), ready(is)))
            .collect()
    }

    #[test]
    fn web_search_is_there_where_it_is_configured() {
        let search = serde_json::json!({"search": {"provider": "tavily", "api_key": "${K}"}});
        for (settings, key, ready) in [
            (search.clone(), Some("k"), true),
            (search, None, false),
            (serde_json::json!({}), Some("k"), false),
        ] {
            let names = names(settings, key);
            let expected = [
                ("ask_human", true),
                ("fetch_page", true),
                ("read_file", true),
                ("search_files", true),
                ("send_email", false),
                ("web_search", ready),
                ("write_file", true),
            ];
            assert_eq!(
                names,
                expected.map(|(name, ready)| (name.to_owned(), ready))
            );
        }
    }

    #[test]
    fn a_tool_can_be_added_and_replaced() {
        let tools = ToolBox::empty()
            .with(Arc::new(ReadFile::new()))
            .with(Arc::new(ReadFile::new()));
        assert_eq!(tools.tools().count(), 1);
        assert!(tools.get(&"read_file".into()).is_some() && tools.get(&"other".into()).is_none());
    }
}
