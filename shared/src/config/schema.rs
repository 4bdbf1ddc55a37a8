//! The JSON Schemas of the configuration's files, generated from `types.rs`, doc
//! comments included. Editors use them through `#:schema`, `majordomo schema` prints them, and
//! `shape.rs` holds every file against them, so the three cannot drift apart.

use serde_json::Value;

use super::types::{AgentFile, Settings};

/// The schema of `majordomo.toml`.
pub fn settings() -> Value {
    schemars::schema_for!(Settings).to_value()
}

/// The schema of an agent's file.
pub fn agent() -> Value {
    schemars::schema_for!(AgentFile).to_value()
}

#[cfg(test)]
mod tests {
    use super::super::builtin::{FILES, SETTINGS};
    use super::*;

    fn validator_of(path: &str) -> jsonschema::Validator {
        let schema = if path == SETTINGS {
            settings()
        } else {
            agent()
        };
        jsonschema::validator_for(&schema).unwrap()
    }

    #[test]
    fn the_shipped_files_are_valid_by_their_schemas() {
        for (path, text) in FILES {
            let file: Value = toml::from_str(text).unwrap();
            let errors: Vec<_> = validator_of(path)
                .iter_errors(&file)
                .map(|error| error.to_string())
                .collect();
            assert!(errors.is_empty(), "{path}: {errors:?}");
        }
    }

    #[test]
    fn the_schemas_refuse_unknown_keys() {
        for (path, text) in FILES {
            let file: Value = toml::from_str(&format!("surprise = 1\n{text}")).unwrap();
            assert!(!validator_of(path).is_valid(&file), "{path}");
        }
    }

    #[test]
    fn every_key_is_described() {
        for schema in [settings(), agent()] {
            let tables = schema["$defs"]
                .as_object()
                .unwrap()
                .values()
                .chain([&schema]);
            for (key, member) in tables
                .filter_map(|table| table["properties"].as_object())
                .flatten()
            {
                assert!(member["description"].is_string(), "{key}");
            }
        }
    }
}
