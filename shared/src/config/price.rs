//! What a model costs by the configuration. A model without a price is refused: money that cannot
//! be counted cannot be limited.

use super::builtin;
use super::types::Settings;
use crate::money::Price;

/// No price is known for a model. Its `Display` is the whole message, with the lines to paste.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}\n{}", self.what(), self.help())]
pub struct MissingPrice {
    /// The model's name at the provider.
    pub model: String,
}

impl MissingPrice {
    /// What is wrong, in one line.
    pub fn what(&self) -> String {
        let model = &self.model;
        format!("there is no price for model `{model}`, so its cost could not be limited")
    }

    /// What to write into `majordomo.toml`.
    pub fn help(&self) -> String {
        // A TOML string in quotes escapes as this does.
        let model = toml::Value::from(self.model.as_str());
        format!(
            "look the price up at the provider and add to majordomo.toml, with dollars per million \
             tokens in place of 0.00:\n\n\
             [prices.{model}]\n\
             input = 0.00\n\
             output = 0.00\n\n\
             a server of your own costs nothing: write `local = true` in its [models.NAME] instead"
        )
    }
}

impl Settings {
    /// What the provider's model of this name costs: nothing where it is `local`, else the price in
    /// `[prices]`, else the one that the program brings along.
    pub fn price_of(&self, model: &str, local: bool) -> Result<Price, MissingPrice> {
        if local {
            return Ok(Price::FREE);
        }
        let price = self
            .prices
            .get(model)
            .or_else(|| builtin::prices().get(model));
        price.copied().ok_or_else(|| MissingPrice {
            model: model.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_comes_from_the_file_then_from_the_program_then_from_nowhere() {
        let mut settings = Settings::default();
        let shipped = settings.price_of("gpt-4o-mini", false).unwrap();
        assert!(shipped.input > 0.0);
        settings.prices.insert(
            "gpt-4o-mini".into(),
            Price {
                input: 7.0,
                ..shipped
            },
        );
        assert_eq!(settings.price_of("gpt-4o-mini", false).unwrap().input, 7.0);
        assert_eq!(settings.price_of("mine", true), Ok(Price::FREE));
        assert!(settings.price_of("mine", false).is_err());
    }

    #[test]
    fn the_lines_to_paste_are_toml_that_sets_this_price() {
        let missing = Settings::default()
            .price_of("a\"b/gpt-x", false)
            .unwrap_err();
        let message = missing.to_string();
        let lines = message.split("\n\n").nth(1).unwrap();
        let mended: Settings = toml::from_str(lines).unwrap();
        assert!(mended.price_of("a\"b/gpt-x", false).is_ok());
    }
}
