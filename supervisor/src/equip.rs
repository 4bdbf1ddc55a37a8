//! From configuration to what agents hold in their hands: models, tools, and the catalog that says
//! what is known of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use agents::actor::Equipment;
use agents::catalog::{Catalog, ModelInfo};
use shared::config::Config;
use shared::id::ModelName;
use shared::model::Model;

use crate::app::Options;

/// A loaded configuration with everything that it asks for.
pub struct Equipped {
    /// The configuration.
    pub config: Config,
    /// The catalog made from it.
    pub catalog: Catalog,
    /// What each agent has; the supervisor's own model calls are one of them.
    pub equipment: Vec<Equipment>,
    /// What each model is, for people.
    pub models: Vec<(String, String)>,
}

/// Loads the configuration and builds what it asks for. Opens nothing and sends nothing.
pub fn load(_options: &Options) -> anyhow::Result<Equipped> {
    let _ = BTreeMap::<ModelName, (Arc<dyn Model>, ModelInfo)>::new();
    anyhow::bail!("not wired yet")
}
