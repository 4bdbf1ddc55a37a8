//! From configuration to what agents hold in their hands: models, tools, and the catalog that says
//! what is known of them. Reads files and the environment; opens no connection.

use std::collections::{BTreeMap, HashMap};
use std::env;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use reqwest::header::{HeaderName, HeaderValue};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use url::Url;

use agents::actor::Equipment;
use agents::catalog::{Catalog, ModelInfo};
use agents::tools::{Tool, ToolBox};
use shared::config::secret::SecretRef;
use shared::config::{
    self, AgentSpec, Config, KnownTools, ModelSettings, Need, OpenaiSettings, SearchSettings,
    Settings, Source,
};
use shared::egress::Gateway;
use shared::email::{Mailer, SmtpMailer};
use shared::id::{ModelName, ToolName};
use shared::model::Model;
use shared::model::offline::OfflineModel;
use shared::model::openai::{OpenaiConfig, OpenaiModel};
use shared::model::scripted::ScriptedModel;

use crate::supervise::SUPERVISOR;

/// The model used where the environment has a key and does not say which model.
const AUTO_MODEL: &str = "gpt-5-mini";
/// Seconds that a model inside the process may take.
const INNER_TIMEOUT_S: u32 = 60;

/// A loaded configuration with everything that it asks for.
pub struct Equipped {
    /// The configuration.
    pub config: Config,
    /// The catalog made from it.
    pub catalog: Catalog,
    /// What each agent has; the supervisor's own model calls are one of them.
    pub equipment: Vec<Equipment>,
    /// What each model is.
    pub models: Vec<ModelCard>,
    /// By which letters leave, where a mail server is configured.
    pub mailer: Option<Arc<dyn Mailer>>,
}

/// What a model is, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelCard {
    /// Its name in the configuration.
    pub name: ModelName,
    /// What it is.
    pub description: String,
    /// Whether it is the rule-based one inside the program.
    pub offline: bool,
    /// The environment variable whose key was found, where the configuration names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found_by: Option<String>,
}

/// A model that is ready to be asked, with what is known of it.
struct Ready {
    model: Arc<dyn Model>,
    info: ModelInfo,
    card: ModelCard,
}

/// The tools that a configuration may name: the built-in ones and `extra`.
pub fn known_tools(extra: &[Arc<dyn Tool>]) -> KnownTools {
    let built_in = [
        "ask_human",
        "search_files",
        "read_file",
        "write_file",
        "fetch_page",
    ];
    let extra = extra.iter().map(|tool| tool.info().name.clone());
    let names = built_in.into_iter().map(ToolName::from).chain(extra);
    KnownTools::from_iter(names)
        .with_needing("web_search", Need::Search)
        .with_needing("send_email", Need::Email)
}

/// Loads the configuration and builds what it asks for; `own` models stand in for those of their
/// names.
pub fn load(
    source: &Source,
    extra: &[Arc<dyn Tool>],
    own: &BTreeMap<ModelName, Arc<dyn Model>>,
) -> anyhow::Result<Equipped> {
    let config = config::load(source, &known_tools(extra))?;
    let settings = &config.settings;
    let gateway = Gateway::new(&settings.egress).context("[egress] allow_private")?;
    let mailer = mailer(settings, &gateway)?;
    let mut tools = ToolBox::built_in(settings, &gateway, search_key(settings)?, mailer.clone())?;
    for tool in extra {
        tools = tools.with(tool.clone());
    }
    let tools = tools
        .priced(&settings.tools)
        .map_err(|name| anyhow!("[tools.{name}]: there is no tool {name}"))?;
    let mut models = ready_models(settings, &gateway)?;
    for (name, model) in own {
        models.insert(name.clone(), inner(name, model.clone(), false));
    }
    Ok(Equipped {
        catalog: catalog(&config, &tools, &models),
        equipment: equipment(&config, &tools, &models)?,
        models: models.into_values().map(|ready| ready.card).collect(),
        mailer,
        config,
    })
}

fn search_key(settings: &Settings) -> anyhow::Result<Option<SecretString>> {
    let Some(SearchSettings::Tavily { api_key, .. }) = &settings.search else {
        return Ok(None);
    };
    let key = api_key.resolve().context("[search] api_key")?;
    Ok(Some(SecretString::from(key.expose())))
}

/// The sender that `[email]` describes.
fn mailer(settings: &Settings, gateway: &Gateway) -> anyhow::Result<Option<Arc<dyn Mailer>>> {
    let mailer = settings
        .email
        .as_ref()
        .map(|email| SmtpMailer::new(email, gateway));
    Ok(mailer
        .transpose()?
        .map(|mailer| Arc::new(mailer) as Arc<dyn Mailer>))
}

fn ready_models(
    settings: &Settings,
    gateway: &Gateway,
) -> anyhow::Result<BTreeMap<ModelName, Ready>> {
    let build = |(name, model): (&ModelName, &ModelSettings)| {
        let ready = ready(name, model, settings, gateway);
        Ok((
            name.clone(),
            ready.with_context(|| format!("[models.{name}]"))?,
        ))
    };
    settings.models.iter().map(build).collect()
}

fn ready(
    name: &ModelName,
    model: &ModelSettings,
    settings: &Settings,
    gateway: &Gateway,
) -> anyhow::Result<Ready> {
    match model {
        ModelSettings::Offline {} => Ok(inner(name, Arc::new(OfflineModel), true)),
        ModelSettings::Scripted { file } => {
            let script = ScriptedModel::open(file)?;
            Ok(inner(name, Arc::new(script), false))
        }
        ModelSettings::Openai(endpoint) => openai(name, endpoint, settings, gateway, None),
        ModelSettings::Auto {} => match auto(settings)? {
            Some((variable, endpoint)) => {
                openai(name, &endpoint, settings, gateway, Some(variable))
            }
            None => Ok(inner(name, Arc::new(OfflineModel), true)),
        },
    }
}

/// The endpoint that the environment speaks of, by the variables that OpenAI's own clients read, and
/// the variable that led to it. A server of one's own may need no key.
fn auto(settings: &Settings) -> anyhow::Result<Option<(&'static str, OpenaiSettings)>> {
    let set = |name| env::var(name).ok().filter(|value| !value.is_empty());
    let (key, url) = (set("OPENAI_API_KEY"), set("OPENAI_BASE_URL"));
    let found_by = match (&key, &url) {
        (Some(_), _) => "OPENAI_API_KEY",
        (None, Some(_)) => "OPENAI_BASE_URL",
        (None, None) => return Ok(None),
    };
    let base_url = url.unwrap_or_else(|| "https://api.openai.com/v1".into());
    let base_url = Url::parse(&base_url).with_context(|| {
        format!("OPENAI_BASE_URL={base_url} is no address such as http://127.0.0.1:11434/v1")
    })?;
    let model = set("OPENAI_MODEL").unwrap_or_else(|| AUTO_MODEL.into());
    let here = matches!(
        base_url.host_str(),
        Some("localhost" | "127.0.0.1" | "[::1]")
    );
    let reference = || {
        "${OPENAI_API_KEY}"
            .parse()
            .map_err(|error| anyhow!("{error}"))
    };
    let endpoint = OpenaiSettings {
        // A proxy on this machine may pass on to a model that has its price.
        local: here && settings.price_of(&model, false).is_err(),
        // Known of the one that is taken where nobody names another.
        vision: model == AUTO_MODEL,
        model,
        base_url,
        api_key: key.map(|_| reference()).transpose()?,
        headers: BTreeMap::new(),
        stream: true,
        context_tokens: 128_000,
        timeout_s: 120,
    };
    Ok(Some((found_by, endpoint)))
}

fn inner(name: &ModelName, model: Arc<dyn Model>, offline: bool) -> Ready {
    Ready {
        info: ModelInfo {
            price: model.price(),
            context_tokens: model.context_tokens(),
            timeout_s: INNER_TIMEOUT_S,
            vision: model.sees(),
        },
        card: ModelCard {
            name: name.clone(),
            description: model.describe(),
            offline,
            found_by: None,
        },
        model,
    }
}

fn openai(
    name: &ModelName,
    endpoint: &OpenaiSettings,
    settings: &Settings,
    gateway: &Gateway,
    found_by: Option<&str>,
) -> anyhow::Result<Ready> {
    let price = settings.price_of(&endpoint.model, endpoint.local)?;
    let api_key = endpoint
        .api_key
        .as_ref()
        .map(SecretRef::resolve)
        .transpose();
    let api_key = api_key.context("api_key")?;
    let headers = endpoint.headers.iter().map(|(header, value)| {
        let secret = value
            .resolve()
            .with_context(|| format!("headers.{header}"))?;
        let mut value =
            HeaderValue::from_str(secret.expose()).with_context(|| format!("headers.{header}"))?;
        value.set_sensitive(true);
        Ok((HeaderName::try_from(header.as_str())?, value))
    });
    let trusted = gateway.trusted(&endpoint.base_url, endpoint.local)?;
    let model = OpenaiModel::new(OpenaiConfig {
        client: trusted.client().clone(),
        base_url: endpoint.base_url.clone(),
        model: endpoint.model.clone(),
        api_key: api_key.map(|key| SecretString::from(key.expose())),
        headers: headers.collect::<anyhow::Result<_>>()?,
        stream: endpoint.stream,
        price,
        context_tokens: endpoint.context_tokens,
        vision: endpoint.vision,
        label: name.to_string(),
    })?;
    Ok(Ready {
        info: ModelInfo {
            price,
            context_tokens: endpoint.context_tokens,
            timeout_s: endpoint.timeout_s,
            vision: endpoint.vision,
        },
        card: ModelCard {
            name: name.clone(),
            description: model.describe(),
            offline: false,
            found_by: found_by.map(str::to_owned),
        },
        model: Arc::new(model),
    })
}

fn catalog(config: &Config, tools: &ToolBox, models: &BTreeMap<ModelName, Ready>) -> Catalog {
    let settings = &config.settings;
    let agents = config.agents.iter();
    let named = config.agents.iter().flat_map(|spec| &spec.tools);
    let infos = named
        .filter_map(|name| tools.get(name))
        .map(|tool| tool.info());
    Catalog {
        agents: agents
            .map(|spec| (spec.name.clone(), spec.clone()))
            .collect(),
        tools: infos
            .map(|info| (info.name.clone(), info.clone()))
            .collect(),
        models: models
            .iter()
            .map(|(name, ready)| (name.clone(), ready.info))
            .collect(),
        supervisor: settings.supervisor.clone(),
        routes: settings.routes.clone(),
        limits: settings.limits,
        approvals: Some(settings.approvals.clone()),
        help_within_s: settings.escalation.help_within_s(),
        retry: settings.retry,
    }
}

fn equipment(
    config: &Config,
    tools: &ToolBox,
    models: &BTreeMap<ModelName, Ready>,
) -> anyhow::Result<Vec<Equipment>> {
    let settings = &config.settings;
    let approvals = Arc::new(settings.approvals.clone());
    let equip = |name: &str, model: &ModelName, own: &[ToolName], concurrency: u32| {
        let ready = models
            .get(model)
            .ok_or_else(|| anyhow!("agent {name}: there is no model {model}"))?;
        let held = own
            .iter()
            .filter_map(|tool| Some((tool.clone(), tools.get(tool)?.clone())));
        Ok(Equipment {
            name: name.into(),
            model: ready.model.clone(),
            model_name: ready.card.description.as_str().into(),
            tools: held.collect::<HashMap<_, _>>(),
            approvals: approvals.clone(),
            permits: Arc::new(Semaphore::new(concurrency.max(1) as usize)),
        })
    };
    let of_agent = |spec: &AgentSpec| {
        equip(
            spec.name.as_str(),
            &spec.model,
            &spec.tools,
            spec.limits.concurrency,
        )
    };
    let supervisor = equip(
        SUPERVISOR,
        &settings.supervisor.model,
        &[],
        settings.engine.live_runs,
    );
    std::iter::once(supervisor)
        .chain(config.agents.iter().map(of_agent))
        .collect()
}
