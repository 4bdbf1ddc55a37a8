//! A task's events as they happen: server-sent events, numbered, resumable where a reader stopped.
//!
//! The journal is what is sent; the live feed says only that there is more. An event that comes live
//! with the next number is sent as it is, anything else sends the reader to the store, so there is
//! no gap and nothing comes twice, however slow the reader.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::{FutureExt, Stream, stream};
use serde_json::{Value, json};
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::time::Interval;

use shared::event::{Live, Recorded};
use shared::id::TaskId;

use super::Door;
use super::input::{self, Id, Query};
use super::problem::{Problem, ProblemBody};
use super::tasks::is_end;
use crate::auth::{Act, Caller};

/// Events read from the store at once.
const BATCH: u32 = 256;
/// A comment goes out after this much silence, so that proxies keep the line open.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Follows a task: all its events from the first, or from after `Last-Event-ID`, then live until it
/// has ended. `delta` events carry a model's text as it comes in; they have no id and are not
/// replayed.
#[utoipa::path(get, path = "/v1/tasks/{id}/events", tag = "tasks", operation_id = "follow_task",
    params(
        ("id" = String, Path, format = "uuid"),
        ("Last-Event-ID" = Option<i64>, Header, description = "The number of the last event that was read"),
        ("after" = Option<i64>, Query, description = "The same, for clients that cannot set headers")),
    responses(
        (status = 200, description = "Server-sent events", body = String, content_type = "text/event-stream"),
        (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn follow(
    State(door): State<Arc<Door>>,
    Extension(caller): Extension<Caller>,
    Id(id): Id,
    headers: HeaderMap,
    query: Query,
) -> Result<Response, Problem> {
    // Listening begins before reading, so that nothing falls between.
    let feed = door.desk().store.bell().feed().subscribe();
    let last = last_read(&headers, query)?;
    let task = door.task(id).await?;
    caller.may(Act::See(&task))?;
    let mut recheck = tokio::time::interval(door.recheck);
    recheck.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let follower = Follower {
        door,
        caller,
        task: id,
        last,
        feed,
        recheck,
        ready: VecDeque::new(),
        behind: true,
        ended: false,
    };
    let events = Sse::new(follower.into_stream()).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    let unbuffered = (
        HeaderName::from_static("x-accel-buffering"),
        HeaderValue::from_static("no"),
    );
    Ok(([unbuffered], events).into_response())
}

fn last_read(headers: &HeaderMap, mut query: Query) -> Result<i64, Problem> {
    let wrong = |field: &str| Problem::field(field, "must be the number of an event");
    let read = |field: &str, text: &str| {
        let number = text
            .trim()
            .parse::<i64>()
            .ok()
            .filter(|number| *number >= 0);
        number.ok_or_else(|| wrong(field))
    };
    let after = query.take("after");
    query.finish("after")?;
    match (input::single(headers, "Last-Event-ID")?, after) {
        (Some(text), _) => read("Last-Event-ID", text),
        (None, Some(text)) => read("after", &text),
        (None, None) => Ok(0),
    }
}

/// One reader of one task.
struct Follower {
    door: Arc<Door>,
    caller: Caller,
    task: TaskId,
    /// The number of the last event handed out or ready.
    last: i64,
    feed: Receiver<Live>,
    recheck: Interval,
    ready: VecDeque<sse::Event>,
    /// There may be events in the store that were not read.
    behind: bool,
    /// Nothing follows what is ready.
    ended: bool,
}

/// Why a stream ends before its task: the door closes, the token is gone, the store failed. The
/// reader comes again and goes on where it stopped, if it may.
struct Cut;

impl Follower {
    fn into_stream(self) -> impl Stream<Item = Result<sse::Event, Infallible>> {
        stream::unfold(self, |mut follower| async move {
            let event = follower.next().await.ok()??;
            Some((Ok(event), follower))
        })
    }

    async fn next(&mut self) -> Result<Option<sse::Event>, Cut> {
        loop {
            if self.recheck.tick().now_or_never().is_some() {
                self.check_token().await?;
            }
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            if self.ended {
                return Ok(None);
            }
            match self.behind {
                true => self.catch_up().await?,
                false => self.listen().await?,
            }
        }
    }

    /// Reads a batch from the store. The task's state is read first: where it was final, all events
    /// were there already.
    async fn catch_up(&mut self) -> Result<(), Cut> {
        let desk = self.door.desk();
        let state = self.door.task(self.task).await.map_err(|_| Cut)?.state;
        let batch = desk
            .store
            .events(&desk.tenant, self.task, self.last, BATCH)
            .await
            .map_err(|error| {
                tracing::warn!(%error, task.id = %self.task, "a stream of events was cut");
                Cut
            })?;
        self.behind = batch.len() == BATCH as usize;
        batch.into_iter().for_each(|event| self.send(event));
        self.ended |= state.is_final() && !self.behind;
        Ok(())
    }

    /// Waits for something new.
    async fn listen(&mut self) -> Result<(), Cut> {
        let heard = tokio::select! {
            () = self.door.closing.cancelled() => return Err(Cut),
            _ = self.recheck.tick() => return self.check_token().await,
            heard = self.feed.recv() => heard,
        };
        match heard {
            Ok(Live::Event(event)) if event.task == self.task => self.hear(event),
            Ok(Live::Delta {
                task,
                run,
                key,
                attempt,
                text,
            }) if task == self.task => {
                let data = json!({"run": run, "key": key, "attempt": attempt, "text": text});
                let event = sse::Event::default().event("delta").data(data.to_string());
                self.ready.push_back(event);
            }
            Ok(_) => {}
            Err(RecvError::Lagged(_)) => self.behind = true,
            Err(RecvError::Closed) => return Err(Cut),
        }
        Ok(())
    }

    fn hear(&mut self, event: Recorded) {
        match event.seq - self.last {
            1 => self.send(event),
            // Known to the reader, or said to be; the end is the end all the same.
            ..=0 => self.ended |= is_end(&event),
            _ => self.behind = true,
        }
    }

    fn send(&mut self, event: Recorded) {
        self.last = event.seq;
        if self.ended {
            return;
        }
        self.ended = is_end(&event);
        self.ready.push_back(framed(&event));
    }

    async fn check_token(&self) -> Result<(), Cut> {
        match self.caller.is_live(&*self.door.desk().store).await {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(Cut),
        }
    }
}

fn framed(event: &Recorded) -> sse::Event {
    let data = serde_json::to_value(event).unwrap_or_default();
    let name = data.get("event").and_then(Value::as_str).unwrap_or("event");
    sse::Event::default()
        .id(event.seq.to_string())
        .event(name)
        .data(data.to_string())
}
