//! The command line's side of the HTTP API of a live instance on this machine. One method for each
//! call; what they mean is told by the HTTP door. Answers that say what is wrong become faults with
//! the exit code that fits.

use std::time::Duration;

use anyhow::Context as _;
use eventsource_stream::Eventsource;
use futures::StreamExt;
use futures::stream::BoxStream;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;

use shared::ask::Decision;
use shared::event::Recorded;
use shared::id::{AskId, PermitId, RunId, TaskId};
use shared::store::{AskFilter, TaskFilter};

use super::exit::Fault;
use crate::asks::Collection;
use crate::doctor::Finding;
use crate::instance::{Instance, client_for};
use crate::transcript::Transcript;
use crate::view::TaskView;
use crate::wire::{AskPage, AskView};
use crate::wire::{BudgetPage, BudgetView, LimitOrder, UsagePage};
use crate::wire::{
    ChannelPage, ChannelView, PairingCode, PairingOrder, PeoplePage, PersonView, RemovedView,
    Revived,
};
use crate::wire::{
    DeadPage, DeadView, DoctorPage, ForkOrder, ProblemBody, Settlement, TaskOrder, TaskPage,
    TaskRef,
};
use crate::wire::{FeedbackOrder, Sign};
use crate::wire::{HaltView, ResumeOrder, StopOrder, StopPage};
use crate::wire::{PermitOrder, PermitPage, PermitView};
use crate::wire::{TokenOrder, TokenPage, TokenSecret, TokenView};

/// How long an answer other than a stream may take.
const ANSWER: Duration = Duration::from_secs(30);
/// How often a broken stream of events is taken up again before the instance counts as gone.
const RECONNECTS: u32 = 5;
/// By how much the pause before each of them grows; there is none before the first.
const RECONNECT: Duration = Duration::from_millis(500);

/// A client of one live instance.
#[derive(Clone)]
pub struct Client {
    /// The instance.
    pub instance: Instance,
    http: reqwest::Client,
}

impl Client {
    /// A client for this instance, whether it lives or not.
    pub fn new(instance: Instance) -> anyhow::Result<Self> {
        let http = client_for(&instance.url).context("instance.json")?;
        Ok(Self { instance, http })
    }

    /// Whether the instance answers.
    pub async fn is_alive(&self) -> bool {
        self.instance.is_alive(&self.http).await
    }

    /// `POST /v1/tasks`. Safe to repeat with the same `key`.
    pub async fn submit(&self, order: &TaskOrder, key: &str) -> anyhow::Result<TaskId> {
        let request = self
            .request(Method::POST, "/v1/tasks")
            .header("Idempotency-Key", key);
        let taken: TaskRef = self.read(request.json(order)).await?;
        Ok(taken.id)
    }

    /// `GET /v1/tasks/{id}`.
    pub async fn task(&self, task: TaskId) -> anyhow::Result<Option<TaskView>> {
        let request = self.request(Method::GET, &format!("/v1/tasks/{task}"));
        let answer = self.send(request.timeout(ANSWER)).await?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        Ok(Some(accepted(answer).await?.json().await?))
    }

    /// `GET /v1/tasks/{id}/files/{name}`.
    pub async fn file(&self, task: TaskId, name: &str) -> anyhow::Result<Option<Vec<u8>>> {
        let mut url = url::Url::parse(&self.instance.url)?;
        if let Ok(mut path) = url.path_segments_mut() {
            path.extend(["v1", "tasks", &task.to_string(), "files", name]);
        }
        let request = self.http.get(url).bearer_auth(&self.instance.token);
        let answer = self.send(request.timeout(ANSWER)).await?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        Ok(Some(accepted(answer).await?.bytes().await?.to_vec()))
    }

    /// `GET /v1/tasks`.
    pub async fn tasks(&self, filter: &TaskFilter) -> anyhow::Result<Vec<TaskView>> {
        let request = self.request(Method::GET, "/v1/tasks").query(&query(filter));
        let page: TaskPage = self.read(request).await?;
        Ok(page.tasks)
    }

    /// `POST /v1/tasks/{id}/` and `cancel`, `pause` or `resume`.
    pub async fn say(&self, task: TaskId, word: &str) -> anyhow::Result<()> {
        let request = self.request(Method::POST, &format!("/v1/tasks/{task}/{word}"));
        accepted(self.send(request.timeout(ANSWER)).await?)
            .await
            .map(drop)
    }

    /// `POST /v1/tasks/{id}/feedback`.
    pub async fn rate(&self, task: TaskId, (good, text): (bool, &str)) -> anyhow::Result<()> {
        let body = FeedbackOrder {
            sign: Sign::of(good),
            text: text.to_owned(),
        };
        let request = self.request(Method::POST, &format!("/v1/tasks/{task}/feedback"));
        accepted(self.send(request.timeout(ANSWER).json(&body)).await?)
            .await
            .map(drop)
    }

    /// `POST /v1/tasks/{id}/retry`: the new task.
    pub async fn retry(&self, task: TaskId) -> anyhow::Result<TaskId> {
        let request = self.request(Method::POST, &format!("/v1/tasks/{task}/retry"));
        let made: TaskRef = self.read(request).await?;
        Ok(made.id)
    }

    /// `POST /v1/tasks/{id}/fork`: the new task.
    pub async fn fork(&self, task: TaskId, from: &str) -> anyhow::Result<TaskId> {
        let body = ForkOrder {
            from: from.to_owned(),
        };
        let request = self.request(Method::POST, &format!("/v1/tasks/{task}/fork"));
        let made: TaskRef = self.read(request.json(&body)).await?;
        Ok(made.id)
    }

    /// `GET /v1/runs/dead`.
    pub async fn dead(&self, limit: u32) -> anyhow::Result<Vec<DeadView>> {
        let request = self.request(Method::GET, "/v1/runs/dead");
        let page: DeadPage = self
            .read(request.query(&[("limit", limit.to_string())]))
            .await?;
        Ok(page.runs)
    }

    /// `POST /v1/tasks/{id}/resolve`. `step` is a key, or `RUN/KEY`.
    pub async fn resolve(
        &self,
        task: TaskId,
        step: &str,
        resolution: &Decision,
    ) -> anyhow::Result<()> {
        let (run, key) = split(step);
        let body = Settlement::of(key.to_owned(), run, resolution.clone());
        let request = self.request(Method::POST, &format!("/v1/tasks/{task}/resolve"));
        accepted(self.send(request.timeout(ANSWER).json(&body)).await?)
            .await
            .map(drop)
    }

    /// `GET /v1/approvals`, `questions` or `escalations`.
    pub async fn asks(&self, which: Collection, filter: &AskFilter) -> anyhow::Result<AskPage> {
        let state = if filter.open { "open" } else { "all" };
        let mut query = vec![("state", state.to_owned())];
        query.push(("limit", filter.limit.to_string()));
        query.extend(filter.task.map(|task| ("task", task.to_string())));
        query.extend(filter.before.map(|ask| ("before", ask.to_string())));
        let request = self.request(Method::GET, &format!("/v1/{}", which.as_str()));
        self.read(request.query(&query)).await
    }

    /// The same, by the beginning of an id.
    pub async fn asks_like(&self, which: Collection, part: &str) -> anyhow::Result<Vec<AskView>> {
        let request = self.request(Method::GET, &format!("/v1/{}", which.as_str()));
        let page: AskPage = self.read(request.query(&[("id", part)])).await?;
        Ok(page.asks)
    }

    /// `GET /v1/approvals/{id}`, or of another collection.
    pub async fn asked(&self, which: Collection, id: AskId) -> anyhow::Result<Option<AskView>> {
        let request = self.request(Method::GET, &format!("/v1/{}/{id}", which.as_str()));
        let answer = self.send(request.timeout(ANSWER)).await?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        Ok(Some(accepted(answer).await?.json().await?))
    }

    /// `POST /v1/approvals/{id}`, or of another collection: how it stands then.
    pub async fn decide(
        &self,
        which: Collection,
        id: AskId,
        decision: &Decision,
    ) -> anyhow::Result<AskView> {
        let request = self.request(Method::POST, &format!("/v1/{}/{id}", which.as_str()));
        self.read(request.json(decision)).await
    }

    /// `GET /v1/permits`.
    pub async fn permits(&self, good: bool, limit: u32) -> anyhow::Result<Vec<PermitView>> {
        let state = if good { "good" } else { "all" };
        let query = [("state", state.to_owned()), ("limit", limit.to_string())];
        let request = self.request(Method::GET, "/v1/permits").query(&query);
        let page: PermitPage = self.read(request).await?;
        Ok(page.permits)
    }

    /// `POST /v1/permits`.
    pub async fn give_permit(&self, order: &PermitOrder) -> anyhow::Result<PermitView> {
        let request = self.request(Method::POST, "/v1/permits");
        self.read(request.json(order)).await
    }

    /// `GET /v1/permits/{id}`.
    pub async fn permit(&self, id: PermitId) -> anyhow::Result<Option<PermitView>> {
        let request = self.request(Method::GET, &format!("/v1/permits/{id}"));
        let answer = self.send(request.timeout(ANSWER)).await?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        Ok(Some(accepted(answer).await?.json().await?))
    }

    /// `DELETE /v1/permits/{id}`.
    pub async fn revoke_permit(&self, id: PermitId) -> anyhow::Result<PermitView> {
        self.read(self.request(Method::DELETE, &format!("/v1/permits/{id}")))
            .await
    }

    /// `GET /v1/tasks/{id}/transcript`.
    pub async fn transcript(&self, task: TaskId) -> anyhow::Result<Transcript> {
        self.read(self.request(Method::GET, &format!("/v1/tasks/{task}/transcript")))
            .await
    }

    /// `GET /v1/doctor`.
    pub async fn doctor(&self) -> anyhow::Result<Vec<Finding>> {
        let page: DoctorPage = self.read(self.request(Method::GET, "/v1/doctor")).await?;
        Ok(page.findings)
    }

    /// `POST /v1/tokens`: the new token's secret.
    pub async fn mint(
        &self,
        name: &str,
        principal: Option<&str>,
        scopes: &[String],
    ) -> anyhow::Result<String> {
        let body = TokenOrder {
            name: name.to_owned(),
            principal: principal.map(str::to_owned),
            scopes: scopes.to_vec(),
        };
        let request = self.request(Method::POST, "/v1/tokens").json(&body);
        let minted: TokenSecret = self.about_tokens(request).await?;
        Ok(minted.token)
    }

    /// `GET /v1/tokens`.
    pub async fn tokens(&self) -> anyhow::Result<Vec<TokenView>> {
        let request = self.request(Method::GET, "/v1/tokens");
        let page: TokenPage = self.about_tokens(request).await?;
        Ok(page.tokens)
    }

    /// `DELETE /v1/tokens/{name}`. False where no live token has that name.
    pub async fn revoke(&self, name: &str) -> anyhow::Result<bool> {
        let request = self.at(Method::DELETE, &["v1", "tokens", name])?;
        let answer = self.send(request.timeout(ANSWER)).await?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(false);
        }
        accepted(answer).await.map(|_| true)
    }

    /// `POST /v1/pairings`: the code.
    pub async fn pair(&self, order: &PairingOrder) -> anyhow::Result<PairingCode> {
        self.read(self.request(Method::POST, "/v1/pairings").json(order))
            .await
    }

    /// `GET /v1/people`.
    pub async fn people(&self) -> anyhow::Result<Vec<PersonView>> {
        let page: PeoplePage = self.read(self.request(Method::GET, "/v1/people")).await?;
        Ok(page.people)
    }

    /// `DELETE /v1/people/{who}`.
    pub async fn remove_person(&self, who: &str) -> anyhow::Result<RemovedView> {
        self.read(self.at(Method::DELETE, &["v1", "people", who])?)
            .await
    }

    /// `POST /v1/stop`: what stands still then.
    pub async fn stop(&self, order: &StopOrder) -> anyhow::Result<Vec<HaltView>> {
        let request = self.request(Method::POST, "/v1/stop").json(order);
        let page: StopPage = self.read(request).await?;
        Ok(page.halted)
    }

    /// `POST /v1/resume`: what stands still all the same.
    pub async fn go_on(&self, order: &ResumeOrder) -> anyhow::Result<Vec<HaltView>> {
        let request = self.request(Method::POST, "/v1/resume").json(order);
        let page: StopPage = self.read(request).await?;
        Ok(page.halted)
    }

    /// `GET /v1/budgets`.
    pub async fn budgets(&self) -> anyhow::Result<Vec<BudgetView>> {
        let page: BudgetPage = self.read(self.request(Method::GET, "/v1/budgets")).await?;
        Ok(page.budgets)
    }

    /// `PUT /v1/budgets`: all limits as they are then.
    pub async fn set_budget(&self, order: &LimitOrder) -> anyhow::Result<Vec<BudgetView>> {
        let request = self.request(Method::PUT, "/v1/budgets").json(order);
        let page: BudgetPage = self.read(request).await?;
        Ok(page.budgets)
    }

    /// `GET /v1/usage`.
    pub async fn usage(&self, by: &str, days: u32) -> anyhow::Result<UsagePage> {
        let query = [("by", by.to_owned()), ("days", days.to_string())];
        self.read(self.request(Method::GET, "/v1/usage").query(&query))
            .await
    }

    /// `GET /v1/channels`.
    pub async fn channels(&self) -> anyhow::Result<Vec<ChannelView>> {
        let page: ChannelPage = self.read(self.request(Method::GET, "/v1/channels")).await?;
        Ok(page.channels)
    }

    /// `POST /v1/channels/{name}/test`.
    pub async fn test_channel(&self, name: &str) -> anyhow::Result<Vec<Finding>> {
        let page: DoctorPage = self.of_channel(name, "test").await?;
        Ok(page.findings)
    }

    /// `POST /v1/channels/{name}/retry`: how much is tried again.
    pub async fn retry_channel(&self, name: &str) -> anyhow::Result<u64> {
        let revived: Revived = self.of_channel(name, "retry").await?;
        Ok(revived.revived)
    }

    /// Has something done to a channel. A name that is no channel's is a fault of the command line.
    async fn of_channel<T: DeserializeOwned>(&self, name: &str, what: &str) -> anyhow::Result<T> {
        let request = self.at(Method::POST, &["v1", "channels", name, what])?;
        let answer = self.send(request.timeout(ANSWER)).await?;
        match answer.status() {
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => {
                let told = told(answer.status(), answer.json().await.ok());
                Err(Fault::usage(told).into())
            }
            _ => Ok(accepted(answer).await?.json().await?),
        }
    }

    /// `GET /v1/tasks/{id}/events`, from the first one on.
    pub fn watch(&self, task: TaskId) -> Stream {
        Stream {
            client: self.clone(),
            task,
            last: 0,
            open: None,
            broken: 0,
        }
    }

    async fn about_tokens<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
    ) -> anyhow::Result<T> {
        let answer = self.send(request.timeout(ANSWER)).await?;
        if matches!(
            answer.status(),
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED
        ) {
            let what = format!(
                "the running instance at {} keeps its tokens to itself",
                self.instance.url
            );
            let help = "stop it, make or list tokens, and start it again";
            return Err(Fault::failed(what).help(help).into());
        }
        Ok(accepted(answer).await?.json().await?)
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}{path}", self.instance.url);
        self.http
            .request(method, url)
            .bearer_auth(&self.instance.token)
    }

    /// A request for a path with parts that may hold anything.
    fn at(&self, method: Method, path: &[&str]) -> anyhow::Result<RequestBuilder> {
        let mut url = url::Url::parse(&self.instance.url)?;
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.extend(path);
        }
        let request = self.http.request(method, url);
        Ok(request.bearer_auth(&self.instance.token))
    }

    async fn read<T: DeserializeOwned>(&self, request: RequestBuilder) -> anyhow::Result<T> {
        let answer = accepted(self.send(request.timeout(ANSWER)).await?).await?;
        let answer = answer.json().await;
        answer.with_context(|| format!("the instance at {} answered oddly", self.instance.url))
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, Fault> {
        request.send().await.map_err(|error| self.gone(&error))
    }

    fn gone(&self, error: &reqwest::Error) -> Fault {
        let why = if error.is_timeout() {
            "did not answer in time"
        } else {
            "does not answer"
        };
        let what = format!(
            "the running instance at {} (process {}) {why}",
            self.instance.url, self.instance.pid
        );
        Fault::unreachable(what).help("look at its log; `majordomo health` asks it again")
    }
}

/// A step's run, where its name has one, and its key.
fn split(step: &str) -> (Option<RunId>, &str) {
    let parts = step.split_once('/');
    let full = parts.and_then(|(run, key)| Some((run.parse().ok()?, key)));
    full.map_or((None, step), |(run, key)| (Some(run), key))
}

fn query(filter: &TaskFilter) -> Vec<(String, String)> {
    let mut query = vec![("limit".to_owned(), filter.limit.to_string())];
    let mut add = |name: &str, value: Option<String>| {
        query.extend(value.map(|value| (name.to_owned(), value)));
    };
    let users = filter.principals.iter().flatten();
    add("before", filter.before.map(|task| task.to_string()));
    add("user", users.map(|user| user.to_string()).next());
    add("thread", filter.thread.clone());
    add("agent", filter.agent.as_ref().map(ToString::to_string));
    add("state", filter.state.map(|state| state.as_str().to_owned()));
    for (key, value) in &filter.metadata {
        add(&format!("metadata.{key}"), Some(value.clone()));
    }
    query
}

/// An answer that is no problem.
async fn accepted(answer: Response) -> anyhow::Result<Response> {
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    Err(fault(status, answer.json().await.ok()).into())
}

fn fault(status: StatusCode, problem: Option<ProblemBody>) -> Fault {
    let kind = problem.as_ref().map(|problem| problem.kind.clone());
    let is = |name: &str| kind.as_ref().is_some_and(|kind| *kind == kind_of(name));
    let told = told(status, problem);
    match status {
        StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => Fault::usage(told),
        StatusCode::PAYLOAD_TOO_LARGE => Fault::usage(told)
            .help("[server] body_limit_kib in the instance's configuration says how much it takes"),
        StatusCode::UNAUTHORIZED => Fault::unreachable(told)
            .help("the instance does not know the token in its own data folder: was it restarted just now? try again"),
        StatusCode::SERVICE_UNAVAILABLE if is("halted") => Fault::halted(told),
        // The instance answers, and its store does as well: it cannot write, as on a full disk.
        StatusCode::SERVICE_UNAVAILABLE if is("store") => {
            Fault::failed(told).help("the instance's log says why; `majordomo doctor` looks for it")
        }
        StatusCode::SERVICE_UNAVAILABLE => Fault::unreachable(told),
        _ => Fault::failed(told),
    }
}

fn kind_of(name: &str) -> String {
    format!("urn:majordomo:problem:{name}")
}

/// What is wrong, as the instance says.
fn told(status: StatusCode, problem: Option<ProblemBody>) -> String {
    match problem {
        None => format!("the instance answered {status}"),
        Some(ProblemBody {
            field: Some(field),
            detail,
            ..
        }) if !detail.starts_with(&field) => format!("{field}: {detail}"),
        Some(problem) => problem.detail,
    }
}

/// The events of one task, taken up again where the connection breaks.
pub struct Stream {
    client: Client,
    task: TaskId,
    last: i64,
    open: Option<BoxStream<'static, Option<Recorded>>>,
    broken: u32,
}

impl Stream {
    /// The next event; waits for it.
    pub async fn next(&mut self) -> anyhow::Result<Recorded> {
        loop {
            let open = match &mut self.open {
                Some(open) => open,
                closed => closed.insert(connect(&self.client, self.task, self.last).await?),
            };
            match open.next().await {
                Some(Some(event)) if event.seq > self.last => {
                    self.last = event.seq;
                    self.broken = 0;
                    return Ok(event);
                }
                // Live text, an event that came before, or one that this version does not know.
                Some(_) => {}
                None => self.reconnect().await?,
            }
        }
    }

    async fn reconnect(&mut self) -> anyhow::Result<()> {
        self.open = None;
        tokio::time::sleep(RECONNECT * self.broken).await;
        self.broken += 1;
        if self.broken > RECONNECTS || !self.client.is_alive().await {
            let what = format!(
                "the running instance at {} went away",
                self.client.instance.url
            );
            let help = format!(
                "the task is safe and goes on at the next `majordomo serve` or `ask`\n\
                 majordomo tasks show {}",
                self.task
            );
            return Err(Fault::unreachable(what).help(help).into());
        }
        Ok(())
    }
}

async fn connect(
    client: &Client,
    task: TaskId,
    last: i64,
) -> anyhow::Result<BoxStream<'static, Option<Recorded>>> {
    let request = client.request(Method::GET, &format!("/v1/tasks/{task}/events"));
    let request = match last {
        0 => request,
        last => request.header("Last-Event-ID", last.to_string()),
    };
    let answer = accepted(client.send(request).await?).await?;
    let events = answer.bytes_stream().eventsource();
    // A broken stream ends.
    let whole = events.take_while(|event| std::future::ready(event.is_ok()));
    Ok(whole
        .map(|event| serde_json::from_str(&event.ok()?.data).ok())
        .boxed())
}

#[cfg(test)]
mod tests {
    use super::super::exit::Exit;
    use super::*;

    #[test]
    fn a_store_that_cannot_write_is_no_instance_that_cannot_be_reached() {
        let exit = |name: &str| {
            let problem = ProblemBody {
                kind: kind_of(name),
                title: "x".into(),
                status: 503,
                detail: "x".into(),
                field: None,
            };
            let fault = fault(StatusCode::SERVICE_UNAVAILABLE, Some(problem));
            Exit::of_error(&fault.into())
        };
        assert_eq!(exit("store"), Exit::Failed);
        assert_eq!(exit("database"), Exit::Unreachable);
        assert_eq!(exit("halted"), Exit::Halted);
        let unknown = fault(StatusCode::SERVICE_UNAVAILABLE, None);
        assert_eq!(Exit::of_error(&unknown.into()), Exit::Unreachable);
    }
}
