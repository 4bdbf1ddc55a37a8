//! The files of the `config/` folder as the binary carries them, so that it works without any
//! configuration: they are what [`Source::BuiltIn`](super::Source) loads and what
//! [`starter`](super::starter) writes out, and the prices and the supervisor's prompt in them are
//! the defaults of every other configuration.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

use crate::money::Price;

/// The settings' file, relative to a config folder.
pub(super) const SETTINGS: &str = "majordomo.toml";

/// The folder of the agents' files, relative to a config folder.
pub(super) const AGENTS: &str = "agents";

/// Every shipped file: its path relative to a config folder, and its text.
pub(super) const FILES: [(&str, &str); 4] = [
    (SETTINGS, include_str!("../../../config/majordomo.toml")),
    (
        "agents/executor.toml",
        include_str!("../../../config/agents/executor.toml"),
    ),
    (
        "agents/researcher.toml",
        include_str!("../../../config/agents/researcher.toml"),
    ),
    (
        "agents/writer.toml",
        include_str!("../../../config/agents/writer.toml"),
    ),
];

/// The part of the shipped settings that other configurations inherit.
#[derive(Deserialize)]
struct Inherited {
    prices: BTreeMap<String, Price>,
    supervisor: Prompt,
}

#[derive(Deserialize)]
struct Prompt {
    prompt: String,
}

#[expect(
    clippy::expect_used,
    reason = "the text is part of the binary and every test reads it"
)]
static INHERITED: LazyLock<Inherited> =
    LazyLock::new(|| toml::from_str(FILES[0].1).expect("the shipped settings parse"));

/// The dated price table that the program brings along.
pub(super) fn prices() -> &'static BTreeMap<String, Price> {
    &INHERITED.prices
}

/// The supervisor's system prompt where the configuration has none.
pub(super) fn supervisor_prompt() -> &'static str {
    &INHERITED.supervisor.prompt
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_config_folder_is_shipped() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/agents");
        let mut on_disk: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| format!("agents/{}", entry.unwrap().file_name().to_str().unwrap()))
            .collect();
        on_disk.sort();
        assert_eq!(
            on_disk,
            FILES[1..].iter().map(|(path, _)| *path).collect::<Vec<_>>()
        );
    }

    #[test]
    fn shipped_prices_are_plausible() {
        assert!(prices().len() >= 10);
        for (model, price) in prices() {
            let cached = price.cached_input.unwrap_or(price.input);
            let rises = 0.0 < cached && cached <= price.input && price.input <= price.output;
            assert!(rises, "{model}: {price:?}");
            assert!(
                price.output < 1000.0,
                "{model} looks like a price per token or per billion"
            );
        }
    }
}
