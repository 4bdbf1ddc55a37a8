//! A task's events as they happen: server-sent events, numbered, resumable where a reader stopped.
//! What is sent and in which order is the follower's; the door adds who may read, and for how long.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Interval;

use shared::event::Live;

use super::Door;
use super::input::{self, Id, Query};
use super::problem::{Kind, Problem};
use crate::auth::{Act, Caller};
use crate::follow::Follower;
use crate::wire::ProblemBody;

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
        (status = 503, description = "Too many are followed; come again", body = ProblemBody, content_type = "application/problem+json"),
        (status = "4XX", description = "Refused", body = ProblemBody, content_type = "application/problem+json")))]
pub(super) async fn follow(
    State(door): State<Arc<Door>>,
    Extension(caller): Extension<Caller>,
    Id(id): Id,
    headers: HeaderMap,
    query: Query,
) -> Result<Response, Problem> {
    let last = last_read(&headers, query)?;
    let task = door.task(id).await?;
    caller.may(Act::See(&task))?;
    let place = door.place().ok_or_else(too_many)?;
    let mut recheck = tokio::time::interval(door.recheck);
    recheck.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let stream = Stream {
        follower: door.desk().follow_text(id, last),
        door,
        caller,
        recheck,
        _place: place,
    };
    let events = Sse::new(stream.into_frames()).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    let unbuffered = (
        HeaderName::from_static("x-accel-buffering"),
        HeaderValue::from_static("no"),
    );
    Ok(([unbuffered], events).into_response())
}

fn too_many() -> Problem {
    let detail = "as many events are followed as [server] max_connections leaves room for; \
                  come again, or ask for the task now and then";
    Problem::new(Kind::Busy, detail)
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

/// One stream.
struct Stream {
    door: Arc<Door>,
    caller: Caller,
    follower: Follower,
    recheck: Interval,
    _place: OwnedSemaphorePermit,
}

impl Stream {
    fn into_frames(self) -> impl futures::Stream<Item = Result<sse::Event, Infallible>> {
        stream::unfold(self, |mut stream| async move {
            let frame = stream.next().await?;
            Some((Ok(frame), stream))
        })
    }

    /// The next frame. `None` where the task has ended, and where the stream is cut before: the door
    /// closes, the token is gone, the store failed. A reader comes again and goes on where it
    /// stopped, if it may.
    async fn next(&mut self) -> Option<sse::Event> {
        loop {
            let heard = tokio::select! {
                biased;
                () = self.door.closing.cancelled() => return None,
                _ = self.recheck.tick() => match self.caller.is_live(&*self.door.desk().store).await {
                    Ok(true) => continue,
                    Ok(false) | Err(_) => return None,
                },
                heard = self.follower.next() => heard,
            };
            return match heard {
                Ok(heard) => heard.map(framed),
                Err(error) => {
                    tracing::warn!(%error, "a stream of events was cut");
                    None
                }
            };
        }
    }
}

fn framed(heard: Live) -> sse::Event {
    match heard {
        Live::Event(event) => {
            let data = serde_json::to_value(&event).unwrap_or_default();
            let name = data.get("event").and_then(Value::as_str).unwrap_or("event");
            sse::Event::default()
                .id(event.seq.to_string())
                .event(name)
                .data(data.to_string())
        }
        Live::Delta {
            run,
            key,
            attempt,
            text,
            ..
        } => {
            let data = json!({"run": run, "key": key, "attempt": attempt, "text": text});
            sse::Event::default().event("delta").data(data.to_string())
        }
    }
}
