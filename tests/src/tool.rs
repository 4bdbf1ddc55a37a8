//! A tool whose work a test writes. It remembers every call, over restarts of the instance too.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use agents::tools::{Outbound, Tool, ToolCall, ToolInfo};
use shared::money::{Usage, Usd};
use shared::run::{Effect, Failure, FailureKind, Probe, Report};

type Work<T> = dyn Fn(Called) -> BoxFuture<'static, T> + Send + Sync;

/// One attempt at a call.
#[derive(Clone, Debug)]
pub struct Called {
    /// The argument `n`; 0 where there is none.
    pub n: i64,
    /// How many attempts at any call there were before this one.
    pub before: usize,
    /// Cancelled when the result is no longer wanted.
    pub cancel: CancellationToken,
}

/// The tool. It takes one number, `n`, and may go without.
pub struct TestTool {
    info: ToolInfo,
    work: Box<Work<Result<Value, Failure>>>,
    probe: Box<Work<Probe>>,
    calls: Mutex<Vec<i64>>,
}

impl TestTool {
    /// A tool of this name and class that does this.
    pub fn new<F>(
        name: &str,
        effect: Effect,
        work: impl Fn(Called) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<Value, Failure>> + Send + 'static,
    {
        Self {
            info: ToolInfo {
                name: name.into(),
                version: 1,
                description: "Does what a test wants. Use it when the test says so; returns what the test says.".into(),
                parameters: json!({
                    "type": "object",
                    "properties": {"n": {"type": "integer", "description": "a number"}},
                    "additionalProperties": false,
                })
                .into(),
                effect,
                outbound: Outbound::default(),
                timeout_s: 20,
                price: Usd::ZERO,
            },
            work: Box::new(move |called| work(called).boxed()),
            probe: Box::new(|_| async { Probe::Unknown("nobody can tell".into()) }.boxed()),
            calls: Mutex::default(),
        }
    }

    /// A tool that reads: it answers its own number.
    pub fn reads(name: &str) -> Arc<Self> {
        let work = |called: Called| async move { Ok(json!(format!("{} it is", called.n))) };
        Arc::new(Self::new(name, Effect::Pure, work))
    }

    /// A tool that always fails in this way.
    pub fn fails(name: &str, effect: Effect, failure: Failure) -> Arc<Self> {
        Arc::new(Self::new(name, effect, move |_| {
            let failure = failure.clone();
            async move { Err(failure) }
        }))
    }

    /// What one call costs.
    pub fn price(mut self, usd: f64) -> Self {
        self.info.price = Usd::from_dollars(usd);
        self
    }

    /// What the far side says when it is asked.
    pub fn probed<F>(mut self, probe: impl Fn(Called) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Probe> + Send + 'static,
    {
        self.probe = Box::new(move |called| probe(called).boxed());
        self
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.info.name.as_str()
    }

    /// The numbers of all attempts so far, in order.
    pub fn calls(&self) -> Vec<i64> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<i64>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn called(&self, call: &ToolCall<'_>) -> Called {
        Called {
            n: call.args["n"].as_i64().unwrap_or_default(),
            before: self.lock().len(),
            cancel: call.cancel.clone(),
        }
    }
}

#[async_trait]
impl Tool for TestTool {
    fn info(&self) -> &ToolInfo {
        &self.info
    }

    async fn call(&self, call: ToolCall<'_>) -> Report {
        let called = self.called(&call);
        self.lock().push(called.n);
        let paid = Usage {
            usd: self.info.price,
            ..Usage::default()
        };
        let report = match (self.work)(called).await {
            Ok(value) => crate::engine::done(value),
            Err(failure) => Report::failed(failure),
        };
        Report {
            usage: Some(paid),
            ..report
        }
    }

    async fn probe(&self, call: ToolCall<'_>) -> Probe {
        (self.probe)(self.called(&call)).await
    }
}

/// A failure that may pass.
pub fn transient(message: &str) -> Failure {
    Failure::new(FailureKind::Transient, message)
}

/// A failure that stays.
pub fn permanent(message: &str) -> Failure {
    Failure::new(FailureKind::Permanent, message)
}
