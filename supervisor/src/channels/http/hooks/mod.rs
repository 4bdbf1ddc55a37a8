//! Hooks: what another service sends, and has signed, becomes a task by a template. Nobody without the
//! secret learns whether a hook is there.
//!
//! ```text
//!   body ─► size ─► signature over its bytes ─► rate ─► JSON ─► when ─► dedupe, text ─► intake
//! ```
//! What comes is data of strangers even where its sender is known: somebody wrote that issue. It stands
//! between marks in the task's text ([`template`]), and the task bears the label `hook`.

pub(super) mod template;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request as HttpRequest, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};

use shared::config::{HookSettings, Verify};
use shared::hash::Hash;
use shared::id::PrincipalId;
use shared::store::Accepted;
use shared::task::{Budget, Request, Said, TaskState};

use super::problem::{Kind, Problem};
use super::rate::{Peer, Who};
use super::{Door, input, tasks};
use crate::channels::signature::{BadSecret, Key};
use crate::intake::Submission;
use crate::wire::{Ignored, ProblemBody, TaskRef};
use template::{Place, Source, Template};

/// The channel of tasks that hooks hand in.
const CHANNEL: &str = "hook";

/// The hooks of an instance, by name.
#[derive(Default)]
pub struct Hooks(HashMap<String, Hook>);

/// A hook that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("[hooks.{name}] secret: {why}")]
pub struct BadHook {
    name: String,
    why: String,
}

/// A hook.
struct Hook {
    name: String,
    settings: HookSettings,
    key: Key,
    text: Template,
    principal: PrincipalId,
    when: Vec<(Place, String)>,
    dedupe: Option<Template>,
}

impl Hooks {
    /// Those of the configuration. Reads their secrets.
    pub fn new(settings: &BTreeMap<String, HookSettings>) -> Result<Self, BadHook> {
        let hooks = settings
            .iter()
            .map(|(name, hook)| Ok((name.clone(), Hook::new(name, hook)?)));
        hooks.collect::<Result<_, _>>().map(Self)
    }

    /// The hook of this name, where it signed what came.
    fn signed(&self, name: &str, headers: &HeaderMap, body: &[u8], now_s: i64) -> Option<&Hook> {
        let hook = self.0.get(name)?;
        hook.signed(headers, body, now_s)?.then_some(hook)
    }
}

impl Hook {
    fn new(name: &str, settings: &HookSettings) -> Result<Self, BadHook> {
        let bad = |why: String| BadHook {
            name: name.to_owned(),
            why,
        };
        let secret = settings.secret.resolve().map_err(|e| bad(e.to_string()))?;
        let key = match settings.verify {
            Verify::Standard => Key::of_standard(secret.expose())
                .map_err(|error: BadSecret| bad(error.to_string()))?,
            Verify::Github | Verify::Stripe | Verify::Hmac => Key::of_text(secret.expose()),
        };
        let when = settings.when.iter();
        let own = || format!("{CHANNEL}:{name}").into();
        Ok(Self {
            name: name.to_owned(),
            key,
            text: Template::parse(&settings.text),
            principal: settings.principal.clone().unwrap_or_else(own),
            when: when
                .map(|(place, value)| (Place::parse(place), value.clone()))
                .collect(),
            dedupe: settings.dedupe.as_deref().map(Template::parse),
            settings: settings.clone(),
        })
    }

    /// Whether the headers hold a good signature of the body; none where they hold no signature.
    fn signed(&self, headers: &HeaderMap, body: &[u8], now_s: i64) -> Option<bool> {
        let header = |name: &str| one(headers, name);
        let key = &self.key;
        Some(match self.settings.verify {
            Verify::Github => key.is_github(header("x-hub-signature-256")?, body),
            Verify::Stripe => key.is_stripe(header("stripe-signature")?, body, now_s),
            Verify::Standard => {
                let signed = (
                    header("webhook-id")?,
                    header("webhook-timestamp")?,
                    header("webhook-signature")?,
                );
                key.is_standard(signed, body, now_s)
            }
            Verify::Hmac => {
                let shown = header(self.settings.header.as_deref()?)?;
                key.is_plain(shown, &self.settings.prefix, self.settings.encoding, body)
            }
        })
    }

    fn wants(&self, source: Source<'_>) -> bool {
        let mut when = self.when.iter();
        when.all(|(place, value)| place.read(source) == *value)
    }

    /// What a request is known by when it is sent again.
    fn known_by(&self, source: Source<'_>, body: &[u8]) -> String {
        let text = match (&self.dedupe, self.settings.verify) {
            (Some(template), _) => template.bare(source),
            (None, Verify::Stripe) => Template::parse("{{id}}").bare(source),
            (None, Verify::Standard) => Template::parse("{{header:webhook-id}}").bare(source),
            // GitHub's delivery is not signed: who has one request could send it again under others.
            (None, Verify::Github | Verify::Hmac) => None,
        };
        let hash = match text {
            Some(text) => Hash::of_bytes(format!("key {text}").as_bytes()),
            None => Hash::of_bytes(body),
        };
        format!("{CHANNEL}/{}/{hash}", self.name)
    }

    fn submission(&self, source: Source<'_>, body: &[u8]) -> Submission {
        let key = self.known_by(source, body);
        // The same key is the same task, whatever else came with it.
        let hash = Hash::of_bytes(key.as_bytes());
        Submission {
            request: Request {
                text: self.text.marked(source, &self.name),
                agent: self.settings.agent.clone(),
                channel: CHANNEL.into(),
                thread: None,
                metadata: [(CHANNEL.to_owned(), self.name.clone())].into(),
                budget: Budget::default(),
                said: Said::default(),
                priority: 0,
                images: Vec::new(),
            },
            principal: self.principal.clone(),
            submitted_by: format!("{CHANNEL}:{}", self.name).into(),
            dedupe: Some((key, hash)),
            read: None,
            card: None,
            since: None,
            blobs: Vec::new(),
        }
    }
}

/// A header that was sent once, as text.
pub(super) fn one<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

/// Takes in what another service sends, as `[hooks.NAME]` says. On 202 the task is durable. The same
/// request sent again is the same task.
#[utoipa::path(post, path = "/v1/hooks/{name}", tag = "hooks", operation_id = "take_hook", security(()),
    params(("name" = String, Path, description = "The hook's name in the configuration")),
    request_body(content = Object, description = "What the service sends, signed as the hook wants it"),
    responses(
        (status = 200, description = "What the hook's `when` does not ask for", body = Ignored),
        (status = 202, description = "It is taken in", body = TaskRef),
        (status = 429, description = "Too often; `Retry-After` says when again", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "The store failed; send it again", body = ProblemBody, content_type = "application/problem+json"),
        (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json")))]
pub(in crate::channels::http) async fn take(
    State(door): State<Arc<Door>>,
    name: Result<Path<String>, PathRejection>,
    http: HttpRequest,
) -> Result<Response, Problem> {
    let (peer, headers) = (Peer::of(&http), http.headers().clone());
    let body = input::bytes(http).await?;
    let name = name.map(|Path(name)| name).unwrap_or_default();
    let now_s = shared::clock::now().0 / 1000;
    let Some(hook) = door.hooks.signed(&name, &headers, &body, now_s) else {
        door.rates.take(Who::Stranger(peer))?;
        let detail = "there is no such hook, or the request is not signed as it must be";
        return Err(Problem::new(Kind::Unsigned, detail));
    };
    door.rates.take(Who::Hook(name))?;
    let value = input::parse(&body)?;
    let source = Source {
        body: &value,
        headers: &headers,
    };
    if !hook.wants(source) {
        return Ok(Json(Ignored { ignored: true }).into_response());
    }
    let submission = hook.submission(source, &body);
    let (id, state) = match door.inside.intake().submit(submission).await? {
        Accepted::New(id) => (id, TaskState::Queued),
        Accepted::Known(id) | Accepted::Conflict(id) => (id, door.task(id).await?.state),
    };
    let taken = TaskRef {
        id,
        state: state.as_str().into(),
    };
    Ok((StatusCode::ACCEPTED, tasks::location(id), Json(taken)).into_response())
}
